"""The mark of a shard is read, and waited for while it may still come."""

from confluent_kafka import KafkaError
from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition
import pytest

from fraudstream.inference import sink
from fraudstream.inference.sink import next_batch
from fraudstream.inference.sink import told_at_once

PLACE = TopicPartition("scores", 0)


class Group:
    """A consumer whose coordinator gives these answers, one after the other."""

    def __init__(self, *answers):
        self.answers = list(answers)

    def committed(self, partitions, timeout):
        answer = self.answers.pop(0)
        if isinstance(answer, int):
            return [TopicPartition("scores", 0, answer)]
        raise KafkaException(answer)


def test_without_a_mark_every_batch_is_to_be_written():
    assert next_batch(Group(-1001), PLACE) == 0


def test_a_mark_names_the_next_batch():
    assert next_batch(Group(8), PLACE) == 8


def test_a_coordinator_that_moves_is_waited_for():
    codes = (KafkaError.NOT_COORDINATOR, KafkaError.UNSTABLE_OFFSET_COMMIT)
    soon = [KafkaError(code) for code in codes]
    assert next_batch(Group(*soon, 8), PLACE) == 8


def test_a_coordinator_that_moves_for_ever_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(sink, "_TIMEOUT_S", -1.0)
    with pytest.raises(KafkaException):
        next_batch(Group(KafkaError(KafkaError.NOT_COORDINATOR)), PLACE)


def test_any_other_failure_is_not_waited_for():
    with pytest.raises(KafkaException):
        next_batch(Group(KafkaError(KafkaError.GROUP_AUTHORIZATION_FAILED)), PLACE)


def test_a_mark_is_told_at_once_where_nothing_has_to_be_waited_for():
    assert told_at_once(Group(8), PLACE) == 8
    assert told_at_once(Group(-1001), PLACE) == 0


@pytest.mark.parametrize("code", [KafkaError.UNSTABLE_OFFSET_COMMIT, KafkaError._TIMED_OUT])
def test_a_mark_that_has_to_be_waited_for_is_not_told_at_once(code):
    assert told_at_once(Group(KafkaError(code), 8), PLACE) == 0
