"""A topic is read whole, with every record in its place."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import orjson
import pytest

from fraudstream.kafka import tables
from fraudstream.kafka.reading import Records
from fraudstream.kafka.reading import Span
from fraudstream.kafka.reading import TopicChanged
from fraudstream.kafka.tables import read_topic
from fraudstream.kafka.topics import Cluster
from fraudstream.schema.decoding import decode_labels


def label(number: int) -> dict[str, Any]:
    return {
        "transaction_id": f"t{number}",
        "card_id": "c",
        "merchant_id": "m",
        "event_time": "1970-01-01T00:00:00Z",
        "is_fraud": True,
        "labelled_at": "1970-01-01T00:00:05Z",
        "source": "chargeback",
    }


def records(first: int, values: list[bytes | None]) -> Records:
    offset = np.arange(first, first + len(values))
    return Records(np.full(len(values), 2), offset, np.full(len(values), 2**40), values)


def read_fake(
    monkeypatch: pytest.MonkeyPatch, parts: list[Records], span: Span, every_offset: bool = True
) -> tuple[tables.Topic, list[float]]:
    monkeypatch.setattr(tables, "read", lambda *arguments: iter(parts))
    steps: list[float] = []
    topic = read_topic(Cluster("none"), "labels", [span], decode_labels, steps.append, every_offset)
    return topic, steps


def test_records_keep_their_places_and_those_that_are_not_valid_are_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = [orjson.dumps(label(number)) for number in range(3)]
    parts = [records(10, [good[0], b"?", good[1]]), records(13, [None, good[2]])]
    topic, steps = read_fake(monkeypatch, parts, Span(2, 10, 15))
    assert topic.columns["offset"].to_pylist() == [10, 12, 14]
    assert topic.columns["partition"].to_pylist() == [2, 2, 2]
    assert topic.columns["transaction_id"].to_pylist() == ["t0", "t1", "t2"]
    assert topic.rejected == 2
    assert topic.refused["offset"].to_pylist() == [11, 13]
    assert steps == [3, 2]


def test_fewer_records_than_the_offsets_promise_are_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(TopicChanged, match=r"expected 5 records .* got 1"):
        read_fake(monkeypatch, [records(10, [b"?"])], Span(2, 10, 15))


def test_a_topic_of_a_transactional_producer_may_give_fewer_records_than_offsets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = orjson.dumps(label(0))
    topic, _ = read_fake(monkeypatch, [records(10, [good])], Span(2, 10, 15), every_offset=False)
    assert topic.columns["offset"].to_pylist() == [10]


def test_what_fails_while_the_next_records_are_fetched_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    good = orjson.dumps(label(0))

    def broken() -> Iterator[Records]:
        yield records(10, [good])
        raise TopicChanged("no record came")

    monkeypatch.setattr(tables, "read", lambda *arguments: broken())
    steps: list[float] = []
    with pytest.raises(TopicChanged, match="no record came"):
        read_topic(Cluster("none"), "labels", [Span(2, 10, 15)], decode_labels, steps.append)
    assert steps == [1]


def test_an_empty_topic_has_the_columns_of_a_full_one(monkeypatch: pytest.MonkeyPatch) -> None:
    topic, _ = read_fake(monkeypatch, [], Span(2, 10, 10))
    assert len(topic.columns) == 0
    assert {"labelled_at_us", "partition", "offset", "appended_ms"} <= set(
        topic.columns.column_names
    )
