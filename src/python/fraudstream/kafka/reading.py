"""Read what a topic holds, from the first offset to the end noted at the start."""

from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import dataclass
import time
from typing import cast

from confluent_kafka import Consumer
from confluent_kafka import KafkaError
from confluent_kafka import KafkaException
from confluent_kafka import Message
from confluent_kafka import TopicPartition
import numpy as np
import numpy.typing as npt

from fraudstream.kafka.topics import AccessRefused
from fraudstream.kafka.topics import BrokerUnreachable
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import lacks_right
from fraudstream.kafka.topics import reason

_TIMEOUT_S = 10.0
_STALL_S = 30.0
_CHUNK = 10_000
# When a client has fetched enough ahead (64 MB), it looks again this much later; by default that is
# a second, in which nothing comes. To let it fetch more hides that, and takes its memory.
_ENOUGH_MS = 20
# A topic that was just made has no leader yet, and one whose broker went away gets another soon.
_SOON = (
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
)
_SOON_S = 0.1


class TopicChanged(ValueError):
    """A topic did not give the records that its offsets promised."""


@dataclass(frozen=True)
class Span:
    """The offsets of one partition: from `low`, up to but without `high`."""

    partition: int
    low: int
    high: int


@dataclass(frozen=True)
class Records:
    """Some records of a topic, in columns.

    Attributes
    ----------
    partition, offset, appended_ms
        ``int64``, one an entry; `appended_ms` is the record's timestamp in milliseconds since the
        epoch. Offsets of one partition increase.
    values
        The values as they came; ``None`` is a tombstone.
    """

    partition: npt.NDArray[np.int64]
    offset: npt.NDArray[np.int64]
    appended_ms: npt.NDArray[np.int64]
    values: list[bytes | None]

    def __len__(self) -> int:
        return len(self.values)


def spans(cluster: Cluster, topic: str) -> list[Span]:
    """Return the first and end offset of each partition of `topic` as they are now.

    Raises
    ------
    UnknownTopic, BrokerUnreachable
        See `Cluster.require_topics`.
    """
    partitions = cluster.require_topics([topic])[topic]
    consumer = Consumer(cluster.config(group_id="fraudstream-spans", enable_auto_commit=False))
    try:
        return [
            Span(partition, *bounds(consumer, TopicPartition(topic, partition)))
            for partition in range(partitions)
        ]
    except KafkaException as error:
        raise BrokerUnreachable(f"the broker stopped answering: {error.args[0].str()}") from error
    finally:
        consumer.close()


def bounds(consumer: Consumer, place: TopicPartition) -> tuple[int, int]:
    """Return the first and the end offset of a partition; a leader that is to come is waited for.

    Raises
    ------
    KafkaException
        If it cannot be told, or there is no leader for ten seconds.
    """
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            low, high = consumer.get_watermark_offsets(place, timeout=_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() not in _SOON or time.monotonic() > deadline:
                raise
            # Asking does not wait by itself, and the leader is found within moments.
            time.sleep(_SOON_S)
        else:
            return low, high


def read(
    cluster: Cluster, topic: str, within: list[Span], committed_only: bool = True
) -> Iterator[Records]:
    """Yield the records of `topic` that lie in the spans `within`, some thousands at once.

    Parameters
    ----------
    cluster, topic
        Where to read.
    within
        As `spans` gave them; records appended since are left alone.
    committed_only
        Whether records of aborted or open Kafka transactions are left out.

    Raises
    ------
    TopicChanged
        If no record arrives for thirty seconds before an end offset is reached.
    AccessRefused
        If we have no right to read it.
    BrokerUnreachable
        If the broker goes away.
    """
    ends = {span.partition: span.high for span in within if span.high > span.low}
    waiting = set(ends)
    if not waiting:
        return
    consumer = Consumer(
        cluster.config(
            group_id="fraudstream-read",
            enable_auto_commit=False,
            enable_partition_eof=True,
            auto_offset_reset="error",
            isolation_level="read_committed" if committed_only else "read_uncommitted",
            fetch_max_bytes=64 * 1024 * 1024,
            fetch_queue_backoff_ms=_ENOUGH_MS,
        )
    )
    try:
        consumer.assign(
            [TopicPartition(topic, s.partition, s.low) for s in within if s.partition in waiting]
        )
        deadline = time.monotonic() + _STALL_S
        while waiting:
            records = _take(consumer.consume(_CHUNK, timeout=0.5), topic, ends, waiting)
            if len(records):
                deadline = time.monotonic() + _STALL_S
                yield records
            elif waiting and time.monotonic() > deadline:
                raise TopicChanged(
                    f"{topic}: no record came for {_STALL_S:.0f} s, and partitions "
                    f"{sorted(waiting)} are not at their end; was the topic cut or deleted?"
                )
    finally:
        consumer.close()


def _take(
    messages: list[Message], topic: str, ends: Mapping[int, int], waiting: set[int]
) -> Records:
    """Return the records before the ends; forget the partitions that have reached theirs.

    Parameters
    ----------
    messages
        Records, ends of partitions, or failures.
    topic
        For errors.
    ends
        The end offset of each partition.
    waiting
        The partitions that have not reached it; changed in place.
    """
    failures = [message.error() for message in messages]
    if any(failures):
        for message, failure in zip(messages, failures, strict=True):
            if failure is not None:
                _require_end(failure, topic)
                # A control record may be the last before the end, so that no message ever carries
                # the last offset: the end is then told by the offset after it.
                _forget(waiting, ends, cast(int, message.partition()), cast(int, message.offset()))
        messages = [m for m, failure in zip(messages, failures, strict=True) if failure is None]
    partition = np.array([message.partition() for message in messages], dtype=np.int64)
    offset = np.array([message.offset() for message in messages], dtype=np.int64)
    wanted = np.zeros(len(messages), dtype=bool)
    for each in np.unique(partition).tolist():
        its = partition == each
        wanted |= its & (offset < ends[each])
        _forget(waiting, ends, each, int(offset[its].max()) + 1)
    if not wanted.all():
        messages = [messages[row] for row in np.flatnonzero(wanted).tolist()]
    return Records(
        partition[wanted],
        offset[wanted],
        np.array([message.timestamp()[1] for message in messages], dtype=np.int64),
        [message.value() for message in messages],
    )


def _forget(waiting: set[int], ends: Mapping[int, int], partition: int, next_offset: int) -> None:
    if next_offset >= ends[partition]:
        waiting.discard(partition)


def _require_end(failure: KafkaError, topic: str) -> None:
    """Raise what failed; the end of a partition is no failure."""
    if failure.code() == KafkaError._PARTITION_EOF:
        return
    if failure.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
        raise BrokerUnreachable(f"the broker went away: {failure.str()}")
    if lacks_right(failure):
        raise AccessRefused(f"{topic} may not be read: {reason(failure)}")
    raise TopicChanged(f"{topic} could not be read: {failure.str()}")
