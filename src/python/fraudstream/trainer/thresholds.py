"""The threshold as a decision: what each one would give, and policies that choose among them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fraudstream.trainer.evaluate import Judged
from fraudstream.trainer.evaluate import steps

Float64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]


class PolicyUnclear(ValueError):
    """More than one way to choose the threshold is asked for."""


@dataclass(frozen=True)
class Threshold:
    """A score at or over `value` is an alert.

    Attributes
    ----------
    value
        In [0, 1].
    policy
        How it was chosen, in words.
    figures
        What it gives on the rows on which it was chosen: ``alerts_per_day``, ``precision``,
        ``recall``, ``false_positive_rate`` and ``cost_per_day``, as `TradeOff` has them.
    """

    value: float
    policy: str
    figures: Mapping[str, float]


@dataclass(frozen=True)
class TradeOff:
    """What every threshold that makes a difference would give.

    Each attribute is ``float64``, shape (k,), by falling threshold: first no alert at all, then
    one score after another. Where a row has a score of 1 it is always an alert, so that no alert
    at all is not among them.

    Attributes
    ----------
    threshold
        In [0, 1].
    alerts_per_day
        Of all transactions, those without a label among them: that is what analysts get to see.
    precision, recall
        Of transactions with a label. Without an alert, both are 0.
    false_positive_rate
        The share of the legitimate transactions that are alerts.
    cost_per_day
        The amounts of the frauds missed and the cost of investigating each alert, of transactions
        with a label. Amounts are added up as they are, whatever their currency: where there are
        several, convert them before they are sent, or do not choose by cost.
    """

    threshold: Float64
    alerts_per_day: Float64
    precision: Float64
    recall: Float64
    false_positive_rate: Float64
    cost_per_day: Float64

    def at(self, place: int, policy: str) -> Threshold:
        """Return the threshold at a place of the arrays, with what it gives."""
        return Threshold(
            float(self.threshold[place]),
            policy,
            {
                "alerts_per_day": float(self.alerts_per_day[place]),
                "precision": float(self.precision[place]),
                "recall": float(self.recall[place]),
                "false_positive_rate": float(self.false_positive_rate[place]),
                "cost_per_day": float(self.cost_per_day[place]),
            },
        )


def trade_off(
    judged: Judged,
    days: float,
    investigation_cost: float,
    unlabelled: Float64 | None = None,
) -> TradeOff:
    """Work out what each threshold would have given.

    Parameters
    ----------
    judged
        Transactions with their scores and truth, of both classes.
    days
        How long the period is that they are of.
    investigation_cost
        What an analyst's look at one alert costs, in the unit of the amounts.
    unlabelled
        Scores of the same period's transactions whose truth is not known; ``None`` for none.

    Examples
    --------
    >>> rows = Judged(
    ...     score=np.array([0.9, 0.8, 0.7, 0.1]), is_fraud=np.array([True, False, True, False]),
    ...     amount=np.array([60.0, 1, 40, 1]), day=np.zeros(4, dtype=int), card=np.arange(4),
    ...     compromised=np.zeros(4, dtype=bool))
    >>> found = trade_off(rows, days=0.5, investigation_cost=5.0)
    >>> found.alerts_per_day.tolist()
    [0.0, 2.0, 4.0, 6.0, 8.0]
    >>> found.cost_per_day.tolist()
    [200.0, 90.0, 100.0, 30.0, 40.0]
    """
    scores, frauds, alerts = steps(judged)
    order = np.argsort(-judged.score, kind="stable")
    stopped = np.cumsum(np.where(judged.is_fraud, judged.amount, 0.0)[order])[alerts - 1]
    others = np.sort(unlabelled) if unlabelled is not None else np.empty(0)
    over = len(others) - np.searchsorted(others, scores, side="left")
    if scores[0] < 1:
        # Above every score there is a threshold too: that of no alert at all.
        above = np.nextafter(max(scores[0], others.max(initial=0.0)), np.inf)
        scores = np.append(min(above, 1.0), scores)
        frauds, alerts, stopped = (np.append(0, each) for each in (frauds, alerts, stopped))
        over = np.append(np.count_nonzero(others >= scores[0]), over)
    at_stake = judged.amount[judged.is_fraud].sum()
    legitimate = np.count_nonzero(~judged.is_fraud)
    return TradeOff(
        threshold=scores,
        alerts_per_day=(alerts + over) / days,
        precision=frauds / np.maximum(alerts, 1),
        recall=frauds / np.count_nonzero(judged.is_fraud),
        false_positive_rate=(alerts - frauds) / legitimate,
        cost_per_day=(at_stake - stopped + investigation_cost * alerts) / days,
    )


class ThresholdPolicy(Protocol):
    """A way to choose the threshold."""

    def choose(self, found: TradeOff) -> Threshold:
        """Choose by what thresholds give on rows that no figure is reported on."""


@dataclass(frozen=True)
class PrecisionFloor:
    """The most recall among the thresholds at which at least `minimum` of the alerts are frauds.

    Where no threshold reaches `minimum`, the one with the highest precision, and it says so.
    """

    minimum: float = 0.90

    def choose(self, found: TradeOff) -> Threshold:
        """See `ThresholdPolicy`."""
        reaching = np.flatnonzero(found.precision >= self.minimum)
        if len(reaching):
            # The lowest threshold has the most recall.
            policy = f"largest recall at a precision of at least {self.minimum:g}"
            return found.at(int(reaching[-1]), policy)
        best = int(np.argmax(found.precision))
        return found.at(
            best, f"highest precision, {found.precision[best]:.2f}: none reaches {self.minimum:g}"
        )


@dataclass(frozen=True)
class AlertBudget:
    """The most alerts that are no more than `per_day`, on average over the days.

    A single day may have more. Where even the highest score is given too often, the threshold
    is that score, and it says so.
    """

    per_day: float

    def choose(self, found: TradeOff) -> Threshold:
        """See `ThresholdPolicy`."""
        within = found.alerts_per_day <= self.per_day
        return _lowest(found, within, f"{self.per_day:g} alerts a day")


@dataclass(frozen=True)
class FalsePositiveRate:
    """The most recall while no more than the share `most` of the legitimate rows are alerts.

    Where even the highest score has more, the threshold is that score, and it says so.
    """

    most: float

    def choose(self, found: TradeOff) -> Threshold:
        """See `ThresholdPolicy`."""
        within = found.false_positive_rate <= self.most
        return _lowest(found, within, f"a false-positive rate of {self.most:g}")


@dataclass(frozen=True)
class LeastCost:
    """The least sum of the amounts of frauds missed and of what it costs to look at alerts.

    What the costs rest on is said at `TradeOff.cost_per_day`. Of equally good thresholds, the one
    with the fewest alerts.
    """

    investigation_cost: float

    def choose(self, found: TradeOff) -> Threshold:
        """See `ThresholdPolicy`; `found` has to be of the same cost."""
        return found.at(
            int(np.argmin(found.cost_per_day)),
            f"least cost at {self.investigation_cost:g} for each alert and the amounts missed",
        )


def policy_of(
    min_precision: float | None = None,
    alerts_per_day: float | None = None,
    false_positive_rate: float | None = None,
    least_cost_at: float | None = None,
) -> ThresholdPolicy:
    """Return the one policy that is asked for; where none is, a precision of at least 0.90.

    Parameters
    ----------
    min_precision, alerts_per_day, false_positive_rate
        See `PrecisionFloor`, `AlertBudget` and `FalsePositiveRate`.
    least_cost_at
        See `LeastCost.investigation_cost`.

    Raises
    ------
    PolicyUnclear
        If more than one is.

    Examples
    --------
    >>> policy_of(alerts_per_day=50)
    AlertBudget(per_day=50)
    >>> policy_of(min_precision=0.8, least_cost_at=5)
    Traceback (most recent call last):
    ...
    fraudstream.trainer.thresholds.PolicyUnclear: expected one way to choose the threshold, got \
--min-precision and --least-cost: leave all but one away, also as FRAUDSTREAM_ variables
    """
    asked: dict[str, ThresholdPolicy] = {}
    if min_precision is not None:
        asked["--min-precision"] = PrecisionFloor(min_precision)
    if alerts_per_day is not None:
        asked["--alerts-per-day"] = AlertBudget(alerts_per_day)
    if false_positive_rate is not None:
        asked["--false-positive-rate"] = FalsePositiveRate(false_positive_rate)
    if least_cost_at is not None:
        asked["--least-cost"] = LeastCost(least_cost_at)
    if len(asked) > 1:
        raise PolicyUnclear(
            f"expected one way to choose the threshold, got {' and '.join(asked)}: "
            "leave all but one away, also as FRAUDSTREAM_ variables"
        )
    return next(iter(asked.values()), PrecisionFloor())


def _lowest(found: TradeOff, within: Mask, limit: str) -> Threshold:
    """Return the lowest threshold that keeps within a limit which only grows as it falls."""
    kept = int(np.count_nonzero(within))
    if kept:
        return found.at(kept - 1, f"largest recall within {limit}")
    return found.at(0, f"highest score: even that is not within {limit}")
