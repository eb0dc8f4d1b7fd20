"""Read what a topic holds, from the first offset to the end noted at the start."""

from collections.abc import Iterator
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
_CHUNK = 50_000


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
            Span(
                partition,
                *consumer.get_watermark_offsets(
                    TopicPartition(topic, partition), timeout=_TIMEOUT_S
                ),
            )
            for partition in range(partitions)
        ]
    except KafkaException as error:
        raise BrokerUnreachable(f"the broker stopped answering: {error.args[0].str()}") from error
    finally:
        consumer.close()


def read(
    cluster: Cluster, topic: str, within: list[Span], committed_only: bool = True
) -> Iterator[Records]:
    """Yield the records of `topic` that lie in the spans `within`, some tens of thousands at once.

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
    waiting = {span.partition: span.high for span in within if span.high > span.low}
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
            queued_max_messages_kbytes=256 * 1024,
        )
    )
    try:
        consumer.assign(
            [TopicPartition(topic, s.partition, s.low) for s in within if s.partition in waiting]
        )
        deadline = time.monotonic() + _STALL_S
        while waiting:
            kept = []
            for message in consumer.consume(_CHUNK, timeout=0.5):
                if _is_wanted(message, topic, waiting):
                    kept.append(message)
            if kept:
                deadline = time.monotonic() + _STALL_S
                yield Records(
                    np.array([m.partition() for m in kept], dtype=np.int64),
                    np.array([m.offset() for m in kept], dtype=np.int64),
                    np.array([m.timestamp()[1] for m in kept], dtype=np.int64),
                    [m.value() for m in kept],
                )
            elif waiting and time.monotonic() > deadline:
                raise TopicChanged(
                    f"{topic}: no record came for {_STALL_S:.0f} s, and partitions "
                    f"{sorted(waiting)} are not at their end; was the topic cut or deleted?"
                )
    finally:
        consumer.close()


def _is_wanted(message: Message, topic: str, waiting: dict[int, int]) -> bool:
    """Return whether a message is a record before the end; forget a partition that is at its end.

    Parameters
    ----------
    message
        A record, the end of a partition, or a failure.
    topic
        For errors.
    waiting
        The end offset of each partition that has not reached it; changed in place.
    """
    failure = message.error()
    ended = failure is not None and failure.code() == KafkaError._PARTITION_EOF
    if failure is not None and not ended:
        if failure.code() in (KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT):
            raise BrokerUnreachable(f"the broker went away: {failure.str()}")
        if lacks_right(failure):
            raise AccessRefused(f"{topic} may not be read: {reason(failure)}")
        raise TopicChanged(f"{topic} could not be read: {failure.str()}")
    partition = cast(int, message.partition())
    offset = cast(int, message.offset())
    end = waiting.get(partition, 0)
    # A control record may be the last before the end, so that no message ever carries the last
    # offset: the end is then told by the partition's EOF, whose offset is the next record's.
    if (offset if ended else offset + 1) >= end:
        waiting.pop(partition, None)
    return not ended and offset < end
