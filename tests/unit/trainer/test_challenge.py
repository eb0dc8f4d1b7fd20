"""Versions are decided on one after another, and only a difference beyond noise counts."""

from dataclasses import dataclass
from dataclasses import field
from datetime import timedelta
import time

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from fraudstream.trainer.challenge import Comparison
from fraudstream.trainer.challenge import Rival
from fraudstream.trainer.challenge import _Ranking
from fraudstream.trainer.challenge import await_turn
from fraudstream.trainer.challenge import compare
from fraudstream.trainer.challenge import decide

TURN = timedelta(seconds=10)


@dataclass
class FakeRegistry:
    """Some versions and what was decided on them, and a clock that others' decisions hang on."""

    decisions: dict[int, str]
    #: When somebody decides on a version, in seconds.
    due: dict[int, float] = field(default_factory=dict)
    now: float = 0.0

    def first_undecided(self, before: str) -> str | None:
        for version, at in self.due.items():
            if at <= self.now:
                self.decisions[version] = "decided"
        waiting = [v for v, text in self.decisions.items() if v < int(before) and not text]
        return str(min(waiting)) if waiting else None

    def note(self, version: str, decision: str) -> None:
        self.decisions[int(version)] = decision

    def wait(self, version: str) -> list[str]:
        """Wait for a turn; return what people were told."""
        told: list[str] = []
        await_turn(self, version, told.append, TURN, lambda: self.now, self._pass)
        return told

    def _pass(self, seconds: float) -> None:
        self.now += seconds


def test_without_an_earlier_undecided_version_the_turn_has_come() -> None:
    registry = FakeRegistry({1: "champion: x", 2: "not champion: y", 3: "", 4: ""})
    assert registry.wait("3") == []
    assert registry.now == 0


def test_earlier_versions_are_waited_for_one_after_another() -> None:
    registry = FakeRegistry({1: "", 2: "", 3: ""}, due={1: 3.0, 2: 8.0})
    told = registry.wait("3")
    assert told == [f"waiting until version {version} has been decided on" for version in (1, 2)]
    assert 8 <= registry.now < 9
    assert registry.decisions[1] == registry.decisions[2] == "decided"


def test_a_version_whose_training_died_is_given_up_after_its_turn() -> None:
    registry = FakeRegistry({1: "", 2: "", 3: ""}, due={2: 15.0})
    registry.wait("3")
    assert registry.decisions[1].startswith("given up: ")
    # The second was not first in the queue before, so its own turn began then.
    assert registry.decisions[2] == "decided"
    assert 15 <= registry.now < 16


@dataclass
class World:
    """Cards, of which some are stolen and then have most of the frauds."""

    is_fraud: np.ndarray
    card: np.ndarray
    signal: np.ndarray

    def model(self, seed: int, noise: float = 1.0) -> np.ndarray:
        """Scores that err, for each card by itself and for each row."""
        draw = np.random.default_rng(seed)
        by_card = draw.normal(size=int(self.card.max()) + 1)[self.card]
        return self.signal + noise * (0.7 * by_card + 0.7 * draw.normal(size=len(self.card)))


def world(seed: int, rows: int = 12_000, cards: int = 800) -> World:
    draw = np.random.default_rng(seed)
    card = draw.integers(0, cards, rows)
    stolen = draw.random(cards) < 0.1
    is_fraud = draw.random(rows) < np.where(stolen[card], 0.2, 0.002)
    # How much a fraud shows is the card's matter too.
    shows = draw.normal(2.5, 1.0, cards)[card]
    return World(is_fraud, card, is_fraud * shows)


def test_the_average_precision_of_a_draw_is_that_of_its_rows_each_as_often_as_drawn() -> None:
    draw = np.random.default_rng(5)
    for rows, grid in ((40, 4), (400, 20), (400, 10**6)):
        is_fraud = draw.random(rows) < 0.2
        is_fraud[:2] = [True, False]
        score = np.round(draw.random(rows) * grid) / grid
        card = draw.integers(0, 12, rows)
        times = draw.integers(0, 4, (12, 16)).astype(np.uint16)
        found = _Ranking(is_fraud, score, card).average_precision(times)
        for column in range(16):
            again = np.repeat(np.arange(rows), times[card, column])
            if is_fraud[again].any():
                expected = average_precision_score(is_fraud[again], score[again])
                assert found[column] == pytest.approx(expected)
            else:
                assert np.isnan(found[column])


def test_two_models_that_differ_by_noise_only_are_seldom_told_apart() -> None:
    wins = [
        compare(these.is_fraud, these.model(2 * seed), these.model(2 * seed + 1), these.card).lower
        > 0
        for seed in range(100)
        for these in (world(seed),)
    ]
    # One in forty is expected; of a hundred, nine or more come once in two thousand times.
    assert sum(wins) < 9


def test_a_clearly_better_model_is_told_from_a_worse_one() -> None:
    for seed in range(10):
        these = world(seed)
        good, bad = these.model(seed, noise=0.8), these.model(seed + 100, noise=1.3)
        assert compare(these.is_fraud, good, bad, these.card).lower > 0
        found = compare(these.is_fraud, bad, good, these.card)
        assert found.upper < 0
        assert found.lower < found.difference < found.upper


def test_a_model_is_no_better_than_itself() -> None:
    these = world(1)
    found = compare(these.is_fraud, these.model(1), these.model(1), these.card)
    assert found.lower == found.difference == found.upper == 0
    assert not decide(Rival("1", found)).is_promoted


def test_the_same_rows_give_the_same_interval_and_more_confidence_a_wider_one() -> None:
    these = world(2)
    models = (these.model(1), these.model(2))
    found = compare(these.is_fraud, *models, these.card)
    assert compare(these.is_fraud, *models, these.card) == found
    wider = compare(these.is_fraud, *models, these.card, confidence=0.99)
    assert wider.lower < found.lower < found.upper < wider.upper


def test_frauds_of_few_cards_tell_less_than_as_many_of_many_cards() -> None:
    draw = np.random.default_rng(3)
    is_fraud = np.arange(6000) % 20 == 0
    shows = np.repeat(draw.normal(2.0, 1.0, 20), 15)
    models = []
    for _ in range(2):
        score = draw.normal(size=6000)
        # A model errs on a card as a whole.
        score[is_fraud] += shows + np.repeat(draw.normal(size=20), 15)
        models.append(score)
    by_row = np.arange(6000)
    by_card = by_row.copy()
    by_card[is_fraud] = np.repeat(np.arange(20), 15) + 6000
    one, other = models
    few, many = (compare(is_fraud, one, other, card) for card in (by_card, by_row))
    assert few.upper - few.lower > 1.5 * (many.upper - many.lower)


def test_draws_without_a_fraud_are_left_out() -> None:
    is_fraud = np.array([True, *[False] * 9])
    found = compare(is_fraud, np.linspace(1, 0, 10), np.linspace(0, 1, 10), np.arange(10))
    assert 0 < found.lower < found.upper < 1


def test_two_hundred_thousand_rows_take_seconds() -> None:
    these = world(4, rows=200_000, cards=20_000)
    models = (these.model(1), these.model(2))
    began = time.process_time()
    compare(these.is_fraud, *models, these.card)
    assert time.process_time() - began < 10


def test_the_first_version_serves_and_so_does_one_whose_champion_cannot() -> None:
    assert decide(None).is_promoted
    decision = decide(Rival("3", None, "expected features default.v2, got default.v1"))
    assert decision.is_promoted
    assert decision.reason == (
        "version 3 cannot be served: expected features default.v2, got default.v1"
    )
    assert decision.figures == {}


@pytest.mark.parametrize(("lower", "is_better"), [(0.001, True), (0.0, False), (-0.001, False)])
def test_a_better_figure_is_not_enough(lower: float, is_better: bool) -> None:
    rival = Rival("3", Comparison(0.8, 0.7, lower, 0.2, 0.95, 500), has_seen_rows=True)
    decision = decide(rival)
    assert decision.is_promoted is is_better
    assert "0.8000 against 0.7000" in decision.reason
    assert f"95% interval from {lower:+.4f} to +0.2000" in decision.reason
    assert "version 3 may have been made with some of these rows" in decision.reason
    assert decision.figures["challenge.difference_lower"] == lower
