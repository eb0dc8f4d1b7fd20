"""What a training may see, and what it must not."""

from datetime import timedelta
from typing import Any

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import orjson
import pyarrow as pa
import pytest

from fraudstream.features.definitions import Feature
from fraudstream.features.definitions import FeatureSet
from fraudstream.kafka.reading import Span
from fraudstream.kafka.tables import Topic
from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_transactions
from fraudstream.schema.timestamps import duration_us
from fraudstream.schema.timestamps import format_us
from fraudstream.trainer.dataset import NEVER
from fraudstream.trainer.dataset import Dataset
from fraudstream.trainer.dataset import LabelsMissing
from fraudstream.trainer.dataset import build
from fraudstream.trainer.dataset import compromised
from fraudstream.trainer.dataset import join
from fraudstream.trainer.dataset import offsets
from fraudstream.trainer.dataset import split

DAY = timedelta(days=1)
DAY_US = duration_us(DAY)
AMOUNT = FeatureSet("amount", 1, (Feature(None, "amount", "value"),))


def transaction(number: int, at_us: int, card: str = "c", **more: Any) -> dict[str, Any]:
    document = {
        "transaction_id": f"t{number}",
        "event_time": format_us(np.array([at_us]))[0],
        "card_id": card,
        "merchant_id": "m",
        "amount": float(number),
    }
    return {**document, **more}


def label(number: int, at_us: int, is_fraud: bool, card: str = "c") -> dict[str, Any]:
    return {
        "transaction_id": f"t{number}",
        "card_id": card,
        "merchant_id": "m",
        "event_time": format_us(np.array([0]))[0],
        "is_fraud": is_fraud,
        "labelled_at": format_us(np.array([at_us]))[0],
        "source": "chargeback",
    }


def columns(documents: list[dict[str, Any]], decode: Any) -> pa.Table:
    """Decoded records of one partition, in this order."""
    late_ms = np.full(len(documents), 2**40)
    decoded = decode([orjson.dumps(each) for each in documents], late_ms)
    assert not decoded.rejections
    return decoded.columns.append_column(
        "partition", pa.array(np.zeros(len(documents), dtype=np.int64))
    ).append_column("offset", pa.array(np.arange(len(documents))))


def built(transactions: list[dict[str, Any]], labels: list[dict[str, Any]]) -> Dataset:
    return build(AMOUNT, columns(transactions, decode_transactions), columns(labels, decode_labels))


def month(days: int = 40, per_day: int = 6, delay_days: float = 3) -> Dataset:
    """One transaction every few hours, every third a fraud, each labelled after `delay_days`."""
    times = np.arange(days * per_day) * (DAY_US // per_day)
    known = times + int(delay_days * DAY_US)
    known[known > times[-1]] = NEVER
    return Dataset(
        features=times.reshape(-1, 1).astype(np.float64),
        event_time_us=times,
        card=np.arange(len(times)) % 7,
        amount=np.ones(len(times)),
        is_fraud=(np.arange(len(times)) % 3 == 0) & (known != NEVER),
        known_us=known,
        duplicates=0,
    )


def test_labels_are_joined_by_transaction() -> None:
    rows = built(
        [transaction(1, 10), transaction(2, 20), transaction(3, 30)],
        [label(3, 99, True), label(1, 98, False)],
    )
    assert rows.is_fraud.tolist() == [False, False, True]
    assert rows.known_us.tolist() == [98, NEVER, 99]
    assert rows.features[:, 0].tolist() == [1.0, 2.0, 3.0]


def test_the_first_of_repeated_transactions_and_labels_counts() -> None:
    rows = built(
        [transaction(1, 10), transaction(2, 20), transaction(1, 10, amount=500.0)],
        [label(1, 50, True), label(1, 60, False)],
    )
    assert rows.duplicates == 1
    assert rows.amount.tolist() == [1.0, 2.0]
    assert rows.is_fraud.tolist() == [True, False]
    assert rows.known_us[0] == 50


def test_a_label_of_another_card_is_not_of_this_transaction() -> None:
    rows = built([transaction(1, 10, card="a")], [label(1, 50, True, card="b")])
    assert rows.known_us.tolist() == [NEVER]


def test_a_label_without_its_transaction_is_left_out() -> None:
    rows = built([transaction(1, 10)], [label(1, 50, False), label(9, 50, True)])
    assert len(rows) == 1
    assert not rows.is_fraud.any()


def test_without_labels_nothing_is_known() -> None:
    assert built([transaction(1, 10)], []).known_us.tolist() == [NEVER]


def test_the_parts_follow_one_another_with_the_label_delay_between() -> None:
    rows = month()
    parts = split(rows, label_delay=7 * DAY, validation=6 * DAY, warm_up=2 * DAY)
    times = rows.event_time_us
    assert times[parts.training].min() == 2 * DAY_US
    assert times[parts.selection].min() - times[parts.training].max() > 7 * DAY_US
    assert times[parts.selection].max() < times[parts.report].min()
    assert parts.end_us == times.max() - 7 * DAY_US + 1
    assert parts.report_us - parts.validation_us == parts.end_us - parts.report_us == 3 * DAY_US


def test_a_window_cuts_the_beginning_of_training_and_nothing_else() -> None:
    rows = month()
    whole = split(rows, 7 * DAY, 6 * DAY, 2 * DAY)
    cut = split(rows, 7 * DAY, 6 * DAY, 2 * DAY, window=10 * DAY)
    times = rows.event_time_us
    assert cut.begin_us == cut.validation_us - 17 * DAY_US
    assert (cut.training == (whole.training & (times >= cut.begin_us))).all()
    assert (cut.selection == whole.selection).all()
    assert (cut.report == whole.report).all()


def test_a_window_longer_than_the_topic_takes_all_but_the_warm_up() -> None:
    rows = month()
    whole = split(rows, 7 * DAY, 6 * DAY, 2 * DAY)
    assert (split(rows, 7 * DAY, 6 * DAY, 2 * DAY, 90 * DAY).training == whole.training).all()


@settings(max_examples=60, deadline=None)
@given(
    delay=st.floats(2, 9),
    validation=st.integers(2, 8),
    seed=st.integers(0, 1000),
)
def test_training_uses_no_label_that_was_unknown_when_validation_began(
    delay: float, validation: int, seed: int
) -> None:
    rows = month(days=50, per_day=40)
    draw = np.random.default_rng(seed)
    known = rows.event_time_us + draw.integers(1, 4 * DAY_US, len(rows))
    known[(draw.random(len(rows)) < 0.1) | (known > rows.event_time_us[-1])] = NEVER
    rows = Dataset(**{**vars(rows), "known_us": known, "is_fraud": draw.random(len(rows)) < 0.4})
    parts = split(rows, delay * DAY, validation * DAY, DAY)
    assert (rows.known_us[parts.training] < parts.validation_us).all()
    assert (rows.known_us[parts.selection | parts.report] != NEVER).all()
    assert not (parts.training & (parts.selection | parts.report)).any()
    assert not (parts.selection & parts.report).any()


def test_an_empty_topic_is_told() -> None:
    with pytest.raises(LabelsMissing, match="no transactions"):
        split(built([], []), DAY, DAY, DAY)


def test_no_labels_at_all_are_told() -> None:
    with pytest.raises(LabelsMissing, match="labels missing: no transaction has one"):
        split(built([transaction(1, 10)], []), DAY, DAY, DAY)


def test_a_topic_that_is_too_short_is_told_with_what_is_needed() -> None:
    with pytest.raises(LabelsMissing, match=r"span 19\.8 d.* more than 29\.0 d"):
        split(month(days=20), 7 * DAY, 8 * DAY, 7 * DAY)


def test_labels_of_one_class_only_are_told() -> None:
    rows = month()
    rows = Dataset(**{**vars(rows), "is_fraud": np.zeros(len(rows), dtype=bool)})
    with pytest.raises(LabelsMissing, match="part for training, got 0 and"):
        split(rows, 7 * DAY, 6 * DAY, DAY)


def test_labels_that_stop_before_validation_are_told() -> None:
    rows = month()
    known = np.where(rows.event_time_us > 28 * DAY_US, NEVER, rows.known_us)
    rows = Dataset(**{**vars(rows), "known_us": known})
    with pytest.raises(LabelsMissing, match="part for selection"):
        split(rows, 7 * DAY, 4 * DAY, DAY)


def test_a_card_is_compromised_from_when_its_fraud_is_known() -> None:
    rows = month(days=30)
    moment = rows.event_time_us
    told = compromised(rows, moment)
    for row in range(0, len(rows), 11):
        mine = (rows.card == rows.card[row]) & rows.is_fraud & (rows.known_us < moment[row])
        assert told[row] == mine.any()


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.booleans()), max_size=12),
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 3)), max_size=12),
    st.integers(1, 5),
)
def test_each_transaction_of_a_card_gets_its_first_label_however_the_rows_are_chunked(
    labels: list[tuple[str, int, bool]], transactions: list[tuple[str, int]], chunk: int
) -> None:
    told = columns(
        [label(number, at, told, card) for at, (card, number, told) in enumerate(labels)],
        decode_labels,
    )
    records = columns(
        [transaction(number, 0, card) for card, number in transactions], decode_transactions
    )
    expected: dict[tuple[str, int], tuple[bool, int]] = {}
    for at, (card, number, is_fraud) in enumerate(labels):
        expected.setdefault((card, number), (is_fraud, at))
    in_chunks = [
        pa.concat_tables([table.slice(0, chunk).combine_chunks(), table.slice(chunk)])
        for table in (records, told)
    ]
    joined = join(*in_chunks)
    firsts = list(dict.fromkeys(transactions))
    assert joined.first.tolist() == [transactions.index(each) for each in firsts]
    assert list(zip(joined.is_fraud.tolist(), joined.known_us.tolist(), strict=True)) == [
        expected.get(each, (False, NEVER)) for each in firsts
    ]
    same = [[a[0] == b[0] for a in firsts] for b in firsts]
    assert (joined.card[:, np.newaxis] == joined.card).tolist() == same


def test_a_manifest_tells_from_where_to_where_each_topic_was_read() -> None:
    none = pa.table({"partition": pa.array([], pa.int64()), "offset": pa.array([], pa.int64())})
    topic = Topic(none, [Span(2, 10, 15)], none)
    assert offsets({"labels": topic}) == {"labels": [{"partition": 2, "first": 10, "end": 15}]}
