"""The folds are the book's, by the book's own, slow way to draw them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from contract.book_features import reference_file
from fraudstream.features.sets import HANDBOOK
from fraudstream.features.windows import replay
from handbook.data import NotTheHandbook
from handbook.data import history
from handbook.data import read
from handbook.models import logistic_regression
from handbook.protocol import METRICS
from handbook.protocol import TEST_FOLDS
from handbook.protocol import FoldMissing
from handbook.protocol import fold
from handbook.protocol import measure
from handbook.protocol import thinned

BEGIN = np.datetime64("2018-07-20")


def drawn(days: int = 35, seed: int = 0) -> pa.Table:
    """Transactions of forty customers, every tenth a fraud."""
    random = np.random.default_rng(seed)
    rows = 60 * days
    seconds = np.sort(random.integers(0, days * 86_400, rows))
    return pa.table(
        {
            "transaction_id": np.arange(rows),
            "event_time": BEGIN.astype("datetime64[ms]") + seconds * 1000,
            "customer_id": random.integers(0, 40, rows).astype(np.int32),
            "terminal_id": random.integers(0, 90, rows).astype(np.int32),
            "amount": random.random(rows) * 100,
            "is_fraud": (random.random(rows) < 0.02).astype(np.int8),
        }
    )


@pytest.mark.parametrize("train_start", ["2018-07-20", "2018-07-25", "2018-08-01"])
def test_a_fold_equals_the_books_loop_over_its_days(train_start):
    table = drawn()
    rows = table.to_pandas()
    rows["day"] = (rows["event_time"] - np.datetime64(train_start)).dt.days
    part = fold(history(table), train_start)

    training = rows[(rows["day"] >= 0) & (rows["day"] < 7)]
    known = set(training[training["is_fraud"] == 1]["customer_id"])
    test = []
    for day in range(7):
        before = rows[(rows["day"] == 7 + day - 1) & (rows["is_fraud"] == 1)]
        known |= set(before["customer_id"])
        today = rows[(rows["day"] == 14 + day) & ~rows["customer_id"].isin(known)]
        test += [(row, day) for row in today.index]

    assert part.training.tolist() == training.index.tolist()
    assert list(zip(part.test.tolist(), part.test_day.tolist(), strict=True)) == test


def test_a_longer_training_ends_on_the_same_day_and_leaves_the_test_as_it_is():
    data = history(drawn())
    week, longer, whole = (fold(data, "2018-08-01", days) for days in (7, 10, None))
    np.testing.assert_array_equal(longer.test, week.test)
    np.testing.assert_array_equal(whole.test, week.test)
    assert week.training[-1] == longer.training[-1] == whole.training[-1]
    assert whole.training[0] == 0
    first = data.time_us[longer.training[0]].astype("datetime64[us]")
    assert first.astype("datetime64[D]") == np.datetime64("2018-07-29")


@pytest.mark.parametrize(
    ("train_start", "days"), [("2018-07-19", 7), ("2018-08-20", 7), ("2018-07-25", 20)]
)
def test_a_fold_that_the_data_does_not_reach_over_is_an_error(train_start, days):
    with pytest.raises(FoldMissing, match="expected transactions on each of its days"):
        fold(history(drawn()), train_start, days)


def test_a_fold_without_frauds_is_an_error():
    table = drawn()
    none = pa.array(np.zeros(len(table), dtype=np.int8))
    table = table.set_column(table.column_names.index("is_fraud"), "is_fraud", none)
    with pytest.raises(FoldMissing, match="expected frauds and legitimate"):
        fold(history(table), "2018-07-25")


def test_a_perfect_score_is_perfect_and_finds_every_card():
    data = history(drawn())
    part = fold(data, "2018-07-25")
    figures = measure(data, part, data.is_fraud[part.test].astype(float))
    assert tuple(figures) == METRICS
    assert figures["average_precision"] == figures["auc_roc"] == 1
    days = {
        (day, card)
        for day, card, fraud in zip(
            part.test_day, data.card[part.test], data.is_fraud[part.test], strict=True
        )
        if fraud
    }
    # A card leaves with its first fraud, which a perfect score finds on the day.
    cards = {card for _, card in days}
    assert figures["card_precision_100"] == pytest.approx(len(cards) / 100 / 7)


def test_thinning_keeps_every_fraud_and_bounds_the_others():
    data = history(drawn())
    rows = np.arange(len(data))
    for enough in (None, len(data)):
        np.testing.assert_array_equal(thinned(data, rows, enough, 0), rows)
    kept = thinned(data, rows, 500, 0)
    assert np.count_nonzero(~data.is_fraud[kept]) == 500
    assert np.count_nonzero(data.is_fraud[kept]) == np.count_nonzero(data.is_fraud)
    np.testing.assert_array_equal(np.unique(kept), kept)
    np.testing.assert_array_equal(thinned(data, rows, 500, 0), kept)
    assert not np.array_equal(thinned(data, rows, 500, 1), kept)


def test_a_file_is_read_in_order_of_time_whatever_its_order(tmp_path: Path) -> None:
    table = drawn()
    shuffled = np.random.default_rng(1).permutation(len(table))
    pq.write_table(table.take(shuffled), tmp_path / "mixed.parquet")
    np.testing.assert_array_equal(read(tmp_path / "mixed.parquet").time_us, history(table).time_us)


def test_a_file_of_another_layout_is_an_error(tmp_path: Path) -> None:
    pq.write_table(drawn().drop_columns(["terminal_id"]), tmp_path / "other.parquet")
    with pytest.raises(NotTheHandbook, match="expected a column 'terminal_id'"):
        read(tmp_path / "other.parquet")
    (tmp_path / "text.parquet").write_text("no Parquet")
    with pytest.raises(NotTheHandbook, match="expected a Parquet file"):
        read(tmp_path / "text.parquet")


def test_the_books_logistic_regression_is_reproduced():
    file = reference_file()
    if file is None:
        pytest.skip("the Handbook's data is not there: name it by FRAUDSTREAM_HANDBOOK")
    data = read(file)
    matrix = replay(HANDBOOK, data.transactions, data.labels).astype(np.float32)
    figures = []
    for name in TEST_FOLDS:
        part = fold(data, name)
        score = logistic_regression(
            matrix[part.training], data.is_fraud[part.training], matrix[part.test], 0, 1
        )
        measured = measure(data, part, score)
        figures.append([measured[metric] for metric in METRICS])
    np.testing.assert_allclose(np.mean(figures, axis=0), [0.623, 0.868, 0.297], atol=0.002)
