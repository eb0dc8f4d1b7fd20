"""What became of dead letters: whether the records in them would be taken by now."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from fraudstream.kafka.topics import Topics
from fraudstream.schema.timestamps import CLOCK_TOLERANCE
from fraudstream.schema.validation import DEAD_LETTER
from fraudstream.schema.validation import LABEL
from fraudstream.schema.validation import TRANSACTION
from fraudstream.schema.validation import InvalidDocument
from fraudstream.schema.validation import validator


@dataclass(frozen=True)
class DeadLetter:
    """A dead letter, judged anew.

    Attributes
    ----------
    stage, reason, failed_at
        Who refused the record, why, and when (RFC 3339, UTC).
    topic, partition, offset
        Where the record was, or was meant to go (``None``: it was never there).
    original
        The record's bytes; of a very large one only the first, as `reason` then says.
    still_wrong
        Why it would be refused today; ``None`` if it would be taken.
    """

    stage: str
    reason: str
    failed_at: str
    topic: str
    partition: int | None
    offset: int | None
    original: bytes
    still_wrong: str | None

    @property
    def place(self) -> tuple[int, int]:
        """Partition and offset, to sort by; before all others where it was never there."""
        if self.partition is None or self.offset is None:
            return (-1, -1)
        return (self.partition, self.offset)

    def document(self) -> dict[str, Any]:
        """Return the record's document, of one that would be taken."""
        found: dict[str, Any] = orjson.loads(self.original)
        return found


def judge(values: Sequence[bytes | None], topics: Topics, now: datetime) -> list[DeadLetter]:
    """Judge the records in dead letters as if they came now.

    Parameters
    ----------
    values
        Records of the topic of dead letters.
    topics
        Names of the topics: what was meant for none of them cannot be taken.
    now
        Aware; nothing may be dated after it, but for `CLOCK_TOLERANCE`.

    Raises
    ------
    InvalidDocument
        If a value is no dead letter.

    Examples
    --------
    >>> from datetime import UTC
    >>> letter = {"stage": "inference", "reason": "too early", "original": "e30=", "partition": 0,
    ...           "topic": "labels", "offset": 7, "failed_at": "2026-01-01T00:00:00Z"}
    >>> [one] = judge([orjson.dumps(letter)], Topics(labels="labels"), datetime.now(UTC))
    >>> one.original, one.still_wrong
    (b'{}', "'transaction_id' is a required property")
    """
    judges = {topics.transactions: _refusal_of_transaction, topics.labels: _refusal_of_label}
    letters = []
    for value in values:
        letter = validator(DEAD_LETTER).parse(value)
        original = base64.b64decode(letter.pop("original"))
        topic = letter["topic"]
        if topic in judges:
            still_wrong = judges[topic](original, now)
        else:
            still_wrong = f"{topic} is not one of our topics"
        letters.append(DeadLetter(**letter, original=original, still_wrong=still_wrong))
    return letters


def _refusal_of_transaction(original: bytes, now: datetime) -> str | None:
    return _refusal(original, now, TRANSACTION, "event_time")


def _refusal_of_label(original: bytes, now: datetime) -> str | None:
    return _refusal(original, now, LABEL, "event_time", "labelled_at")


def _refusal(original: bytes, now: datetime, schema: str, *times: str) -> str | None:
    """Return why the stream would refuse a record that came now, or ``None`` if it would not."""
    try:
        document = validator(schema).parse(original)
    except InvalidDocument as error:
        return str(error)
    for name in times:
        if datetime.fromisoformat(document[name]) > now + CLOCK_TOLERANCE:
            return f"{name}: {document[name]} lies in the future"
    return None
