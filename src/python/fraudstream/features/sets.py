"""The feature sets that ship.

Adding a line to a set adds the feature to training and to the stream at once: give the set a new
version, train, and start the stream again with the same checkpoint. Its state is then built again
from the topics.
"""

from collections.abc import Sequence
from datetime import timedelta

from fraudstream.features.definitions import DAY
from fraudstream.features.definitions import HOUR
from fraudstream.features.definitions import VISIBILITY_LAG
from fraudstream.features.definitions import Feature
from fraudstream.features.definitions import FeatureSet


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

_BOOK_WINDOWS = (DAY, 7 * DAY, 30 * DAY)
_BOOK_DELAY = 7 * DAY

#: The 15 features of "Reproducible Machine Learning for Credit Card Fraud Detection - Practical
#: Handbook" (Le Borgne, Siblini, Lebichot, Bontempi): the book's terminal is our merchant, its
#: customer our card. The book knows no time at which a label became known, but only that seven
#: days pass: so a label stands at the time of its transaction, and the delay stands here.
HANDBOOK = FeatureSet(
    "handbook",
    1,
    (
        Feature(None, "amount", "value", group="amount"),
        Feature(None, None, "is_weekend", group="time of day"),
        Feature(None, None, "is_night", group="time of day"),
        *_each(
            _BOOK_WINDOWS,
            key="card",
            value=None,
            statistic="count",
            include_current=True,
            group="card activity",
        ),
        *_each(
            _BOOK_WINDOWS,
            key="card",
            value="amount",
            statistic="mean",
            include_current=True,
            group="card spending",
        ),
        *_each(
            _BOOK_WINDOWS,
            key="merchant",
            value=None,
            statistic="count",
            delay=_BOOK_DELAY,
            group="merchant activity",
        ),
        *_each(
            _BOOK_WINDOWS,
            key="merchant",
            value="is_fraud",
            statistic="rate",
            delay=_BOOK_DELAY,
            smoothing=0.0,
            group="merchant risk",
        ),
    ),
)

_WEEKS = (7 * DAY, 30 * DAY, 60 * DAY)
_QUARTER = 90 * DAY

#: For the same data, what tells fraud better: the amount against what is usual for the card, the
#: card's recent unusual amounts, and the sequence of the merchant's labels. Labels stand, and wait,
#: as in `HANDBOOK`.
HANDBOOK_PLUS = FeatureSet(
    "handbook-plus",
    1,
    (
        Feature(None, "amount", "value", group="amount"),
        *_each(_BOOK_WINDOWS, key="card", value=None, statistic="count", group="card activity"),
        Feature("card", "amount", "mean", _MONTH, group="card spending"),
        Feature("card", "amount", "ratio_to_median", _QUARTER, group="amount against the card"),
        *_each(
            (_MONTH, _QUARTER),
            key="card",
            value="amount",
            statistic="ratio_to_trimmed_mean",
            group="amount against the card",
        ),
        Feature("card", "amount", "zscore", _QUARTER, group="amount against the card"),
        *_each(
            (DAY, 3 * DAY, 7 * DAY, 30 * DAY),
            key="card",
            value="amount",
            statistic="max_to_median",
            reference=_QUARTER,
            group="unusual amounts of the card",
        ),
        *_each(
            (3 * DAY, 7 * DAY),
            key="card",
            value="amount",
            statistic="unusual_count",
            reference=_QUARTER,
            group="unusual amounts of the card",
        ),
        Feature(
            "card",
            "amount",
            "seconds_since_unusual",
            _MONTH,
            reference=_QUARTER,
            group="unusual amounts of the card",
        ),
        *_each(
            (7 * DAY, 30 * DAY),
            key="merchant",
            value=None,
            statistic="count",
            delay=_LAG,
            group="merchant activity",
        ),
        *_each(
            (3 * DAY, 7 * DAY, 30 * DAY),
            key="merchant",
            value="amount",
            statistic="max",
            delay=_BOOK_DELAY,
            group="merchant activity",
        ),
        *_each(
            _WEEKS,
            key="merchant",
            value="is_fraud",
            statistic="count",
            delay=_BOOK_DELAY,
            group="merchant risk",
        ),
        *_each(
            (7 * DAY, 30 * DAY),
            key="merchant",
            value="is_fraud",
            statistic="sum",
            delay=_BOOK_DELAY,
            group="merchant risk",
        ),
        *_each(
            (3 * DAY, *_WEEKS),
            key="merchant",
            value="is_fraud",
            statistic="rate",
            delay=_BOOK_DELAY,
            group="merchant risk",
        ),
        *[
            Feature("merchant", "is_fraud", statistic, 60 * DAY, _BOOK_DELAY, group="merchant risk")
            for statistic in (
                "current_streak",
                "current_streak_seconds",
                "longest_streak",
                "seconds_since_fraud",
                "seconds_since_legitimate",
            )
        ],
    ),
)
