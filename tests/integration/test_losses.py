"""Where a topic has lost what was not read yet, the stream stops, and goes on if told to."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from confluent_kafka import TopicPartition
import numpy as np
import orjson
import pytest

from contract.dirty_topics import Record
from contract.dirty_topics import dirty_topics
from contract.dirty_topics import replayed
from fraudstream.features.sets import DEFAULT
from fraudstream.kafka.reading import Span
from fraudstream.kafka.reading import spans
from fraudstream.stack.process import Process
from integration.processes import frozen
from integration.processes import java_of
from integration.streams import DEADLINE_S
from integration.streams import TOPICS
from integration.streams import Stack
from integration.streams import await_that
from integration.streams import refused
from integration.streams import running
from integration.streams import split

_PARTITION = 1


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


def held(stack: Stack) -> Span:
    return spans(stack.cluster, TOPICS.transactions)[_PARTITION]


def cut(stack: Stack) -> Span:
    """Remove all records of a partition but the last, as retention does; return what there was."""
    before = held(stack)
    place = TopicPartition(TOPICS.transactions, _PARTITION, before.high - 1)
    # Kept: the answers of a client that is collected never come.
    admin = stack.cluster.admin()
    for future in admin.delete_records([place]).values():
        future.result(DEADLINE_S)
    return before


def ids(stack: Stack) -> set[str]:
    """Return the transactions that the topic still holds."""
    return {orjson.loads(value)["transaction_id"] for value in map(valued, stack.records())}


def valued(record: Record) -> bytes:
    assert record.topic == TOPICS.transactions
    return record.value


def scored(stack: Stack) -> Counter[str]:
    return Counter(score["transaction_id"] for score in stack.values(TOPICS.scores))


def await_scores(stack: Stack, app: Process) -> None:
    await_that(lambda: ids(stack) <= scored(stack).keys(), app)


def test_what_is_gone_stops_the_stream_and_can_be_passed(
    stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    records = [
        r for r in dirty_topics(days=10, cards=30, seed=5) if r.topic == "transactions" and r.id
    ]
    first, second, third, fourth = split(records, 4)
    features = np.array(list(replayed(DEFAULT, records).values()))
    stack.register(tmp_path, features, seed=1)
    checkpoint = tmp_path / "checkpoint"

    stack.send(first)
    with stack.app(checkpoint, tmp_path / "first.log") as app:
        await_scores(stack, app)
        assert app.stop(DEADLINE_S) == 0
    read_until = held(stack).high
    stack.send(second)
    there = cut(stack)
    assert there.low <= read_until < there.high - 1

    # It does not start, says what is gone, and how to go on.
    error = refused(stack.flags(checkpoint), monkeypatch, capsys)
    gone = f"transactions, partition {_PARTITION}, offsets {read_until} to {there.high - 2}"
    assert f"error: {gone}: gone before they were read" in error
    assert "start once with --skip-lost" in error

    # It goes on: all that is there is scored once, and what was lost is told.
    with stack.app(checkpoint, tmp_path / "second.log", "--skip-lost") as app:
        await_scores(stack, app)
        stack.send(third)
        await_scores(stack, app)
        assert app.stop(DEADLINE_S) == 0
    assert "records lost" in (tmp_path / "second.log").read_text()
    assert set(scored(stack).values()) == {1}
    lost = {record.id for record in records} - {record.id for record in fourth}
    assert 0 < len(lost - scored(stack).keys()) <= there.high - 1 - read_until

    # It runs, and stands still while records come and go.
    read_until = held(stack).high
    with stack.app(checkpoint, tmp_path / "third.log") as app:
        await_that(lambda: "stream started" in (tmp_path / "third.log").read_text(), app)
        with frozen([java_of(checkpoint)]):
            stack.send(fourth)
            there = cut(stack)
        assert app.wait(DEADLINE_S) == 1
    *_, told = (tmp_path / "third.log").read_text().splitlines()
    gone = f"transactions, partition {_PARTITION}, offsets {read_until} to {there.high - 2}"
    assert told.startswith(f"error: {gone}: gone before they were read")
