"""Follow the topics as they grow."""

from collections import defaultdict
from collections.abc import Mapping
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from confluent_kafka import Consumer
from confluent_kafka import Message
from confluent_kafka import TopicPartition
import numpy as np

from fraudstream.demo.report import Ledger
from fraudstream.kafka.reading import Records
from fraudstream.kafka.reading import Span
from fraudstream.kafka.reading import TopicChanged
from fraudstream.kafka.reading import spans
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics

_CHUNK = 20_000


class Traffic:
    """New transactions and everything that comes of them, from the moment it is made.

    Results are followed from their first record, so that a ledger of the transactions that the
    topic already holds can be completed; transactions only from the present end of their topic.

    Parameters
    ----------
    cluster, topics
        Where to read; results are read committed, as every reader should.

    Raises
    ------
    UnknownTopic, BrokerUnreachable
        See `fraudstream.kafka.reading.spans`.
    """

    def __init__(self, cluster: Cluster, topics: Topics) -> None:
        self._cluster = cluster
        self._topics = topics
        #: The spans of the transactions that the topic held before the first that is followed.
        self.before = spans(cluster, topics.transactions)
        start = _starts(topics.transactions, {s.partition: s.high for s in self.before})
        for topic in (topics.scores, topics.predicted, topics.dead_letters):
            start += _starts(topic, {s.partition: s.low for s in spans(cluster, topic)})
        self._consumer = Consumer(
            cluster.config(
                group_id="fraudstream-demo",
                enable_auto_commit=False,
                auto_offset_reset="error",
                isolation_level="read_committed",
                # To ask for each record as it comes is work for the broker; a moment later is
                # early enough to look at.
                fetch_min_bytes=1_000_000,
                fetch_wait_max_ms=250,
            )
        )
        self._consumer.assign(start)

    def since(self) -> list[Span]:
        """Return the spans of the transactions that came after `before`, up to now.

        Raises
        ------
        UnknownTopic, BrokerUnreachable
            See `fraudstream.kafka.reading.spans`.
        """
        return [
            Span(old.partition, old.high, new.high)
            for old, new in zip(
                self.before, spans(self._cluster, self._topics.transactions), strict=True
            )
        ]

    def poll(self, ledger: Ledger, timeout_s: float) -> int:
        """Enter what has come since the last call into `ledger`, waiting for at most `timeout_s`.

        Returns
        -------
        int
            The number of records that came.

        Raises
        ------
        TopicChanged
            If a topic cannot be followed any more, because it was cut or deleted.
        """
        by_topic: dict[str, list[Message]] = defaultdict(list)
        for message in self._consumer.consume(_CHUNK, timeout=timeout_s):
            failure = message.error()
            if failure is not None:
                raise TopicChanged(
                    f"{message.topic()} cannot be followed any more: {failure.str()}"
                )
            by_topic[message.topic() or ""].append(message)
        for topic, messages in by_topic.items():
            records = _records(messages)
            if topic == self._topics.transactions:
                ledger.add_transactions(records)
            elif topic == self._topics.scores:
                ledger.add_scores(records)
            elif topic == self._topics.predicted:
                ledger.add_alerts(records)
            else:
                ledger.add_dead_letters(records, self._topics.transactions)
        return sum(map(len, by_topic.values()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._consumer.close()


def _starts(topic: str, offsets: Mapping[int, int]) -> list[TopicPartition]:
    return [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]


def _records(messages: Sequence[Message]) -> Records:
    return Records(
        np.array([message.partition() for message in messages], dtype=np.int64),
        np.array([message.offset() for message in messages], dtype=np.int64),
        np.array([message.timestamp()[1] for message in messages], dtype=np.int64),
        [message.value() for message in messages],
    )
