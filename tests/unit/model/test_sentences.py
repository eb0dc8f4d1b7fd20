"""Each statistic can be read: its value, what is normal, and for whom."""

from datetime import timedelta

import numpy as np
import pytest

from fraudstream.features.definitions import DAY
from fraudstream.features.definitions import HOUR
from fraudstream.features.definitions import OF_LABELS
from fraudstream.features.definitions import OF_TRANSACTION
from fraudstream.features.definitions import OF_WINDOW
from fraudstream.features.definitions import WITH_REFERENCE
from fraudstream.features.definitions import Feature
from fraudstream.features.definitions import FeatureSet
from fraudstream.features.sets import DEFAULT
from fraudstream.model.sentences import ALL
from fraudstream.model.sentences import SENTENCES
from fraudstream.model.sentences import Narrator
from fraudstream.model.sentences import Told

MONTH = 30 * DAY
LAG = timedelta(seconds=10)
_WITHOUT_COLUMN = {"hour", "is_weekend", "is_night", "count", "seconds_since_last"}
_OF_IDENTITIES = {"is", "is_new", "distinct_count"}


def example(statistic: str) -> Feature:
    """A feature of a statistic, as the definitions demand it."""
    column: str | None = "amount"
    if statistic in _WITHOUT_COLUMN or statistic.endswith(("_km", "_kmh")):
        column = None
    elif statistic in _OF_IDENTITIES:
        column = "channel" if statistic == "is" else "merchant"
    elif statistic in OF_LABELS:
        column = "is_fraud"
    if statistic in OF_TRANSACTION:
        return Feature(None, column, statistic, level="online" if statistic == "is" else None)
    return Feature(
        "card",
        column,
        statistic,
        MONTH,
        LAG if column == "is_fraud" else timedelta(0),
        reference=2 * MONTH if statistic in WITH_REFERENCE else None,
    )


def told(
    *features: tuple[Feature, float], of: int = 0, usual: tuple[float, ...] | None = None
) -> Told:
    """What is told of a row of features and their values."""
    values = np.array([value for _, value in features])
    narrator = Narrator(
        FeatureSet("some", 1, tuple(feature for feature, _ in features)),
        np.full(len(values), np.nan) if usual is None else np.array(usual),
    )
    return narrator.tell(values, of)


def test_every_statistic_has_a_sentence_and_no_sentence_is_of_another() -> None:
    assert set(SENTENCES) == OF_TRANSACTION | OF_WINDOW


@pytest.mark.parametrize("statistic", sorted(OF_TRANSACTION | OF_WINDOW))
@pytest.mark.parametrize("value", [0.0, 1.0, 2.0, 812.4, np.nan])
def test_a_sentence_is_one_line_of_words_not_names(statistic: str, value: float) -> None:
    sentence = told((example(statistic), value), usual=(3.0,)).sentence
    assert sentence == sentence.strip() != ""
    assert sentence[0].isupper() or sentence[0].isdigit()
    assert "\n" not in sentence
    assert "_" not in sentence, "a name of a feature is not a word"
    assert "nan" not in sentence.lower()
    assert "None" not in sentence


@pytest.mark.parametrize("column", range(len(DEFAULT.features)))
def test_sentences_of_the_default_set_tell_its_features_apart(column: int) -> None:
    narrator = Narrator(DEFAULT, np.full(len(DEFAULT.features), 3.0))
    row = np.full(len(DEFAULT.features), 1.0)
    sentences = [narrator.tell(row, other).sentence for other in range(len(row))]
    assert sentences.count(sentences[column]) == 1, sentences[column]


@pytest.mark.parametrize(
    ("feature", "value", "usual", "sentence"),
    [
        (Feature(None, "amount", "value"), 812.4, 31.2, "Amount is 812.40; usual is 31.20"),
        (Feature(None, "channel", "is", level="online"), 0.0, 1.0, "The channel is not online"),
        (Feature(None, None, "hour"), 3.0, 13.0, "Made at 03:00 UTC; usual is 13:00"),
        (
            Feature("card", None, "count", HOUR),
            1.0,
            0.0,
            "1 transaction of this card in the last hour; usual is 0",
        ),
        (
            Feature("merchant", "is_fraud", "sum", 7 * DAY, 7 * DAY),
            2.0,
            0.0,
            "2 verdicts of fraud on this merchant in the 7 days that ended 7 days ago; usual is 0",
        ),
        (
            Feature("card", "amount", "max", MONTH),
            950.0,
            120.0,
            "Highest amount of this card in the last 30 days is 950.00; usual is 120.00",
        ),
        (
            Feature("card", "country", "is_new", MONTH),
            1.0,
            0.0,
            "First transaction of this card in this country in 30 days",
        ),
        (
            Feature("card", "country", "distinct_count", DAY),
            3.0,
            1.0,
            "3 different countries of this card in the last day; usual is 1",
        ),
        (
            Feature("card", None, "seconds_since_last", MONTH),
            40.0,
            50_400.0,
            "40 seconds after the last transaction of this card; usual is 14 hours",
        ),
        (
            Feature("card", None, "speed_since_last_kmh", MONTH),
            4120.0,
            1.5,
            "4,120 km/h from the place of the last transaction of this card to this one; "
            "usual is 1.5 km/h",
        ),
        (
            Feature("merchant", "is_fraud", "rate", MONTH, LAG),
            0.12,
            0.004,
            "Rate of fraud on this merchant in the last 30 days is 12.0 %; usual is 0.4 %",
        ),
        (
            Feature("card", "is_fraud", "current_streak", MONTH, LAG),
            3.0,
            0.0,
            "Each of the latest 3 verdicts on this card in the last 30 days was fraud; usual is 0",
        ),
    ],
)
def test_a_sentence_tells_value_and_normal(
    feature: Feature, value: float, usual: float, sentence: str
) -> None:
    assert told((feature, value), usual=(usual,)) == Told(usual, ALL, sentence)


def test_the_normal_amount_is_the_one_of_the_card_where_the_row_holds_it() -> None:
    week = (Feature("card", "amount", "mean", 7 * DAY), 50.0)
    month = (Feature("card", "amount", "mean", MONTH), 87.35)
    merchant = (Feature("merchant", "amount", "mean", 2 * MONTH, LAG), 9.0)
    amount = (Feature(None, "amount", "value"), 812.4)
    assert told(amount, week, month, merchant) == Told(
        87.35, "card", "Amount is 812.40; the card's usual is 87.35"
    )


def test_a_comparison_names_both_sides() -> None:
    amount = (Feature(None, "amount", "value"), 812.4)
    mean = (Feature("card", "amount", "mean", MONTH), 87.35)
    ratio = (Feature("card", "amount", "ratio", MONTH), 812.4 / 87.35)
    zscore = (Feature("card", "amount", "zscore", MONTH), -5.2)
    assert told(ratio, amount, mean) == Told(
        87.35, "card", "Amount 812.40 is 9.3 times the card's 30-day mean of 87.35"
    )
    assert told(zscore, amount, mean).sentence == (
        "Amount 812.40 is 5.2 standard deviations below the card's 30-day mean of 87.35"
    )


def test_what_a_ratio_was_formed_with_follows_from_the_amount() -> None:
    amount = (Feature(None, "amount", "value"), 80.0)
    ratio = (Feature("merchant", "amount", "ratio_to_median", MONTH, LAG), 4.0)
    assert told(ratio, amount) == Told(
        20.0, "merchant", "Amount 80.00 is 4.0 times the merchant's 30-day median of 20.00"
    )


def test_a_mean_of_another_window_or_key_is_not_what_was_compared_with() -> None:
    zscore = (Feature("card", "amount", "zscore", MONTH), 5.2)
    others = [
        (Feature("card", "amount", "mean", DAY), 1.0),
        (Feature("merchant", "amount", "mean", MONTH, LAG), 2.0),
        (Feature("card", "amount", "median", MONTH), 3.0),
    ]
    assert told(zscore, *others, usual=(0.1, 1.0, 1.0, 1.0)) == Told(
        0.1, ALL, "Amount is 5.2 standard deviations above the card's 30-day mean"
    )


def test_the_pace_of_the_card_is_that_before_the_window() -> None:
    hour = (Feature("card", None, "count", HOUR), 6.0)
    month = (Feature("card", None, "count", MONTH), 6.0 + 719 * 0.5)
    assert told(hour, month) == Told(
        0.5, "card", "6 transactions of this card in the last hour; the card's usual is 0.5"
    )
    assert told(hour, (month[0], 6.0)).usual == 0.0


def test_the_longest_window_has_no_pace_but_that_of_all() -> None:
    hour = (Feature("card", None, "count", HOUR), 6.0)
    month = (Feature("card", None, "count", MONTH), 365.5)
    assert told(hour, month, of=1, usual=(0.0, 70.0)) == Told(
        70.0, ALL, "366 transactions of this card in the last 30 days; usual is 70"
    )


def test_the_usual_gap_follows_from_how_many_transactions_there_were() -> None:
    gap = (Feature("card", None, "seconds_since_last", MONTH), 40.0)
    count = (Feature("card", None, "count", MONTH), 60.0)
    assert told(gap, count).sentence == (
        "40 seconds after the last transaction of this card; the card's usual is 12 hours"
    )


def test_what_is_absent_says_so_and_what_was_never_present_is_not_usual() -> None:
    assert told((Feature("card", "device", "is_new", MONTH), np.nan)) == Told(
        None, ALL, "The transaction tells no device"
    )
    assert told((Feature("card", "amount", "mean", DAY), np.nan)).sentence == (
        "No transaction of this card in the last day to compare with"
    )
    assert told((Feature("card", "amount", "zscore", DAY), np.nan)).sentence == (
        "Too few transactions of this card in the last day to compare with"
    )
    assert told((Feature("card", None, "speed_since_last_kmh", DAY), np.nan)).sentence == (
        "The place of this or of the last transaction of this card is not known"
    )
    streak = Feature("card", "is_fraud", "current_streak_seconds", MONTH, LAG)
    assert told((streak, np.nan)).sentence == "No verdict of fraud on this card in the last 30 days"
