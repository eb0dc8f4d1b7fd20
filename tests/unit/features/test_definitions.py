"""A feature is refused unless it can be computed point in time; its name follows from it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fraudstream.features.definitions import DAY
from fraudstream.features.definitions import DEFAULT
from fraudstream.features.definitions import HOUR
from fraudstream.features.definitions import VISIBILITY_LAG
from fraudstream.features.definitions import Feature
from fraudstream.features.definitions import FeatureSet
from fraudstream.features.definitions import InvalidFeature

AMOUNT = Feature(None, "amount", "value")
SPENT = Feature("card", "amount", "sum", DAY)


@pytest.mark.parametrize(
    ("definition", "problem"),
    [
        ({"key": "card", "value": None, "statistic": "hour"}, "takes no key and no window"),
        ({"key": None, "value": None, "statistic": "hour", "window": DAY}, "takes no key"),
        ({"key": "card", "value": "amount", "statistic": "mode", "window": DAY}, "expected one"),
        ({"key": "card", "value": "amount", "statistic": "sum"}, "needs a key and a window"),
        ({"key": None, "value": "amount", "statistic": "sum", "window": DAY}, "needs a key"),
        ({"key": "merchant", "value": None, "statistic": "count", "window": DAY}, "10 s"),
        ({"key": "card", "value": "is_fraud", "statistic": "sum", "window": DAY}, "10 s"),
        (
            {
                **{"key": "merchant", "value": None, "statistic": "count", "window": DAY},
                **{"delay": VISIBILITY_LAG, "include_current": True},
            },
            "only a card's own window",
        ),
        (
            {
                **{"key": "card", "value": None, "statistic": "count", "window": DAY},
                **{"delay": HOUR, "include_current": True},
            },
            "only a card's own window without delay",
        ),
    ],
)
def test_a_feature_that_cannot_be_computed_point_in_time_is_refused(definition, problem):
    with pytest.raises(InvalidFeature, match=problem):
        Feature(**definition)


@pytest.mark.parametrize(
    ("feature", "name"),
    [
        (AMOUNT, "amount"),
        (Feature(None, "channel", "is", level="online"), "channel_is_online"),
        (Feature(None, None, "is_night"), "is_night"),
        (SPENT, "amount_sum_by_card_1d"),
        (Feature("card", None, "count", timedelta(minutes=90)), "count_by_card_90m"),
        (Feature("card", None, "count", timedelta(seconds=5)), "count_by_card_5s"),
        (Feature("merchant", None, "count", HOUR, VISIBILITY_LAG), "count_by_merchant_1h"),
        (Feature("merchant", None, "count", HOUR, 7 * DAY), "count_by_merchant_1h_delay_7d"),
    ],
)
def test_a_name_says_value_statistic_key_and_window_and_a_delay_beyond_the_lag(feature, name):
    assert feature.name == name


def test_a_set_with_two_features_of_one_name_is_refused():
    with pytest.raises(InvalidFeature, match=r"defined twice: amount$"):
        FeatureSet("x", 1, (AMOUNT, SPENT, AMOUNT))


def test_a_set_that_would_give_other_numbers_has_another_identity():
    one = FeatureSet("x", 1, (AMOUNT, SPENT))
    assert FeatureSet("x", 1, (AMOUNT, SPENT)).identity == one.identity
    others = [
        FeatureSet("x", 1, (SPENT, AMOUNT)),
        FeatureSet("x", 1, (AMOUNT,)),
        FeatureSet("x", 1, (AMOUNT, replace(SPENT, window=HOUR))),
        FeatureSet("x", 1, (AMOUNT, replace(SPENT, delay=timedelta(seconds=1)))),
        FeatureSet("x", 1, (AMOUNT, replace(SPENT, include_current=True))),
        FeatureSet("x", 2, (AMOUNT, SPENT)),
    ]
    assert len({one.identity, *(other.identity for other in others)}) == len(others) + 1


def test_retention_is_the_longest_reach_of_a_window_with_its_delay():
    assert FeatureSet("x", 1, (AMOUNT,)).retention() == timedelta(0)
    late = Feature("merchant", "is_fraud", "sum", DAY, 7 * DAY)
    assert FeatureSet("x", 1, (AMOUNT, SPENT, late)).retention() == 8 * DAY


def test_the_default_set_has_each_feature_in_a_named_group_and_over_one_key():
    columns = [column for group in DEFAULT.groups.values() for column in group]
    assert sorted(columns) == list(range(len(DEFAULT.features)))
    assert "other" not in DEFAULT.groups
    by_key = [DEFAULT.over(key) for key in (None, "card", "merchant")]
    assert sum(map(len, by_key)) == len(DEFAULT.features)
