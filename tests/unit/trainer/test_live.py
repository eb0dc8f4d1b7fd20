"""Live evaluation: what was served, judged by what is known, and by nothing else."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import orjson
import pyarrow as pa
import pytest

from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_predictions
from fraudstream.schema.timestamps import duration_us
from fraudstream.schema.timestamps import format_us
from fraudstream.trainer.live import NothingToEvaluate
from fraudstream.trainer.live import Period
from fraudstream.trainer.live import Served
from fraudstream.trainer.live import choose_period
from fraudstream.trainer.live import evaluate
from fraudstream.trainer.live import of_model
from fraudstream.trainer.live import served
from unit.schema.documents import label as a_label
from unit.schema.documents import prediction

DAY = timedelta(days=1)
DAY_US = duration_us(DAY)
COST = 5.0


def score(
    number: int, at_us: int, value: float = 0.5, version: str = "1", **more: Any
) -> dict[str, Any]:
    return prediction(
        transaction_id=f"t{number}",
        event_time=format_us(np.array([at_us]))[0],
        card_id=f"c{number % 5}",
        amount=10.0,
        score=value,
        threshold=0.6,
        is_alert=value >= 0.6,
        model_version=version,
        model_digest=f"{int(version):064x}",
        **more,
    )


def label(number: int, known_us: int, is_fraud: bool) -> dict[str, Any]:
    return a_label(
        transaction_id=f"t{number}",
        card_id=f"c{number % 5}",
        event_time=format_us(np.array([0]))[0],
        is_fraud=is_fraud,
        labelled_at=format_us(np.array([known_us]))[0],
    )


def table(documents: Sequence[dict[str, Any]], decode: Any) -> pa.Table:
    decoded = decode([orjson.dumps(each) for each in documents], np.full(len(documents), 2**40))
    assert not decoded.rejections
    return decoded.columns.append_column("offset", pa.array(np.arange(len(documents))))


def joined(scores: Sequence[dict[str, Any]], labels: Sequence[dict[str, Any]]) -> Served:
    return served(table(scores, decode_predictions), table(labels, decode_labels))


def fortnight(seed: int = 0, rows: int = 400) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Scores of two versions over 14 days, most with labels that come within 3 days."""
    draw = np.random.default_rng(seed)
    times = np.sort(draw.integers(0, 14 * DAY_US, rows)).tolist()
    fraud = draw.random(rows) < 0.2
    values = np.clip(draw.normal(0.3 + 0.3 * fraud, 0.2), 0, 1).round(3).tolist()
    scores = [
        score(number, at_us, values[number], "9" if at_us < 10 * DAY_US else "10")
        for number, at_us in enumerate(times)
    ]
    labels = [
        label(number, at_us + int(draw.integers(1, 3 * DAY_US)), bool(fraud[number]))
        for number, at_us in enumerate(times)
        if draw.random() < 0.9
    ]
    return scores, labels


def test_a_score_gets_the_label_of_its_transaction() -> None:
    rows = joined([score(1, 10), score(2, 20)], [label(2, 99, True), label(7, 99, True)])
    assert rows.is_fraud.tolist() == [False, True]
    assert rows.known_us[1] == 99


def test_the_first_of_repeated_scores_and_labels_counts() -> None:
    rows = joined(
        [score(1, 10, 0.9), score(2, 20, 0.1), score(1, 10, 0.2, version="2")],
        [label(1, 50, True), label(1, 60, False)],
    )
    assert rows.duplicates == 1
    assert rows.score.tolist() == [0.9, 0.1]
    assert rows.version.tolist() == ["1", "1"]
    assert rows.is_fraud.tolist() == [True, False]


def test_a_challenger_is_judged_beside_the_champion_on_the_same_transactions() -> None:
    scores, labels = fortnight()
    period = Period(0, 14 * DAY_US, 3 * DAY)
    alone = evaluate(joined(scores, labels), period, COST)
    # It knows better, of the second half.
    fraud = {each["transaction_id"] for each in labels if each["is_fraud"]}
    in_shadow = [
        each
        | score(int(each["transaction_id"][1:]), 0, 0.9 if each["transaction_id"] in fraud else 0.1)
        | {"event_time": each["event_time"], "role": "challenger", "model_version": "11"}
        for each in scores[200:]
    ]
    rows = joined([one for pair in zip(scores[200:], in_shadow, strict=True) for one in pair], [])
    assert rows.duplicates == 0
    by_card: dict[int, set[str]] = {}
    for card, name in zip(rows.card, [s["card_id"] for s in scores[200:] + in_shadow], strict=True):
        by_card.setdefault(card, set()).add(name)
    assert sorted(map(len, by_card.values())) == [1] * 5
    *champions, challenger = evaluate(joined(in_shadow + scores, labels), period, COST)
    assert champions == alone
    assert (challenger.role, challenger.version) == ("challenger", "11")
    assert challenger.metrics["scored"] == 200
    assert challenger.metrics["average_precision"] == 1


def test_scores_of_other_models_are_told_apart() -> None:
    scores = table([score(1, 10), score(2, 20, model_name="other")], decode_predictions)
    mine, others = of_model(scores, "fraud-detector")
    assert mine["transaction_id"].to_pylist() == ["t1"]
    assert others == {"other": 1}


def test_the_period_ends_at_a_midnight_that_is_a_label_delay_ago() -> None:
    rows = joined(*fortnight())
    period = choose_period(rows, 3 * DAY, 5 * DAY)
    latest_us = max(int(rows.event_time_us.max()), int(rows.known_us[rows.known_us < 2**60].max()))
    assert period.end_us % DAY_US == 0
    assert 0 <= latest_us - 3 * DAY_US - period.end_us < DAY_US
    assert period.end_us - period.begin_us == 5 * DAY_US


def test_a_period_whose_labels_are_still_arriving_is_refused() -> None:
    rows = joined(*fortnight())
    with pytest.raises(NothingToEvaluate, match=r"--until at least 7.0 d before .* 1970-01-1"):
        choose_period(rows, 7 * DAY, DAY, end_us=13 * DAY_US)


def test_a_period_without_a_score_says_what_there_is() -> None:
    rows = joined([score(1, 9 * DAY_US)], [])
    with pytest.raises(NothingToEvaluate, match="no transaction from 1970-01-01T00:00:00Z to"):
        choose_period(rows, DAY, 2 * DAY, end_us=2 * DAY_US)


def test_no_score_at_all_says_what_to_do() -> None:
    with pytest.raises(NothingToEvaluate, match=r"run the stream .* --model-name"):
        choose_period(joined([], [label(1, 5, True)]), DAY, DAY)


def test_each_version_is_judged_by_the_metrics_of_training_on_its_own_rows() -> None:
    rows = joined(*fortnight())
    period = Period(7 * DAY_US, 12 * DAY_US, 3 * DAY)
    verdicts = evaluate(rows, period, COST)
    assert [verdict.version for verdict in verdicts] == ["9", "10"]
    for verdict in verdicts:
        mine = (
            (rows.version == verdict.version)
            & (rows.event_time_us >= period.begin_us)
            & (rows.event_time_us < period.end_us)
        )
        known = mine & (rows.known_us < period.known_until_us)
        figures = verdict.metrics
        assert figures["scored"] == mine.sum()
        assert figures["unlabelled"] == mine.sum() - known.sum() > 0
        assert figures["rows"] == known.sum()
        assert figures["alerts_scored"] == rows.is_alert[mine].sum()
        assert figures["alerts"] == rows.is_alert[known].sum()
        alerted = rows.is_alert & known
        assert figures["money_saved"] == pytest.approx(
            rows.amount[alerted & rows.is_fraud].sum() - 5 * alerted.sum()
        )
        assert {"average_precision", "card_precision_100", "recall_at_fpr_0.01"} <= set(figures)


def test_a_version_that_served_some_days_is_not_blamed_for_the_others() -> None:
    # One fraud a day, always ranked first, and a version for each day.
    scores, labels = [], []
    for day in range(3):
        for number in (2 * day, 2 * day + 1):
            at_us = day * DAY_US + number
            value = 0.9 if number % 2 else 0.1
            card = f"card{number}"
            scores.append({**score(number, at_us, value, str(day + 1)), "card_id": card})
            labels.append({**label(number, at_us + DAY_US, bool(number % 2)), "card_id": card})
    verdicts = evaluate(joined(scores, labels), Period(0, 3 * DAY_US, 2 * DAY), COST)
    assert [verdict.metrics["card_precision_100"] for verdict in verdicts] == [0.01] * 3


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), later=st.integers(1, 20))
def test_what_becomes_known_later_changes_no_figure(seed: int, later: int) -> None:
    scores, labels = fortnight(seed, rows=120)
    period = Period(6 * DAY_US, 11 * DAY_US, 3 * DAY)
    before = evaluate(joined(scores, labels), period, COST)
    told = {each["transaction_id"] for each in labels}
    late = [
        label(number, period.known_until_us + number, number % 2 == 0)
        for number, each in enumerate(scores)
        if each["transaction_id"] not in told
    ]
    more = [score(1_000 + number, 12 * DAY_US + number, 0.7, "11") for number in range(later)]
    repeated = scores[:later]
    assert evaluate(joined(scores + more + repeated, labels + late), period, COST) == before


def test_labels_of_one_class_give_counts_and_no_figures_of_merit() -> None:
    rows = joined([score(1, 10, 0.9), score(2, 20)], [label(1, 50, True)])
    [verdict] = evaluate(rows, Period(0, DAY_US, DAY), COST)
    assert verdict.metrics == {"scored": 2.0, "unlabelled": 1.0, "alerts_scored": 1.0}


def test_two_bundles_under_one_number_are_judged_apart() -> None:
    rows = joined(*fortnight())
    digest = rows.digest.copy()
    digest[::2] = "f" * 64
    verdicts = evaluate(replace(rows, digest=digest), Period(0, 14 * DAY_US, 3 * DAY), COST)
    assert [(each.version, each.digest[-1]) for each in verdicts] == [
        ("9", "9"),
        ("9", "f"),
        ("10", "a"),
        ("10", "f"),
    ]
