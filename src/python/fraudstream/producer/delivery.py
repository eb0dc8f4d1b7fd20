"""Deliver documents to Kafka: each checked, each acknowledged, refused or reported as failed."""

import base64
from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from datetime import timedelta
import json
import threading
import time
from typing import Any

from confluent_kafka import KafkaError
from confluent_kafka import KafkaException
from confluent_kafka import Message
from confluent_kafka import Producer
import numpy as np
import orjson

from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.kafka.topics import reason
from fraudstream.schema.card_numbers import masked
from fraudstream.schema.timestamps import format_us
from fraudstream.schema.timestamps import to_us
from fraudstream.schema.validation import LABEL
from fraudstream.schema.validation import TRANSACTION
from fraudstream.schema.validation import Validator
from fraudstream.schema.validation import validator

#: How long a record may stay unacknowledged. Brokers restart within it; beyond it we give up.
DELIVERY_TIMEOUT = timedelta(minutes=1)
# By then the client library has reported on every record; what it has not is a failure as well.
_GRACE_S = 10
_ROOM_S = 0.1
_POLL_EVERY = 1_000


@dataclass(frozen=True)
class Account:
    """What became of the documents of a run, in records by topic.

    Attributes
    ----------
    acknowledged
        Records that the brokers have confirmed on all in-sync replicas, dead letters among them.
    refused
        Documents that broke their schema, by the topic for which they were meant. Each is a
        record of the topic of dead letters.
    refusal
        Why the first of the refused documents was refused; ``None`` if none was.
    failed
        Records that were not confirmed: they may or may not be in the topic.
    failure
        Why the first of them failed; ``None`` if none did.
    """

    acknowledged: dict[str, int]
    refused: dict[str, int]
    refusal: str | None
    failed: dict[str, int]
    failure: str | None


class Delivery:
    """Sends transactions and labels, keyed by card; what breaks its schema is a dead letter.

    Delivery is idempotent: a record that had to be sent again is in its topic once, and the
    records of a card are in the order of the calls.

    Parameters
    ----------
    cluster, topics
        Where to send.
    now
        The wall clock, for the time at which a document was refused.
    stop
        When set, a document that would have to wait for room is not taken any more.
    timeout
        How long a record may stay unacknowledged before it has failed.

    Raises
    ------
    UnknownTopic, BrokerUnreachable
        See `Cluster.require_topics`.
    """

    def __init__(
        self,
        cluster: Cluster,
        topics: Topics,
        now: Callable[[], datetime],
        stop: threading.Event,
        timeout: timedelta = DELIVERY_TIMEOUT,
    ) -> None:
        cluster.require_topics([topics.transactions, topics.labels, topics.dead_letters])
        self._dead_letters = topics.dead_letters
        self._transaction = _Route(topics.transactions, validator(TRANSACTION))
        self._label = _Route(topics.labels, validator(LABEL))
        self._now = now
        self._stop = stop
        self._timeout_s = timeout.total_seconds()
        self._acknowledged: Counter[str] = Counter()
        self._refused: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._refusal: str | None = None
        self._failure: str | None = None
        self._producer = Producer(
            cluster.config(
                enable_idempotence=True,
                acks="all",
                compression_type="lz4",
                # The partitioner of Java's clients: whoever else writes a card's records, they
                # share one partition and so one order.
                partitioner="murmur2_random",
                linger_ms=5,
                queue_buffering_max_messages=200_000,
                message_timeout_ms=timeout // timedelta(milliseconds=1),
            )
        )

    @property
    def failed(self) -> bool:
        """Whether a record is known to have failed: more would most likely fail too."""
        return self._failure is not None

    def deliver(self, documents: Sequence[dict[str, Any]], is_label: Sequence[bool]) -> int:
        """Check and send documents in their order, waiting for room where there is none.

        Parameters
        ----------
        documents
            Transactions and labels.
        is_label
            Which they are.

        Returns
        -------
        int
            How many were taken: fewer than given if the run was told to stop while it waited.
        """
        for place, document in enumerate(documents):
            route = self._label if is_label[place] else self._transaction
            if route.is_valid(document):
                taken = self._produce(route.topic, orjson.dumps(document), document["card_id"])
            else:
                taken = self._produce(self._dead_letters, self._letter(route, document), None)
                if taken:
                    self._refused[route.topic] += 1
            if not taken:
                return place
            if place % _POLL_EVERY == 0:
                self._producer.poll(0)
        self._producer.poll(0)
        return len(documents)

    def close(self) -> Account:
        """Wait for the last acknowledgements and return the account of the run."""
        deadline = time.monotonic() + self._timeout_s + _GRACE_S
        # In short waits: a signal is not seen before the client library returns.
        while self._producer.flush(_ROOM_S):
            if time.monotonic() > deadline:
                # What is thrown out here is counted as failed.
                self._producer.purge()
        return Account(
            dict(self._acknowledged),
            dict(self._refused),
            self._refusal,
            dict(self._failed),
            self._failure,
        )

    def _produce(self, topic: str, value: bytes, key: str | None) -> bool:
        while True:
            try:
                self._producer.produce(topic, value, key, on_delivery=self._on_delivery)
            except BufferError:
                # The queue is full: an acknowledgement makes room, and ends this wait.
                if self._stop.is_set():
                    return False
                self._producer.poll(_ROOM_S)
            except KafkaException as refusal:
                self._count_failure(topic, refusal.args[0])
                return True
            else:
                return True

    def _on_delivery(self, failure: KafkaError | None, record: Message) -> None:
        topic = str(record.topic())
        if failure is None:
            self._acknowledged[topic] += 1
        else:
            self._count_failure(topic, failure)

    def _count_failure(self, topic: str, failure: KafkaError) -> None:
        self._failed[topic] += 1
        if self._failure is None:
            self._failure = reason(failure)

    def _letter(self, route: "_Route", document: dict[str, Any]) -> bytes:
        refusal = str(route.explain(document))
        self._refusal = self._refusal or refusal
        return orjson.dumps(dead_letter(route.topic, document, refusal, self._now()))


class _Route:
    def __init__(self, topic: str, checks: Validator) -> None:
        self.topic = topic
        self.is_valid = checks.is_valid
        self.explain = checks.explain


def dead_letter(
    topic: str, document: dict[str, Any], reason: str, failed_at: datetime
) -> dict[str, Any]:
    """Return the dead letter of a document that was never in a topic.

    Parameters
    ----------
    topic
        Where it would have gone.
    document
        The document; the letter keeps its JSON text, with ``NaN`` for what JSON cannot say, and
        with a card number masked.
    reason
        What was expected, and what came.
    failed_at
        Aware.

    Examples
    --------
    >>> from datetime import UTC
    >>> letter = dead_letter("t", {"amount": -1}, "too small", datetime(2026, 1, 1, tzinfo=UTC))
    >>> base64.b64decode(letter["original"]), letter["failed_at"]
    (b'{"amount": -1}', '2026-01-01T00:00:00.000000Z')
    """
    return {
        "stage": "producer",
        "reason": reason,
        "original": base64.b64encode(masked(json.dumps(document).encode())).decode(),
        "topic": topic,
        "partition": None,
        "offset": None,
        "failed_at": format_us(np.array([to_us(failed_at)]))[0],
    }
