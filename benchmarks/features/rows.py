"""The transactions that all engines are given: the Handbook's, or drawn in the same layout."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_COLUMNS = ("event_time", "customer_id", "terminal_id", "amount", "is_fraud")
_SECOND_US = 1_000_000
_DAY_S = 86_400

#: What the Handbook's world is like.
_CUSTOMERS = 5_000
_TERMINALS = 10_000
_ROWS_A_DAY = 9_600
_FRAUD_RATE = 0.008


class NotTheHandbook(ValueError):
    """A file that does not hold enough transactions in the layout of the Handbook's data."""


@dataclass(frozen=True)
class Rows:
    """Transactions in order of time.

    Attributes
    ----------
    time_us
        ``int64``, microseconds since the epoch, whole seconds.
    customer, terminal
        ``int64``, from 1 on.
    amount, is_fraud
        ``float64``.
    """

    time_us: npt.NDArray[np.int64]
    customer: npt.NDArray[np.int64]
    terminal: npt.NDArray[np.int64]
    amount: npt.NDArray[np.float64]
    is_fraud: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.time_us)


def read(file: Path, rows: int) -> Rows:
    """Read the first transactions, by time, of a Parquet file in the layout of the Handbook's data.

    Raises
    ------
    NotTheHandbook
        If it is no such file, or holds fewer transactions.
    """
    try:
        table = pq.read_table(file, columns=list(_COLUMNS))
    except pa.ArrowInvalid as error:
        raise NotTheHandbook(
            f"{file}: expected a Parquet file with the columns {', '.join(_COLUMNS)}: {error}"
        ) from error
    if len(table) < rows:
        raise NotTheHandbook(
            f"{file}: expected {rows:,} transactions, got {len(table):,}: ask for fewer by --rows"
        )
    time_us = pc.cast(pc.cast(table["event_time"], pa.timestamp("us")), pa.int64()).to_numpy()
    order = np.argsort(time_us, kind="stable")[:rows]
    return Rows(
        time_us[order],
        table["customer_id"].to_numpy()[order].astype(np.int64) + 1,
        table["terminal_id"].to_numpy()[order].astype(np.int64) + 1,
        table["amount"].to_numpy()[order].astype(np.float64),
        table["is_fraud"].to_numpy()[order].astype(np.float64),
    )


def drawn(rows: int, seed: int = 0) -> Rows:
    """Draw transactions as many a day, and of as many customers and terminals, as the Handbook."""
    random = np.random.default_rng(seed)
    seconds = np.sort(random.integers(0, max(rows // _ROWS_A_DAY, 1) * _DAY_S, rows))
    activity = random.gamma(2.0, 1.0, _CUSTOMERS)
    customer = random.choice(_CUSTOMERS, rows, p=activity / activity.sum())
    return Rows(
        seconds * _SECOND_US,
        customer + 1,
        random.integers(1, _TERMINALS + 1, rows),
        random.gamma(2.0, 27.0, rows).round(2),
        (random.random(rows) < _FRAUD_RATE).astype(np.float64),
    )
