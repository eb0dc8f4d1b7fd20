"""A bounded read ends exactly at the ends that were noted, or says why it could not."""

from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError
from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition
import pytest

from fraudstream.kafka import reading
from fraudstream.kafka.reading import Span
from fraudstream.kafka.reading import TopicChanged
from fraudstream.kafka.reading import _take
from fraudstream.kafka.reading import bounds
from fraudstream.kafka.reading import read
from fraudstream.kafka.topics import AccessRefused
from fraudstream.kafka.topics import BrokerUnreachable
from fraudstream.kafka.topics import Cluster


@dataclass
class _Message:
    """A message as the client library gives it."""

    at_partition: int
    at_offset: int
    failed: int | None = None

    def partition(self) -> int:
        return self.at_partition

    def offset(self) -> int:
        return self.at_offset

    def timestamp(self) -> tuple[int, int]:
        return 0, 1_000 + self.at_offset

    def value(self) -> bytes | None:
        return b"%d" % self.at_offset

    def error(self) -> KafkaError | None:
        return None if self.failed is None else KafkaError(self.failed)


def message(partition: int, offset: int, failed: int | None = None) -> Any:
    return _Message(partition, offset, failed)


def take(
    ends: dict[int, int], *messages: Any, waiting: set[int] | None = None
) -> tuple[list[tuple[int, int]], set[int]]:
    """Places of the records that are taken, and the partitions that are waited for after."""
    waiting = set(ends) if waiting is None else waiting
    records = _take(list(messages), "t", ends, waiting)
    return list(zip(records.partition.tolist(), records.offset.tolist(), strict=True)), waiting


def test_the_last_record_before_the_end_ends_its_partition() -> None:
    ends = {0: 3, 1: 5}
    assert take(ends, message(0, 1)) == ([(0, 1)], {0, 1})
    assert take(ends, message(1, 0), message(0, 2)) == ([(1, 0), (0, 2)], {1})


def test_records_are_taken_with_their_time_and_value() -> None:
    records = _take([message(0, 1), message(0, 3), message(0, 2)], "t", {0: 3}, {0})
    assert records.offset.tolist() == [1, 2]
    assert records.appended_ms.tolist() == [1_001, 1_002]
    assert records.values == [b"1", b"2"]


def test_records_after_the_end_are_left_alone() -> None:
    assert take({0: 3}, message(0, 3)) == ([], set())
    assert take({0: 3}, message(0, 4), waiting=set()) == ([], set())
    assert take({0: 3, 1: 9}, message(0, 2), message(0, 3), message(1, 3)) == (
        [(0, 2), (1, 3)],
        {1},
    )


def test_the_end_of_a_partition_counts_only_where_it_is_not_before_the_noted_end() -> None:
    ended = KafkaError._PARTITION_EOF
    assert take({0: 3}, message(0, 2, ended)) == ([], {0})
    assert take({0: 3}, message(0, 3, ended)) == ([], set())
    assert take({0: 3, 1: 3}, message(1, 0), message(0, 3, ended)) == ([(1, 0)], {1})


def test_nothing_came_is_no_end() -> None:
    assert take({0: 3}) == ([], {0})


@pytest.mark.parametrize("code", [KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT])
def test_a_broker_that_goes_away_is_told(code: int) -> None:
    with pytest.raises(BrokerUnreachable, match="went away"):
        take({0: 3}, message(0, 0, code))


@pytest.mark.parametrize(
    "code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED]
)
def test_a_missing_right_is_told_with_how_it_is_granted(code: int) -> None:
    with pytest.raises(AccessRefused, match=r"t may not be read: .*producer\.pex topics --acls"):
        take({0: 3}, message(0, 0, code))


def test_any_other_failure_names_the_topic() -> None:
    with pytest.raises(TopicChanged, match="t could not be read"):
        take({0: 3}, message(0, 0, KafkaError.OFFSET_OUT_OF_RANGE))


def test_empty_spans_are_read_without_a_broker() -> None:
    assert list(read(Cluster("127.0.0.1:1"), "t", [Span(0, 0, 0), Span(1, 7, 7)])) == []


class _Leaderless:
    """A consumer of a partition that has no leader for some questions."""

    def __init__(self, code: int, times: int) -> None:
        self.code = code
        self.left = times

    def get_watermark_offsets(self, place: TopicPartition, timeout: float) -> tuple[int, int]:
        if self.left:
            self.left -= 1
            raise KafkaException(KafkaError(self.code))
        return 3, 8


PLACE = TopicPartition("t", 0)


def test_a_partition_whose_leader_is_being_chosen_is_asked_again() -> None:
    consumer: Any = _Leaderless(KafkaError.NOT_LEADER_FOR_PARTITION, times=2)
    assert bounds(consumer, PLACE) == (3, 8)


def test_a_partition_that_gets_no_leader_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_TIMEOUT_S", 0.2)
    consumer: Any = _Leaderless(KafkaError.LEADER_NOT_AVAILABLE, times=1_000)
    with pytest.raises(KafkaException):
        bounds(consumer, PLACE)
    assert consumer.left > 900


def test_what_no_leader_will_mend_is_told_at_once() -> None:
    consumer: Any = _Leaderless(KafkaError.TOPIC_AUTHORIZATION_FAILED, times=1)
    with pytest.raises(KafkaException):
        bounds(consumer, PLACE)
