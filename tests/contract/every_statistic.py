"""Every statistic that there is, over every kind of key, in windows of half an hour."""

from datetime import timedelta

from fraudstream.features.definitions import KEYS_OF_LABELS
from fraudstream.features.definitions import VISIBILITY_LAG
from fraudstream.features.definitions import WITH_REFERENCE
from fraudstream.features.definitions import Feature
from fraudstream.features.definitions import FeatureSet

MINUTE = timedelta(minutes=1)
WINDOW = 30 * MINUTE

#: Statistics of transactions, and the columns that they are computed of here.
OF_TRANSACTIONS: dict[str, tuple[str | None, ...]] = {
    "count": (None,),
    "sum": ("amount",),
    "mean": ("amount",),
    "min": ("amount",),
    "max": ("amount",),
    "std": ("amount",),
    "median": ("amount",),
    "trimmed_mean": ("amount",),
    "ratio": ("amount",),
    "ratio_to_median": ("amount",),
    "ratio_to_trimmed_mean": ("amount",),
    "zscore": ("amount",),
    "unusual_count": ("amount",),
    "unusual_share": ("amount",),
    "seconds_since_unusual": ("amount",),
    "max_to_median": ("amount",),
    "distinct_count": ("card", "merchant"),
    "is_new": ("device", "country"),
    "seconds_since_last": (None,),
    "distance_since_last_km": (None,),
    "speed_since_last_kmh": (None,),
}
#: Statistics of labels.
OF_LABELS = (
    "count",
    "sum",
    "mean",
    "rate",
    "seconds_since_last",
    "current_streak",
    "current_streak_seconds",
    "longest_streak",
    "seconds_since_fraud",
    "seconds_since_legitimate",
)

OF_THE_TRANSACTION_ALONE = (
    Feature(None, "amount", "value"),
    Feature(None, "channel", "is", level="online"),
    Feature(None, None, "hour"),
    Feature(None, None, "is_weekend"),
    Feature(None, None, "is_night"),
)


def over(key: str, value: str | None, statistic: str, delay: timedelta) -> Feature:
    """One of these features, with a longer reference where it needs one."""
    reference = 2 * WINDOW if statistic in WITH_REFERENCE else None
    return Feature(key, value, statistic, WINDOW, delay, reference=reference)


OF_WINDOWS = (
    *(
        over(key, value, statistic, timedelta(0) if key == "card" else VISIBILITY_LAG)
        for key in ("card", "merchant", "device", "country")
        for statistic, values in OF_TRANSACTIONS.items()
        for value in values
        if value != key
    ),
    *(
        over(key, "is_fraud", statistic, VISIBILITY_LAG)
        for key in KEYS_OF_LABELS
        for statistic in OF_LABELS
    ),
    Feature("channel", None, "count", WINDOW, VISIBILITY_LAG),
    Feature("card", "amount", "sum", 2 * WINDOW, delay=WINDOW),
    Feature("card", "amount", "mean", 2 * WINDOW, include_current=True),
    Feature("card", None, "seconds_since_last", 2 * WINDOW, delay=3 * MINUTE),
    Feature("merchant", "amount", "sum", WINDOW, 5 * MINUTE),
    Feature("merchant", "is_fraud", "rate", WINDOW, 5 * MINUTE),
    Feature("merchant", "is_fraud", "rate", 3 * WINDOW, VISIBILITY_LAG, smoothing=0),
    Feature("merchant", "is_fraud", "current_streak", 3 * WINDOW, VISIBILITY_LAG),
    Feature("device", None, "seconds_since_last", WINDOW, 5 * MINUTE),
)
EVERY_STATISTIC = FeatureSet("every", 1, (*OF_THE_TRANSACTION_ALONE, *OF_WINDOWS))
