"""What a feature is: a row of data, from which its name, its needs and its place follow.

Adding a line to a feature set adds the feature to training and to the stream at once. A feature
set is identified by its name, version and a hash of its definitions; a model is bound to that
identity, and so is the stream's state. **Changing a set discards streaming state**: give it a new
version, train, and start the stream with a new checkpoint.
"""

from collections.abc import Sequence
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
#: Statistics of the events in a window before the transaction.
OF_WINDOW = frozenset(
    {
        "count",
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
        "distinct_count",
        "is_new",
        "seconds_since_last",
        "distance_since_last_km",
        "speed_since_last_kmh",
        "rate",
        "current_streak",
        "current_streak_seconds",
        "longest_streak",
    }
)
#: Statistics of labels only.
OF_LABELS = frozenset({"rate", "current_streak", "current_streak_seconds", "longest_streak"})
#: Statistics that look at a second, usually longer window.
WITH_REFERENCE = frozenset({"unusual_count", "unusual_share"})
#: Columns that stand for what a string is, and can only be compared.
IDENTITIES = frozenset({"card", "merchant", "device", "country", "channel"})
#: The one column that comes from labels rather than from transactions.
LABEL = "is_fraud"


class InvalidFeature(ValueError):
    """A definition that cannot be computed point in time, or at all."""


@dataclass(frozen=True)
class Feature:
    """One feature, defined once for training and the stream.

    Parameters
    ----------
    key
        Whose history: ``"card"``, ``"merchant"``, or ``None`` for the transaction itself.
    value
        The column: ``"amount"``, an identity such as ``"device"``, ``"is_fraud"`` (labels, as they
        arrive), or ``None`` where the statistic needs none.
    statistic
        One of `OF_TRANSACTION` or `OF_WINDOW`. ``ratio`` and ``zscore`` compare the present value
        with the window's mean and deviation, ``ratio_to_median`` and ``ratio_to_trimmed_mean``
        with what a few large values do not move: the trimmed mean is that of the values up to 2.6
        medians, and a value over that is called unusual. ``unusual_count`` and ``unusual_share``
        tell how many values of the window are, by the median of `reference`. ``is_new`` is 1
        where no event of the window has the present value. Of labels: ``rate`` is frauds /
        (labels + `smoothing`), so that few labels say little, and 0 where that is 0 / 0;
        ``current_streak`` is how many of the latest labels in a row are frauds,
        ``current_streak_seconds`` how long ago the first of them became known, and
        ``longest_streak`` the most in a row. Of labels that became known at the same time, the
        frauds count as the later ones.
    window
        Length of the window ``(t - delay - window, t - delay]`` in event time (labels: in the time
        at which they became known).
    delay
        How long before the transaction the window ends. At least `VISIBILITY_LAG` unless the
        window is over a card's own transactions, whose order one partition keeps.
    include_current
        Whether the transaction itself counts. Only over a card's own transactions.
    reference
        For ``unusual_count`` and ``unusual_share``: length of the window that tells what is usual,
        which ends where `window` ends.
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
    smoothing: float = 10.0

    def __post_init__(self) -> None:
        if self.statistic in OF_TRANSACTION:
            if self.key is not None or self.window is not None:
                raise InvalidFeature(f"{self.name}: {self.statistic} takes no key and no window")
            return
        if self.statistic not in OF_WINDOW:
            known = ", ".join(sorted(OF_TRANSACTION | OF_WINDOW))
            raise InvalidFeature(f"unknown statistic {self.statistic!r}: expected one of {known}")
        if (self.reference is None) == (self.statistic in WITH_REFERENCE):
            wants = "needs a" if self.reference is None else "takes no"
            raise InvalidFeature(f"{self.name}: {self.statistic} {wants} reference window")
        if self.statistic in OF_LABELS and not self.is_of_labels:
            raise InvalidFeature(
                f"{self.name}: expected {LABEL} of a key, since {self.statistic} is of labels"
            )
        if self.key is None or self.window is None:
            raise InvalidFeature(f"{self.name}: {self.statistic} needs a key and a window")
        if not self.is_of_own_card and self.delay < VISIBILITY_LAG:
            seconds = VISIBILITY_LAG // timedelta(seconds=1)
            raise InvalidFeature(
                f"{self.name}: expected a delay of at least {seconds} s, since several partitions "
                f"hold a {self.key}'s events"
            )
        if self.include_current and (not self.is_of_own_card or self.delay):
            raise InvalidFeature(
                f"{self.name}: only a card's own window without delay can include the transaction"
            )

    @property
    def is_of_own_card(self) -> bool:
        """Whether it reads a card's own transactions, of which one partition keeps the order."""
        return self.key == "card" and self.value != LABEL

    @property
    def is_of_labels(self) -> bool:
        """Whether it reads labels rather than transactions."""
        return self.key is not None and self.value == LABEL

    @property
    def name(self) -> str:
        """``{value}_{statistic}_by_{key}_{window}``, without the parts that it lacks."""
        parts = [self.value, None if self.statistic == "value" else self.statistic, self.level]
        if self.key is not None:
            parts += ["by", self.key]
        if self.window is not None:
            parts.append(_short(self.window))
        if self.reference is not None:
            parts.append(f"of_{_short(self.reference)}")
        if self.delay > VISIBILITY_LAG:
            parts.append(f"delay_{_short(self.delay)}")
        return "_".join(part for part in parts if part)


@dataclass(frozen=True)
class FeatureSet:
    """A named, versioned list of features: the columns of the model's matrix, in order.

    Examples
    --------
    >>> tiny = FeatureSet("tiny", 1, (Feature(None, "amount", "value", group="amount"),))
    >>> tiny.names, tiny.identity.split("@")[0], tiny.groups
    (('amount',), 'tiny.v1', {'amount': [0]})
    """

    name: str
    version: int
    features: tuple[Feature, ...]

    def __post_init__(self) -> None:
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
        return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()

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
        return max(
            (max(f.window, f.reference or f.window) + f.delay for f in self.features if f.window),
            default=timedelta(0),
        )


def _short(duration: timedelta) -> str:
    for unit, letter in ((DAY, "d"), (HOUR, "h"), (timedelta(minutes=1), "m")):
        if duration % unit == timedelta(0):
            return f"{duration // unit}{letter}"
    return f"{duration // timedelta(seconds=1)}s"


def _each(windows: Sequence[timedelta], **definition: object) -> list[Feature]:
    return [Feature(window=window, **definition) for window in windows]  # type: ignore[arg-type]


_WINDOWS = (HOUR, DAY, 7 * DAY, 30 * DAY)
_MONTH = 30 * DAY
_LAG = VISIBILITY_LAG

#: The features of our own transactions: what the demo and the stream use.
DEFAULT = FeatureSet(
    "default",
    1,
    (
        Feature(None, "amount", "value", group="amount"),
        Feature(None, None, "hour", group="time of day"),
        Feature(None, None, "is_weekend", group="time of day"),
        Feature(None, None, "is_night", group="time of day"),
        Feature(None, "channel", "is", level="online", group="channel"),
        Feature(None, "channel", "is", level="atm", group="channel"),
        *_each(_WINDOWS, key="card", value=None, statistic="count", group="card activity"),
        *_each(_WINDOWS, key="card", value="amount", statistic="sum", group="card spending"),
        *_each(_WINDOWS, key="card", value="amount", statistic="mean", group="card spending"),
        Feature("card", "amount", "max", 30 * DAY, group="amount against the card"),
        Feature("card", "amount", "ratio", 30 * DAY, group="amount against the card"),
        Feature("card", "amount", "zscore", 30 * DAY, group="amount against the card"),
        Feature("card", "merchant", "distinct_count", DAY, group="card activity"),
        Feature("card", "merchant", "is_new", _MONTH, group="new to the card"),
        Feature("card", "device", "is_new", _MONTH, group="new to the card"),
        Feature("card", "country", "is_new", _MONTH, group="new to the card"),
        Feature("card", None, "seconds_since_last", _MONTH, group="card activity"),
        Feature("card", None, "distance_since_last_km", _MONTH, group="place"),
        Feature("card", None, "speed_since_last_kmh", _MONTH, group="place"),
        *_each(
            _WINDOWS,
            key="merchant",
            value=None,
            statistic="count",
            delay=_LAG,
            group="merchant activity",
        ),
        *_each(
            _WINDOWS,
            key="merchant",
            value="amount",
            statistic="sum",
            delay=_LAG,
            group="merchant activity",
        ),
        *_each(
            _WINDOWS,
            key="merchant",
            value="amount",
            statistic="mean",
            delay=_LAG,
            group="merchant activity",
        ),
        Feature("merchant", "amount", "ratio", _MONTH, _LAG, group="amount against the merchant"),
        Feature("merchant", "card", "distinct_count", HOUR, _LAG, group="merchant activity"),
        Feature("merchant", "is_fraud", "count", _MONTH, _LAG, group="merchant risk"),
        Feature("merchant", "is_fraud", "sum", 7 * DAY, _LAG, group="merchant risk"),
        Feature("merchant", "is_fraud", "sum", _MONTH, _LAG, group="merchant risk"),
        Feature("merchant", "is_fraud", "rate", _MONTH, _LAG, group="merchant risk"),
    ),
)
