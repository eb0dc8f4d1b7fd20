"""What a feature is: a row of data, from which its name, its needs and its place follow.

A feature set is identified by its name, version and a hash of its definitions; a model is bound to
that identity, and so is the stream's state. **Changing a set discards streaming state**: give it a
new version, train, and start the stream again with the same checkpoint, and state is built again
from the topics.
"""

from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import asdict
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
import hashlib
import json

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

#: Partitions are read unevenly, so what one shows in the last moments cannot be relied on when
#: another is scored. Windows over keys that several partitions share end this long before the
#: transaction, in the stream and in training alike.
VISIBILITY_LAG = timedelta(seconds=10)

#: Statistics of the transaction alone: they need no history.
OF_TRANSACTION = frozenset({"value", "is", "hour", "is_weekend", "is_night"})
#: Statistics of labels only.
OF_LABELS = frozenset(
    {
        "rate",
        "current_streak",
        "current_streak_seconds",
        "longest_streak",
        "seconds_since_fraud",
        "seconds_since_legitimate",
    }
)
#: Statistics of a number of the transactions.
OF_NUMBERS = frozenset(
    {
        "sum",
        "mean",
        "min",
        "max",
        "std",
        "median",
        "trimmed_mean",
        "ratio",
        "ratio_to_median",
        "ratio_to_trimmed_mean",
        "zscore",
        "unusual_count",
        "unusual_share",
        "seconds_since_unusual",
        "max_to_median",
    }
)
#: Statistics that compare what a column stands for.
OF_IDENTITIES = frozenset({"is", "distinct_count", "is_new"})
#: Statistics of the events in a window before the transaction.
OF_WINDOW = (
    OF_NUMBERS
    | OF_LABELS
    | {"count", "distinct_count", "is_new", "seconds_since_last"}
    | {"distance_since_last_km", "speed_since_last_kmh"}
)
#: Statistics of transactions that labels have as well.
_ALSO_OF_LABELS = frozenset({"count", "sum", "mean", "seconds_since_last"})
#: Statistics that look at a second, usually longer window.
WITH_REFERENCE = frozenset(
    {"unusual_count", "unusual_share", "seconds_since_unusual", "max_to_median"}
)
#: Columns that stand for what a string is, and can only be compared.
IDENTITIES = frozenset({"card", "merchant", "device", "country", "channel"})
#: The one column that comes from labels rather than from transactions.
LABEL = "is_fraud"
#: What a label says of its transaction besides: it knows no device and no country.
KEYS_OF_LABELS = ("card", "merchant")

#: How many events of a key a window sees at most. Nobody but a machine uses a card so often; a
#: merchant does have so many customers, and its memory would otherwise grow with its business.
MOST_EVENTS = 10_000

_SMOOTHING = 10.0


class InvalidFeature(ValueError):
    """A definition that cannot be computed point in time, or at all."""


@dataclass(frozen=True)
class Feature:
    """One feature, defined once for training and the stream.

    Parameters
    ----------
    key
        Whose history: ``"card"``, ``"merchant"`` or another of `IDENTITIES`, such as ``"device"``;
        ``None`` for the transaction itself. A transaction without a device has no history of
        devices. Labels have histories of cards and merchants only (`KEYS_OF_LABELS`).
    value
        The column: ``"amount"``, an identity such as ``"device"``, ``"is_fraud"`` (labels, as they
        arrive), or ``None`` where the statistic needs none.
    statistic
        One of `OF_TRANSACTION` or `OF_WINDOW`. ``ratio`` and ``zscore`` compare the present value
        with the window's mean and deviation, ``ratio_to_median`` and ``ratio_to_trimmed_mean``
        with what a few large values do not move: the trimmed mean is that of the values up to 2.6
        medians, and a value over that is called unusual. ``unusual_count`` and ``unusual_share``
        tell how many values of the window are, by the median of `reference`,
        ``seconds_since_unusual`` how long ago the last of them was, and ``max_to_median`` how many
        of these medians the largest value is. ``is_new`` is 1 where no event of the window has the
        present value. Of labels: ``rate`` is frauds / (labels + `smoothing`), so that few labels
        say little, and 0 where that is 0 / 0; ``current_streak`` is how many of the latest labels
        in a row are frauds, ``current_streak_seconds`` how long ago the first of them became
        known, and ``longest_streak`` the most in a row; ``seconds_since_fraud`` and
        ``seconds_since_legitimate`` tell how long ago the last label of its kind became known. Of
        labels that became known at the same time, the frauds count as the later ones.
    window
        Length of the window ``(t - delay - window, t - delay]`` in event time (labels: in the time
        at which they became known).
    delay
        How long before the transaction the window ends. At least `VISIBILITY_LAG` unless the
        window is over a card's own transactions, whose order one partition keeps.
    include_current
        Whether the transaction itself counts. Only over a card's own transactions.
    reference
        For `WITH_REFERENCE`: length of the window that tells what is usual, which ends where
        `window` ends.
    smoothing
        For ``rate``.
    level
        For ``is``: the value that the column is compared with.
    group
        The group in which it is explained to an analyst, such as ``"amount"``.

    Raises
    ------
    InvalidFeature
        If the definition is not computable, or would see more than it may.

    Examples
    --------
    >>> Feature("card", "amount", "mean", window=7 * DAY).name
    'amount_mean_by_card_7d'
    >>> Feature("merchant", None, "count", window=HOUR)
    Traceback (most recent call last):
    ...
    fraudstream.features.definitions.InvalidFeature: count_by_merchant_1h: expected a delay of \
at least 10 s, since several partitions hold a merchant's events
    """

    key: str | None
    value: str | None
    statistic: str
    window: timedelta | None = None
    delay: timedelta = timedelta(0)
    include_current: bool = False
    level: str | None = None
    group: str = "other"
    reference: timedelta | None = None
    smoothing: float = _SMOOTHING

    def __post_init__(self) -> None:
        for problem in self._problems():
            raise InvalidFeature(problem)

    def _problems(self) -> Iterator[str]:
        """Yield what is wrong with it, each on the understanding that nothing before was."""
        if self.statistic not in OF_TRANSACTION | OF_WINDOW:
            yield f"unknown statistic {self.statistic!r}: {_one_of(OF_TRANSACTION | OF_WINDOW)}"
        yield from self._problems_of_value()
        if self.statistic not in OF_TRANSACTION:
            yield from self._problems_of_window()
        elif self.key is not None or self.window is not None:
            yield f"{self.name}: {self.statistic} takes no key and no window"
        elif self.delay or self.include_current or self.reference is not None:
            yield f"{self.name}: {self.statistic} looks at nothing but the transaction"
        if self.smoothing < 0 or (self.smoothing != _SMOOTHING and self.statistic != "rate"):
            yield f"{self.name}: expected a smoothing of at least 0 for rate, and for nothing else"

    def _problems_of_value(self) -> Iterator[str]:
        statistic, value = self.statistic, self.value
        if value == LABEL and self.key is None:
            yield f"{self.name}: a transaction's own label is what is to be predicted"
        if value == LABEL and statistic not in OF_LABELS | _ALSO_OF_LABELS:
            yield f"{self.name}: of labels, {_one_of(OF_LABELS | _ALSO_OF_LABELS)}"
        if value != LABEL and statistic in OF_LABELS:
            yield f"{self.name}: expected {LABEL} of a key, since {statistic} is of labels"
        if statistic in OF_NUMBERS and (value is None or value in IDENTITIES):
            yield f"{self.name}: expected a number such as amount for {statistic}, got {value}"
        if statistic in OF_IDENTITIES and value not in IDENTITIES:
            yield f"{self.name}: for {statistic}, {_one_of(IDENTITIES)}, got {value}"
        if (self.level is None) == (statistic == "is"):
            yield f"{self.name}: expected a level for is, and for nothing else"

    def _problems_of_window(self) -> Iterator[str]:
        if self.key is None or self.window is None:
            yield f"{self.name}: {self.statistic} needs a key and a window"
            return
        if (self.reference is None) == (self.statistic in WITH_REFERENCE):
            wants = "needs a" if self.reference is None else "takes no"
            yield f"{self.name}: {self.statistic} {wants} reference window"
        if min(self.window, self.reference or self.window) <= timedelta(0):
            yield f"{self.name}: expected windows longer than nothing"
        if self.key not in IDENTITIES:
            yield f"{self.name}: as a key, {_one_of(IDENTITIES)}, got {self.key!r}"
        if self.is_of_labels and self.key not in KEYS_OF_LABELS:
            known = " and ".join(KEYS_OF_LABELS)
            yield f"{self.name}: a label tells its {known}, not its {self.key}: use one of these"
        if self.delay < timedelta(0):
            yield f"{self.name}: expected a delay, not a look ahead"
        if self.delay < self._least_delay:
            yield (
                f"{self.name}: expected a delay of at least {VISIBILITY_LAG.seconds} s, since "
                f"several partitions hold a {self.key}'s events"
            )
        if self.include_current and (not self.is_of_own_card or self.delay):
            yield (
                f"{self.name}: only a card's own window without delay can include the transaction"
            )

    @property
    def _least_delay(self) -> timedelta:
        return timedelta(0) if self.key is None or self.is_of_own_card else VISIBILITY_LAG

    @property
    def is_of_own_card(self) -> bool:
        """Whether it reads a card's own transactions, of which one partition keeps the order."""
        return self.key == "card" and self.value != LABEL

    @property
    def reach(self) -> timedelta:
        """How far back, in event time, its windows reach."""
        if self.window is None:
            return timedelta(0)
        return max(self.window, self.reference or self.window) + self.delay

    @property
    def columns(self) -> frozenset[str]:
        """The columns that it reads of its history and of the transaction, by name."""
        if self.statistic in {"distance_since_last_km", "speed_since_last_kmh"}:
            return frozenset({"latitude", "longitude"})
        return frozenset() if self.value is None else frozenset({self.value})

    @property
    def is_of_labels(self) -> bool:
        """Whether it reads labels rather than transactions."""
        return self.key is not None and self.value == LABEL

    @property
    def name(self) -> str:
        """``{value}_{statistic}_by_{key}_{window}``, without the parts that it lacks.

        After these comes all else that makes it another feature: a reference, a smoothing, a
        delay, the present transaction, each where it is not what is usual.
        """
        parts = [self.value, None if self.statistic == "value" else self.statistic, self.level]
        if self.key is not None:
            parts += ["by", self.key]
        if self.window is not None:
            parts.append(_short(self.window))
        if self.reference is not None:
            parts.append(f"of_{_short(self.reference)}")
        if self.smoothing != _SMOOTHING:
            parts.append(f"smoothing_{self.smoothing:g}")
        if self.delay > self._least_delay:
            parts.append(f"delay_{_short(self.delay)}")
        if self.include_current:
            parts.append("with_current")
        return "_".join(part for part in parts if part)


@dataclass(frozen=True)
class FeatureSet:
    """A named, versioned list of features: the columns of the model's matrix, in order.

    Parameters
    ----------
    name, version
        What it is called.
    features
        The columns.
    most_events
        How many events of a key a window sees at most, by which the stream's memory of a key is
        bounded: the latest ones by event time, of those that had arrived. What a key had before
        these is not seen by any window, in training and the stream alike. So of a merchant with
        a million events an hour, a window of a day tells of its last 36 seconds.

    Examples
    --------
    >>> tiny = FeatureSet("tiny", 1, (Feature(None, "amount", "value", group="amount"),))
    >>> tiny.names, tiny.identity.split("@")[0], tiny.groups
    (('amount',), 'tiny.v1', {'amount': [0]})
    """

    name: str
    version: int
    features: tuple[Feature, ...]
    most_events: int = MOST_EVENTS

    def __post_init__(self) -> None:
        if self.most_events < 1:
            raise InvalidFeature(f"feature set {self.name}: expected at least 1 as most_events")
        if len(set(self.names)) != len(self.names):
            twice = sorted({name for name in self.names if self.names.count(name) > 1})
            raise InvalidFeature(f"feature set {self.name}: defined twice: {', '.join(twice)}")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The features' names, in the order of the matrix's columns."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the definitions, in hex: equal only where every number would be equal."""
        rows = [
            {name: str(value) for name, value in asdict(feature).items()}
            for feature in self.features
        ]
        document = {"features": rows, "most_events": self.most_events}
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    @property
    def identity(self) -> str:
        """``name.vN@hash``, with twelve digits of the hash."""
        return f"{self.name}.v{self.version}@{self.hash[:12]}"

    @cached_property
    def groups(self) -> dict[str, list[int]]:
        """The columns of each group of features, in order of first appearance."""
        found: dict[str, list[int]] = {}
        for column, feature in enumerate(self.features):
            found.setdefault(feature.group, []).append(column)
        return found

    def over(self, key: str | None) -> list[Feature]:
        """Return the features of one key."""
        return [feature for feature in self.features if feature.key == key]

    def retention(self) -> timedelta:
        """Return how far back, in event time, any window reaches."""
        return max((feature.reach for feature in self.features), default=timedelta(0))


def _one_of(names: Iterable[str]) -> str:
    return f"expected one of {', '.join(sorted(names))}"


def _short(duration: timedelta) -> str:
    for letter, unit in _UNITS.items():
        if duration % unit == timedelta(0):
            return f"{duration // unit}{letter}"
    raise AssertionError("a duration is a whole number of microseconds")


_UNITS = {
    "d": DAY,
    "h": HOUR,
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
    "us": timedelta(microseconds=1),
}
