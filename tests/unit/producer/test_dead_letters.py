"""Dead letters are judged by today's rules."""

import base64
from datetime import UTC
from datetime import datetime
from datetime import timedelta
import re
from typing import Any

import orjson
import pytest

from fraudstream.kafka.topics import Topics
from fraudstream.producer.dead_letters import judge
from fraudstream.schema.validation import InvalidDocument

NOW = datetime(2026, 1, 2, tzinfo=UTC)
TOPICS = Topics()


def letter(document: object, topic: str = TOPICS.transactions, **more: Any) -> bytes:
    original = document if isinstance(document, bytes) else orjson.dumps(document)
    return orjson.dumps(
        {
            "stage": "inference",
            "reason": "no reason",
            "original": base64.b64encode(original).decode(),
            "topic": topic,
            "partition": 0,
            "offset": 1,
            "failed_at": "2026-01-01T00:00:00Z",
            **more,
        }
    )


def transaction(event_time: datetime = NOW, **changed: Any) -> dict[str, Any]:
    return {
        "transaction_id": "t1",
        "event_time": event_time.isoformat().replace("+00:00", "Z"),
        "card_id": "c1",
        "merchant_id": "m1",
        "amount": 9.5,
        **changed,
    }


def test_a_record_that_is_valid_by_now_would_be_taken_as_it_was() -> None:
    [found] = judge([letter(transaction())], TOPICS, NOW)
    assert found.still_wrong is None
    assert found.document() == transaction()


@pytest.mark.parametrize(
    ("original", "why"),
    [
        (b"\xff?", "expected a JSON document"),
        (transaction(amount=-1), "amount"),
        (transaction(NOW + timedelta(hours=1)), "event_time: .* lies in the future"),
    ],
)
def test_a_record_that_is_still_wrong_says_why(original: Any, why: str) -> None:
    [found] = judge([letter(original)], TOPICS, NOW)
    assert found.still_wrong is not None
    assert re.match(why, found.still_wrong)


def test_a_record_that_was_dated_ahead_is_valid_when_its_time_has_come() -> None:
    ahead = letter(transaction(NOW + timedelta(hours=1)))
    [then] = judge([ahead], TOPICS, NOW)
    [later] = judge([ahead], TOPICS, NOW + timedelta(hours=1))
    assert then.still_wrong is not None
    assert later.still_wrong is None


def test_a_label_is_judged_as_a_label() -> None:
    known = {
        "transaction_id": "t1",
        "card_id": "c1",
        "merchant_id": "m1",
        "event_time": "2026-01-01T00:00:00Z",
        "is_fraud": True,
        "labelled_at": "2026-01-01T12:00:00Z",
        "source": "chargeback",
    }
    found = judge([letter(known, TOPICS.labels), letter(known)], TOPICS, NOW)
    assert [each.still_wrong is None for each in found] == [True, False]


def test_a_record_of_a_topic_that_is_not_ours_is_left() -> None:
    [found] = judge([letter(transaction(), "elsewhere")], TOPICS, NOW)
    assert found.still_wrong == "elsewhere is not one of our topics"


def test_what_was_refused_before_it_was_in_a_topic_has_no_place() -> None:
    [found] = judge([letter(transaction(), partition=None, offset=None)], TOPICS, NOW)
    assert (found.partition, found.offset, found.still_wrong) == (None, None, None)


def test_what_is_no_dead_letter_is_an_error() -> None:
    with pytest.raises(InvalidDocument):
        judge([b"{}"], TOPICS, NOW)
