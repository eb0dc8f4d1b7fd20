"""The stream on a real Spark cluster: the PEX is sent, state is in Redis, a worker is killed."""

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from dataclasses import field
import os
from pathlib import Path
import re
import signal
import socket
import sys
import threading
from typing import Any

import numpy as np
from pyspark import SparkContext
from pyspark.sql import SparkSession
import pytest
import redis

from contract.dirty_topics import PARTITIONS
from contract.dirty_topics import Record
from contract.dirty_topics import dirty_topics
from contract.dirty_topics import replayed
from contract.every_store import redis_in
from fraudstream.features.sets import DEFAULT
from fraudstream.inference.embedded import StateElsewhere
from fraudstream.inference.executors import ExecutorsMissing
from fraudstream.inference.executors import UnfitExecutors
from fraudstream.inference.executors import _registered
from fraudstream.inference.executors import require_executors
from fraudstream.inference.session import SparkNotStarted
from fraudstream.inference.session import session
from fraudstream.model.bundle import Bundle
from fraudstream.stack.jars import spark_home
from fraudstream.stack.process import Process
from fraudstream.stack.spark import SparkCluster
from integration import apps
from integration.streams import DEADLINE_S
from integration.streams import TOPICS
from integration.streams import Stack
from integration.streams import Telling
from integration.streams import await_that
from integration.streams import features_of
from integration.streams import running
from integration.streams import split
from unit.awaiting import await_that as await_soon

#: The Spark that runs the job. All of it is on this machine, and nobody else's to reach.
ENVIRONMENT = {"SPARK_HOME": str(spark_home()), "SPARK_LOCAL_IP": "127.0.0.1"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cluster")


@pytest.fixture(scope="module")
def stack(folder: Path) -> Iterator[Stack]:
    with running(folder / "stack") as stack:
        yield stack


@dataclass
class Story:
    """What was sent, what became of it, and how things stood when the worker was killed."""

    model: Bundle
    sent: list[Record] = field(default_factory=list)
    scored_when_killed: int = 0
    sent_when_killed: int = 0
    workers_in_the_end: list[int] = field(default_factory=list)
    sent_to_workers: set[str] = field(default_factory=set)
    in_redis: set[str] = field(default_factory=set)
    exit_code: int | None = None
    log: str = ""
    features: dict[str, np.ndarray] = field(default_factory=dict)
    scores: list[Any] = field(default_factory=list)
    dead_letters: list[Any] = field(default_factory=list)


def send_all(tell: Telling, parts: Iterable[list[Record]], killed: threading.Event) -> None:
    """Send all parts, the last one when a worker is gone."""
    *early, last = parts
    for part in early:
        tell.send(part)
    assert killed.wait(2 * DEADLINE_S)
    tell.send(last)


@pytest.fixture(scope="module")
def story(stack: Stack, folder: Path) -> Story:
    records = dirty_topics(days=28, cards=30, seed=17)
    ends = max(i for i, record in enumerate(records) if record.topic == TOPICS.transactions)
    first, second, third, *small = split(records[: ends + 1], 12)
    (folder / "model").mkdir()
    features = np.array(list(replayed(DEFAULT, records).values()))
    story = Story(stack.register(folder / "model", features, seed=1))
    tell = Telling(stack, story.sent)
    tell.send(first)
    with (
        redis_in(folder / "redis") as (state, _),
        SparkCluster(folder / "spark") as cluster,
    ):
        flags = stack.flags(
            folder / "checkpoint",
            master=cluster.url,
            executor_timeout="300",
            state=state.url,
            state_password_file=str(folder / "redis" / "secrets" / "redis-password"),
        )
        log = folder / "inference.log"
        with (
            Process("inference", [*apps.inference(), *flags], log, ENVIRONMENT) as app,
            ThreadPoolExecutor(1) as traffic,
        ):
            # A PEX that was never run here is unpacked three times at once.
            tell.await_results(app, 3 * DEADLINE_S)
            before = stack.count(TOPICS.scores)
            killed = threading.Event()
            sending = traffic.submit(send_all, tell, [second, third, *small], killed)
            try:
                await_that(lambda: stack.count(TOPICS.scores) > before, app)
                cluster.kill_worker(1)
                story.sent_when_killed = len(story.sent)
                story.scored_when_killed = stack.count(TOPICS.scores) - before
            finally:
                killed.set()
            sending.result(DEADLINE_S)
            tell.await_results(app)
            story.workers_in_the_end = cluster.alive()
            of_workers = (folder / "spark").glob("worker-*/work/*/*/*")
            story.sent_to_workers = {file.name for file in of_workers}
            story.exit_code = app.stop(DEADLINE_S)
        client: Any = redis.Redis.from_url(state.url, password=state.password)
        story.in_redis = {key.decode().rpartition(":")[2] for key in client.keys("fraudstream:*")}
        story.log = log.read_text()
    story.features = replayed(DEFAULT, stack.records())
    story.scores = stack.values(TOPICS.scores)
    story.dead_letters = stack.values(TOPICS.dead_letters)
    return story


def test_a_worker_was_killed_in_the_midst_of_the_traffic_and_stayed_down(story: Story) -> None:
    assert story.scored_when_killed > 0
    assert story.sent_when_killed < len(story.sent)
    assert story.workers_in_the_end == [0]


def test_each_transaction_is_scored_once_in_what_was_committed(story: Story) -> None:
    sent = {record.id for record in story.sent if record.topic == TOPICS.transactions and record.id}
    assert Counter(score["transaction_id"] for score in story.scores) == dict.fromkeys(sent, 1)


def test_each_broken_record_is_set_aside_once(story: Story) -> None:
    places = Counter((x["topic"], x["partition"], x["offset"]) for x in story.dead_letters)
    assert len(places) == len(story.dead_letters) == sum(r.id is None for r in story.sent) > 0


def test_scores_equal_those_of_a_replay_of_what_the_topics_hold(story: Story) -> None:
    served = {score["transaction_id"]: score for score in story.scores}
    ids = list(served)
    expected = np.array([story.features[i] for i in ids])
    features = [features_of(served[i]) for i in ids]
    np.testing.assert_allclose(features, expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(
        [served[i]["score"] for i in ids], story.model.score(expected), rtol=0, atol=1e-6
    )


def test_state_was_in_redis_and_nowhere_else(story: Story, folder: Path) -> None:
    assert {
        f"{TOPICS.transactions}-{partition}" for partition in range(PARTITIONS)
    } < story.in_redis
    assert {name for name in story.in_redis if name.startswith("by-merchant-")}
    assert not (folder / "checkpoint" / "state").exists()


def test_executors_of_other_machines_are_taken_where_state_is_shared(
    cluster: SparkCluster, on: Callable[..., SparkSession], tmp_path: Path
) -> None:
    elsewhere = "import socket; socket.gethostname = lambda: 'afar'"
    spark = on(cluster.url, a_python(tmp_path / "python", elsewhere))
    require_executors(spark, None, DEADLINE_S, threading.Event())


def test_only_the_pex_and_the_connector_were_sent_to_workers(story: Story) -> None:
    own = {name for name in story.sent_to_workers if not name.endswith(".jar")}
    assert own == {Path(*apps.inference()).name, "stdout", "stderr"}


def test_the_job_on_a_cluster_ends_when_it_is_told(story: Story) -> None:
    assert story.exit_code == 0
    assert "stream stopped" in story.log
    assert "Traceback" not in story.log


# --- what is refused at the start ----------------------------------------------------------------


@pytest.fixture(scope="module")
def cluster(folder: Path) -> Iterator[SparkCluster]:
    with SparkCluster(folder / "one", workers=1) as cluster:
        yield cluster


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., SparkSession]]:
    """Return what makes a session on a master; its executors start a Python that is named."""
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    # What a session sets for its own process must not outlive the test.
    monkeypatch.setenv("PYSPARK_PYTHON", "")
    with ExitStack() as ended:

        def begin(master: str, python: str = sys.executable) -> SparkSession:
            spark = session(master, apps.cache(), 2, 300, {"PYSPARK_PYTHON": python})
            ended.callback(spark.stop)
            return spark

        yield begin


def a_python(folder: Path, that: str = "") -> str:
    """Write a Python that has our sources, and runs `that` first."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(that)
    # An executor runs in a folder of its own.
    path = os.pathsep.join(str(Path(entry).resolve()) for entry in [folder, *sys.path] if entry)
    python = folder / "python"
    python.write_text(f"#!/bin/sh\nPYTHONPATH='{path}' exec '{sys.executable}' \"$@\"\n")
    python.chmod(0o755)
    return str(python)


def test_another_python_on_a_worker_ends_the_program_with_one_line(
    stack: Stack, story: Story, cluster: SparkCluster, tmp_path: Path
) -> None:
    flags = stack.flags(tmp_path / "checkpoint", master=cluster.url)
    other = a_python(tmp_path / "python", "import sys; sys.version_info = (3, 12, 1, 'final', 0)")
    environment = {**ENVIRONMENT, "PYSPARK_PYTHON": other}
    with Process("inference", [*apps.inference(), *flags], tmp_path / "log", environment) as app:
        assert app.wait(3 * DEADLINE_S) == 1
    said = (tmp_path / "log").read_text()
    assert re.fullmatch(
        r"error: expected Python 3\.11 and Java \d+ on every machine, as the driver has them: "
        f"{socket.gethostname()} has Python 3\\.12",
        said.splitlines()[-1],
    )
    assert "Traceback" not in said
    assert "Exception" not in said


@pytest.mark.parametrize(
    ("that", "refusal", "problem"),
    [
        (
            "import socket; socket.gethostname = lambda: 'afar'",
            StateElsewhere,
            "there are executors on afar: use workers on",
        ),
        (
            "import os; os.access = lambda *told: False",
            StateElsewhere,
            "may not write to .*: give a --checkpoint that the workers' user can write to",
        ),
        (
            "import os; os.write(2, b'no numbers here'); os._exit(3)",
            UnfitExecutors,
            r"cannot run .*/python \(exit code 3\): no numbers here",
        ),
    ],
)
def test_an_executor_that_cannot_do_the_work_is_refused(
    cluster: SparkCluster,
    on: Callable[..., SparkSession],
    that: str,
    refusal: type[Exception],
    problem: str,
    tmp_path: Path,
) -> None:
    spark = on(cluster.url, a_python(tmp_path / "python", that))
    with pytest.raises(refusal, match=problem):
        require_executors(spark, tmp_path, DEADLINE_S, threading.Event())


def test_a_pex_that_is_not_there_is_told(
    cluster: SparkCluster, on: Callable[..., SparkSession], tmp_path: Path
) -> None:
    spark = on(cluster.url, "./inference.pex")
    with pytest.raises(
        UnfitExecutors, match=r"cannot run \./inference\.pex \(exit code 127\): .*not found"
    ):
        require_executors(spark, tmp_path, DEADLINE_S, threading.Event())


def test_executors_that_can_do_the_work_are_taken(
    cluster: SparkCluster, on: Callable[..., SparkSession], tmp_path: Path
) -> None:
    spark = on(cluster.url, a_python(tmp_path / "python"))
    require_executors(spark, tmp_path, DEADLINE_S, threading.Event())


def test_executors_that_do_not_answer_in_time_are_told(
    cluster: SparkCluster, on: Callable[..., SparkSession], tmp_path: Path
) -> None:
    spark = on(cluster.url, a_python(tmp_path / "python", "import signal; signal.pause()"))
    await_soon(lambda: _registered(spark), DEADLINE_S)
    with pytest.raises(ExecutorsMissing, match="of 1 executors 0 answered within 15 s"):
        require_executors(spark, tmp_path, 15, threading.Event())


def test_executors_that_die_at_once_are_told(
    cluster: SparkCluster, on: Callable[..., SparkSession], tmp_path: Path
) -> None:
    spark = on("local[1]")
    spark.stop()
    SparkContext.setSystemProperty("spark.executor.extraJavaOptions", "-javaagent:/no/such.jar")
    try:
        spark = on(cluster.url)
        with pytest.raises(ExecutorsMissing, match="or executors end as they start"):
            require_executors(spark, tmp_path, 10, threading.Event())
    finally:
        SparkContext.setSystemProperty("spark.executor.extraJavaOptions", "")


@pytest.fixture(scope="module")
def idle_master(folder: Path) -> Iterator[str]:
    with SparkCluster(folder / "none", workers=0) as cluster:
        yield cluster.url


def test_a_cluster_without_workers_is_told(
    idle_master: str, on: Callable[..., SparkSession], tmp_path: Path
) -> None:
    with pytest.raises(ExecutorsMissing, match="gave no executor within 2 s: it has no worker"):
        require_executors(on(idle_master), tmp_path, 2, threading.Event())


def test_an_application_that_is_ended_while_it_waits_is_told(
    idle_master: str, on: Callable[..., SparkSession], tmp_path: Path
) -> None:
    spark = on(idle_master)

    def end_it_while_it_waits() -> None:
        await_soon(spark.sparkContext.statusTracker().getActiveJobsIds, DEADLINE_S)
        # As a master does that removes it.
        spark.stop()

    with ThreadPoolExecutor(1) as beside:
        ending = beside.submit(end_it_while_it_waits)
        with pytest.raises(ExecutorsMissing, match="ended the application while it waited"):
            require_executors(spark, tmp_path, DEADLINE_S, threading.Event())
        ending.result()


def test_a_request_to_stop_ends_the_wait_for_executors(
    idle_master: str, on: Callable[..., SparkSession], tmp_path: Path
) -> None:
    spark = on(idle_master)
    stop = threading.Event()
    stop.set()
    require_executors(spark, tmp_path, DEADLINE_S, stop)


def test_a_master_that_spark_does_not_know_is_told(on: Callable[..., SparkSession]) -> None:
    with pytest.raises(SparkNotStarted, match=r"Could not parse Master URL: .*nowhere"):
        on("nowhere")


def test_ctrl_c_is_left_to_the_program(on: Callable[..., SparkSession]) -> None:
    ours = signal.getsignal(signal.SIGINT)
    on("local[1]")
    assert signal.getsignal(signal.SIGINT) is ours
