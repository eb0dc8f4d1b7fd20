"""Every document is acknowledged, refused or counted as failed; none is lost without a word."""

import base64
from datetime import UTC
from datetime import datetime
import threading

from confluent_kafka import KafkaError
from confluent_kafka import KafkaException
import orjson
import pytest

from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.producer import delivery as room
from fraudstream.producer.delivery import Delivery
from fraudstream.schema.validation import DEAD_LETTER
from fraudstream.schema.validation import validator
from unit.producer.recorders import RecordingProducer
from unit.schema.documents import label
from unit.schema.documents import transaction

_TOPICS = Topics()
_NOW = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def delivery(monkeypatch: pytest.MonkeyPatch, stop: threading.Event) -> Delivery:
    monkeypatch.setattr(Cluster, "require_topics", lambda cluster, names: dict.fromkeys(names, 1))
    monkeypatch.setattr(room, "Producer", RecordingProducer)
    return Delivery(Cluster("x:1"), _TOPICS, lambda: _NOW, stop)


@pytest.fixture
def client(delivery: Delivery) -> RecordingProducer:
    producer = delivery._producer
    assert isinstance(producer, RecordingProducer)
    return producer


def test_transactions_and_labels_go_to_their_topics_keyed_by_card(
    delivery: Delivery, client: RecordingProducer
) -> None:
    assert delivery.deliver([transaction(card_id="a"), label(card_id="b")], [False, True]) == 2
    assert [(topic, key) for topic, _, key in client.records] == [
        (_TOPICS.transactions, "a"),
        (_TOPICS.labels, "b"),
    ]
    assert orjson.loads(client.records[0][1]) == transaction(card_id="a")
    account = delivery.close()
    assert account.acknowledged == {_TOPICS.transactions: 1, _TOPICS.labels: 1}
    assert (account.refused, account.failed, account.failure) == ({}, {}, None)


def test_a_card_number_in_a_dead_letter_is_masked(
    delivery: Delivery, client: RecordingProducer
) -> None:
    documents = [
        transaction(card_id="pan:4111-1111-1111-1111"),
        transaction(amount=4111111111111111),
    ]
    assert delivery.deliver(documents, [False, False]) == 2
    assert [topic for topic, _, _ in client.records] == [_TOPICS.dead_letters] * 2
    letters = [orjson.loads(value) for _, value, _ in client.records]
    assert [letter["reason"].split(":")[0] for letter in letters] == ["card_id", "amount"]
    first, second = (base64.b64decode(letter["original"]) for letter in letters)
    assert b'"card_id": "pan:****-****-****-1111"' in first
    assert b'"amount": ************1111' in second


def test_delivery_is_idempotent_and_waits_for_all_replicas(client: RecordingProducer) -> None:
    assert client.config["enable.idempotence"] is True
    assert client.config["acks"] == "all"


def test_what_breaks_its_schema_is_a_dead_letter_with_the_reason(
    delivery: Delivery, client: RecordingProducer
) -> None:
    broken = transaction(amount=-1)
    assert delivery.deliver([broken, label(source="rumour")], [False, True]) == 2
    letters = [orjson.loads(value) for topic, value, _ in client.records]
    assert {topic for topic, _, _ in client.records} == {_TOPICS.dead_letters}
    assert all(validator(DEAD_LETTER).is_valid(letter) for letter in letters)
    assert [letter["topic"] for letter in letters] == [_TOPICS.transactions, _TOPICS.labels]
    assert letters[0]["stage"] == "producer"
    assert letters[0]["reason"] == "amount: -1 is less than the minimum of 0"
    assert letters[0]["failed_at"] == "2026-01-31T00:00:00.000000Z"
    assert orjson.loads(base64.b64decode(letters[0]["original"])) == broken
    account = delivery.close()
    assert account.refused == {_TOPICS.transactions: 1, _TOPICS.labels: 1}
    assert account.refusal == letters[0]["reason"]
    assert account.acknowledged == {_TOPICS.dead_letters: 2}


def test_a_letter_keeps_what_json_cannot_say(delivery: Delivery, client: RecordingProducer) -> None:
    delivery.deliver([transaction(amount=float("nan"))], [False])
    letter = orjson.loads(client.records[0][1])
    assert b'"amount": NaN' in base64.b64decode(letter["original"])


def test_a_full_queue_is_waited_for_and_nothing_is_lost(
    delivery: Delivery, client: RecordingProducer
) -> None:
    client.room = 3
    documents = [transaction(transaction_id=f"t{number}") for number in range(20)]
    assert delivery.deliver(documents, [False] * 20) == 20
    sent = [orjson.loads(value)["transaction_id"] for _, value, _ in client.records]
    assert sent == [f"t{number}" for number in range(20)]
    assert delivery.close().acknowledged == {_TOPICS.transactions: 20}


def test_told_to_stop_a_document_without_room_is_not_taken(
    delivery: Delivery, client: RecordingProducer, stop: threading.Event
) -> None:
    client.room = 3
    client.silent = True
    stop.set()
    assert delivery.deliver([transaction()] * 20, [False] * 20) == 3
    assert delivery.deliver([transaction(amount=-1)], [False]) == 0
    client.silent = False
    account = delivery.close()
    assert account.acknowledged == {_TOPICS.transactions: 3}
    assert account.refused == {}


def test_what_the_client_refuses_is_counted_as_failed(
    delivery: Delivery, client: RecordingProducer
) -> None:
    client.error = KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE, "too large"))
    assert delivery.deliver([transaction()], [False]) == 1
    assert delivery.failed
    account = delivery.close()
    assert (account.failed, account.failure) == ({_TOPICS.transactions: 1}, "too large")


def test_what_is_not_acknowledged_in_time_is_counted_as_failed(
    delivery: Delivery, client: RecordingProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "_GRACE_S", -room.DELIVERY_TIMEOUT.total_seconds())
    client.silent = True
    delivery.deliver([transaction(), label()], [False, True])
    assert not delivery.failed
    account = delivery.close()
    assert account.failed == {_TOPICS.transactions: 1, _TOPICS.labels: 1}
    assert account.failure is not None
