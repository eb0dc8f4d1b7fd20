"""The twelve windows of the set `handbook`, by four engines, from the same rows in memory.

Each contender is given the rows in the form that it works on, outside of what is timed, and hands
back a column for each feature in the order of the rows. Import this after the environment says how
many threads Polars may use.

The book counts of transactions of one customer in one second those that come first in the file.
Polars and DuckDB order by one value and see all of a second: they are given, also outside of what
is timed, times that differ by some microseconds within such a second, and windows shorter by a
thousandth of a second.
"""

from collections.abc import Callable

import duckdb
from features.rows import Rows
import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa

from fraudstream.features.history import Events
from fraudstream.features.history import Moments
from fraudstream.features.sets import HANDBOOK
from fraudstream.features.windows import Whole
from fraudstream.features.windows import features_throughout

Columns = dict[str, npt.NDArray[np.float64]]
Compute = Callable[[], Columns]

DAYS = (1, 7, 30)
DELAY_DAYS = 7
_DAY_US = 86_400_000_000
#: More than the transactions of a customer in a second, and less than a second, in microseconds.
_SLACK_US = 1_000


def names(days: int) -> tuple[str, str, str, str]:
    """Return our names of the four features of a window of so many days."""
    delayed = f"{days}d_delay_{DELAY_DAYS}d"
    return (
        f"count_by_card_{days}d_with_current",
        f"amount_mean_by_card_{days}d_with_current",
        f"count_by_merchant_{delayed}",
        f"is_fraud_rate_by_merchant_{days}d_smoothing_0_delay_{DELAY_DAYS}d",
    )


def fraudstream(rows: Rows, threads: int) -> Compute:
    """Our engine, pieces of whole customers and terminals side by side."""
    sequence = np.arange(len(rows))
    time_us = rows.time_us
    histories = [
        Whole(
            HANDBOOK.over("card"),
            Moments(rows.customer, time_us, sequence, time_us, {"amount": rows.amount}),
        ),
        Whole(
            HANDBOOK.over("merchant"),
            Moments(rows.terminal, time_us, sequence, time_us),
            Events(rows.terminal, time_us, time_us, {"is_fraud": rows.is_fraud}),
        ),
    ]
    return lambda: features_throughout(histories, threads=threads)


def polars(rows: Rows, threads: int) -> Compute:
    """Polars: rolling sums over each key, which keep the order of the rows."""
    if pl.thread_pool_size() != threads:
        raise ValueError(f"expected POLARS_MAX_THREADS={threads}, got {pl.thread_pool_size()}")
    frame = pl.DataFrame(_columns(rows))
    delay = f"{DELAY_DAYS * _DAY_US}i"

    def compute() -> Columns:
        of_delay = [
            pl.col("one").rolling_sum_by("time", delay).over("terminal").alias("delay_count"),
            pl.col("is_fraud").rolling_sum_by("time", delay).over("terminal").alias("delay_frauds"),
        ]
        of_windows, features = [], []
        for days in DAYS:
            count, mean, delayed_count, rate = names(days)
            own = f"{days * _DAY_US - _SLACK_US}i"
            reach = f"{(DELAY_DAYS + days) * _DAY_US}i"
            of_windows += [
                pl.col("one").rolling_sum_by("step", own).over("customer").alias(count),
                pl.col("amount").rolling_mean_by("step", own).over("customer").alias(mean),
                pl.col("one").rolling_sum_by("time", reach).over("terminal").alias(f"n{days}"),
                pl.col("is_fraud").rolling_sum_by("time", reach).over("terminal").alias(f"f{days}"),
            ]
            number = pl.col(f"n{days}") - pl.col("delay_count")
            frauds = pl.col(f"f{days}") - pl.col("delay_frauds")
            features += [
                pl.col(count),
                pl.col(mean),
                number.alias(delayed_count),
                pl.when(number > 0).then(frauds / number).otherwise(0.0).alias(rate),
            ]
        found = frame.lazy().select(of_delay + of_windows).select(features).collect()
        return {name: found[name].to_numpy() for name in found.columns}

    return compute


def duckdb_sql(rows: Rows, threads: int) -> Compute:
    """DuckDB: one query, a window for each feature."""
    connection = duckdb.connect(config={"threads": threads})
    connection.execute("SET enable_progress_bar = false")
    table = pa.table(_columns(rows))
    connection.register("rows", table)
    features = []
    for days in DAYS:
        count, mean, delayed_count, rate = names(days)
        own = (
            "OVER (PARTITION BY customer ORDER BY step RANGE BETWEEN "
            f"{days * _DAY_US - _SLACK_US} PRECEDING AND CURRENT ROW)"
        )
        delayed = (
            "OVER (PARTITION BY terminal ORDER BY time RANGE BETWEEN "
            f"{(DELAY_DAYS + days) * _DAY_US - 1} PRECEDING AND {DELAY_DAYS * _DAY_US} PRECEDING)"
        )
        features += [
            f"count(*) {own} AS {count}",
            f"avg(amount) {own} AS {mean}",
            f"count(*) {delayed} AS {delayed_count}",
            f"coalesce(avg(is_fraud) {delayed}, 0) AS {rate}",
        ]

    def compute() -> Columns:
        asked = connection.table("rows").project(", ".join(["place", *features])).order("place")
        return {name: column for name, column in asked.fetchnumpy().items() if name != "place"}

    return compute


def pandas(rows: Rows, threads: int) -> Compute:
    """Pandas: rolling windows over each group, as the book has them; of one thread."""
    columns = _columns(rows)
    columns["time"] = columns["time"].astype("datetime64[us]")
    frame = pd.DataFrame(columns)

    order = {key: np.argsort(columns[key], kind="stable") for key in ("customer", "terminal")}

    def rolled(key: str, days: int, column: str, by: str) -> npt.NDArray[np.float64]:
        windows = frame.groupby(key)[["time", column]].rolling(f"{days}D", on="time")[column]
        result = np.empty(len(frame))
        # What is grouped comes group by group, each in the order of the rows.
        result[order[key]] = getattr(windows, by)().to_numpy()
        return result

    def compute() -> Columns:
        found: Columns = {}
        delay_count = rolled("terminal", DELAY_DAYS, "is_fraud", "count")
        delay_frauds = rolled("terminal", DELAY_DAYS, "is_fraud", "sum")
        for days in DAYS:
            count, mean, delayed_count, rate = names(days)
            found[count] = rolled("customer", days, "amount", "count")
            found[mean] = rolled("customer", days, "amount", "mean")
            reach = DELAY_DAYS + days
            number = rolled("terminal", reach, "is_fraud", "count") - delay_count
            frauds = rolled("terminal", reach, "is_fraud", "sum") - delay_frauds
            found[delayed_count] = number
            found[rate] = np.divide(frauds, number, out=np.zeros(len(frame)), where=number > 0)
        return found

    return compute


CONTENDERS: dict[str, Callable[[Rows, int], Compute]] = {
    "fraudstream": fraudstream,
    "polars": polars,
    "duckdb": duckdb_sql,
    "pandas": pandas,
}


def largest_difference(ours: Columns, theirs: Columns) -> float:
    """Return the largest absolute difference over all features and rows.

    Raises
    ------
    ValueError
        If there are other features, or other rows.
    """
    if ours.keys() != theirs.keys():
        raise ValueError(f"expected {sorted(ours)}, got {sorted(theirs)}")
    return max(float(np.max(np.abs(ours[name] - theirs[name]))) for name in ours)


def _columns(rows: Rows) -> dict[str, npt.NDArray[np.generic]]:
    order = np.lexsort((rows.time_us, rows.customer))
    again = np.ones(len(rows), dtype=bool)
    again[1:] = (np.diff(rows.customer[order]) != 0) | (np.diff(rows.time_us[order]) != 0)
    place = np.arange(len(rows))
    within = place - np.maximum.accumulate(np.where(again, place, 0))
    step = np.empty_like(rows.time_us)
    step[order] = rows.time_us[order] + within
    return {
        "place": place,
        "time": rows.time_us,
        "step": step,
        "customer": rows.customer,
        "terminal": rows.terminal,
        "amount": rows.amount,
        "is_fraud": rows.is_fraud,
        "one": np.ones(len(rows)),
    }
