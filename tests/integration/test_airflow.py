"""The whole flow without Docker: Airflow trains, the stream serves, and nothing is ever lost.

One story is told by the fixture `story`, since all the services take their time to start; each test
looks at one side of what came of it.
"""

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
import io
import os
from pathlib import Path
import re
import time
from typing import Any

from confluent_kafka import Producer
from mlflow import MlflowClient
import pytest
from rich.console import Console

from fraudstream.cli.steps import Steps
from fraudstream.cli.tracking import read_credentials
from fraudstream.demo.report import Ledger
from fraudstream.demo.report import read_ledger
from fraudstream.kafka.topics import Topics
from fraudstream.stack.airflow import Airflow
from fraudstream.stack.airflow_client import AirflowRefused
from fraudstream.stack.jars import spark_home
from fraudstream.stack.local import LocalStack
from fraudstream.stack.local import Ports
from fraudstream.stack.local import Programs
from fraudstream.stack.local import Training
from fraudstream.stack.process import Process
from fraudstream.stack.process import run_to_end
from integration import apps

DAYS = 26
START = "2026-01-01T00:00:00Z"
LIVE = 120
MODEL = "fraud-detector"
_DEADLINE_S = 300.0
_POLL_S = 0.5
# As `Secrets` makes them.
_SECRET = re.compile("[0-9a-f]{48}")

# A month of few cards, and a network that sees them twice: better than chance, and quick. The
# threshold is low, so that there are alerts to see.
_TRAINER = {
    "FRAUDSTREAM_VALIDATION": "5d",
    "FRAUDSTREAM_EPOCHS": "2",
    "FRAUDSTREAM_MIN_PRECISION": "0.2",
}


@dataclass
class Story:
    """What came of each step."""

    stack: LocalStack
    trained: dict[str, Any] = field(default_factory=dict)
    evaluated: dict[str, Any] = field(default_factory=dict)
    training_log: str = ""
    after_history: Ledger = field(default_factory=Ledger)
    after_all: Ledger = field(default_factory=Ledger)
    exit_codes: list[int | None] = field(default_factory=list)
    arguments: str = ""

    @property
    def airflow(self) -> Airflow:
        assert self.stack.airflow is not None
        return self.stack.airflow


class Stream:
    """The inference job from its sources, and the traffic that it is given."""

    def __init__(self, stack: LocalStack, folder: Path) -> None:
        self.stack = stack
        self._folder = folder
        self._producer = apps.from_sources("fraudstream.producer.main", folder / "producer")
        program = apps.from_sources("fraudstream.inference.main", folder / "inference")
        flags = ("--checkpoint", str(folder / "checkpoint"), "--master", "local[2]")
        self.job = Process(
            "inference",
            [str(program), "run", *flags, "--cache", str(apps.cache())],
            folder / "inference.log",
            {**stack.environment("inference"), "SPARK_HOME": str(spark_home())},
        )

    def send(self, *arguments: str) -> None:
        """Send simulated traffic, some of it sent twice."""
        run_to_end(
            "the producer",
            [
                *(str(self._producer), "simulate", "--cards", "300", "--start", START),
                # Of so few cards more have to be cheated: each part of the history needs some.
                *("--account-takeover-rate", "0.01", "--card-testing-rate", "0.01"),
                *("--duplicates", "0.01", *arguments),
            ],
            self._folder / "producer.log",
            self.stack.environment("producer"),
        )

    def send_live(self, day: int) -> None:
        """Send live traffic of a day that no other call takes, and one record that is none."""
        self.send("--live", "--after-days", str(day), "--rate", "60", "--events", str(LIVE))
        broken = Producer(self.stack.broker.cluster("producer").config())
        broken.produce(Topics().transactions, b"not a transaction")
        assert broken.flush(30) == 0

    def ledger(self) -> Ledger:
        """Return what the topics hold."""
        return read_ledger(self.stack.broker.cluster(), Topics())

    def await_all(self) -> Ledger:
        """Wait until every transaction has a score or a dead letter; return the ledger."""
        self.await_that(lambda: self.ledger().lag == 0)
        return self.ledger()

    def await_that(self, condition: Callable[[], bool]) -> None:
        """Wait until something is so, as long as the job runs and a deadline has not passed."""
        deadline = time.monotonic() + _DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, self.job.failure("was too slow")
            assert self.job.wait(_POLL_S) is None, self.job.failure("ended early")


def restart(service: Process) -> None:
    service.stop()
    service.start()
    service.wait_ready()


def arguments_of_all() -> str:
    """Return the command line of every process of this machine that may be looked at."""
    found = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(file.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            # It has ended meanwhile.
            continue
    return "\n".join(found)


def run_dag(story: Story, dag: str, task: str, params: dict[str, Any]) -> tuple[Any, str]:
    """Run a DAG to its end; return what its task returned, and logged."""
    client = story.airflow.client
    run = client.trigger(dag, params)
    ended = client.await_end(dag, run, _DEADLINE_S)
    log = client.log(dag, run, task)
    assert ended == "success", log
    return client.result(dag, run, task), log


@contextmanager
def started(folder: Path) -> Iterator[LocalStack]:
    trainer = apps.from_sources("fraudstream.trainer.main", folder / "trainer")
    training = Training(apps.airflow(), apps.dags(), trainer, _TRAINER)
    with LocalStack(
        folder / "stack",
        apps.cache(),
        Programs(apps.mlflow(), training=training),
        Ports.free(),
        Steps(Console(file=io.StringIO())),
    ) as stack:
        yield stack


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    folder = tmp_path_factory.mktemp("airflow")
    with started(folder) as stack:
        story = Story(stack)
        stream = Stream(stack, folder)
        stream.send("--days", str(DAYS))
        story.trained, story.training_log = run_dag(
            story, "train_fraud_model", "train", {"window": "20d", "label_delay": "7d"}
        )
        try:
            stream.job.start()
            story.after_history = stream.await_all()
            story.evaluated, _ = run_dag(story, "evaluate_live", "evaluate", {"period": "3d"})
            story.arguments = arguments_of_all()

            stream.send_live(DAYS)
            restart(stack.broker)
            stream.send_live(DAYS + 1)
            stream.await_all()
            restart(stack.mlflow)
            stream.send_live(DAYS + 2)
            story.exit_codes.append(stream.job.stop(_DEADLINE_S))
            stream.send_live(DAYS + 3)
            stream.job.start()
            story.after_all = stream.await_all()
            story.exit_codes.append(stream.job.stop(_DEADLINE_S))
        finally:
            stream.job.stop()
        yield story


def test_the_dag_makes_a_champion_and_returns_what_it_found(story: Story) -> None:
    assert story.trained["is_champion"] is True
    assert story.trained["decision"] == "there was no champion"
    assert story.trained["rows"]["training"] > 1_000
    assert "reading VishwaSimulatedTransactions" in story.training_log
    credentials = story.stack.secrets.folder / "mlflow-trainer.credentials"
    with pytest.MonkeyPatch.context() as patch:
        for name, value in read_credentials(credentials).items():
            patch.setenv(f"MLFLOW_TRACKING_{name.upper()}", value)
        client = MlflowClient(story.stack.mlflow.uri, story.stack.mlflow.uri)
        champion = client.get_model_version_by_alias(MODEL, "champion")
        assert champion.version == story.trained["version"]
        run = client.get_run(champion.run_id)
        assert run.data.params["window"] == "20 days, 0:00:00"
        assert run.info.artifact_uri.startswith("mlflow-artifacts:/")
        [evaluation] = story.evaluated["versions"]
        run = client.get_run(evaluation["run"])
        assert run.data.tags["model_version"] == champion.version
        assert run.data.metrics == pytest.approx(evaluation["metrics"])


def test_the_stream_scores_and_alerts_with_the_new_champion(story: Story) -> None:
    assert story.after_history.model == (MODEL, story.trained["version"])
    versions = {alert["model_version"] for alert in story.after_history.alerts.values()}
    assert versions == {story.trained["version"]}


def test_the_evaluation_judges_what_was_served_by_the_labels_since(story: Story) -> None:
    [evaluation] = story.evaluated["versions"]
    assert evaluation["version"] == story.trained["version"]
    assert evaluation["digest"] == story.trained["digest"]
    figures = evaluation["metrics"]
    assert figures["scored"] == figures["rows"] + figures["unlabelled"]
    assert figures["rows"] > 100
    assert {"average_precision", "card_precision_100", "recall_at_fpr_0.01"} <= set(figures)
    assert {"money_saved", "alerts", "alerts_scored"} <= set(figures)


def test_no_transaction_is_lost_or_scored_twice_whatever_is_restarted(story: Story) -> None:
    before, after = story.after_history, story.after_all
    # Some of the events that were asked for are copies of others.
    assert len(after.transactions) > len(before.transactions) + 4 * LIVE * 0.9
    assert after.lag == 0
    assert after.repeated == set()
    assert len(after.refused) == 4
    assert len(after.transactions) == len(after.scores) + len(after.refused)
    assert story.exit_codes == [0, 0]


def test_a_parameter_that_is_not_as_the_dag_says_is_refused(story: Story) -> None:
    with pytest.raises(AirflowRefused, match="does not match"):
        story.airflow.client.trigger("train_fraud_model", {"window": "90d; rm -rf /"})


def test_nobody_enters_airflow_without_its_password(story: Story) -> None:
    stranger = type(story.airflow.client)(story.airflow.client.uri, "admin", "admin")
    with pytest.raises(AirflowRefused, match="status 401"):
        stranger.trigger("train_fraud_model")


def test_no_argument_of_any_program_holds_a_secret(story: Story) -> None:
    assert "celery worker" in story.arguments
    for file in story.stack.secrets.folder.iterdir():
        for secret in _SECRET.findall(file.read_text()):
            assert secret not in story.arguments, file.name


def test_what_holds_secrets_is_for_its_owner_only(story: Story) -> None:
    folder = story.stack.folder / "airflow"
    for name in ("airflow.cfg", "passwords.json"):
        assert os.stat(folder / name).st_mode & 0o077 == 0
