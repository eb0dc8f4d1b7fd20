"""State of the stream on real parts: lost, damaged, moved into a Redis, and lost there.

One story is told by the fixture `story`; each test looks at one side of what came of it.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
import shutil
from typing import Any

from click.testing import CliRunner
import numpy as np
import orjson
import pytest
import redis

from contract.dirty_topics import Record
from contract.dirty_topics import dirty_topics
from contract.dirty_topics import replayed
from contract.every_store import redis_in
from fraudstream.features.sets import DEFAULT
from fraudstream.inference.main import inference
from fraudstream.inference.shared import RedisServer
from fraudstream.stack.process import Process
from integration.streams import DEADLINE_S
from integration.streams import TOPICS
from integration.streams import Stack
from integration.streams import Telling
from integration.streams import features_of
from integration.streams import refused
from integration.streams import running
from integration.streams import split

#: The pages of LMDB that tell where the others are.
_HEAD = 2 * 4096


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@dataclass
class Story:
    """What the app was told, and what came of it."""

    checkpoint: Path
    password: str
    sent: list[Record] = field(default_factory=list)
    exit_codes: list[int | None] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    rebuilt: str = ""
    processes: str = ""
    features: dict[str, np.ndarray] = field(default_factory=dict)
    scores: list[Any] = field(default_factory=list)


def command_lines() -> str:
    """Return how all processes were started, and with which variables."""
    found = []
    for name in ("cmdline", "environ"):
        for file in Path("/proc").glob(f"[0-9]*/{name}"):
            try:
                found.append(file.read_text(errors="replace"))
            except OSError:
                continue
    return "\n".join(found)


class Teller:
    """Tells the story: runs the app again and again, and sends it some records each time."""

    def __init__(self, stack: Stack, folder: Path, server: RedisServer) -> None:
        records = dirty_topics(days=28, cards=30, seed=21)
        ends = max(i for i, record in enumerate(records) if record.topic == TOPICS.transactions)
        self._parts = iter(split(records[: ends + 1], 7))
        features = np.array(list(replayed(DEFAULT, records).values()))
        (folder / "model").mkdir()
        stack.register(folder / "model", features, seed=1)
        self._stack = stack
        self._folder = folder
        self.story = Story(folder / "checkpoint", str(server.password))
        self._tell = Telling(stack, self.story.sent)
        self.client: Any = redis.Redis.from_url(server.url, password=server.password)
        self.shared = (
            f"--state={server.url}",
            f"--state-password-file={folder / 'redis' / 'secrets' / 'redis-password'}",
        )

    @contextmanager
    def run(self, name: str, *state: str) -> Iterator[Process]:
        log = self._folder / f"{name}.log"
        with self._stack.app(self.story.checkpoint, log, *state) as app:
            yield app
        self.story.logs.append(log.read_text())

    def score(self, app: Process) -> None:
        self._tell.send(next(self._parts))
        self._tell.await_results(app)

    def stop(self, app: Process) -> None:
        self._tell.await_results(app)
        self.story.exit_codes.append(app.stop(DEADLINE_S))

    def send_and_await_end(self, app: Process) -> None:
        self._tell.send(next(self._parts))
        self.story.exit_codes.append(app.wait(DEADLINE_S))

    def embedded(self) -> None:
        with self.run("first") as app:
            self.score(app)
            self.stop(app)
        shutil.rmtree(self.story.checkpoint / "state")
        with self.run("after-loss") as app:
            self.score(app)
            self.stop(app)
        for file in self.story.checkpoint.glob("state/*/by-merchant-*/data.mdb"):
            file.write_bytes(file.read_bytes()[:_HEAD].ljust(file.stat().st_size, b"?"))
        with self.run("after-damage") as app:
            self.score(app)
            self.stop(app)

    def redis_goes(self, process: Process) -> None:
        with self.run("in-redis", *self.shared) as app:
            self.score(app)
            self.story.processes = command_lines()
            self._tell.await_done(app, self.story.checkpoint)
            process.stop()
            self.send_and_await_end(app)
        process.start()
        process.wait_ready()
        with self.run("after-redis", *self.shared) as app:
            self.stop(app)

    def redis_loses(self) -> None:
        self.client.flushdb()
        flags = filter(is_of_state, self._stack.flags(self.story.checkpoint))
        done = CliRunner().invoke(inference, ["rebuild-state", *flags, *self.shared])
        assert done.exit_code == 0, done.output
        self.story.rebuilt = str(self.client.keys("*:mark"))
        with self.run("after-rebuild", *self.shared) as app:
            self.score(app)
            self._tell.await_done(app, self.story.checkpoint)
            # As a log leaves it that has lost its end.
            [mark] = self.client.keys("*:mark")
            self.client.hset(mark, "", int(self.client.hget(mark, "")) - 2)
            self.send_and_await_end(app)
        with self.run("last", *self.shared) as app:
            self.stop(app)


@pytest.fixture(scope="module")
def story(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    with redis_in(folder / "redis") as (server, process):
        teller = Teller(stack, folder, server)
        teller.embedded()
        teller.redis_goes(process)
        teller.redis_loses()
    teller.story.features = replayed(DEFAULT, stack.records())
    teller.story.scores = stack.values(TOPICS.scores)
    return teller.story


def is_of_state(flag: str) -> bool:
    return flag.startswith(("--bootstrap", "--transactions", "--labels", "--checkpoint"))


def test_features_served_equal_a_replay_whatever_became_of_the_state(story: Story) -> None:
    served = {score["transaction_id"]: features_of(score) for score in story.scores}
    assert served.keys() == story.features.keys()
    np.testing.assert_allclose(
        [served[i] for i in story.features], list(story.features.values()), rtol=0, atol=1e-9
    )


def test_each_transaction_is_scored_once(story: Story) -> None:
    sent = {record.id for record in story.sent if record.topic == TOPICS.transactions and record.id}
    assert Counter(score["transaction_id"] for score in story.scores) == dict.fromkeys(sent, 1)


def test_state_that_is_lost_damaged_or_elsewhere_is_built_again_by_itself(story: Story) -> None:
    built = [
        [orjson.loads(line)["why"] for line in log.splitlines() if "built again" in line]
        for log in story.logs
    ]
    first, after_loss, after_damage, in_redis, after_redis, after_rebuild, last = built
    assert first == after_redis == after_rebuild == []
    assert after_loss == ["it is not there"]
    assert "damaged" in after_damage[0]
    assert in_redis == ["it is in another place (embedded)"]
    assert "Redis has lost its last writes" in last[0]


def test_a_redis_that_goes_ends_the_stream_with_one_line(story: Story) -> None:
    assert story.exit_codes == [0, 0, 0, 1, 0, 1, 0]
    gone, lost = (story.logs[run].splitlines()[-1] for run in (3, 5))
    assert gone.startswith("error: the stream ended: StateUnreachable: state in Redis at redis://")
    assert lost.startswith("error: the stream ended: StateLost: state in Redis at redis://")
    for code, log in zip(story.exit_codes, story.logs, strict=True):
        # Where a batch fails, Spark's own log says so at length before.
        assert code == 1 or "Traceback" not in log


def test_the_password_is_in_no_command_line_and_in_no_variable(story: Story) -> None:
    assert "--state-password-file" in story.processes
    assert story.password not in story.processes


def test_rebuilding_makes_a_state_that_the_next_run_takes(story: Story) -> None:
    assert story.rebuilt.count("fraudstream:") == 1
    assert DEFAULT.identity in story.rebuilt


def test_a_redis_that_is_away_is_told_in_one_line(
    stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = stack.flags(tmp_path, state="redis://127.0.0.1:1/0")
    assert "state in Redis at redis://127.0.0.1:1/0: " in refused(flags, monkeypatch, capsys)


def test_there_is_nothing_to_rebuild_without_a_checkpoint(
    stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = ["rebuild-state", *filter(is_of_state, stack.flags(tmp_path))]
    assert "is no checkpoint" in refused(flags, monkeypatch, capsys)
