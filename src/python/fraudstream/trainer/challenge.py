"""A new version of the model challenges the champion: which one shall serve.

Versions are decided on one at a time, in the order of their numbers (docs/adr/0005), and a
challenger wins only if it is better beyond noise (docs/adr/0008).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from datetime import timedelta
from pathlib import Path
import tempfile
import time

import numpy as np
import numpy.typing as npt
from sklearn.metrics import average_precision_score

from fraudstream.features.definitions import FeatureSet
from fraudstream.model.bundle import Bundle
from fraudstream.model.bundle import BundleRefused
from fraudstream.model.bundle import load_bundle
from fraudstream.trainer.registry import Registry
from fraudstream.trainer.registry import UnknownVersion

Float64 = npt.NDArray[np.float64]
Int64 = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]

#: How long a version may take to be decided on once its turn has come. Far longer than it takes to
#: load the champion and to score the report rows; so long a training that died holds up the next.
TURN = timedelta(minutes=5)

_GIVEN_UP = "given up: its training ended, or stalled, when it was its turn"
_RESAMPLES = 1024
# So many resamples at a time keep a resample's weights in the processor's cache.
_AT_A_TIME = 16
_POLL_S = 0.25


@dataclass(frozen=True)
class Rows:
    """What both are compared on: nothing of the challenger was chosen on it.

    Attributes
    ----------
    features
        ``float64``, shape (n, k).
    is_fraud
        ``bool``, shape (n,); of both classes there is at least one.
    card
        ``int64``, shape (n,), the same number for the same card.
    begin
        The earliest event time that the rows may have, UTC.
    """

    features: Float64
    is_fraud: Mask
    card: Int64
    begin: datetime


@dataclass(frozen=True)
class Comparison:
    """The average precision of two models on the same rows, and how sure the difference is.

    Attributes
    ----------
    challenger, champion
        Their average precisions.
    lower, upper
        Between them the difference, challenger less champion, lies with `confidence`.
    confidence
        In (0, 1).
    cards
        How many cards were resampled.
    """

    challenger: float
    champion: float
    lower: float
    upper: float
    confidence: float
    cards: int

    @property
    def difference(self) -> float:
        """Challenger less champion."""
        return self.challenger - self.champion


def compare(
    is_fraud: Mask,
    challenger: Float64,
    champion: Float64,
    card: Int64,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compare the average precision of two models by a paired bootstrap over cards.

    Cards are drawn with replacement, each with all of its rows, and both models are judged on the
    same draws; the interval holds the middle `confidence` of the differences. Rows would be the
    wrong thing to draw: a stolen card has several frauds, which a model finds or misses together,
    so a thousand rows tell much less than a thousand independent ones would. Nor are days: a
    report has but a few.

    Parameters
    ----------
    is_fraud, challenger, champion, card
        Shape (n,) each: the truth, both models' scores, and the number of the card.
    confidence
        Of the interval.
    seed
        The same rows and seed give the same interval.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> is_fraud, card = random.random(5000) < 0.1, random.integers(0, 500, 5000)
    >>> good, bad = (is_fraud + noise * random.normal(size=5000) for noise in (0.5, 1.0))
    >>> found = compare(is_fraud, good, bad, card)
    >>> 0 < found.lower < found.difference < found.upper
    True
    """
    cards, number = np.unique(card, return_inverse=True)
    rankings = [_Ranking(is_fraud, score, number) for score in (challenger, champion)]
    draw = np.random.default_rng(seed)
    differences = []
    for _ in range(0, _RESAMPLES, _AT_A_TIME):
        times = _times_drawn(draw, len(cards))
        better, worse = (ranking.average_precision(times) for ranking in rankings)
        differences.append(better - worse)
    # Where a draw has no fraud at all there is no average precision, so it tells nothing.
    tails = [(1 - confidence) / 2, (1 + confidence) / 2]
    lower, upper = np.nanquantile(np.concatenate(differences), tails)
    return Comparison(
        float(average_precision_score(is_fraud, challenger)),
        float(average_precision_score(is_fraud, champion)),
        float(lower),
        float(upper),
        confidence,
        len(cards),
    )


def _times_drawn(draw: np.random.Generator, cards: int) -> npt.NDArray[np.uint16]:
    """Return how often each card is drawn in each of some resamples, shape (cards, resamples)."""
    resample = np.arange(_AT_A_TIME)
    place = draw.integers(0, cards, (cards, _AT_A_TIME)) * _AT_A_TIME + resample
    times = np.bincount(place.ravel(), minlength=cards * _AT_A_TIME)
    return times.astype(np.uint16).reshape(cards, _AT_A_TIME)


class _Ranking:
    """Rows in a model's order, sorted once, to judge it on any weights of the cards.

    Average precision changes only where a fraud stands: the ranking is cut into parts that end
    with the frauds of one score. What lies below the last fraud does not count.
    """

    def __init__(self, is_fraud: Mask, score: Float64, card: Int64) -> None:
        order = np.argsort(-score, kind="stable")
        ranked = score[order]
        ends = np.append(ranked[1:] != ranked[:-1], True)
        tie = np.cumsum(ends) - ends
        frauds = np.flatnonzero(is_fraud[order])
        ends_with_fraud = np.flatnonzero(ends)[np.unique(tie[frauds])]
        self._starts = np.append(0, ends_with_fraud[:-1] + 1)
        self._card = card[order][: ends_with_fraud[-1] + 1]
        self._fraud_starts = np.searchsorted(frauds, self._starts)
        self._fraud_card = self._card[frauds]

    def average_precision(self, times: npt.NDArray[np.uint16]) -> Float64:
        """Return it for each column of `times`, NaN where no fraud is drawn."""
        rows = np.add.reduceat(times[self._card], self._starts, axis=0, dtype=np.int64)
        frauds = np.add.reduceat(
            times[self._fraud_card], self._fraud_starts, axis=0, dtype=np.int64
        )
        found = np.cumsum(frauds, axis=0)
        precision = found / np.maximum(np.cumsum(rows, axis=0), 1)
        with np.errstate(invalid="ignore"):
            return np.asarray(np.sum(frauds * precision, axis=0) / found[-1], dtype=np.float64)


@dataclass(frozen=True)
class Rival:
    """The present champion, as a challenger meets it.

    Attributes
    ----------
    version
        Its number.
    comparison
        Of both; ``None`` if it cannot be served any more.
    refusal
        Why it cannot be served; empty if it can.
    has_seen_rows
        Whether some of the rows may have served to make it, which would favour it.
    """

    version: str
    comparison: Comparison | None
    refusal: str = ""
    has_seen_rows: bool = False


@dataclass(frozen=True)
class Decision:
    """Whether a challenger becomes champion.

    Attributes
    ----------
    is_promoted
        Whether it does.
    reason
        Why, for people to read.
    rival
        Whom it met; ``None`` if nobody served, or it has lost its turn.
    """

    is_promoted: bool
    reason: str
    rival: Rival | None = None

    @property
    def figures(self) -> dict[str, float]:
        """What it rests on, by the names under which it is logged; empty without a comparison."""
        found = self.rival.comparison if self.rival else None
        if found is None:
            return {}
        return {
            "challenge.average_precision": found.challenger,
            "challenge.champion_average_precision": found.champion,
            "challenge.difference": found.difference,
            "challenge.difference_lower": found.lower,
            "challenge.difference_upper": found.upper,
        }


def decide(rival: Rival | None) -> Decision:
    """Decide whether a challenger replaces the champion.

    Parameters
    ----------
    rival
        The champion; ``None`` if there is none.

    Examples
    --------
    >>> print(decide(Rival("3", Comparison(0.8, 0.7, 0.06, 0.14, 0.95, cards=900))).reason)
    better beyond noise than version 3: average precision 0.8000 against 0.7000 on the same rows, \
difference +0.1000, 95% interval from +0.0600 to +0.1400 over 900 cards
    >>> decide(Rival("3", Comparison(0.8, 0.7, -0.01, 0.21, 0.95, cards=90))).is_promoted
    False
    """
    if rival is None:
        return Decision(True, "there was no champion")
    found = rival.comparison
    if found is None:
        return Decision(True, f"version {rival.version} cannot be served: {rival.refusal}", rival)
    is_better = found.lower > 0
    reason = (
        f"{'better' if is_better else 'not better'} beyond noise than version {rival.version}: "
        f"average precision {found.challenger:.4f} against {found.champion:.4f} on the same rows, "
        f"difference {found.difference:+.4f}, {100 * found.confidence:g}% interval "
        f"from {found.lower:+.4f} to {found.upper:+.4f} over {found.cards} cards"
    )
    if rival.has_seen_rows:
        reason += f"; version {rival.version} may have been made with some of these rows"
    return Decision(is_better, reason, rival)


def settle(
    registry: Registry,
    challenger: Bundle,
    version: str,
    feature_set: FeatureSet,
    rows: Rows,
    confidence: float = 0.95,
    say: Callable[[str], None] = lambda text: None,
    turn: timedelta = TURN,
) -> Decision:
    """Compare a new version with the champion as both would serve, and let the better one serve.

    Versions are decided on one at a time, in the order of their numbers, whichever process made
    them: each meets the champion that the one before it has left.

    Parameters
    ----------
    registry
        Where both are registered.
    challenger, version
        The new version's bundle and number.
    feature_set
        The features that are served: a champion of others is replaced.
    rows
        What to compare on.
    confidence
        See `compare`.
    say, turn
        See `await_turn`.

    Returns
    -------
    Decision
        It is also noted on the version.
    """
    scores = challenger.score(rows.features)
    await_turn(registry, version, say, turn)
    while True:
        champion = registry.champion()
        rival = None
        if champion is not None:
            rival = _meet(registry, champion, feature_set, rows, scores, confidence)
        if registry.decision(version) == _GIVEN_UP:
            return Decision(False, _GIVEN_UP)
        # Somebody may have promoted another by hand meanwhile: then that is the one to beat.
        if registry.champion() == champion:
            break
    decision = decide(rival)
    if decision.is_promoted:
        registry.promote(version, decision.reason)
    else:
        registry.note(version, f"not champion: {decision.reason}")
    return decision


def await_turn(
    registry: Registry,
    version: str,
    say: Callable[[str], None],
    turn: timedelta = TURN,
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Wait until every earlier version of the model has been decided on.

    Parameters
    ----------
    registry, version
        Whose turn is awaited.
    say
        Tells people what is waited for.
    turn
        A version that has been the first in the queue for so long, seen from here, is given up:
        the training that made it was killed, or hangs. It is never promoted by that training.
    clock, pause
        Seconds that only grow, and how to let some pass.
    """
    first, since = None, clock()
    while True:
        waiting = registry.first_undecided(before=version)
        if waiting is None:
            return
        if waiting != first:
            first, since = waiting, clock()
            say(f"waiting until version {waiting} has been decided on")
        elif clock() - since >= turn.total_seconds():
            registry.note(waiting, _GIVEN_UP)
        else:
            pause(_POLL_S)


def _meet(
    registry: Registry,
    champion: str,
    feature_set: FeatureSet,
    rows: Rows,
    challenger: Float64,
    confidence: float,
) -> Rival:
    with tempfile.TemporaryDirectory(prefix="fraudstream-") as folder:
        try:
            bundle = load_bundle(registry.fetch(champion, Path(folder)), feature_set, champion)
        except (BundleRefused, UnknownVersion) as error:
            return Rival(champion, None, str(error))
    scores = bundle.score(rows.features)
    comparison = compare(rows.is_fraud, challenger, scores, rows.card, confidence)
    # What something else than this trainer has made does not tell.
    unseen = bundle.manifest.training.get("report_begin")
    has_seen = unseen is not None and datetime.fromisoformat(unseen) > rows.begin
    return Rival(champion, comparison, has_seen_rows=has_seen)
