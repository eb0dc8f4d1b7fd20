"""Histories: strings become identities, copies are told apart, clocks only go forward."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pyarrow as pa
import pytest

from fraudstream.features import history
from fraudstream.features.history import ABSENT
from fraudstream.features.history import Events
from fraudstream.features.history import Line
from fraudstream.features.history import chronological
from fraudstream.features.history import first_copies
from fraudstream.features.history import identity
from fraudstream.features.history import label_values
from fraudstream.features.history import partition_clock
from fraudstream.features.history import running_maximum
from fraudstream.features.history import transaction_values

small = st.integers(0, 3)
rows = st.lists(st.tuples(small, small), max_size=30)


def columns(pairs):
    return tuple(np.array(c, dtype=np.int64) for c in zip(*pairs, strict=True)) or (
        np.zeros(0, np.int64),
        np.zeros(0, np.int64),
    )


def test_events_are_ordered_by_key_time_and_arrival_and_their_values_with_them():
    events = Events(
        np.array([2, 1, 1, 1]),
        np.array([5, 9, 9, 3]),
        np.array([0, 2, 1, 3]),
        {"amount": np.array([1.0, 2.0, 3.0, 4.0])},
    ).in_order()
    assert len(events) == 4
    assert events.key.tolist() == [1, 1, 1, 2]
    assert events.arrival.tolist() == [3, 1, 2, 0]
    assert events.values["amount"].tolist() == [4.0, 3.0, 2.0, 1.0]


def test_an_identity_is_the_same_in_every_process_and_however_a_column_is_cut():
    # The state that a run left is read by the next: another hash would find nothing in it.
    assert identity(pa.array(["card-1"])).tolist() == [-2875760697564728857]
    whole = identity(pa.array(["b", "a", None, "b"]))
    cut = identity(pa.chunked_array([["b", "a"], [None, "b"]]))
    assert whole.tolist() == cut.tolist()
    assert whole[2] == ABSENT
    assert len(set(whole.tolist())) == 3


def test_the_values_of_transactions_are_numbers_and_identities_and_absent_where_null():
    table = pa.table(
        {
            "transaction_id": ["t"],
            "card_id": ["c"],
            "merchant_id": ["m"],
            "device_id": pa.array([None], pa.string()),
            "country": ["CH"],
            "channel": ["online"],
            "amount": [9.5],
            "latitude": pa.array([None], pa.float64()),
            "longitude": [8.5],
        }
    )
    values = transaction_values(table)
    assert values["amount"].tolist() == [9.5]
    assert np.isnan(values["latitude"]).tolist() == [True]
    assert values["device"].tolist() == [ABSENT]
    assert values["card"].tolist() == identity(pa.array(["c"])).tolist()


def test_the_values_of_labels_say_fraud_with_one():
    table = pa.table(
        {
            "transaction_id": ["t", "u"],
            "card_id": ["c", "c"],
            "merchant_id": ["m", "m"],
            "is_fraud": [True, False],
        }
    )
    assert label_values(table)["is_fraud"].tolist() == [1.0, 0.0]


@given(rows)
def test_a_running_maximum_starts_anew_with_each_segment(pairs):
    segment, values = columns(sorted(pairs, key=lambda pair: pair[0]))
    expected = [
        max(v for s, v in zip(segment[: i + 1], values, strict=False) if s == segment[i])
        for i in range(len(values))
    ]
    assert running_maximum(segment, values).tolist() == expected


@given(rows, st.randoms())
def test_the_partition_clock_is_the_latest_time_shown_so_far_in_whatever_order_rows_come(
    pairs, random
):
    records = [(partition, offset, time) for offset, (partition, time) in enumerate(pairs)]
    random.shuffle(records)
    clock = partition_clock(*(np.array([r[i] for r in records], np.int64) for i in range(3)))
    assert clock.tolist() == [
        max(t for p, o, t in records if p == partition and o <= offset)
        for partition, offset, _ in records
    ]


@given(rows)
def test_a_copy_stands_for_the_first_that_came_of_the_same_card(pairs):
    card, transaction = columns(pairs)
    first, copy_of = first_copies(card, transaction, np.arange(len(pairs)))
    assert first.tolist() == [i for i, pair in enumerate(pairs) if pair not in pairs[:i]]
    assert [pairs[first[place]] for place in copy_of] == pairs


@given(rows, st.randoms())
def test_what_came_first_is_told_by_offsets_and_not_by_the_order_of_rows(pairs, random):
    offset = random.sample(range(len(pairs)), len(pairs))
    card, transaction = columns(pairs)
    first, copy_of = first_copies(card, transaction, np.array(offset, dtype=np.int64))
    came = sorted(range(len(pairs)), key=lambda row: offset[row])
    firsts = {pairs[row]: row for row in reversed(came)}
    assert first.tolist() == sorted(firsts.values())
    assert [first[place] for place in copy_of] == [firsts[pair] for pair in pairs]


@pytest.mark.parametrize("margin", [0, 5])
@pytest.mark.parametrize("end_of_line", [1, 1 << 62])
@given(
    known=st.lists(st.tuples(st.integers(0, 3), st.integers(-9, 9)), min_size=1),
    asked=st.lists(st.tuples(st.integers(-1, 3), st.integers(-30, 30)), min_size=1),
)
def test_places_on_a_line_compare_as_rows_and_values_do(margin, end_of_line, known, asked):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "_END_OF_LINE", end_of_line)
        row, value = np.array(sorted(known)).T
        line = Line.of(value, 4, margin)
    places = line.place(row, value)
    assert line.value(row, places).tolist() == value.tolist()
    asked_row, asked_value = np.array(asked).T
    for back in {0, line.margin}:
        place = line.place(asked_row, asked_value) - back
        expected = [sum((r, v) <= (wanted, at - back) for r, v in known) for wanted, at in asked]
        assert places.searchsorted(place, side="right").tolist() == expected


@given(
    events=st.lists(st.tuples(st.integers(-3, 3), small, small, small), max_size=30),
    spread=st.sampled_from([1, 1 << 60]),
)
def test_chronological_is_the_order_by_key_time_arrival_and_transaction(events, spread):
    key, time_us, arrival, transaction = (
        np.array([event[place] for event in events], dtype=np.int64) for place in range(4)
    )
    order = chronological(key * spread, time_us, arrival, transaction)
    assert sorted(order.tolist()) == list(range(len(events)))
    assert [events[row] for row in order] == sorted(events)


def test_moments_know_whether_they_lie_by_key_and_time_and_can_be_put_in_order():
    key, time_us = np.array([2, 1, 1]), np.array([5, 8, 7])
    moments = history.Moments(key, time_us, np.arange(3), time_us, {"amount": time_us * 1.0})
    assert not moments.is_chronological
    in_order = moments.take(np.array([2, 1, 0]))
    assert in_order.is_chronological
    assert in_order.values["amount"].tolist() == [7.0, 8.0, 5.0]


def test_events_of_some_keys_are_told_apart():
    key = np.array([1, 2, 2, 4])
    events = Events(key, key, key, {"amount": key * 1.0})
    assert events.between(np.int64(2), np.int64(3)).values["amount"].tolist() == [2.0, 2.0]
    assert events.without(2).key.tolist() == [1, 4]
    assert len(Events.none()) == 0
