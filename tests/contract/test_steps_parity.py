"""The steps of a batch, with a real store, serve what a replay of the topic computes."""

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import pytest

from contract.dirty_topics import Record
from contract.dirty_topics import dirty_topics
from contract.dirty_topics import replayed
from contract.every_key import EVERY_KEY
from contract.steps_alone import Stream
from contract.steps_alone import new_state
from contract.steps_alone import served
from fraudstream.features.definitions import FeatureSet
from fraudstream.features.sets import DEFAULT
from fraudstream.inference.steps import SLACK
from fraudstream.inference.steps import layout_of
from fraudstream.inference.steps import shared_keys
from fraudstream.inference.store import BUCKETS
from fraudstream.schema.timestamps import duration_us
from fraudstream.schema.validation import DEAD_LETTER
from fraudstream.schema.validation import PREDICTION
from fraudstream.schema.validation import validator


def assert_served_as_replayed(
    feature_set: FeatureSet, records: list[Record], batches: int, folder: Path, *, again: int = -1
) -> Stream:
    """Serve `records` in so many batches, one of them twice, and compare with a replay."""
    stream = Stream(new_state(folder), feature_set)
    cuts = np.linspace(0, len(records), batches + 1).astype(int)
    out = []
    for batch, (start, stop) in enumerate(pairwise(cuts)):
        if batch == again:
            stream.process(records[start:stop], batch)
        out += stream.process(records[start:stop], batch)
    features = served(out, feature_set)
    expected = replayed(feature_set, records)
    assert features.keys() == expected.keys()
    np.testing.assert_allclose(
        [features[i] for i in expected], list(expected.values()), rtol=0, atol=1e-9
    )
    return stream


@pytest.fixture(scope="module")
def records():
    return dirty_topics(days=12, cards=60, seed=3)


@pytest.mark.parametrize("batches", [1, 7, 60])
def test_served_features_equal_a_replay_however_the_stream_is_cut(records, batches, tmp_path):
    assert_served_as_replayed(DEFAULT, records, batches, tmp_path)


def test_labels_travel_no_further_than_the_keys_that_ask_for_them():
    assert shared_keys(EVERY_KEY) == ("merchant", "card", "device", "country", "channel")
    assert shared_keys(DEFAULT) == ("merchant",)


@pytest.mark.parametrize("batches", [1, 7, 60])
def test_features_of_every_key_are_served_as_replayed(records, batches, tmp_path):
    expected = replayed(EVERY_KEY, records)
    seen = np.nan_to_num(np.array(list(expected.values())))
    assert (seen.max(axis=0) > 0).all()
    assert_served_as_replayed(EVERY_KEY, records, batches, tmp_path, again=3)


@pytest.mark.parametrize("batches", [3, 11, 60])
@pytest.mark.parametrize(
    ("feature_set", "hot"),
    [
        (EVERY_KEY, {"amount_ratio_by_country_1d", "count_by_channel_1d"}),
        (DEFAULT, {"count_by_merchant_30d", "amount_ratio_by_merchant_30d", "count_by_card_30d"}),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_past_the_bound_of_a_key_what_is_served_is_still_what_is_replayed(
    records, batches, feature_set, hot, tmp_path
):
    few = replace(feature_set, most_events=20)
    unbounded, bounded = (np.array(list(replayed(s, records).values())) for s in (feature_set, few))
    changed = (np.nan_to_num(unbounded) != np.nan_to_num(bounded)).any(axis=0)
    assert hot <= set(np.array(feature_set.names)[changed])
    stream = assert_served_as_replayed(few, records, batches, tmp_path, again=2)
    valid = [orjson.loads(r.value) for r in records if r.topic == "transactions" and r.id]
    names = {document[each] for document in valid for each in ("merchant_id", "channel")}
    held = [
        len(stream.store(f"by-{key}-{bucket}").read({0: name}, layout_of(few, key)))
        for key in shared_keys(few)
        for bucket in range(BUCKETS)
        for name in names
    ]
    assert 20 <= max(held) <= 4 * 20


def test_what_two_cards_call_alike_are_two_transactions(tmp_path):
    sold = {"transaction_id": "t1", "merchant_id": "m1", "amount": 10.0}
    documents = [
        {**sold, "card_id": "c1", "event_time": "2026-01-01T00:00:00Z"},
        {**sold, "card_id": "c2", "event_time": "2026-01-01T00:01:00Z"},
        {**sold, "card_id": "c3", "event_time": "2026-01-01T00:02:00Z", "transaction_id": "t2"},
    ]
    records = [
        Record("transactions", 0, n, 1_800_000_000_000, orjson.dumps(d), None)
        for n, d in enumerate(documents)
    ]
    scores = Stream(new_state(tmp_path)).process(records, 0)
    counts = [orjson.loads(s["value"])["features"]["count_by_merchant_1h"] for s in scores]
    assert sorted(counts) == [0, 1, 2]


def test_a_repeated_batch_gives_the_same_documents(records, tmp_path):
    stream = Stream(new_state(tmp_path))
    half = len(records) // 2
    stream.process(records[:half], 0)
    first = stream.process(records[half:], 1)
    again = stream.process(records[half:], 1)

    def without_dead_letters(documents):
        return [d for d in documents if d["topic"] != "dead-letters"]

    assert without_dead_letters(again) == without_dead_letters(first)


@pytest.mark.parametrize("feature_set", [EVERY_KEY, DEFAULT], ids=lambda each: each.name)
def test_a_batch_that_reaches_further_than_any_window_can_be_repeated(feature_set, tmp_path):
    long = dirty_topics(days=80, cards=20, seed=5)
    span_ms = long[-1].appended_ms - long[len(long) // 2].appended_ms
    assert span_ms * 1000 > duration_us(feature_set.retention() + SLACK)
    assert_served_as_replayed(feature_set, long, 2, tmp_path, again=1)


def test_every_record_is_scored_once_or_set_aside_with_its_reason(records, tmp_path):
    out = Stream(new_state(tmp_path)).process(records, 0)
    scored = served(out)
    letters = [orjson.loads(d["value"]) for d in out if d["topic"] == "dead-letters"]
    for letter in letters:
        assert validator(DEAD_LETTER).explain(letter) is None
    set_aside = {(x["topic"], x["partition"], x["offset"]) for x in letters}
    assert len(set_aside) == len(letters) > 0
    for record in records:
        if record.topic == "transactions":
            place = (record.topic, record.partition, record.offset)
            assert (place in set_aside) != (record.id in scored)


def test_outgoing_documents_keep_to_the_schema_and_alerts_carry_reasons(records, tmp_path):
    out = Stream(new_state(tmp_path)).process(records, 0)
    scores = {}
    for document in out:
        if document["topic"] != "dead-letters":
            prediction = orjson.loads(document["value"])
            assert validator(PREDICTION).explain(prediction) is None
            assert document["key"] == prediction["card_id"].encode()
            assert prediction["is_alert"] == (prediction["score"] >= 0.5)
            scores.setdefault(document["topic"], []).append(prediction)
    assert scores["predicted"] == [s for s in scores["scores"] if s["is_alert"]] != []
    assert all(s["reasons"] for s in scores["predicted"] if s["amount"] > 500)
    assert not any(s["reasons"] for s in scores["scores"] if not s["is_alert"])
    assert any(s["is_late"] for s in scores["scores"])
