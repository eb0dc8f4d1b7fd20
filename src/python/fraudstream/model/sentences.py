"""What an analyst reads of a feature: its value, what is normal, and both in a sentence.

A sentence follows from the feature's definition: one template a statistic, filled with the key, the
column and the window. No feature has a text of its own, so a feature that is added can be read at
once.

What is normal is told of the key itself, where the row holds it. The mean that an amount is
compared with is one case. Another is the pace of a longer window: what a card does in 30 days, less
the last hour, tells what it does in an hour. Else it is what is usual for legitimate transactions.
"""

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from math import isnan

import numpy as np
import numpy.typing as npt

from fraudstream.features.definitions import LABEL
from fraudstream.features.definitions import VISIBILITY_LAG
from fraudstream.features.definitions import Feature
from fraudstream.features.definitions import FeatureSet

#: Whose normal it is where the key's own is not known.
ALL = "all"

#: Of these the key's normal is that of its longest window.
_CENTRES = ("median", "trimmed_mean", "mean")
#: Of these it is their pace in the longest window, before the present one.
_PACED = ("count", "sum")
#: What comparing statistics compare the present value with.
_COMPARED_WITH = {
    "ratio": "mean",
    "zscore": "mean",
    "ratio_to_median": "median",
    "ratio_to_trimmed_mean": "trimmed_mean",
}
#: What takes two events at least.
_OF_SEVERAL = frozenset({"std", "zscore"})
#: What is absent where no verdict is of fraud.
_OF_FRAUDS = frozenset({"current_streak_seconds", "seconds_since_fraud"})
_BY_DIVISION = frozenset({"ratio", "ratio_to_median", "ratio_to_trimmed_mean"})

_PREPOSITIONS = {"merchant": "at", "country": "in", "channel": "by"}
_UNITS = (
    (timedelta(days=1), "day"),
    (timedelta(hours=1), "hour"),
    (timedelta(minutes=1), "minute"),
    (timedelta(seconds=1), "second"),
)


@dataclass(frozen=True)
class Told:
    """What is told of a feature's value.

    Attributes
    ----------
    usual
        What is normal; ``None`` if nothing is. Of all transactions, it is in the unit of the
        value; so it is of a key, except for statistics that compare: there it is what the present
        value was compared with, such as the mean amount of the card.
    usual_of
        Whose normal it is: a key, such as ``"card"``, or `ALL` legitimate transactions.
    sentence
        Value and normal in words.
    """

    usual: float | None
    usual_of: str
    sentence: str


class Narrator:
    """Tells features of a set in words.

    Parameters
    ----------
    feature_set
        The features, in the order of the rows' columns.
    usual_values
        What is usual for legitimate transactions, shape (k,); NaN where a feature is usually
        absent.

    Examples
    --------
    >>> month = timedelta(days=30)
    >>> features = FeatureSet("tiny", 1, (
    ...     Feature(None, "amount", "value"),
    ...     Feature("card", "amount", "ratio", month),
    ...     Feature("card", None, "count", timedelta(hours=1)),
    ...     Feature("card", "merchant", "is_new", month)))
    >>> narrator = Narrator(features, np.array([20.0, 1.0, 0.0, 0.0]))
    >>> for column in (1, 2, 3):
    ...     print(narrator.tell(np.array([812.4, 9.3, 6.0, 1.0]), column).sentence)
    Amount 812.40 is 9.3 times the card's 30-day mean of 87.35
    6 transactions of this card in the last hour; usual is 0
    First transaction of this card at this merchant in 30 days
    """

    def __init__(self, feature_set: FeatureSet, usual_values: npt.NDArray[np.floating]) -> None:
        self._features = feature_set.features
        self._usual = usual_values.tolist()

    def tell(self, row: npt.NDArray[np.floating], column: int) -> Told:
        """Return what is told of one feature of a row.

        Parameters
        ----------
        row
            Features of a transaction, shape (k,); NaN where one is absent.
        column
            Which feature.
        """
        return _Case(self._features, row.tolist(), self._usual, column).told()


class _Case:
    """One feature of one row, among the others of the row."""

    def __init__(
        self,
        features: Sequence[Feature],
        row: Sequence[float],
        usual: Sequence[float],
        column: int,
    ) -> None:
        self._features = features
        self._row = row
        self.feature = features[column]
        self.value = row[column]
        self.usual: float | None = self._own_normal()
        self.usual_of = self.feature.key or "card"
        if self.usual is None:
            self.usual_of = ALL
            self.usual = None if isnan(usual[column]) else usual[column]

    def told(self) -> Told:
        """Return value, normal and sentence."""
        is_absent = isnan(self.value)
        sentence = _absent(self) if is_absent else SENTENCES[self.feature.statistic](self)
        return Told(self.usual, self.usual_of, sentence[:1].upper() + sentence[1:])

    # --- what is normal ---------------------------------------------------------------------------

    def _own_normal(self) -> float | None:
        feature = self.feature
        if feature.statistic == "value":
            return self._centre_of_card()
        if feature.statistic in _COMPARED_WITH:
            return self.compared_with
        if feature.statistic in _PACED:
            return self._pace()
        if feature.statistic in _CENTRES:
            return self._find_longest(feature.statistic, feature.value)[0]
        if feature.statistic == "seconds_since_last":
            counted = feature.value if feature.is_of_labels else None
            count, window = self._find_longest("count", counted, or_same=True)
            return window.total_seconds() / count if count else None
        return None

    def _centre_of_card(self) -> float | None:
        found = [
            (other.window or timedelta(0), -_CENTRES.index(other.statistic), value)
            for other, value in self._present
            if other.is_of_own_card
            and other.value == self.feature.value
            and other.statistic in _CENTRES
        ]
        return max(found)[2] if found else None

    @cached_property
    def compared_with(self) -> float | None:
        """What a comparing statistic compares the present value with, if the row tells it."""
        statistic = _COMPARED_WITH[self.feature.statistic]
        for other, value in self._present:
            if (
                _place(other) == _place(self.feature)
                and other.value == self.feature.value
                and other.statistic == statistic
                and other.window == self.feature.window
            ):
                return value
        divides = self.feature.statistic in _BY_DIVISION and self.value > 0
        return self.present / self.value if divides and self.present is not None else None

    @cached_property
    def present(self) -> float | None:
        """The transaction's own value of the feature's column, if the row tells it."""
        for other, value in self._present:
            if other.statistic == "value" and other.value == self.feature.value:
                return value
        return None

    def _pace(self) -> float | None:
        longest, window = self._find_longest(self.feature.statistic, self.feature.value)
        if longest is None or self.feature.window is None or isnan(self.value):
            return None
        before = max(longest - self.value, 0.0)
        return before * (self.feature.window / (window - self.feature.window))

    def _find_longest(
        self, statistic: str, value: str | None, or_same: bool = False
    ) -> tuple[float | None, timedelta]:
        """Return a statistic over the longest window that is longer than the feature's own."""
        shortest = self.feature.window or timedelta(0)
        found: tuple[float | None, timedelta] = (None, timedelta(0))
        for other, told in self._present:
            window = other.window or timedelta(0)
            if (
                _place(other) == _place(self.feature)
                and (other.statistic, other.value) == (statistic, value)
                and (window > shortest or (or_same and window == shortest))
                and window > found[1]
            ):
                found = told, window
        return found

    @cached_property
    def _present(self) -> list[tuple[Feature, float]]:
        """The features that are there."""
        pairs = zip(self._features, self._row, strict=True)
        return [(other, value) for other, value in pairs if not isnan(value)]

    # --- words ------------------------------------------------------------------------------------

    @property
    def noun(self) -> str:
        """The column in words."""
        name = self.feature.value or "transaction"
        return "fraud" if name == LABEL else name.replace("_", " ")

    @property
    def of_key(self) -> str:
        """Whose events they are."""
        key = self.feature.key or ""
        return f"{'on' if self.feature.is_of_labels else 'of'} this {key}"

    @property
    def period(self) -> str:
        """When they were, such as ``in the last 30 days``."""
        window = self.feature.window or timedelta(0)
        if self.feature.delay > VISIBILITY_LAG:
            return f"in the {_duration(window)} that ended {_duration(self.feature.delay, 1)} ago"
        return f"in the last {_duration(window)}"

    def centre(self, statistic: str) -> str:
        """Name what a value is compared with, such as ``the card's 30-day mean``."""
        count, unit = _in_units(self.feature.window or timedelta(0))
        return f"the {self.feature.key}'s {count}-{unit} {statistic.replace('_', ' ')}"

    def normally(self, tell: Callable[[float], str]) -> str:
        """Return how a sentence ends that says what is normal."""
        if self.usual is None:
            return ""
        whose = "" if self.usual_of == ALL else f"the {self.usual_of}'s "
        return f"; {whose}usual is {tell(self.usual)}"


def _place(feature: Feature) -> tuple[str | None, timedelta, bool]:
    return feature.key, feature.delay, feature.include_current


# --- templates -----------------------------------------------------------------------------------


def _absent(case: _Case) -> str:
    feature = case.feature
    if feature.key is None or (feature.statistic == "is_new"):
        return f"The transaction tells no {case.noun}"
    if feature.is_of_labels:
        verdict = "verdict of fraud" if feature.statistic in _OF_FRAUDS else "verdict"
        if feature.statistic == "seconds_since_legitimate":
            verdict = "verdict of no fraud"
        return f"No {verdict} {case.of_key} {case.period}"
    if feature.statistic == "seconds_since_unusual":
        return f"No unusually high {case.noun} {case.of_key} {case.period}"
    if feature.statistic.endswith(("_km", "_kmh")):
        return f"The place of this or of the last transaction {case.of_key} is not known"
    how_many = "Too few transactions" if feature.statistic in _OF_SEVERAL else "No transaction"
    return f"{how_many} {case.of_key} {case.period} to compare with"


def _value(case: _Case) -> str:
    return f"{case.noun} is {_number(case.value)}{case.normally(_number)}"


def _is(case: _Case) -> str:
    negation = "" if case.value else "not "
    return f"The {case.noun} is {negation}{case.feature.level}"


def _hour(case: _Case) -> str:
    return f"Made at {_clock(case.value)} UTC{case.normally(_clock)}"


def _is_weekend(case: _Case) -> str:
    return "Made on a weekend" if case.value else "Made on a working day"


def _is_night(case: _Case) -> str:
    return "Made at night" if case.value else "Made by day"


def _count(case: _Case) -> str:
    events = "transaction"
    if case.feature.value is not None:
        events = "verdict" if case.feature.is_of_labels else f"transaction with {case.noun}"
    counted = _several(case.value, events)
    return f"{counted} {case.of_key} {case.period}{case.normally(_amount_of)}"


def _sum(case: _Case) -> str:
    if case.feature.is_of_labels:
        counted = _several(case.value, "verdict of fraud", "verdicts of fraud")
        return f"{counted} {case.of_key} {case.period}{case.normally(_amount_of)}"
    return _of_column("Total", case)


def _of_column(what: str, case: _Case) -> str:
    return (
        f"{what} {case.noun} {case.of_key} {case.period} is {_number(case.value)}"
        f"{case.normally(_number)}"
    )


def _comparison(case: _Case) -> str:
    present = "" if case.present is None else f" {_number(case.present)}"
    compared = case.centre(_COMPARED_WITH[case.feature.statistic])
    if case.compared_with is not None:
        compared += f" of {_number(case.compared_with)}"
    if case.feature.statistic in _BY_DIVISION:
        how = f"{_factor(case.value)} times"
    else:
        side = "above" if case.value >= 0 else "below"
        how = f"{_factor(abs(case.value))} standard deviations {side}"
    return f"{case.noun}{present} is {how} {compared}"


def _unusual_count(case: _Case) -> str:
    counted = _several(case.value, f"unusually high {case.noun}")
    return f"{counted} {case.of_key} {case.period}{case.normally(_amount_of)}"


def _unusual_share(case: _Case) -> str:
    return (
        f"{_percent(case.value)} of the {case.noun}s {case.of_key} {case.period} "
        f"are unusually high{case.normally(_percent)}"
    )


def _seconds_since_unusual(case: _Case) -> str:
    return (
        f"{_elapsed(case.value)} after the last unusually high {case.noun} {case.of_key}"
        f"{case.normally(_elapsed)}"
    )


def _max_to_median(case: _Case) -> str:
    count, unit = _in_units(case.feature.reference or timedelta(0))
    return (
        f"Highest {case.noun} {case.of_key} {case.period} is {_factor(case.value)} times "
        f"the {case.feature.key}'s {count}-{unit} median{case.normally(_factor)}"
    )


def _distinct_count(case: _Case) -> str:
    counted = _several(case.value, f"different {case.noun}", _plural(f"different {case.noun}"))
    return f"{counted} {case.of_key} {case.period}{case.normally(_amount_of)}"


def _is_new(case: _Case) -> str:
    preposition = _PREPOSITIONS.get(case.feature.value or "", "with")
    first = "First" if case.value else "Not the first"
    window = case.feature.window or timedelta(0)
    return (
        f"{first} transaction {case.of_key} {preposition} this {case.noun} "
        f"in {_duration(window, 1)}"
    )


def _seconds_since_last(case: _Case) -> str:
    event = "verdict" if case.feature.is_of_labels else "transaction"
    return f"{_elapsed(case.value)} after the last {event} {case.of_key}{case.normally(_elapsed)}"


def _distance_since_last_km(case: _Case) -> str:
    return (
        f"{_amount_of(case.value)} km from the place of the last transaction {case.of_key}"
        f"{case.normally(lambda usual: f'{_amount_of(usual)} km')}"
    )


def _speed_since_last_kmh(case: _Case) -> str:
    return (
        f"{_amount_of(case.value)} km/h from the place of the last transaction {case.of_key} "
        f"to this one{case.normally(lambda usual: f'{_amount_of(usual)} km/h')}"
    )


def _seconds_since_fraud(case: _Case) -> str:
    return (
        f"{_elapsed(case.value)} after the last verdict of fraud {case.of_key}"
        f"{case.normally(_elapsed)}"
    )


def _seconds_since_legitimate(case: _Case) -> str:
    return (
        f"{_elapsed(case.value)} after the last verdict of no fraud {case.of_key}"
        f"{case.normally(_elapsed)}"
    )


def _mean(case: _Case) -> str:
    if case.feature.is_of_labels:
        return (
            f"{_percent(case.value)} of the verdicts {case.of_key} {case.period} are of fraud"
            f"{case.normally(_percent)}"
        )
    return _of_column("Mean", case)


def _rate(case: _Case) -> str:
    return (
        f"Rate of fraud {case.of_key} {case.period} is {_percent(case.value)}"
        f"{case.normally(_percent)}"
    )


def _current_streak(case: _Case) -> str:
    if case.value == 0:
        return f"The latest verdict {case.of_key} {case.period} was no fraud"
    which = "The latest verdict"
    if case.value > 1:
        which = f"Each of the latest {case.value:,.0f} verdicts"
    return f"{which} {case.of_key} {case.period} was fraud{case.normally(_amount_of)}"


def _current_streak_seconds(case: _Case) -> str:
    return f"The present run of frauds {case.of_key} began {_elapsed(case.value)} ago"


def _longest_streak(case: _Case) -> str:
    return (
        f"Longest run of frauds {case.of_key} {case.period} is {_amount_of(case.value)}"
        f"{case.normally(_amount_of)}"
    )


#: The template of each statistic; there is none for "any other".
SENTENCES: dict[str, Callable[[_Case], str]] = {
    "value": _value,
    "is": _is,
    "hour": _hour,
    "is_weekend": _is_weekend,
    "is_night": _is_night,
    "count": _count,
    "sum": _sum,
    "mean": _mean,
    "min": lambda case: _of_column("Lowest", case),
    "max": lambda case: _of_column("Highest", case),
    "std": lambda case: _of_column("Standard deviation of the", case),
    "median": lambda case: _of_column("Median", case),
    "trimmed_mean": lambda case: _of_column("Trimmed mean", case),
    "ratio": _comparison,
    "ratio_to_median": _comparison,
    "ratio_to_trimmed_mean": _comparison,
    "zscore": _comparison,
    "unusual_count": _unusual_count,
    "unusual_share": _unusual_share,
    "seconds_since_unusual": _seconds_since_unusual,
    "max_to_median": _max_to_median,
    "distinct_count": _distinct_count,
    "is_new": _is_new,
    "seconds_since_last": _seconds_since_last,
    "distance_since_last_km": _distance_since_last_km,
    "speed_since_last_kmh": _speed_since_last_kmh,
    "rate": _rate,
    "current_streak": _current_streak,
    "current_streak_seconds": _current_streak_seconds,
    "longest_streak": _longest_streak,
    "seconds_since_fraud": _seconds_since_fraud,
    "seconds_since_legitimate": _seconds_since_legitimate,
}


# --- numbers -------------------------------------------------------------------------------------


def _number(value: float) -> str:
    return f"{value:,.2f}"


def _amount_of(value: float) -> str:
    if value == round(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return "below 0.1" if 0 < value < 0.1 else f"{value:,.1f}"


def _factor(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:,.1f}" if value >= 0.1 else f"{value:.2g}"


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def _clock(hour: float) -> str:
    return f"{int(hour):02d}:00"


def _elapsed(seconds: float) -> str:
    for unit, name in _UNITS:
        if seconds >= unit.total_seconds():
            count = seconds / unit.total_seconds()
            told = f"{count:,.0f}" if count >= 10 or count == round(count) else f"{count:.1f}"
            return f"{told} {name}" if told == "1" else f"{told} {name}s"
    return "less than a second"


def _in_units(duration: timedelta) -> tuple[str, str]:
    for unit, name in _UNITS:
        if duration % unit == timedelta(0) and duration:
            return f"{duration // unit}", name
    return f"{duration.total_seconds():g}", "second"


def _duration(duration: timedelta, one: int | None = None) -> str:
    """Return a duration in words: ``7 days``, and ``day`` (or, if asked, ``1 day``) for one."""
    count, unit = _in_units(duration)
    if count == "1":
        return unit if one is None else f"1 {unit}"
    return f"{count} {unit}s"


def _several(count: float, singular: str, plural: str | None = None) -> str:
    return f"{_amount_of(count)} {singular if count == 1 else plural or _plural(singular)}"


def _plural(noun: str) -> str:
    return f"{noun[:-1]}ies" if noun.endswith("y") else f"{noun}s"
