"""A day's traffic is what falls due on it, whoever sends it."""

from collections import Counter
from datetime import UTC
from datetime import datetime
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from fraudstream.producer.agenda import Kind
from fraudstream.producer.traffic import CLEAN
from fraudstream.producer.traffic import HELD_BACK
from fraudstream.producer.traffic import REPEATED_AFTER
from fraudstream.producer.traffic import Days
from fraudstream.producer.traffic import Dirt
from fraudstream.producer.traffic import Traffic
from fraudstream.schema.timestamps import duration_us
from fraudstream.schema.validation import LABEL
from fraudstream.schema.validation import TRANSACTION
from fraudstream.schema.validation import validator
from fraudstream.simulator.stream import Simulation
from fraudstream.simulator.world import WorldSpec

_START = datetime(2026, 1, 5, tzinfo=UTC)
_DAYS = 10


def traffic(dirt: Dirt = CLEAN) -> Traffic:
    return Traffic(Simulation(WorldSpec(cards=100), _START), dirt)


@pytest.fixture(scope="module")
def clean() -> list[list[dict[str, Any]]]:
    """Return the documents of each day of clean traffic."""
    source = traffic()
    return [source.day(day).documents() for day in range(_DAYS)]


@pytest.fixture(scope="module")
def dirty() -> Traffic:
    return traffic(Dirt(repeated=0.2, late=0.3, garbled=0.1))


def labels(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [document for document in documents if "is_fraud" in document]


def transactions(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [document for document in documents if "is_fraud" not in document]


def test_without_dirt_a_day_sends_its_own_transactions_in_order(
    clean: list[list[dict[str, Any]]],
) -> None:
    simulation = traffic().simulation
    for day in (0, 4):
        assert transactions(clean[day]) == simulation.day(day).transactions()


def test_a_label_is_sent_when_it_becomes_known(clean: list[list[dict[str, Any]]]) -> None:
    for day, documents in enumerate(clean):
        present = ""
        for document in documents:
            due = document.get("labelled_at", document["event_time"])
            assert due >= present
            present = due
            begins = _START + timedelta(days=day)
            assert begins <= datetime.fromisoformat(due) < begins + timedelta(days=1)


def test_over_the_days_every_transaction_gets_its_one_label(
    clean: list[list[dict[str, Any]]],
) -> None:
    labelled = Counter(
        document["transaction_id"] for documents in clean for document in labels(documents)
    )
    old_enough = [document["transaction_id"] for day in clean[:3] for document in transactions(day)]
    assert all(labelled[transaction_id] == 1 for transaction_id in old_enough)
    assert set(labelled.values()) == {1}


@pytest.mark.parametrize("dirt", [CLEAN, Dirt(repeated=0.2, late=0.3, garbled=0.1)])
def test_who_goes_on_after_a_history_sends_what_one_process_would_have_sent(dirt: Dirt) -> None:
    whole = traffic(dirt)
    expected = [whole.day(day).documents() for day in range(_DAYS)][8:]
    resumed = traffic(dirt).days(first=8)
    assert [next(resumed).documents() for _ in expected] == expected


def test_all_that_is_sent_fits_the_schemas_but_for_what_is_garbled(dirty: Traffic) -> None:
    agenda = dirty.day(8)
    for document, kind in zip(agenda.documents(), agenda.kind.tolist(), strict=True):
        schema = LABEL if kind == Kind.LABEL else TRANSACTION
        assert validator(schema).is_valid(document) == (kind != Kind.GARBLED)


def test_dirt_comes_in_the_shares_asked_for(dirty: Traffic) -> None:
    days = [dirty.day(day) for day in range(_DAYS)]
    sent = {kind: sum(int((day.kind == kind).sum()) for day in days) for kind in Kind}
    assert sent[Kind.REPEAT] / sent[Kind.TRANSACTION] == pytest.approx(0.2, abs=0.03)
    assert sent[Kind.GARBLED] / sent[Kind.TRANSACTION] == pytest.approx(0.1, abs=0.03)
    late = sum(
        int((day.due_us[day.kind == Kind.TRANSACTION] > made_us(day, Kind.TRANSACTION)).sum())
        for day in days
    )
    assert late / sent[Kind.TRANSACTION] == pytest.approx(0.3, abs=0.03)


def made_us(day: Any, kind: Kind) -> np.ndarray:
    documents = day.source.transactions(day.row[day.kind == kind])
    times = [datetime.fromisoformat(each["event_time"]).timestamp() for each in documents]
    return np.round(np.array(times) * 1e6).astype(np.int64)


def test_late_and_repeated_transactions_come_within_their_bounds(dirty: Traffic) -> None:
    day = dirty.day(8)
    held_us = day.due_us[day.kind == Kind.TRANSACTION] - made_us(day, Kind.TRANSACTION)
    held_us = held_us[held_us > 0]
    assert held_us.min() >= duration_us(HELD_BACK[0])
    assert held_us.max() < duration_us(HELD_BACK[1])
    after_us = day.due_us[day.kind == Kind.REPEAT] - made_us(day, Kind.REPEAT)
    assert after_us.min() >= duration_us(REPEATED_AFTER[0])
    assert after_us.max() < duration_us(HELD_BACK[1]) + duration_us(REPEATED_AFTER[1])


def test_with_dirt_every_transaction_still_arrives_once_as_itself(dirty: Traffic) -> None:
    seen: Counter[str] = Counter()
    for number in range(_DAYS):
        day = dirty.day(number)
        rows = day.row[day.kind == Kind.TRANSACTION]
        seen.update(each["transaction_id"] for each in day.source.transactions(rows))
    assert set(seen.values()) == {1}
    for number in range(_DAYS - 1):
        for made in dirty.simulation.day(number).transactions():
            assert made["transaction_id"] in seen


def test_one_share_does_not_change_what_another_hits() -> None:
    alone = traffic(Dirt(repeated=0.2)).day(2)
    together = traffic(Dirt(repeated=0.2, garbled=0.5)).day(2)
    repeated = [
        sorted(each["transaction_id"] for each in day.source.transactions(rows))
        for day in (alone, together)
        for rows in [day.row[day.kind == Kind.REPEAT]]
    ]
    assert repeated[0] == repeated[1]


def test_the_truth_is_told_of_every_row(clean: list[list[dict[str, Any]]]) -> None:
    day = traffic().day(_DAYS - 1)
    assert isinstance(day.source, Days)
    rows = day.row[day.is_label]
    truth = day.source.truth(rows)
    assert [(each["transaction_id"], each["is_fraud"]) for each in truth] == [
        (each["transaction_id"], each["is_fraud"]) for each in labels(clean[_DAYS - 1])
    ]
    assert all((each["pattern"] is not None) == each["is_fraud"] for each in truth)


@pytest.mark.parametrize("name", ["repeated", "late", "garbled"])
@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(name: str, share: float) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected a share from 0 to 1"):
        Dirt(**{name: share})
