"""Figures of merit: pure functions of scores, labels and amounts."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score
from sklearn.metrics import roc_auc_score

from fraudstream.schema.timestamps import duration_us
from fraudstream.trainer.dataset import Labelled
from fraudstream.trainer.dataset import compromised

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

_DAY_US = duration_us(timedelta(days=1))


@dataclass(frozen=True)
class Judged:
    """Scored transactions whose truth is known.

    Attributes
    ----------
    score
        ``float64``, shape (n,).
    is_fraud
        ``bool``; of both classes there is at least one.
    amount
        ``float64``, not below 0.
    day
        ``int64``, from 0 on, without gaps.
    card
        ``int64``, the same number for the same card.
    compromised
        ``bool``: whether the card was known to have a fraud when the day began, so that its
        transactions count for nothing where cards are ranked.
    """

    score: Float64
    is_fraud: Mask
    amount: Float64
    day: Int64
    card: Int64
    compromised: Mask

    def __len__(self) -> int:
        return len(self.score)


def judge(dataset: Labelled, rows: Mask, begin_us: int, score: Float64) -> Judged:
    """Bring some rows of a data set together with their scores.

    Parameters
    ----------
    dataset, rows
        The rows for which `rows`, shape (n,), is true, all of them labelled.
    begin_us
        When a day begins; a day is 24 hours from there. Days without a row do not count.
    score
        One a row that is taken.
    """
    day = (dataset.event_time_us - begin_us) // _DAY_US
    known = compromised(dataset, begin_us + day * _DAY_US)
    return Judged(
        score,
        dataset.is_fraud[rows],
        dataset.amount[rows],
        np.unique(day[rows], return_inverse=True)[1],
        dataset.card[rows],
        known[rows],
    )


def metrics(judged: Judged, threshold: float, investigation_cost: float) -> dict[str, float]:
    """Return all figures of merit, by the names under which they are logged.

    ``average_precision``, ``roc_auc``
        Of the ranking.
    ``card_precision_100``
        See `card_precision`.
    ``recall_at_fpr_0.001``, ``recall_at_fpr_0.01``
        See `recall_at_false_positive_rate`.
    ``precision``, ``recall``, ``alerts``
        At the threshold.
    ``money_saved``, ``money_at_stake``
        See `money_saved`; and the amounts of all frauds.
    ``rows``, ``frauds``
        How many were judged.
    """
    alert = judged.score >= threshold
    caught = int(np.count_nonzero(alert & judged.is_fraud))
    alerts = int(np.count_nonzero(alert))
    frauds = int(np.count_nonzero(judged.is_fraud))
    return {
        "average_precision": average_precision(judged),
        "roc_auc": float(roc_auc_score(judged.is_fraud, judged.score)),
        "card_precision_100": card_precision(judged, 100),
        "recall_at_fpr_0.001": recall_at_false_positive_rate(judged, 0.001),
        "recall_at_fpr_0.01": recall_at_false_positive_rate(judged, 0.01),
        "precision": caught / alerts if alerts else 0.0,
        "recall": caught / frauds,
        "alerts": float(alerts),
        "money_saved": money_saved(judged, threshold, investigation_cost),
        "money_at_stake": float(judged.amount[judged.is_fraud].sum()),
        "rows": float(len(judged)),
        "frauds": float(frauds),
    }


def average_precision(judged: Judged) -> float:
    """Return the mean of the precisions at each fraud, ranked by score (no interpolation)."""
    return float(average_precision_score(judged.is_fraud, judged.score))


def recall_at_false_positive_rate(judged: Judged, rate: float) -> float:
    """Return the most recall among thresholds that flag at most `rate` of the legitimate rows."""
    _, frauds, alerts = steps(judged)
    legitimate = np.count_nonzero(~judged.is_fraud)
    allowed = alerts - frauds <= rate * legitimate
    return float(np.max(frauds[allowed], initial=0) / np.count_nonzero(judged.is_fraud))


def card_precision(judged: Judged, top: int) -> float:
    """Return card precision@`top`, mean over days.

    Each day, cards are ranked by their highest score; the day's figure is the share of cards with
    a fraud that day among the first `top`. Cards found so
    leave on the following days, and cards that were known as compromised are not ranked at all.
    (Le Borgne et al., "Reproducible Machine Learning for Credit Card Fraud Detection", 2022,
    section 4.6.) Where a day has fewer than `top` cards, the places left free are misses, so even
    a perfect ranking may stay far below 1.

    Examples
    --------
    >>> rows = Judged(
    ...     score=np.array([0.9, 0.2, 0.8, 0.7]), is_fraud=np.array([True, False, True, True]),
    ...     amount=np.ones(4), day=np.array([0, 0, 1, 1]), card=np.array([1, 2, 1, 3]),
    ...     compromised=np.zeros(4, dtype=bool))
    >>> card_precision(rows, 1)
    1.0
    """
    cards, card = np.unique(judged.card, return_inverse=True)
    found = np.zeros(len(cards), dtype=bool)
    precisions = []
    for day in range(int(judged.day.max()) + 1):
        rows = (judged.day == day) & ~found[card] & ~judged.compromised
        highest = np.full(len(cards), -np.inf)
        np.maximum.at(highest, card[rows], judged.score[rows])
        is_fraud = np.zeros(len(cards), dtype=bool)
        is_fraud[card[rows & judged.is_fraud]] = True
        first = np.argsort(-highest, kind="stable")[:top]
        hit = first[np.isfinite(highest[first]) & is_fraud[first]]
        found[hit] = True
        precisions.append(len(hit) / top)
    return float(np.mean(precisions))


def money_saved(judged: Judged, threshold: float, investigation_cost: float) -> float:
    """Return the amounts of the frauds flagged, less `investigation_cost` for each alert.

    `investigation_cost` is what an analyst's look at one alert costs. All is in the unit of the
    amounts, which are added up as they are, whatever their currency; below 0 where alerts
    cost more than they save. It takes a flagged fraud as stopped, and its amount as what would
    have been lost.
    """
    alert = judged.score >= threshold
    stopped = judged.amount[alert & judged.is_fraud].sum()
    return float(stopped - investigation_cost * np.count_nonzero(alert))


def steps(judged: Judged) -> tuple[Float64, Int64, Int64]:
    """Return each score that occurs, falling, and how many frauds and rows reach it.

    Returns
    -------
    scores, frauds, rows
        Shape (k,) each, for k different scores.
    """
    order = np.argsort(-judged.score, kind="stable")
    scores = judged.score[order]
    last = np.flatnonzero(np.append(np.diff(scores) != 0, True))
    return scores[last], np.cumsum(judged.is_fraud[order], dtype=np.int64)[last], last + 1
