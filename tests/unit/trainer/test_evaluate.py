"""Figures of merit equal their definitions, worked out the slow way."""

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest

from fraudstream.trainer.dataset import NEVER
from fraudstream.trainer.dataset import Dataset
from fraudstream.trainer.evaluate import Judged
from fraudstream.trainer.evaluate import card_precision
from fraudstream.trainer.evaluate import judge
from fraudstream.trainer.evaluate import metrics
from fraudstream.trainer.evaluate import money_saved
from fraudstream.trainer.evaluate import recall_at_false_positive_rate
from unit.trainer.scored import judged

DAY_US = 86_400_000_000


seeds = st.integers(0, 10_000)


@settings(max_examples=50, deadline=None)
@given(seed=seeds, rate=st.sampled_from([0.0, 0.001, 0.01, 0.2, 1.0]))
def test_recall_at_a_false_positive_rate_is_the_best_of_all_thresholds(
    seed: int, rate: float
) -> None:
    rows = judged(seed)
    best = 0.0
    for threshold in [*np.unique(rows.score), 2.0]:
        alert = rows.score >= threshold
        if np.mean(alert[~rows.is_fraud]) <= rate:
            best = max(best, float(np.mean(alert[rows.is_fraud])))
    assert recall_at_false_positive_rate(rows, rate) == pytest.approx(best)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, top=st.sampled_from([1, 5, 100]))
def test_card_precision_ranks_cards_and_lets_those_found_leave(seed: int, top: int) -> None:
    # No two scores alike: which of two equal cards is ranked first is nobody's business.
    rows = judged(seed)
    unique = Judged(**{**vars(rows), "score": np.random.default_rng(seed).permutation(300) / 300})
    found: set[int] = set()
    precisions = []
    for day in range(unique.day.max() + 1):
        scores: dict[int, float] = {}
        frauds: set[int] = set()
        for row in np.flatnonzero((unique.day == day) & ~unique.compromised):
            card = int(unique.card[row])
            if card in found:
                continue
            scores[card] = max(scores.get(card, -1.0), float(unique.score[row]))
            if unique.is_fraud[row]:
                frauds.add(card)
        first = sorted(scores, key=lambda card: -scores[card])[:top]
        hits = frauds & set(first)
        found |= hits
        precisions.append(len(hits) / top)
    assert card_precision(unique, top) == pytest.approx(np.mean(precisions))


def test_money_saved_is_what_was_stopped_less_what_the_alerts_cost() -> None:
    rows = Judged(
        score=np.array([0.9, 0.8, 0.7, 0.1]),
        is_fraud=np.array([True, False, True, True]),
        amount=np.array([100.0, 70.0, 30.0, 1000.0]),
        day=np.zeros(4, dtype=np.int64),
        card=np.arange(4),
        compromised=np.zeros(4, dtype=bool),
    )
    assert money_saved(rows, 0.7, 5.0) == 100 + 30 - 3 * 5
    assert money_saved(rows, 0.95, 5.0) == 0


def test_a_threshold_above_every_score_has_no_alerts_and_no_precision() -> None:
    figures = metrics(judged(1), 1.1, 5.0)
    assert figures["alerts"] == figures["precision"] == figures["recall"] == 0


def test_a_perfect_ranking_is_perfect() -> None:
    rows = judged(2)
    figures = metrics(Judged(**{**vars(rows), "score": rows.is_fraud.astype(float)}), 0.5, 5.0)
    for name in ("average_precision", "roc_auc", "recall_at_fpr_0.001", "precision", "recall"):
        assert figures[name] == 1


def test_a_day_is_counted_from_the_beginning_and_a_card_known_before_it_is_left_out() -> None:
    dataset = Dataset(
        features=np.zeros((4, 1)),
        event_time_us=np.array([5, DAY_US + 4, DAY_US + 6, 2 * DAY_US + 6]),
        card=np.array([1, 1, 1, 1]),
        amount=np.ones(4),
        is_fraud=np.array([True, False, True, False]),
        known_us=np.array([DAY_US + 5, NEVER, NEVER, NEVER]),
        duplicates=0,
    )
    rows = np.array([False, True, True, True])
    taken = judge(dataset, rows, 5, np.array([0.1, 0.2, 0.3]))
    assert taken.day.tolist() == [0, 1, 2]
    assert taken.compromised.tolist() == [False, False, True]
    assert taken.score.tolist() == [0.1, 0.2, 0.3]
