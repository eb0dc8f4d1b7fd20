"""The set `handbook` equals what the book's own way of computing it gives, on the book's data."""

import numpy as np
import pandas as pd
import pytest

from contract.book_features import REFERENCE
from contract.book_features import book_features
from contract.book_features import decoded
from contract.book_features import drawn
from contract.book_features import reference_file
from fraudstream.features.sets import HANDBOOK
from fraudstream.features.windows import replay

LEAST_ROWS = 20_000


def compared(frame: pd.DataFrame, customers: np.ndarray, terminals: np.ndarray) -> dict[str, int]:
    """Compare the engine with the book; return on how many rows, by feature."""
    matrix = replay(HANDBOOK, *decoded(frame))
    expected = book_features(frame, customers, terminals)
    for column, name in enumerate(HANDBOOK.names):
        rows = expected[name].index.to_numpy()
        np.testing.assert_allclose(
            matrix[rows, column], expected[name], rtol=1e-9, atol=1e-9, err_msg=name
        )
    return {name: len(column) for name, column in expected.items()}


def test_on_drawn_data_full_of_equal_times_and_exact_bounds():
    frame = drawn(rows=LEAST_ROWS + 4_000, customers=40, terminals=50, days=75, seed=5)
    assert frame.duplicated(["customer_id", "event_time"]).sum() > 100
    assert frame.duplicated(["terminal_id", "event_time"]).sum() > 100
    rows = compared(frame, frame["customer_id"].unique(), frame["terminal_id"].unique())
    assert rows.keys() == set(HANDBOOK.names)
    assert set(rows.values()) == {len(frame)}


def test_on_the_books_own_data():
    file = reference_file()
    if file is None:
        pytest.skip(
            f"{REFERENCE} is not there: name it by FRAUDSTREAM_HANDBOOK, or put it into "
            "shared/data/ beside the repository"
        )
    frame = pd.read_parquet(file)
    # A fifth of the customers: enough for every key to have a long history.
    frame = frame[frame["customer_id"] % 5 == 0].reset_index(drop=True)
    rows = compared(
        frame,
        customers=frame["customer_id"].value_counts().index[100:200],
        terminals=frame["terminal_id"].value_counts().index[:600],
    )
    assert min(rows.values()) >= LEAST_ROWS
