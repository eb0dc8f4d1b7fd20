"""Stand-ins that record what they are given."""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

from confluent_kafka import KafkaError
import numpy as np

from fraudstream.producer.agenda import Agenda
from fraudstream.producer.agenda import Kind


class Numbered:
    """A source whose documents say what they are and carry the number of their row."""

    def transactions(self, rows: np.ndarray) -> list[dict[str, Any]]:
        return [{"amount": row} for row in rows.tolist()]

    def labels(self, rows: np.ndarray) -> list[dict[str, Any]]:
        return [{"label": row} for row in rows.tolist()]


def agenda(**due_us: Sequence[int]) -> Agenda:
    """Return an agenda of numbered rows; keywords are the names of kinds."""
    return Agenda.of(
        Numbered(),
        {
            Kind[name.upper()]: (np.array(due, dtype=np.int64), np.arange(len(due)))
            for name, due in due_us.items()
        },
    )


class RecordingSink:
    """Takes documents and remembers them; fails after `works_for` calls, if that is given."""

    def __init__(self, works_for: int | None = None) -> None:
        self.taken: list[dict[str, Any]] = []
        self.calls = 0
        self._works_for = works_for

    @property
    def failed(self) -> bool:
        return self._works_for is not None and self.calls >= self._works_for

    def deliver(self, documents: Sequence[dict[str, Any]], is_label: Sequence[bool]) -> int:
        assert len(documents) == len(is_label)
        self.calls += 1
        self.taken += documents
        return len(documents)


class Record:
    """A record as the client library reports on it."""

    def __init__(self, topic: str) -> None:
        self._topic = topic

    def topic(self) -> str:
        return self._topic


class RecordingProducer:
    """A Kafka client that has room for a few records, and acknowledges them when it is polled."""

    room = 1_000

    def __init__(self, config: dict[str, object]) -> None:
        self.config = config
        self.records: list[tuple[str, bytes, str | None]] = []
        self.error: Exception | None = None
        self.silent = False
        self._waiting: list[tuple[Record, Callable[[KafkaError | None, Record], None]]] = []

    def produce(
        self,
        topic: str,
        value: bytes,
        key: str | None,
        on_delivery: Callable[[KafkaError | None, Record], None],
    ) -> None:
        if self.error is not None:
            raise self.error
        if len(self._waiting) >= self.room:
            raise BufferError("full")
        self.records.append((topic, value, key))
        self._waiting.append((Record(topic), on_delivery))

    def poll(self, timeout: float) -> int:
        return 0 if self.silent else self._report(None)

    def flush(self, timeout: float) -> int:
        self.poll(timeout)
        return len(self._waiting)

    def purge(self) -> None:
        self._report(KafkaError(KafkaError._PURGE_QUEUE))

    def _report(self, error: KafkaError | None) -> int:
        waiting, self._waiting = self._waiting, []
        for record, on_delivery in waiting:
            on_delivery(error, record)
        return len(waiting)
