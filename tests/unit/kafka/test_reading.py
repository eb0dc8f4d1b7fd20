"""A bounded read ends exactly at the ends that were noted, or says why it could not."""

from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError
import pytest

from fraudstream.kafka.reading import Span
from fraudstream.kafka.reading import TopicChanged
from fraudstream.kafka.reading import _is_wanted
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

    def error(self) -> KafkaError | None:
        return None if self.failed is None else KafkaError(self.failed)


def message(partition: int, offset: int, failed: int | None = None) -> Any:
    return _Message(partition, offset, failed)


def test_the_last_record_before_the_end_ends_its_partition() -> None:
    waiting = {0: 3, 1: 5}
    assert _is_wanted(message(0, 1), "t", waiting)
    assert waiting == {0: 3, 1: 5}
    assert _is_wanted(message(0, 2), "t", waiting)
    assert waiting == {1: 5}


def test_records_after_the_end_are_left_alone() -> None:
    waiting = {0: 3}
    assert not _is_wanted(message(0, 3), "t", waiting)
    assert waiting == {}
    assert not _is_wanted(message(0, 4), "t", waiting)


def test_the_end_of_a_partition_counts_only_where_it_is_not_before_the_noted_end() -> None:
    waiting = {0: 3}
    ended = KafkaError._PARTITION_EOF
    assert not _is_wanted(message(0, 2, ended), "t", waiting)
    assert waiting == {0: 3}
    assert not _is_wanted(message(0, 3, ended), "t", waiting)
    assert waiting == {}


@pytest.mark.parametrize("code", [KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT])
def test_a_broker_that_goes_away_is_told(code: int) -> None:
    with pytest.raises(BrokerUnreachable, match="went away"):
        _is_wanted(message(0, 0, code), "t", {0: 3})


@pytest.mark.parametrize(
    "code", [KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED]
)
def test_a_missing_right_is_told_with_how_it_is_granted(code: int) -> None:
    with pytest.raises(AccessRefused, match=r"t may not be read: .*producer\.pex topics --acls"):
        _is_wanted(message(0, 0, code), "t", {0: 3})


def test_any_other_failure_names_the_topic() -> None:
    with pytest.raises(TopicChanged, match="t could not be read"):
        _is_wanted(message(0, 0, KafkaError.OFFSET_OUT_OF_RANGE), "t", {0: 3})


def test_empty_spans_are_read_without_a_broker() -> None:
    assert list(read(Cluster("127.0.0.1:1"), "t", [Span(0, 0, 0), Span(1, 7, 7)])) == []
