"""Whole histories: piece by piece, side by side, with the same numbers."""

from datetime import timedelta

import numpy as np
import pytest

from fraudstream.features import windows
from fraudstream.features.definitions import VISIBILITY_LAG
from fraudstream.features.definitions import Feature
from fraudstream.features.history import Events
from fraudstream.features.history import Moments
from fraudstream.features.windows import Whole
from fraudstream.features.windows import features_throughout

DAY = timedelta(days=1)
ROWS = 500


def histories():
    draw = np.random.default_rng(1)
    time_us = np.sort(draw.integers(0, 40 * 86_400_000_000, ROWS))
    amount = draw.random(ROWS) * 100
    card, merchant = draw.integers(-30, 30, ROWS), draw.integers(-5, 5, ROWS)
    arrival = draw.permutation(ROWS)
    known_us = time_us + 3_600_000_000
    return [
        Whole(
            [
                Feature(None, "amount", "value"),
                Feature(None, None, "hour"),
            ],
            Moments(card, time_us, arrival, time_us, {"amount": amount}),
        ),
        Whole(
            [
                Feature("card", "amount", "sum", 7 * DAY, include_current=True),
                Feature("card", "amount", "median", 7 * DAY),
            ],
            Moments(card, time_us, arrival, time_us, {"amount": amount}),
        ),
        Whole(
            [
                Feature("merchant", None, "count", DAY, VISIBILITY_LAG),
                Feature("merchant", "is_fraud", "rate", 7 * DAY, VISIBILITY_LAG),
            ],
            Moments(merchant, time_us, arrival, time_us),
            Events(merchant, known_us, known_us, {"is_fraud": (amount > 90) * 1.0}),
        ),
    ]


@pytest.mark.parametrize("threads", [1, 3])
def test_pieces_and_threads_change_no_number(monkeypatch, threads):
    whole = features_throughout(histories())
    monkeypatch.setattr(windows, "_ROWS_AT_ONCE", 40)
    cut = features_throughout(histories(), threads=threads)
    assert cut.keys() == whole.keys()
    for name, column in whole.items():
        np.testing.assert_array_equal(cut[name], column)
    assert np.isfinite(whole["amount_sum_by_card_7d_with_current"]).all()


def test_progress_is_told_piece_by_piece_up_to_the_whole(monkeypatch):
    monkeypatch.setattr(windows, "_ROWS_AT_ONCE", 40)
    shares = []
    features_throughout(histories(), threads=2, advance=shares.append)
    assert len(shares) > 20
    assert sum(shares) == pytest.approx(1)


def test_a_history_without_transactions_has_no_features():
    nothing = np.zeros(0, dtype=np.int64)
    empty = Whole(
        [Feature("card", None, "count", DAY)], Moments(nothing, nothing, nothing, nothing)
    )
    assert features_throughout([empty])["count_by_card_1d"].shape == (0,)
