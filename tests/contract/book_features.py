"""The Handbook's features as the book computes them: pandas' rolling windows, key by key.

The engine is tested against this. It shares nothing with it but the layout of the data.
"""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

REFERENCE = "handbook-2018-04-01-to-09-14.parquet"
WINDOWS = (1, 7, 30)
DELAY = 7
PARTITIONS = 4


def reference_file() -> Path | None:
    """The book's data: ``FRAUDSTREAM_HANDBOOK``, or in ``shared/`` beside the repository."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data" / REFERENCE
    file = Path(os.environ.get("FRAUDSTREAM_HANDBOOK", beside))
    return file if file.exists() else None


def drawn(rows: int, customers: int, terminals: int, days: int, seed: int) -> pd.DataFrame:
    """Transactions in the book's layout, in order of time.

    Half of the times are on the hour, so that many are equal and many lie exactly on the bounds of
    one another's windows.
    """
    random = np.random.default_rng(seed)
    seconds = random.integers(0, days * 86_400, rows)
    on_the_hour = random.random(rows) < 0.5
    seconds[on_the_hour] -= seconds[on_the_hour] % 3_600
    seconds.sort()
    return pd.DataFrame(
        {
            "transaction_id": np.arange(rows),
            "event_time": pd.Timestamp("2018-04-01") + pd.to_timedelta(seconds, unit="s"),
            "customer_id": random.integers(0, customers, rows),
            "terminal_id": random.integers(0, terminals, rows),
            "amount": random.gamma(2.0, 25.0, rows).round(2),
            "is_fraud": (random.random(rows) < 0.1).astype(np.int64),
        }
    )


def book_features(
    frame: pd.DataFrame, customers: np.ndarray, terminals: np.ndarray
) -> dict[str, pd.Series]:
    """The book's features, by our names, of the rows of some customers and of some terminals.

    Returns
    -------
    dict
        Series on the index of `frame`: what is of a customer on the rows of `customers`, what is
        of a terminal on those of `terminals`, the rest on all.
    """
    time = frame["event_time"].dt
    found = {
        "amount": [frame["amount"]],
        "is_weekend": [(time.weekday >= 5).astype(float)],
        "is_night": [(time.hour <= 6).astype(float)],
    }
    for customer in customers:
        for name, column in spending(frame[frame["customer_id"] == customer]).items():
            found.setdefault(name, []).append(column)
    for terminal in terminals:
        for name, column in risk(frame[frame["terminal_id"] == terminal]).items():
            found.setdefault(name, []).append(column)
    return {name: pd.concat(columns).sort_index() for name, columns in found.items()}


def spending(own: pd.DataFrame) -> dict[str, pd.Series]:
    """How often and how much one customer paid, the present transaction included."""
    amount = own.set_index("event_time")["amount"]
    features = {}
    for days in WINDOWS:
        number = amount.rolling(f"{days}d").count()
        total = amount.rolling(f"{days}d").sum()
        features[f"count_by_card_{days}d_with_current"] = number
        features[f"amount_mean_by_card_{days}d_with_current"] = total / number
    return {name: pd.Series(column.to_numpy(), own.index) for name, column in features.items()}


def risk(own: pd.DataFrame) -> dict[str, pd.Series]:
    """How often one terminal was used, and how often for fraud, up to the delay."""
    fraud = own.set_index("event_time")["is_fraud"]
    number_of_delay = fraud.rolling(f"{DELAY}d").count()
    frauds_of_delay = fraud.rolling(f"{DELAY}d").sum()
    features = {}
    for days in WINDOWS:
        number = fraud.rolling(f"{DELAY + days}d").count() - number_of_delay
        frauds = fraud.rolling(f"{DELAY + days}d").sum() - frauds_of_delay
        rate = (frauds / number).fillna(0.0)
        features[f"count_by_merchant_{days}d_delay_{DELAY}d"] = number
        features[f"is_fraud_rate_by_merchant_{days}d_smoothing_0_delay_{DELAY}d"] = rate
    return {name: pd.Series(column.to_numpy(), own.index) for name, column in features.items()}


def decoded(frame: pd.DataFrame) -> tuple[pa.Table, pa.Table]:
    """The same rows as our two topics, keyed by card; a label has its transaction's time."""
    partition = (frame["customer_id"] % PARTITIONS).to_numpy()
    time_us = frame["event_time"].to_numpy().astype("datetime64[us]").astype(np.int64)
    shared = {
        "transaction_id": frame["transaction_id"].astype(str),
        "card_id": "c" + frame["customer_id"].astype(str),
        "merchant_id": "m" + frame["terminal_id"].astype(str),
        "partition": partition,
        "offset": frame.groupby(partition).cumcount().to_numpy(),
    }
    nothing = pa.nulls(len(frame))
    transactions = shared | {
        "event_time_us": time_us,
        "amount": frame["amount"],
        "device_id": nothing.cast(pa.string()),
        "country": nothing.cast(pa.string()),
        "channel": nothing.cast(pa.string()),
        "latitude": nothing.cast(pa.float64()),
        "longitude": nothing.cast(pa.float64()),
    }
    labels = shared | {"labelled_at_us": time_us, "is_fraud": frame["is_fraud"].astype(bool)}
    return pa.table(transactions), pa.table(labels)
