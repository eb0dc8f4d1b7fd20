"""What came of a shard of a batch: counted on a worker, where it is made, for the driver to add up.

The counts travel with the row that says that the shard is written, so that they are exact: what
Spark repeats is told once.
"""

from collections import Counter
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
import re
import time
from typing import Any

import numpy as np
import pyarrow as pa

from fraudstream.features.history import Float64
from fraudstream.features.history import Int64

#: What comes of a batch, one row a shard that had anything to write.
WRITTEN = pa.schema(
    [
        ("shard", pa.int32()),
        ("rows", pa.int64()),
        ("was_there", pa.bool_()),
        ("scores", pa.int64()),
        ("alerts", pa.int64()),
        # Of the challenger.
        ("shadow_scores", pa.int64()),
        ("shadow_alerts", pa.int64()),
        # How many by `reason_class`.
        ("dead_letters", pa.map_(pa.string(), pa.int64())),
        # How many scores by `LATENCY_BOUNDS_S`, the last one beyond them all; and their sum.
        ("latencies", pa.list_(pa.int64())),
        ("latency_sum_s", pa.float64()),
        # Features of some of the transactions: see `rows_of`.
        ("recent", pa.binary()),
    ]
)

#: Upper bounds, in seconds, of the classes by which latencies are counted.
LATENCY_BOUNDS_S = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 300.0)

#: How many rows of features a shard sends back, at most: Spark collects them with each batch.
_MOST_RECENT = 64

# How `fraudstream.schema` words its reasons. The first that is found counts.
_REASONS = {
    "card_number": re.compile(r"expected no card number"),
    "not_json": re.compile(r"expected a JSON document"),
    "future_time": re.compile(r"after the append time"),
    "missing_field": re.compile(r"is a required property"),
    "unknown_field": re.compile(r"dditional propert"),
    "invalid_value": re.compile(r"\w+: "),
}


@dataclass
class Tally:
    """Counts of what goes out.

    Attributes
    ----------
    scores, alerts, shadow_scores, shadow_alerts
        How many there are, of the champion and of the challenger.
    dead_letters
        How many by `reason_class`.
    appended_ms
        When the scored transactions were appended to their topic; milliseconds since the epoch.
    recent
        Features of some transactions, shape (n, features).
    """

    scores: int = 0
    alerts: int = 0
    shadow_scores: int = 0
    shadow_alerts: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    appended_ms: list[Int64] = field(default_factory=list)
    recent: Float64 = field(default_factory=lambda: np.zeros((0, 0)))

    def add(self, other: "Tally") -> None:
        """Add the counts of another part of the shard."""
        self.scores += other.scores
        self.alerts += other.alerts
        self.shadow_scores += other.shadow_scores
        self.shadow_alerts += other.shadow_alerts
        self.dead_letters += other.dead_letters
        self.appended_ms += other.appended_ms
        if len(other.recent):
            both = [self.recent, other.recent] if len(self.recent) else [other.recent]
            self.recent = sample(np.concatenate(both))

    def written(self, shard: int, rows: int, was_there: bool, at_ms: float) -> pa.RecordBatch:
        """Return the row of `WRITTEN` that tells the driver.

        Parameters
        ----------
        shard, rows, was_there
            Which shard, how many records it has, and whether they were written before: then no
            latency is told.
        at_ms
            When they were committed; milliseconds since the epoch.
        """
        # When an earlier try was committed is not known.
        since_ms = [] if was_there else self.appended_ms
        latency_s = (at_ms - np.concatenate([np.zeros(0), *since_ms])) / 1000
        told = {
            "shard": shard,
            "rows": rows,
            "was_there": was_there,
            "scores": self.scores,
            "alerts": self.alerts,
            "shadow_scores": self.shadow_scores,
            "shadow_alerts": self.shadow_alerts,
            "dead_letters": list(self.dead_letters.items()),
            "latencies": classes_of(latency_s),
            "latency_sum_s": float(latency_s.sum()),
            "recent": self.recent.astype(np.float64).tobytes(),
        }
        return pa.RecordBatch.from_pylist([told], schema=WRITTEN)


def sample(rows: Float64) -> Float64:
    """Return some of the rows, from all over them.

    Examples
    --------
    >>> sample(np.arange(1000.0).reshape(500, 2)).shape
    (64, 2)
    """
    if len(rows) <= _MOST_RECENT:
        return rows
    return rows[np.linspace(0, len(rows) - 1, _MOST_RECENT).astype(np.int64)]


def rows_of(written: Iterable[Mapping[str, Any]], width: int) -> Float64:
    """Return the rows of features that shards have sent back, shape (n, width).

    Examples
    --------
    >>> row = Tally(recent=np.array([[1.0, 2.0]])).written(0, 1, False, 0.0).to_pylist()[0]
    >>> rows_of([row, row], width=2).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    packed = b"".join(row["recent"] for row in written)
    return np.frombuffer(packed, dtype=np.float64).reshape(-1, width)


def classes_of(latency_s: Float64) -> list[int]:
    """Count latencies by `LATENCY_BOUNDS_S`; what lies on a bound is within it.

    Examples
    --------
    >>> classes_of(np.array([0.05, 0.1, 0.2, 1000.0]))
    [2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
    """
    places = np.searchsorted(LATENCY_BOUNDS_S, latency_s)
    counts: list[int] = np.bincount(places, minlength=len(LATENCY_BOUNDS_S) + 1).tolist()
    return counts


def reason_class(reason: str) -> str:
    """Return which of a few kinds a dead letter's reason is of; it holds nothing of the record.

    Examples
    --------
    >>> reason_class("amount: -1 is less than the minimum of 0")
    'invalid_value'
    >>> reason_class("something new")
    'other'
    """
    return next((name for name, how in _REASONS.items() if how.search(reason)), "other")


class Stopwatch:
    """Tells on what a task has spent its time.

    Examples
    --------
    >>> watch = Stopwatch()
    >>> watch.lap("reading")
    >>> list(watch.seconds)
    ['reading']
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Book the time since the last lap on a stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now


def added(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    """Return the sums of two lots of seconds by stage.

    Examples
    --------
    >>> added({"reading": 1.0}, {"reading": 0.5, "scoring": 2.0})
    {'reading': 1.5, 'scoring': 2.0}
    """
    return {name: one.get(name, 0.0) + other.get(name, 0.0) for name in [*one, *other]}
