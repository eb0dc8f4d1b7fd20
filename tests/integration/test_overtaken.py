"""Of two drivers with one checkpoint, the one that stood still ends when the other has gone on."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
import time

import numpy as np
import pytest

from contract.dirty_topics import Record
from contract.dirty_topics import dirty_topics
from contract.dirty_topics import replayed
from fraudstream.features.sets import DEFAULT
from integration.processes import frozen
from integration.processes import java_of
from integration.streams import DEADLINE_S
from integration.streams import TOPICS
from integration.streams import Stack
from integration.streams import Telling
from integration.streams import running
from integration.streams import split


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


def begun(progress: Path) -> set[str]:
    return {note.name for note in (progress / "offsets").iterdir() if note.name.isdigit()}


def await_begin(progress: Path, known: set[str]) -> Path:
    """Wait until another batch begins than those known; return the note of its end, to come."""
    deadline = time.monotonic() + DEADLINE_S
    while not (new := begun(progress) - known):
        assert time.monotonic() < deadline, "no batch began"
    return progress / "commits" / min(new, key=int)


def ids(records: list[Record]) -> set[str | None]:
    return {record.id for record in records if record.id and record.topic == TOPICS.transactions}


def test_who_stood_still_in_a_batch_that_another_has_done_ends_by_saying_so(
    stack: Stack, tmp_path: Path
) -> None:
    records = dirty_topics(days=10, cards=30, seed=5)
    first, second, third = split(records, 3)
    features = np.array(list(replayed(DEFAULT, records).values()))
    stack.register(tmp_path, features, seed=1)
    checkpoint = tmp_path / "checkpoint"
    tell = Telling(stack, [])
    tell.send(first)
    other_log, log = tmp_path / "other.log", tmp_path / "first.log"
    with stack.app(checkpoint, log) as app:
        tell.await_results(app)
        one, progress = (app.pid, java_of(checkpoint)), checkpoint / "progress"
        known = begun(progress)
        with ThreadPoolExecutor(1) as beside, stack.app(checkpoint, other_log) as other:
            sending = beside.submit(tell.send, second)
            end = await_begin(progress, known)
            with frozen(one):
                assert not end.exists()
                sending.result()
                tell.await_results(other)
                tell.send(third)
                tell.await_results(other)
            assert end.exists()
            assert app.wait(DEADLINE_S) == 1, log.read_text()
            assert other.stop(DEADLINE_S) == 0
    *before, told = log.read_text().splitlines()
    assert told.startswith("error: the stream ended: Overtaken: another stream has done batch")
    assert not [line for line in before if "Traceback" in line or line.startswith("\tat ")]
    scores = Counter(score["transaction_id"] for score in stack.values(TOPICS.scores))
    assert scores == dict.fromkeys(ids(records), 1)
