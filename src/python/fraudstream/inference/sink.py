"""Results to Kafka: each shard of a batch in one transaction, with a mark that it is there.

A shard is what one task of the last step scores. Its results and its mark, the number of the
batch, become visible together or not at all. Whoever opens a shard fences all who opened it
before, and then looks at the mark: so a batch that is repeated, by a task that Spark starts
again or by a driver that was killed and restarted, is in the topics once. Where the mark says
before that the batch is there, nobody is fenced: who comes late, from a driver that was given up,
does not stop the one that took its place.

The mark is the offset that the shard's consumer group has committed. **Kafka forgets it** when
nothing was written for ``offsets.retention.minutes`` (a week by default): a stream that was killed
in the middle of a batch, and stays down for longer, repeats what that batch had written.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import time

from confluent_kafka import Consumer
from confluent_kafka import KafkaError
from confluent_kafka import KafkaException
from confluent_kafka import Producer
from confluent_kafka import TopicPartition
import pyarrow as pa

from fraudstream.inference.store import OlderBatch
from fraudstream.inference.store import older
from fraudstream.kafka.topics import Cluster

#: The names of transactional ids and consumer groups begin with it: grant both by this prefix.
PREFIX = "inference"

_TIMEOUT_S = 60.0
# To ask before anybody is fenced only saves trouble: not to be waited for.
_AT_ONCE_S = 0.5
# Sending the largest batch over a slow line must not be taken for a writer that is gone.
_OPEN_MS = 300_000
_SOON = (
    KafkaError.NOT_COORDINATOR,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
)
_ROOM_S = 0.1
# Kafka is close, and asked once a batch: what takes a moment is tried again at once. The client
# waits for 100 ms by default before it connects, and before it goes on after another transaction.
_HASTE = {"reconnect.backoff.ms": 1, "retry.backoff.ms": 5, "linger.ms": 1}

# By cluster and group. To connect anew for each batch takes longer than all the rest.
_markers: dict[tuple[str, str], Consumer] = {}


class NotWritten(ConnectionError):
    """Results did not reach Kafka: it did not answer, refused them, or another writer took over."""


@dataclass(frozen=True)
class Sink:
    """Where a stream's results go.

    Parameters
    ----------
    cluster
        The Kafka cluster.
    stream
        Names the stream for ever: what two streams write must not be taken for the same.
    marked
        A topic that exists, for the mark to name; nothing is written to it for the mark.
    """

    cluster: Cluster
    stream: str
    marked: str

    def open(self, shard: int, batch: int) -> "Shard":
        """Take over a shard for a batch: who opened it before can write nothing more.

        But where the batch is there already, nothing is taken over.

        Parameters
        ----------
        shard
            Its number.
        batch
            The number of the batch, from 0. Batches are written in the order of their numbers.

        Raises
        ------
        NotWritten
            If Kafka does not answer, or refuses.
        """
        with _told(f"shard {shard} could not be opened on {self.cluster.bootstrap_servers}"):
            return Shard(self.cluster, f"{PREFIX}.{self.stream}.{shard}", self.marked, batch)


class Shard:
    """One shard of a batch, opened for writing; `Sink.open` makes it."""

    def __init__(self, cluster: Cluster, name: str, marked: str, batch: int) -> None:
        self._name = name
        self._batch = batch
        self._mark = TopicPartition(marked, 0, batch + 1)
        self._marker = _marker(cluster, name)
        self._next = told_at_once(self._marker, self._mark)
        if self._next <= batch:
            self._producer = _fencing(cluster, name, marked)
            self._next = next_batch(self._marker, self._mark)

    def write(self, rows: Iterable[pa.RecordBatch]) -> bool:
        """Write what belongs to the batch, unless it is there.

        Parameters
        ----------
        rows
            `fraudstream.inference.scoring.OUTGOING`.

        Returns
        -------
        bool
            Whether it was written; ``False`` if it was there.

        Raises
        ------
        NotWritten
            If it may not be there. Nothing of it is visible, or all: to open the shard anew and
            write the batch again is right in both cases.
        OlderBatch
            If a later batch is there. Then this one may be of other records than the one of its
            number that was written.
        """
        if self._batch + 1 < self._next:
            raise OlderBatch(older(self._name, self._next - 1, self._batch))
        if self._batch < self._next:
            return False
        with _told(f"batch {self._batch} of {self._name} could not be written"):
            self._producer.begin_transaction()
            _produce(self._producer, rows)
            self._producer.send_offsets_to_transaction(
                [self._mark], self._marker.consumer_group_metadata(), _TIMEOUT_S
            )
            self._producer.commit_transaction(_TIMEOUT_S)
        return True


def _fencing(cluster: Cluster, name: str, marked: str) -> Producer:
    """Return a producer that has taken a transactional id over."""
    producer = Producer(
        cluster.config(
            transactional_id=name,
            transaction_timeout_ms=_OPEN_MS,
            compression_type="lz4",
            # The partitioner of Java's clients, and so of whoever writes the transactions.
            partitioner="murmur2_random",
        )
        | _HASTE
    )
    # The client asks for its coordinator as soon as it is connected to the address that it was
    # given. Once it knows the broker by its name it drops that connection, and may lose the
    # answer: it asks again after half a second. So it is made to know the broker (the first
    # time), and to be connected to it (the second), before.
    for _ in range(2):
        producer.list_topics(marked, _TIMEOUT_S)
    producer.init_transactions(_TIMEOUT_S)
    return producer


def _marker(cluster: Cluster, name: str) -> Consumer:
    """Return what reads a group's mark, and names the group for the next; it joins no group."""
    place = (cluster.bootstrap_servers, name)
    if place not in _markers:
        _markers[place] = Consumer(cluster.config(group_id=name, enable_auto_commit=False) | _HASTE)
    return _markers[place]


def told_at_once(marker: Consumer, place: TopicPartition) -> int:
    """Return what `next_batch` does, or less: 0 where that would have to be waited for."""
    try:
        [mark] = marker.committed([place], timeout=_AT_ONCE_S)
    except KafkaException:
        return 0
    return max(int(mark.offset), 0)


def next_batch(marker: Consumer, place: TopicPartition) -> int:
    """Return the number of the first batch that is not marked as written; 0 if none is.

    A group's coordinator may be moving, or have transactions to settle first: that is waited for.
    """
    deadline = time.monotonic() + _TIMEOUT_S
    while True:
        try:
            [mark] = marker.committed([place], timeout=_TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() not in _SOON or time.monotonic() > deadline:
                raise
        else:
            return max(int(mark.offset), 0)


def _produce(producer: Producer, rows: Iterable[pa.RecordBatch]) -> None:
    for some in rows:
        columns = (some.column(name).to_pylist() for name in ("topic", "key", "value"))
        for topic, key, value in zip(*columns, strict=True):
            while True:
                try:
                    producer.produce(topic, value, key)
                    break
                except BufferError:
                    # The queue is full: an acknowledgement makes room, and ends this wait.
                    producer.poll(_ROOM_S)


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except KafkaException as error:
        raise NotWritten(f"{what}: {error.args[0].str()}") from error
