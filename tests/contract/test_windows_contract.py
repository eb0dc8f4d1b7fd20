"""Every statistic of the engine equals the slow and obvious computation, whatever arrives how."""

from dataclasses import replace
from datetime import timedelta

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pyarrow as pa
import pytest

from contract.naive_features import Label
from contract.naive_features import Transaction
from contract.naive_features import value_of
from fraudstream.features.definitions import OF_TRANSACTION
from fraudstream.features.definitions import OF_WINDOW
from fraudstream.features.definitions import VISIBILITY_LAG
from fraudstream.features.definitions import Feature
from fraudstream.features.definitions import FeatureSet
from fraudstream.features.history import label_values
from fraudstream.features.history import transaction_values
from fraudstream.features.sets import DEFAULT
from fraudstream.features.windows import replay

MINUTE = timedelta(minutes=1)
HOUR_US = 3_600_000_000
WINDOW = 30 * MINUTE
LAG = VISIBILITY_LAG

_OF_CARD = [
    Feature("card", None if s in ("count", "seconds_since_last") else v, s, WINDOW)
    for s, v in [
        ("count", None),
        ("sum", "amount"),
        ("mean", "amount"),
        ("min", "amount"),
        ("max", "amount"),
        ("std", "amount"),
        ("median", "amount"),
        ("trimmed_mean", "amount"),
        ("ratio", "amount"),
        ("ratio_to_median", "amount"),
        ("ratio_to_trimmed_mean", "amount"),
        ("zscore", "amount"),
        ("distinct_count", "merchant"),
        ("is_new", "device"),
        ("is_new", "country"),
        ("seconds_since_last", None),
        ("distance_since_last_km", None),
        ("speed_since_last_kmh", None),
    ]
]
EVERY_STATISTIC = FeatureSet(
    "every",
    1,
    (
        Feature(None, "amount", "value"),
        Feature(None, "channel", "is", level="online"),
        Feature(None, None, "hour"),
        Feature(None, None, "is_weekend"),
        Feature(None, None, "is_night"),
        *_OF_CARD,
        Feature("card", "amount", "sum", 2 * WINDOW, delay=WINDOW),
        Feature("card", "amount", "mean", 2 * WINDOW, include_current=True),
        Feature("card", "amount", "unusual_count", WINDOW, reference=2 * WINDOW),
        Feature("card", "amount", "unusual_share", WINDOW, reference=2 * WINDOW),
        Feature("merchant", None, "count", WINDOW, LAG),
        Feature("merchant", "amount", "sum", WINDOW, 5 * MINUTE),
        Feature("merchant", "amount", "mean", WINDOW, LAG),
        Feature("merchant", "amount", "max", WINDOW, LAG),
        Feature("merchant", "amount", "std", WINDOW, LAG),
        Feature("merchant", "card", "distinct_count", WINDOW, LAG),
        Feature("merchant", None, "seconds_since_last", WINDOW, LAG),
        Feature("merchant", "is_fraud", "count", WINDOW, LAG),
        Feature("merchant", "is_fraud", "sum", 2 * WINDOW, LAG),
        Feature("merchant", "is_fraud", "rate", WINDOW, 5 * MINUTE),
        Feature("merchant", "is_fraud", "rate", 3 * WINDOW, LAG, smoothing=0),
        Feature("merchant", "is_fraud", "current_streak", 3 * WINDOW, LAG),
        Feature("merchant", "is_fraud", "current_streak_seconds", 3 * WINDOW, LAG),
        Feature("merchant", "is_fraud", "longest_streak", 3 * WINDOW, LAG),
        Feature("card", "is_fraud", "sum", 2 * WINDOW, LAG),
        Feature("device", None, "count", WINDOW, LAG),
        Feature("device", "card", "distinct_count", 2 * WINDOW, LAG),
        Feature("device", None, "seconds_since_last", WINDOW, 5 * MINUTE),
        Feature("country", "amount", "mean", WINDOW, LAG),
    ),
)

#: Times crowd into two hours from the epoch on, many of them equal, with an outlier years away.
_times = st.one_of(
    st.integers(0, 24).map(lambda n: n * 5 * 60_000_000),
    st.integers(0, 2 * HOUR_US),
    st.just(400 * 24 * HOUR_US),
)
_names = st.sampled_from(["a", "b", "c"])
_maybe = st.none() | _names


@st.composite
def topics(draw):
    """Two topics of two partitions, in which records are late, sent twice and out of order."""
    transactions, labels = [], []
    offsets = {0: 0, 1: 0}
    for number in range(draw(st.integers(1, 14))):
        card = draw(_names)
        partition = 0 if card == "a" else 1
        place = draw(st.none() | st.tuples(st.floats(-80, 80), st.floats(-179, 179)))
        one = Transaction(
            id=f"t{draw(st.integers(0, number))}",
            card=card,
            merchant=draw(_names),
            time_us=draw(_times),
            partition=partition,
            offset=offsets[partition],
            amount=draw(st.integers(0, 100_000)) / 100,
            channel=draw(st.sampled_from([None, "online", "atm"])),
            device=draw(_maybe),
            country=draw(_maybe),
            latitude=place and place[0],
            longitude=place and place[1],
        )
        offsets[partition] += 1
        transactions.append(one)
    for number in range(draw(st.integers(0, 8))):
        known = draw(st.sampled_from(transactions))
        labels.append(
            Label(
                known.id,
                known.card,
                known.merchant,
                draw(_times),
                known.partition,
                number,
                draw(st.booleans()),
            )
        )
    return transactions, labels


def tables(transactions, labels):
    """The same records as the decoded columns that the engine reads."""
    return (
        pa.table(
            {
                "transaction_id": pa.array([t.id for t in transactions], pa.string()),
                "card_id": pa.array([t.card for t in transactions], pa.string()),
                "merchant_id": pa.array([t.merchant for t in transactions], pa.string()),
                "event_time_us": pa.array([t.time_us for t in transactions], pa.int64()),
                "partition": pa.array([t.partition for t in transactions], pa.int64()),
                "offset": pa.array([t.offset for t in transactions], pa.int64()),
                "amount": pa.array([t.amount for t in transactions], pa.float64()),
                "channel": pa.array([t.channel for t in transactions], pa.string()),
                "device_id": pa.array([t.device for t in transactions], pa.string()),
                "country": pa.array([t.country for t in transactions], pa.string()),
                "latitude": pa.array([t.latitude for t in transactions], pa.float64()),
                "longitude": pa.array([t.longitude for t in transactions], pa.float64()),
            }
        ),
        pa.table(
            {
                "transaction_id": pa.array([x.id for x in labels], pa.string()),
                "card_id": pa.array([x.card for x in labels], pa.string()),
                "merchant_id": pa.array([x.merchant for x in labels], pa.string()),
                "labelled_at_us": pa.array([x.known_us for x in labels], pa.int64()),
                "partition": pa.array([x.partition for x in labels], pa.int64()),
                "offset": pa.array([x.offset for x in labels], pa.int64()),
                "is_fraud": pa.array([x.is_fraud for x in labels], pa.bool_()),
            }
        ),
    )


@settings(max_examples=250, deadline=None)
@given(topics())
def test_every_statistic_equals_the_obvious_computation(records):
    transactions, labels = records
    matrix = replay(EVERY_STATISTIC, *tables(transactions, labels))
    for column, feature in enumerate(EVERY_STATISTIC.features):
        expected = [value_of(feature, t, transactions, labels) for t in transactions]
        np.testing.assert_allclose(
            matrix[:, column], expected, rtol=1e-9, atol=1e-9, err_msg=feature.name
        )


@settings(max_examples=250, deadline=None)
@given(topics(), st.integers(1, 4))
def test_of_a_key_the_latest_events_that_had_arrived_are_seen_and_no_more(records, most):
    transactions, labels = records
    few = replace(EVERY_STATISTIC, most_events=most)
    columns, told = tables(transactions, labels)
    ties = {}
    for some, values in ((transactions, transaction_values(columns)), (labels, label_values(told))):
        for record, hashed in zip(some, values["transaction"].tolist(), strict=True):
            ties[record.card, record.id] = hashed
    matrix = replay(few, columns, told)
    for column, feature in enumerate(few.features):
        expected = [
            value_of(feature, t, transactions, labels, most, lambda x: ties[x.card, x.id])
            for t in transactions
        ]
        np.testing.assert_allclose(
            matrix[:, column], expected, rtol=1e-9, atol=1e-9, err_msg=feature.name
        )


def test_the_contract_covers_every_statistic_there_is():
    assert {f.statistic for f in EVERY_STATISTIC.features} == OF_TRANSACTION | OF_WINDOW


@settings(max_examples=100, deadline=None)
@given(topics())
def test_no_feature_changes_when_something_arrives_afterwards(records):
    """The canary: whatever comes later in a partition, or within the lag, is not seen."""
    transactions, _ = records
    one = transactions[0]
    before, _ = tables([one], [])
    alone = replay(EVERY_STATISTIC, before, tables([], [])[1])
    later = [t for t in transactions[1:] if t.partition == one.partition]
    after, _ = tables([one, *later], [])
    with_more = replay(EVERY_STATISTIC, after, tables([], [])[1])
    np.testing.assert_array_equal(alone[0], with_more[0])


@pytest.mark.parametrize("feature", DEFAULT.features, ids=lambda f: f.name)
def test_a_default_feature_of_a_first_transaction_sees_nothing_but_itself(feature):
    one = Transaction("t0", "a", "b", 12 * HOUR_US, 0, 0, 10.0)
    columns, labels = tables([one], [])
    value = replay(FeatureSet("one", 1, (feature,)), columns, labels)[0, 0]
    np.testing.assert_equal(value, value_of(feature, one, [one], []))
