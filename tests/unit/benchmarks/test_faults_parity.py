"""Each served feature is held against its replayed one, and a report of what differs fails."""

from typing import Any

from faults.parity import Parity
from faults.recorded import Found
from faults.replayed import document
from faults.replayed import wrong
import numpy as np
import pytest

from fraudstream.features.definitions import Feature
from fraudstream.features.definitions import FeatureSet

AMOUNTS = FeatureSet(
    "amounts",
    1,
    (
        Feature(None, "amount", "value", group="amount"),
        Feature(None, None, "hour", group="time of day"),
    ),
)
REPLAYED = np.array([[1.0, 3.0], [2.0, np.nan], [3.0, 5.0]])
CLEAN = {
    **dict.fromkeys(("transactions", "scores"), 3),
    **dict.fromkeys(("copies", "alerts", "refused", "dead_letters"), 0),
    **dict.fromkeys(("missing", "duplicate", "conflicting", "foreign", "differing"), 0),
    "not_compared": 0,
}


def _score(transaction: str, amount: float | None, hour: float | None) -> dict[str, Any]:
    return {"transaction_id": transaction, "features": {"amount": amount, "hour": hour}}


def _compared(*scores: dict[str, Any]) -> Parity:
    parity = Parity(AMOUNTS, ["a", "b", "c"], REPLAYED)
    for score in scores:
        parity.add([score])
    return parity


def _report(parity: Parity, **audited: int) -> dict[str, Any]:
    return document(3, Found(["before_commit"], 2, parity, {**CLEAN, **audited}, {"scoring": 1.0}))


AS_REPLAYED = (_score("c", 3.0, 5.0), _score("a", 1.0 + 5e-10, 3.0), _score("b", 2.0, None))


def test_what_is_served_as_replayed_is_fine_in_whatever_order() -> None:
    report = _report(_compared(*AS_REPLAYED))
    assert report["rows_compared"] == 3
    assert report["max_abs_difference"] == pytest.approx(5e-10)
    assert not wrong(report)


def test_a_feature_that_is_off_is_counted_under_its_name() -> None:
    report = _report(_compared(*AS_REPLAYED[:2], _score("b", 2.1, None)))
    assert report["differing_features"] == {"amount": 1}
    assert report["max_abs_difference"] == pytest.approx(0.1)
    assert wrong(report) == ["1 rows differ by more than 1e-09"]


@pytest.mark.parametrize("off", [_score("b", 2.0, 0.0), _score("a", 1.0, None)])
def test_a_value_that_only_one_side_has_differs_without_measure(off: dict[str, Any]) -> None:
    others = [each for each in AS_REPLAYED if each["transaction_id"] != off["transaction_id"]]
    report = _report(_compared(*others, off))
    assert report["differing_features"] == {"hour": 1}
    assert report["max_abs_difference"] is None
    assert wrong(report)


def test_a_row_that_was_not_served_is_missed_also_if_another_was_twice() -> None:
    report = _report(_compared(*AS_REPLAYED[:2], AS_REPLAYED[0], _score("nobody", 0.0, 0.0)))
    assert wrong(report) == ["2 of 3 rows were compared"]


@pytest.mark.parametrize("name", CLEAN)
def test_what_the_audit_finds_is_no_success(name: str) -> None:
    found = wrong(_report(_compared(*AS_REPLAYED), **{name: 5}))
    assert bool(found) == (name not in ("copies", "alerts", "refused", "dead_letters"))
