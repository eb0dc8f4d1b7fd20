"""Traffic is followed into a ledger, without a broker."""

from typing import Any
from typing import ClassVar

import orjson
import pytest

from fraudstream.demo import traffic as module
from fraudstream.demo.report import Ledger
from fraudstream.demo.traffic import Traffic
from fraudstream.kafka.reading import Span
from fraudstream.kafka.reading import TopicChanged
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics

_TOPICS = Topics()
_PREDICTION = {"transaction_id": "a", "model_name": "m", "model_version": "1"}


class Failure:
    def str(self) -> str:
        return "offset out of range"


class Message:
    """As much of a confluent_kafka.Message as is read."""

    def __init__(self, topic: str, document: object, failure: Failure | None = None) -> None:
        self._topic = topic
        self._value = orjson.dumps(document)
        self._failure = failure

    def error(self) -> Failure | None:
        return self._failure

    def topic(self) -> str:
        return self._topic

    def value(self) -> bytes:
        return self._value

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 3

    def timestamp(self) -> tuple[int, int]:
        return (2, 1_000)


class Consumer:
    """Hands out what the test has prepared."""

    prepared: ClassVar[list[Message]] = []
    assigned: ClassVar[list[tuple[str, int, int]]] = []
    closed = False

    def __init__(self, config: dict[str, Any]) -> None:
        assert config["isolation.level"] == "read_committed"
        Consumer.closed = False

    def assign(self, partitions: list[Any]) -> None:
        Consumer.assigned = [(p.topic, p.partition, p.offset) for p in partitions]

    def consume(self, count: int, timeout: float) -> list[Message]:
        return self.prepared

    def close(self) -> None:
        Consumer.closed = True


@pytest.fixture
def traffic(monkeypatch: pytest.MonkeyPatch) -> Traffic:
    monkeypatch.setattr(module, "Consumer", Consumer)
    monkeypatch.setattr(module, "spans", lambda cluster, topic: [Span(0, 2, 5), Span(1, 0, 9)])
    return Traffic(Cluster("nowhere:1"), _TOPICS)


def test_transactions_are_followed_from_their_end_and_results_from_their_beginning(
    traffic: Traffic,
) -> None:
    by_topic: dict[str, list[tuple[int, int]]] = {topic: [] for topic, *_ in Consumer.assigned}
    for topic, partition, offset in Consumer.assigned:
        by_topic[topic].append((partition, offset))
    assert by_topic.pop(_TOPICS.transactions) == [(0, 5), (1, 9)]
    assert set(by_topic) == {_TOPICS.scores, _TOPICS.predicted, _TOPICS.dead_letters}
    assert all(starts == [(0, 2), (1, 0)] for starts in by_topic.values())


def test_every_topic_reaches_its_place_in_the_ledger(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    letter = {"topic": _TOPICS.transactions, "partition": 0, "offset": 3, "original": "Pw=="}
    messages = [
        Message(_TOPICS.transactions, {"transaction_id": "a"}),
        Message(_TOPICS.scores, _PREDICTION),
        Message(_TOPICS.predicted, _PREDICTION),
        Message(_TOPICS.dead_letters, letter),
    ]
    monkeypatch.setattr(Consumer, "prepared", messages)
    ledger = Ledger()
    assert traffic.poll(ledger, 0.1) == 4
    assert ledger.transactions == ledger.scores == {"a": 1_000}
    assert list(ledger.alerts) == ["a"]
    assert ledger.refused == {"partition 0, offset 3"}


def test_a_topic_that_was_cut_is_an_error(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Consumer, "prepared", [Message(_TOPICS.scores, None, Failure())])
    with pytest.raises(TopicChanged, match="scores cannot be followed any more: offset out of"):
        traffic.poll(Ledger(), 0.1)


def test_what_came_since_is_told_by_partition(
    traffic: Traffic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "spans", lambda cluster, topic: [Span(0, 2, 8), Span(1, 0, 9)])
    assert traffic.since() == [Span(0, 5, 8), Span(1, 9, 9)]


def test_it_closes_its_connection(traffic: Traffic) -> None:
    with traffic:
        assert not Consumer.closed
    assert Consumer.closed
