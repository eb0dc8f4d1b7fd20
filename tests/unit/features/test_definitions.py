"""A feature is refused unless it can be computed point in time; its name follows from it."""

from dataclasses import replace
from datetime import timedelta

import pytest

from fraudstream.features.definitions import DAY
from fraudstream.features.definitions import HOUR
from fraudstream.features.definitions import IDENTITIES
from fraudstream.features.definitions import VISIBILITY_LAG
from fraudstream.features.definitions import Feature
from fraudstream.features.definitions import FeatureSet
from fraudstream.features.definitions import InvalidFeature
from fraudstream.features.sets import DEFAULT
from fraudstream.features.sets import HANDBOOK

AMOUNT = Feature(None, "amount", "value")
SPENT = Feature("card", "amount", "sum", DAY)
OF_AMOUNTS = {"key": "card", "value": "amount", "window": DAY}
OF_LABELS = {"key": "card", "value": "is_fraud", "window": DAY, "delay": DAY}


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
        ({"key": None, "value": "is_fraud", "statistic": "value"}, "what is to be predicted"),
        ({"key": None, "value": "channel", "statistic": "is"}, "a level for is"),
        ({"key": None, "value": "amount", "statistic": "is", "level": "5"}, "one of card, channel"),
        ({"key": None, "value": None, "statistic": "hour", "delay": DAY}, "looks at nothing but"),
        ({"key": "card", "value": "device", "statistic": "mean", "window": DAY}, "a number such"),
        ({"key": "card", "value": None, "statistic": "sum", "window": DAY}, "a number such"),
        ({"key": "card", "value": "amount", "statistic": "is_new", "window": DAY}, "got amount"),
        ({"key": "card", "value": "amount", "statistic": "rate", "window": DAY}, "is of labels"),
        ({"key": "colour", "value": None, "statistic": "count", "window": DAY}, "as a key"),
        ({"key": "card", "value": None, "statistic": "count", "window": 0 * DAY}, "longer than"),
        (
            {**OF_AMOUNTS, "statistic": "sum", "delay": -DAY},
            "ahead",
        ),
        (
            {**OF_AMOUNTS, "statistic": "sum", "level": "a"},
            "level",
        ),
        ({**OF_AMOUNTS, "statistic": "sum", "reference": DAY}, "takes no reference"),
        ({**OF_AMOUNTS, "statistic": "unusual_share"}, "needs a reference"),
        ({**OF_AMOUNTS, "statistic": "sum", "smoothing": 1.0}, "smoothing"),
        ({**OF_LABELS, "statistic": "rate", "smoothing": -1.0}, "smoothing"),
        ({**OF_LABELS, "statistic": "ratio"}, "of labels, expected one of count"),
        ({**OF_LABELS, "key": "device", "statistic": "sum"}, "a label tells its card and merchant"),
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
        (Feature("device", None, "count", HOUR, VISIBILITY_LAG), "count_by_device_1h"),
    ],
)
def test_a_name_says_value_statistic_key_and_window_and_a_delay_beyond_the_lag(feature, name):
    assert feature.name == name


def test_whatever_makes_a_feature_another_shows_in_its_name():
    rate = Feature("merchant", "is_fraud", "rate", DAY, VISIBILITY_LAG)
    share = Feature("card", "amount", "unusual_share", DAY, reference=7 * DAY)
    features = [
        SPENT,
        replace(SPENT, window=DAY + timedelta(milliseconds=1)),
        replace(SPENT, window=DAY + timedelta(microseconds=1)),
        replace(SPENT, delay=timedelta(seconds=5)),
        replace(SPENT, include_current=True),
        replace(SPENT, statistic="mean"),
        rate,
        replace(rate, smoothing=0.0),
        replace(rate, smoothing=0.5),
        replace(rate, delay=DAY),
        replace(rate, delay=DAY, smoothing=0.0),
        share,
        replace(share, reference=30 * DAY),
    ]
    assert len({feature.name for feature in features}) == len(features)


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


@pytest.mark.parametrize("shipped", [DEFAULT, HANDBOOK], ids=lambda shipped: shipped.name)
def test_a_set_that_ships_has_each_feature_in_a_named_group_and_over_one_key(shipped):
    columns = [column for group in shipped.groups.values() for column in group]
    assert sorted(columns) == list(range(len(shipped.features)))
    assert "other" not in shipped.groups
    by_key = [shipped.over(key) for key in (None, *IDENTITIES)]
    assert sum(map(len, by_key)) == len(shipped.features)


def test_the_books_set_has_its_fifteen_features():
    assert len(HANDBOOK.features) == 15
    assert HANDBOOK.identity.startswith("handbook.v1@")
