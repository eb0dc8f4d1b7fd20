"""Every statistic of the engine equals the slow and obvious computation, whatever arrives how."""

from dataclasses import replace

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest

from contract.decoded_tables import tables
from contract.every_statistic import EVERY_STATISTIC
from contract.every_statistic import OF_WINDOWS
from contract.naive_features import Label
from contract.naive_features import Transaction
from contract.naive_features import value_of
from contract.naive_features import without_copies
from fraudstream.features import history
from fraudstream.features import view
from fraudstream.features import windows
from fraudstream.features.definitions import KEYS_OF_LABELS
from fraudstream.features.definitions import OF_LABELS
from fraudstream.features.definitions import OF_TRANSACTION
from fraudstream.features.definitions import OF_WINDOW
from fraudstream.features.definitions import FeatureSet
from fraudstream.features.history import label_values
from fraudstream.features.history import transaction_values
from fraudstream.features.sets import DEFAULT
from fraudstream.features.windows import replay

HOUR_US = 3_600_000_000

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


def check(feature_set, transactions, labels):
    """Compare the engine with the obvious computation, feature by feature."""
    columns, told = tables(transactions, labels)
    ties = {}
    for some, values in ((transactions, transaction_values(columns)), (labels, label_values(told))):
        for record, hashed in zip(some, values["transaction"].tolist(), strict=True):
            ties[record.card, record.id] = hashed
    matrix = replay(feature_set, columns, told)
    for column, feature in enumerate(feature_set.features):
        expected = [
            value_of(feature, t, transactions, labels, feature_set.most_events, ties)
            for t in transactions
        ]
        np.testing.assert_allclose(
            matrix[:, column], expected, rtol=1e-9, atol=1e-9, err_msg=feature.name
        )


@settings(max_examples=150, deadline=None)
@given(topics())
def test_every_statistic_equals_the_obvious_computation(records):
    check(EVERY_STATISTIC, *records)


@settings(max_examples=100, deadline=None)
@given(topics(), st.integers(1, 4))
def test_of_a_key_the_latest_events_that_had_arrived_are_seen_and_no_more(records, most):
    check(replace(EVERY_STATISTIC, most_events=most), *records)


@settings(max_examples=50, deadline=None)
@given(topics())
def test_pieces_of_a_history_and_times_too_far_apart_for_one_integer_change_no_number(records):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(windows, "_ROWS_AT_ONCE", 2)
        patch.setattr(history, "_END_OF_LINE", 1)
        check(EVERY_STATISTIC, *records)


@settings(max_examples=50, deadline=None)
@given(topics(), st.integers(1, 6))
def test_windows_looked_at_a_few_at_a_time_and_not_kept_change_no_number(records, few):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(view, "_MEMBERS_AT_ONCE", few)
        check(EVERY_STATISTIC, *records)


def test_the_contract_covers_every_statistic_there_is():
    assert {f.statistic for f in EVERY_STATISTIC.features} == OF_TRANSACTION | OF_WINDOW
    for key in ("card", "merchant", "device", "country"):
        of_key = {f.statistic for f in OF_WINDOWS if f.key == key}
        assert of_key == OF_WINDOW if key in KEYS_OF_LABELS else of_key == OF_WINDOW - OF_LABELS


@settings(max_examples=50, deadline=None)
@given(topics())
def test_a_transaction_without_a_device_is_like_the_first_of_a_device(records):
    transactions, labels = records
    without = [replace(t, device=None) for t in without_copies(transactions)]
    of_devices = FeatureSet("devices", 1, tuple(f for f in OF_WINDOWS if f.key == "device"))
    matrix = replay(of_devices, *tables(without, labels))
    for row, one in enumerate(without):
        alone = replay(of_devices, *tables([replace(one, device="only its own")], []))
        np.testing.assert_array_equal(matrix[row], alone[0])


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
