"""When and from whom it becomes known what a transaction was."""

from __future__ import annotations

from datetime import timedelta
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from fraudstream.simulator.events import HOUR_US

LABEL_DELAY = timedelta(days=7)
"""Every label, of either class, arrives at most so long after its transaction."""

LABEL_SOURCES: tuple[str, ...] = ("no_dispute", "chargeback", "cardholder", "investigation")
"""The names of the source codes 0 to 3."""

CHARGEBACK_SHARE = 0.65
CHARGEBACK_MEDIAN_HOURS = 72.0
CARDHOLDER_SHARE = 0.25
CALL_MEDIAN_HOURS = 9.0
DELAY_SIGMA = 0.7

_DELAY_HOURS = LABEL_DELAY / timedelta(hours=1)
_GRID = np.linspace(0.0, 1.0, 1025)[1:-1]
_NORMAL_QUANTILES = np.array([NormalDist().inv_cdf(probability) for probability in _GRID])


def draw_labels(
    is_fraud: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int8]]:
    """Draw the delay and the source of the label of each transaction.

    A fraud is found by a chargeback (65 %, median about 3 days), by a call of the cardholder (25 %)
    or by the issuer's own investigation (10 %), both within hours to a day or two. Delays are
    lognormal, cut to `LABEL_DELAY`. A transaction that nobody disputes is confirmed in the last
    twelve hours before the delay is over.

    Parameters
    ----------
    is_fraud : numpy.ndarray of bool
        The truth.
    rng : numpy.random.Generator
        Where the randomness comes from.

    Returns
    -------
    delay_us : numpy.ndarray of int64
        Microseconds from the transaction to its label, more than 0 and at most `LABEL_DELAY`.
    source : numpy.ndarray of int8
        Codes into `LABEL_SOURCES`.

    Examples
    --------
    >>> delay_us, source = draw_labels(np.array([False, True]), np.random.default_rng(0))
    >>> LABEL_SOURCES[source[0]], bool((delay_us <= LABEL_DELAY / timedelta(microseconds=1)).all())
    ('no_dispute', True)
    """
    count = len(is_fraud)
    hours = _DELAY_HOURS - rng.uniform(0.0, 12.0, count)
    source = np.zeros(count, dtype=np.int8)

    frauds = np.flatnonzero(is_fraud)
    which = rng.random(len(frauds))
    found = np.where(
        which < CHARGEBACK_SHARE, 1, np.where(which < CHARGEBACK_SHARE + CARDHOLDER_SHARE, 2, 3)
    )
    median = np.where(found == 1, CHARGEBACK_MEDIAN_HOURS, CALL_MEDIAN_HOURS)
    # Drawn through the quantile function of the cut distribution, so nothing piles up at the cut.
    longest = (np.log(_DELAY_HOURS) - np.log(median)) / DELAY_SIGMA
    share = np.interp(longest, _NORMAL_QUANTILES, _GRID)
    normal = np.interp(rng.random(len(frauds)) * share, _GRID, _NORMAL_QUANTILES)
    hours[frauds] = np.minimum(median * np.exp(DELAY_SIGMA * normal), _DELAY_HOURS)
    source[frauds] = found
    return np.floor(hours * HOUR_US).astype(np.int64), source
