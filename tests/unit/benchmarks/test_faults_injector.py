"""Which faults come, and what of them counts."""

from collections import Counter
from itertools import islice
import random

from faults.injector import KINDS
from faults.injector import RANDOM
from faults.injector import Fault
from faults.injector import Outcome
from faults.injector import counts
from faults.injector import deck
from faults.points import POINTS
from faults.report import document
from faults.report import tables
from faults.report import wrong
import pytest

CLEAN = dict.fromkeys(("missing", "duplicate", "conflicting", "foreign", "differing"), 0)
A_ROUND = len(RANDOM) + len(POINTS)


def test_each_round_has_every_kind_and_every_point_once() -> None:
    faults = deck(KINDS, random.Random(1))
    for _ in range(4):
        some = list(islice(faults, A_ROUND))
        assert Counter(f.kind for f in some if f.point is None) == Counter(RANDOM)
        assert Counter(f.point for f in some if f.point) == Counter(POINTS)


def test_a_store_outside_of_the_job_is_killed_at_random_too() -> None:
    faults = deck(KINDS, random.Random(1), (*RANDOM, "state_store"))
    some = list(islice(faults, A_ROUND + 1))
    assert Fault("state_store") in some
    assert Fault("state_store", "during_state_write") in some


def test_equal_seeds_draw_equal_faults() -> None:
    first, again, other = (
        list(islice(deck(KINDS, random.Random(seed)), 3 * A_ROUND)) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_over_the_rounds_everybody_is_killed_at_a_point_of_the_workers() -> None:
    some = list(islice(deck(KINDS, random.Random(0)), 4 * A_ROUND))
    for point in POINTS:
        killed = {fault.kind for fault in some if fault.point == point}
        assert killed == {
            "during_swap": {"driver", "jvm"},
            "during_state_write": {"state_store"},
        }.get(point, {"python_worker", "driver", "jvm"})


def test_kinds_that_are_left_out_do_not_come() -> None:
    some = list(islice(deck(["driver", "broker"], random.Random(0)), 20))
    assert {fault.kind for fault in some} == {"driver", "broker"}


def outcome(kind: str, point: str | None, effect: str, recovery_s: float | None) -> Outcome:
    return Outcome(Fault(kind, point), 0.0, effect, recovery_s)


OUTCOMES = [
    outcome("driver", None, "gone", 10.0),
    outcome("driver", "before_commit", "gone", 20.0),
    outcome("broker", None, "", None),
    outcome("bad_model", None, "refused", None),
]


def test_a_fault_without_an_effect_does_not_count() -> None:
    by_kind, by_point = counts(OUTCOMES)
    assert by_kind == {"driver": 2, "bad_model": 1}
    assert by_point == {"before_commit": 1}


def test_the_report_has_the_form_that_was_agreed() -> None:
    assert document(7, OUTCOMES, {**CLEAN, "differing": 3}, 1) == {
        "events": 7,
        "faults": {
            "landed": 3,
            "by_kind": {"bad_model": 1, "driver": 2},
            "by_point": {"before_commit": 1},
        },
        "missing": 0,
        "duplicate": 0,
        "conflicting": 0,
        "foreign": 0,
        "differs_from_replay": 3,
        "bad_models_served": 1,
        "recovery_s": {"p50": 15.0, "p95": 19.5},
    }


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, []),
        ({"duplicate": 2}, ["2 duplicate"]),
        ({"differs_from_replay": 1}, ["1 differs from replay"]),
        ({"bad_models_served": 1}, ["1 bad models served"]),
        ({"recovery_s": {"p50": 1.0, "p95": 61.0}}, ["recovery took 61 s at p95"]),
    ],
)
def test_what_must_not_be_in_a_report_is_told(changed: dict, told: list[str]) -> None:
    assert wrong({**document(7, OUTCOMES, CLEAN, 0), **changed}, 0) == told


def test_a_report_of_too_few_faults_is_told() -> None:
    landed = [outcome("python_worker", point, "gone", 1.0) for point in POINTS]
    enough = document(7, [*landed, *landed, *[outcome("jvm", None, "gone", 1.0)] * 28], CLEAN, 0)
    assert wrong(enough, 24) == []
    assert wrong(enough, 25) == ["40 faults landed, which are to be 41"]
    one = document(
        7, [*landed[1:], *landed[1:], *[outcome("jvm", None, "gone", 1.0)] * 30], CLEAN, 0
    )
    assert wrong(one, 24) == ["0 landed before scoring, which are to be 2"]


def test_a_campaign_without_any_fault_is_a_report_too() -> None:
    empty = document(0, [], CLEAN, 0)
    assert empty["recovery_s"] == {"p50": None, "p95": None}
    assert len(tables(empty, [])) == 2
