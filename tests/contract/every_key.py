"""A feature set that asks for everything that can be asked of a history."""

from fraudstream.features.definitions import DAY
from fraudstream.features.definitions import HOUR
from fraudstream.features.definitions import VISIBILITY_LAG as LAG
from fraudstream.features.definitions import Feature
from fraudstream.features.definitions import FeatureSet

#: Of every key there is, and of labels by both keys that labels have.
EVERY_KEY = FeatureSet(
    "every-key",
    1,
    (
        Feature(None, "amount", "value"),
        Feature("device", None, "count", DAY, LAG),
        Feature("device", "card", "distinct_count", 7 * DAY, LAG),
        Feature("card", "amount", "mean", 7 * DAY),
        Feature("country", "amount", "ratio", DAY, LAG),
        Feature("channel", "merchant", "distinct_count", HOUR, LAG),
        Feature("merchant", "is_fraud", "rate", 30 * DAY, LAG),
        Feature("merchant", "amount", "max", 7 * DAY, DAY),
        Feature("card", "is_fraud", "sum", 30 * DAY, LAG),
        Feature("device", None, "seconds_since_last", 7 * DAY, LAG),
        Feature("channel", None, "count", DAY, LAG),
    ),
)
