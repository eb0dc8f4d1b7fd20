"""The Handbook's transactions, as the decoded columns of our two topics."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

_COLUMNS = ("transaction_id", "event_time", "customer_id", "terminal_id", "amount", "is_fraud")


class NotTheHandbook(ValueError):
    """A file that does not hold transactions in the layout of the Handbook's data."""


@dataclass(frozen=True)
class History:
    """Transactions in order of time, each with its label.

    Attributes
    ----------
    transactions, labels
        What `fraudstream.features.windows.replay` takes. A label bears the time of its
        transaction; that it is not known before the label delay is for the features to say, by
        their `delay`.
    time_us
        ``int64``, microseconds since the epoch.
    card
        ``int64``.
    amount
        ``float64``.
    is_fraud
        ``bool``.
    """

    transactions: pa.Table
    labels: pa.Table
    time_us: npt.NDArray[np.int64]
    card: npt.NDArray[np.int64]
    amount: npt.NDArray[np.float64]
    is_fraud: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.time_us)


def read(file: Path) -> History:
    """Read a Parquet file with the columns of the Handbook's data; others are left aside.

    Parameters
    ----------
    file
        With ``transaction_id``, ``event_time`` (UTC), ``customer_id``, ``terminal_id``,
        ``amount`` and ``is_fraud`` (0 or 1).

    Raises
    ------
    NotTheHandbook
        If it is no Parquet file, or lacks a column.
    """
    try:
        names = pq.read_schema(file).names
    except pa.ArrowInvalid as error:
        raise NotTheHandbook(f"{file}: expected a Parquet file: {error}") from error
    if missing := [name for name in _COLUMNS if name not in names]:
        raise NotTheHandbook(
            f"{file}: expected a column {missing[0]!r}, got only {', '.join(names)}"
        )
    table = pq.read_table(file, columns=list(_COLUMNS))
    return history(table.sort_by([("event_time", "ascending"), ("transaction_id", "ascending")]))


def history(table: pa.Table) -> History:
    """Turn a table of the Handbook's layout, in order of time, into a `History`."""
    rows = np.arange(len(table))
    time = pc.cast(pc.cast(table["event_time"], pa.timestamp("us")), pa.int64())
    shared = {
        "transaction_id": pc.cast(table["transaction_id"], pa.string()),
        "card_id": pc.cast(table["customer_id"], pa.string()),
        "merchant_id": pc.cast(table["terminal_id"], pa.string()),
        "partition": pa.array(np.zeros_like(rows)),
        "offset": pa.array(rows),
    }
    is_fraud = table["is_fraud"].to_numpy() > 0
    amount = table["amount"].to_numpy().astype(np.float64)
    nothing = pa.nulls(len(table), pa.string())
    nowhere = pa.array(np.full(len(table), np.nan))
    return History(
        transactions=pa.table(
            {
                **shared,
                "event_time_us": time,
                "amount": amount,
                "channel": nothing,
                "device_id": nothing,
                "country": nothing,
                "latitude": nowhere,
                "longitude": nowhere,
            }
        ),
        labels=pa.table({**shared, "labelled_at_us": time, "is_fraud": is_fraud}),
        time_us=time.to_numpy(),
        card=table["customer_id"].to_numpy().astype(np.int64),
        amount=amount,
        is_fraud=is_fraud,
    )
