"""Each policy chooses what trying every threshold would find best."""

from collections.abc import Callable
from dataclasses import dataclass

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest

from fraudstream.trainer.evaluate import Judged
from fraudstream.trainer.evaluate import metrics
from fraudstream.trainer.pictures import draw
from fraudstream.trainer.thresholds import AlertBudget
from fraudstream.trainer.thresholds import FalsePositiveRate
from fraudstream.trainer.thresholds import LeastCost
from fraudstream.trainer.thresholds import PolicyUnclear
from fraudstream.trainer.thresholds import PrecisionFloor
from fraudstream.trainer.thresholds import Threshold
from fraudstream.trainer.thresholds import ThresholdPolicy
from fraudstream.trainer.thresholds import policy_of
from fraudstream.trainer.thresholds import trade_off
from unit.trainer.scored import judged

DAYS = 3.5
COST = 7.0
seeds = st.integers(0, 10_000)


@dataclass
class Tried:
    """What one threshold gives, counted row by row."""

    threshold: float
    alerts_per_day: float
    precision: float
    recall: float
    false_positive_rate: float
    cost_per_day: float


def others(seed: int) -> np.ndarray:
    """Scores of transactions without a label."""
    return np.round(np.random.default_rng(seed + 1).random(seed % 90) * 20) / 20


def attempt(rows: Judged, unlabelled: np.ndarray, threshold: float) -> Tried:
    alerts = frauds = false = 0
    missed = 0.0
    for score, is_fraud, amount in zip(rows.score, rows.is_fraud, rows.amount, strict=True):
        alerts += score >= threshold
        frauds += score >= threshold and is_fraud
        false += score >= threshold and not is_fraud
        missed += amount if is_fraud and score < threshold else 0
    return Tried(
        threshold,
        (alerts + sum(score >= threshold for score in unlabelled)) / DAYS,
        frauds / alerts if alerts else 0.0,
        frauds / rows.is_fraud.sum(),
        false / (~rows.is_fraud).sum(),
        (missed + COST * alerts) / DAYS,
    )


def everything(rows: Judged, unlabelled: np.ndarray) -> list[Tried]:
    """Try every threshold in [0, 1] that makes a difference to the rows, the highest first."""
    scores = sorted({*rows.score.tolist()} | {1.0}, reverse=True)
    return [attempt(rows, unlabelled, score) for score in scores]


def choose(policy: ThresholdPolicy, seed: int) -> tuple[Threshold, Tried, list[Tried]]:
    rows, unlabelled = judged(seed), others(seed)
    chosen = policy.choose(trade_off(rows, DAYS, COST, unlabelled))
    return chosen, attempt(rows, unlabelled, chosen.value), everything(rows, unlabelled)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, minimum=st.sampled_from([0.0, 0.3, 0.5, 0.8, 1.0]))
def test_a_floor_of_precision_gives_the_most_recall_above_it(seed: int, minimum: float) -> None:
    chosen, gives, tried = choose(PrecisionFloor(minimum), seed)
    reaching = [each for each in tried if each.precision >= minimum]
    if reaching:
        assert gives.precision >= minimum
        assert gives.recall == max(each.recall for each in reaching)
    else:
        assert "none reaches" in chosen.policy
        assert gives.precision == max(each.precision for each in tried)


@settings(max_examples=40, deadline=None)
@given(seed=seeds, per_day=st.sampled_from([0.1, 3, 20, 60, 1000]))
def test_a_budget_of_alerts_is_used_and_kept(seed: int, per_day: float) -> None:
    chosen, gives, tried = choose(AlertBudget(per_day), seed)
    within = [each for each in tried if each.alerts_per_day <= per_day]
    if within:
        assert gives.alerts_per_day <= per_day
        assert gives.recall == max(each.recall for each in within)
    elif "even that is not within" in chosen.policy:
        assert gives == tried[0]
    else:
        # Above the highest score, and below 1, there is room for no alert at all.
        assert gives.alerts_per_day == 0


@settings(max_examples=40, deadline=None)
@given(seed=seeds, most=st.sampled_from([0.0, 0.001, 0.02, 0.3, 1.0]))
def test_a_false_positive_rate_is_kept_with_the_most_recall(seed: int, most: float) -> None:
    chosen, gives, tried = choose(FalsePositiveRate(most), seed)
    within = [each for each in tried if each.false_positive_rate <= most]
    if within:
        assert gives.false_positive_rate <= most
        assert gives.recall == max(each.recall for each in within)
    else:
        assert "even that is not within" in chosen.policy
        assert gives == tried[0]


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_the_least_cost_is_the_least_of_all_thresholds(seed: int) -> None:
    _, gives, tried = choose(LeastCost(COST), seed)
    assert gives.cost_per_day == pytest.approx(min(each.cost_per_day for each in tried))


@settings(max_examples=40, deadline=None)
@given(seed=seeds)
def test_what_a_threshold_is_said_to_give_is_what_it_gives(seed: int) -> None:
    rows, unlabelled = judged(seed), others(seed)
    found = trade_off(rows, DAYS, COST, unlabelled)
    assert (np.diff(found.threshold) < 0).all()
    assert found.threshold[0] <= 1
    for place, threshold in enumerate(found.threshold):
        gives = vars(attempt(rows, unlabelled, threshold))
        assert {"threshold": threshold, **found.at(place, "").figures} == pytest.approx(gives)
        figures = metrics(rows, threshold, COST)
        lost = (figures["money_at_stake"] - figures["money_saved"]) / DAYS
        assert found.cost_per_day[place] == pytest.approx(lost)


def test_where_looking_costs_more_than_all_frauds_nothing_is_an_alert() -> None:
    rows = judged(1)
    rows.score[:] = rows.score / 2
    chosen = LeastCost(1e6).choose(trade_off(rows, DAYS, 1e6))
    assert chosen.figures["alerts_per_day"] == chosen.figures["recall"] == 0
    assert chosen.value > rows.score.max()


def test_a_score_of_one_is_an_alert_to_every_threshold() -> None:
    rows = judged(2)
    rows.score[rows.score.argmax()] = 1.0
    found = trade_off(rows, DAYS, COST)
    assert found.threshold[0] == 1
    assert found.alerts_per_day[0] > 0
    assert "even that is not within 0.01 alerts a day" in AlertBudget(0.01).choose(found).policy


@pytest.mark.parametrize(
    ("choose", "expected"),
    [
        (policy_of, PrecisionFloor(0.90)),
        (lambda: policy_of(min_precision=0.5), PrecisionFloor(0.5)),
        (lambda: policy_of(alerts_per_day=50), AlertBudget(50)),
        (lambda: policy_of(false_positive_rate=0.0), FalsePositiveRate(0.0)),
        (lambda: policy_of(least_cost_at=0.0), LeastCost(0.0)),
    ],
)
def test_one_policy_may_be_asked_for(
    choose: Callable[[], ThresholdPolicy], expected: ThresholdPolicy
) -> None:
    assert choose() == expected


def test_two_policies_are_one_too_many() -> None:
    with pytest.raises(PolicyUnclear, match="--alerts-per-day and --false-positive-rate"):
        policy_of(alerts_per_day=50, false_positive_rate=0.01)


@pytest.mark.parametrize("grid", [2, 1000])
@pytest.mark.parametrize("budget", [0.001, 10.0])
def test_every_curve_is_drawn(grid: int, budget: float) -> None:
    rows = judged(3, grid=grid)
    found = trade_off(rows, DAYS, COST)
    pictures = draw(rows, AlertBudget(budget).choose(found), found)
    assert set(pictures) == {
        "precision_recall.png",
        "roc.png",
        "calibration.png",
        "threshold.png",
    }
    assert all(content.startswith(b"\x89PNG") for content in pictures.values())
