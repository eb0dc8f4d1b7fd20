"""The stream is deterministic, ordered, unique, labelled, and speaks the schemas."""

from datetime import UTC
from datetime import datetime
from datetime import timedelta
from importlib.resources import files
from itertools import islice
import json

from jsonschema import Draft202012Validator
import numpy as np
import pytest

from fraudstream.simulator.events import DAY_US
from fraudstream.simulator.events import Pattern
from fraudstream.simulator.labels import LABEL_DELAY
from fraudstream.simulator.labels import LABEL_SOURCES
from fraudstream.simulator.stream import Batch
from fraudstream.simulator.stream import Simulation
from fraudstream.simulator.world import WorldError
from fraudstream.simulator.world import WorldSpec

START = datetime(2026, 3, 1, tzinfo=UTC)
SMALL = WorldSpec(cards=400, seed=5)


def bytes_of(batch: Batch) -> dict[str, bytes]:
    return {name: column.tobytes() for name, column in batch.columns().items()}


def checker(name: str) -> Draft202012Validator:
    schema = json.loads(files("schemas").joinpath(name).read_text())
    return Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)


def test_the_same_seed_gives_the_same_bytes() -> None:
    first, second = Simulation(SMALL, START), Simulation(SMALL, START)
    for left, right in zip(islice(first.days(), 4), islice(second.days(), 4), strict=True):
        assert bytes_of(left) == bytes_of(right)
        assert left.transactions() == right.transactions()


def test_another_seed_gives_other_transactions() -> None:
    other = Simulation(WorldSpec(cards=400, seed=6), START)
    assert bytes_of(Simulation(SMALL, START).day(0)) != bytes_of(other.day(0))


@pytest.mark.parametrize("day", [0, 1, 29])
def test_a_day_drawn_alone_equals_the_day_of_the_stream(day: int) -> None:
    streamed = next(islice(Simulation(SMALL, START).days(), day, None))
    assert bytes_of(Simulation(SMALL, START).day(day)) == bytes_of(streamed)


def test_the_stream_can_begin_at_any_day() -> None:
    simulation = Simulation(SMALL, START)
    assert bytes_of(next(simulation.days(first=9))) == bytes_of(simulation.day(9))


def test_events_are_sorted_and_lie_within_their_day() -> None:
    start = datetime(2026, 3, 1, 17, 30, tzinfo=UTC)
    simulation = Simulation(SMALL, start)
    for day, batch in enumerate(islice(simulation.days(), 5)):
        begin = simulation.start_us + day * DAY_US
        assert (np.diff(batch.event_time_us) >= 0).all()
        assert batch.event_time_us[0] >= begin
        assert batch.event_time_us[-1] < begin + DAY_US


def test_numbers_and_ids_are_unique_across_days(month: Batch) -> None:
    assert (np.diff(month.transaction_number) > 0).all()
    ids = month.names.transactions(month.transaction_number)
    assert len(set(ids)) == len(month)


def test_different_devices_have_different_names(month: Batch) -> None:
    codes = np.unique(month.device[month.device >= 0])
    assert len(set(month.names.devices(codes))) == len(codes)


def test_documents_of_every_pattern_and_of_honesty_are_valid(month: Batch) -> None:
    transaction, label = checker("transaction.v1.json"), checker("label.v1.json")
    for pattern in Pattern:
        sample = month.take(np.flatnonzero(month.pattern == pattern)[:150])
        assert len(sample) > 0, pattern
        for document in sample.transactions():
            transaction.validate(document)
        for document in sample.labels():
            label.validate(document)


def test_documents_have_the_keys_of_the_schema_in_its_order(month: Batch) -> None:
    for name, document in (
        ("transaction.v1.json", month[:1].transactions()[0]),
        ("label.v1.json", month[:1].labels()[0]),
    ):
        schema = json.loads(files("schemas").joinpath(name).read_text())
        assert list(document) == list(schema["properties"])


def test_documents_survive_json_unchanged(month: Batch) -> None:
    documents = month[:500].transactions()
    assert json.loads(json.dumps(documents, allow_nan=False)) == documents


def test_a_transaction_carries_nothing_of_its_label(month: Batch) -> None:
    frauds = month.take(month.is_fraud)[:50]
    for document in frauds.transactions():
        assert not {"is_fraud", "pattern", "label", "source"} & document.keys()


def test_columns_and_documents_say_the_same(month: Batch) -> None:
    batch = month[1_000:1_200]
    for row, (document, label) in enumerate(zip(batch.transactions(), batch.labels(), strict=True)):
        moment = datetime.fromisoformat(document["event_time"])
        since_epoch = (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
        assert since_epoch == batch.event_time_us[row]
        assert document["amount"] == batch.amount[row] == round(document["amount"], 2)
        assert (document["latitude"] is None) == bool(np.isnan(batch.latitude[row]))
        assert (document["device_id"] is None) == bool(batch.device[row] == -1)
        assert label["transaction_id"] == document["transaction_id"]
        assert label["is_fraud"] == bool(batch.is_fraud[row])


def test_slices_and_selections_keep_the_rows_together(month: Batch) -> None:
    rows = np.array([5, 3, 900])
    documents = month[:1_000].transactions()
    assert month.take(rows).transactions() == [documents[row] for row in rows]
    assert month[3:6].transactions() == documents[3:6]


def test_both_classes_are_labelled_within_the_delay(month: Batch) -> None:
    delay = month.labelled_at_us - month.event_time_us
    assert (delay > 0).all()
    assert delay.max() <= LABEL_DELAY / timedelta(microseconds=1)
    silent = month.label_source == LABEL_SOURCES.index("no_dispute")
    assert (silent == ~month.is_fraud).all()


def test_chargebacks_take_days_and_calls_take_hours(month: Batch) -> None:
    hours = (month.labelled_at_us - month.event_time_us) / 3_600e6
    by_source = {name: hours[month.label_source == code] for code, name in enumerate(LABEL_SOURCES)}
    assert 48 < np.median(by_source["chargeback"]) < 84
    assert 4 < np.median(by_source["cardholder"]) < 18
    assert 4 < np.median(by_source["investigation"]) < 18
    assert np.median(by_source["no_dispute"]) > 6 * 24
    assert len(by_source["chargeback"]) > len(by_source["cardholder"])


def test_a_start_without_a_time_zone_is_refused() -> None:
    with pytest.raises(WorldError, match="expected a time with a time zone"):
        Simulation(SMALL, datetime(2026, 3, 1))


def test_a_day_before_the_start_is_refused() -> None:
    with pytest.raises(WorldError, match="expected at least 0, got -1"):
        Simulation(SMALL, START).day(-1)
