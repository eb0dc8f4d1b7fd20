"""Entries keep their order, and a pace says when each is due."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from fraudstream.producer.agenda import Agenda
from fraudstream.producer.agenda import ConstantRate
from fraudstream.producer.agenda import FullSpeed
from fraudstream.producer.agenda import Kind
from fraudstream.producer.agenda import NeverAhead
from fraudstream.producer.agenda import Scaled
from fraudstream.producer.agenda import first_events
from unit.producer.recorders import agenda

_TIMES = st.lists(st.integers(0, 10**9), max_size=30)


@given(transactions=_TIMES, labels=_TIMES, repeats=_TIMES)
def test_every_entry_is_there_once_and_none_before_its_turn(
    transactions: list[int], labels: list[int], repeats: list[int]
) -> None:
    whole = agenda(transaction=transactions, label=labels, repeat=repeats)
    assert (np.diff(whole.due_us) >= 0).all()
    assert sorted(whole.due_us.tolist()) == sorted(transactions + labels + repeats)
    assert int(whole.is_label.sum()) == len(labels)
    assert int(whole.is_event.sum()) == len(transactions) + len(repeats)


def test_a_transaction_goes_before_a_label_that_is_due_with_it() -> None:
    assert agenda(transaction=[5], label=[5]).documents() == [{"amount": 0}, {"label": 0}]


def test_documents_come_in_the_order_of_the_entries() -> None:
    whole = agenda(transaction=[30, 10], label=[20, 40])
    assert whole.documents() == [{"amount": 1}, {"label": 0}, {"amount": 0}, {"label": 1}]


def test_parts_are_the_whole_cut_to_pieces() -> None:
    whole = agenda(transaction=range(7))
    parts = list(whole.parts(3))
    assert [len(part) for part in parts] == [3, 3, 1]
    assert [document for part in parts for document in part.documents()] == whole.documents()


def test_an_agenda_may_be_empty() -> None:
    assert agenda(transaction=[]).documents() == []
    assert list(agenda(transaction=[]).parts(3)) == []


@pytest.mark.parametrize("count", [1, 3, 4, 5, 8, 9])
def test_a_run_is_cut_right_after_its_last_event(count: int) -> None:
    days = [agenda(transaction=[1, 3, 5], label=[2, 6], repeat=[4])] * 2
    cut = list(first_events(days, count))
    assert sum(int(part.is_event.sum()) for part in cut) == min(count, 8)
    if count <= 8:
        assert cut[-1].kind[-1] in (Kind.TRANSACTION, Kind.REPEAT)


def test_full_speed_waits_for_nothing() -> None:
    assert FullSpeed().due_s(agenda(transaction=[0, 10**12])).tolist() == [0, 0]


def test_a_constant_rate_spaces_events_evenly_over_parts_whenever_they_happened() -> None:
    pace = ConstantRate(4)
    first = agenda(transaction=[0, 10**12], repeat=[1])
    assert pace.due_s(first).tolist() == [0, 0.25, 0.5]
    assert pace.due_s(agenda(transaction=[5])).tolist() == [0.75]


def test_at_a_constant_rate_a_label_goes_with_the_event_after_it() -> None:
    pace = ConstantRate(4)
    assert pace.due_s(agenda(transaction=[0, 10], label=[5, 20])).tolist() == [0, 0.25, 0.25, 0.5]
    assert pace.due_s(agenda(transaction=[30])).tolist() == [0.5]


def test_a_scaled_pace_keeps_the_proportions_over_parts() -> None:
    pace = Scaled(10)
    assert pace.due_s(agenda(transaction=[100_000_000, 110_000_000])).tolist() == [0, 1]
    assert pace.due_s(agenda(transaction=[], label=[130_000_000])).tolist() == [3]


def test_a_scaled_pace_begins_with_the_first_entry_there_is() -> None:
    pace = Scaled(1)
    assert pace.due_s(agenda(transaction=[])).tolist() == []
    assert pace.due_s(agenda(transaction=[7_000_000])).tolist() == [0]


@given(times=_TIMES, began_us=st.integers(0, 10**9), rate=st.floats(0.1, 1e6))
def test_no_entry_is_sent_before_its_event_time_on_the_wall_clock(
    times: list[int], began_us: int, rate: float
) -> None:
    part = agenda(transaction=times)
    due_s = NeverAhead(ConstantRate(rate), began_us).due_s(part)
    assert (began_us + due_s * 1e6 >= part.due_us - 1).all()
    assert (np.diff(due_s) >= 0).all()


def test_whether_a_run_reached_the_present_is_told() -> None:
    pace = NeverAhead(ConstantRate(1), began_us=50_000_000)
    pace.due_s(agenda(transaction=[0, 10_000_000]))
    assert not pace.has_slowed(10**12)
    pace.due_s(agenda(transaction=[20_000_000, 60_000_000]))
    assert not pace.has_slowed(20_000_000)
    assert pace.has_slowed(60_000_000)


def test_a_garbled_entry_breaks_the_document_and_only_its_own() -> None:
    source = agenda(transaction=[0]).source
    rows = np.array([1])
    entries = {Kind.TRANSACTION: (np.array([0]), rows), Kind.GARBLED: (np.array([0]), rows)}
    assert Agenda.of(source, entries).documents() == [{"amount": 1}, {"amount": "1"}]
