"""What follows from the moments at which results were appended."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
import numpy.typing as npt
from stream.running import Cost

Int64 = npt.NDArray[np.int64]

#: For so long nothing is written, where something is computed.
_PAUSE_MS = 200

PERCENTILES = {"p50": 50.0, "p99": 99.0, "p99.9": 99.9}


@dataclass(frozen=True)
class Load:
    """A backlog.

    Attributes
    ----------
    batch
        How many events a contender may take at once.
    warm_up, measured
        How many batches come before the measurement, and how many are measured.
    """

    batch: int
    warm_up: int
    measured: int

    @property
    def events(self) -> int:
        """How many there are."""
        return self.batch * (self.warm_up + self.measured)

    def scaled(self, share: float) -> "Load":
        """Return a load of as many batches, each smaller."""
        return Load(max(int(self.batch * share), 1), self.warm_up, self.measured)


@dataclass(frozen=True)
class Drained:
    """How fast a backlog was worked off.

    Attributes
    ----------
    rows_s
        Events a second of the wall clock.
    cpu_us
        Microseconds of the processors an event.
    """

    rows_s: float
    cpu_us: float


def drained(load: Load, appended_ms: Int64, cost: Cost, runs_ahead: bool = False) -> Drained:
    """Return how fast what was measured of a backlog was worked off.

    What is written a batch at a time appears all at once, so the measurement begins and ends with
    the end of a batch. Batches of several partitions are not all of quite the same size, and what
    is left over makes a small batch of its own in the end: the moments are those of a result
    shortly before the batch's end.

    Parameters
    ----------
    load
        The backlog.
    appended_ms
        When each result was appended, increasing.
    cost
        Of the contender.
    runs_ahead
        Whether it reads on before what it has read is written. It may have worked on all of the
        backlog by the end of the warm-up; so the measurement begins with the first pause after
        its first results.

    Examples
    --------
    >>> cost = Cost(np.array([0.0, 10.0]), np.array([0.0, 10.0]))
    >>> appended_ms = np.array([1_000] * 100 + [2_000] * 100 + [3_000] * 100)
    >>> drained(Load(100, 1, 2), appended_ms, cost)
    Drained(rows_s=100.0, cpu_us=10000.0)
    """
    first, last = (
        load.batch * batches - 1 - load.batch // 50
        for batches in (load.warm_up, load.warm_up + load.measured)
    )
    if runs_ahead:
        pauses = np.flatnonzero(np.diff(appended_ms) >= _PAUSE_MS)
        first = min([first, *pauses[:1].tolist()])
    count = last - first
    begin_s, end_s = appended_ms[first] / 1e3, appended_ms[last] / 1e3
    # Kafka's clock has milliseconds: what takes less has taken one.
    took_s = max(end_s - begin_s, 1e-3)
    return Drained(float(count / took_s), cost.between(begin_s, end_s) / count * 1e6)


def ratio(ours: Sequence[Drained], theirs: Sequence[Drained]) -> float:
    """Return how many times as fast we are: the median over rounds, in which both took part."""
    return median(a.rows_s / b.rows_s for a, b in zip(ours, theirs, strict=True))


def latency_ms(sent_ms: Mapping[str, int], appended_ms: Mapping[str, int]) -> dict[str, float]:
    """Return percentiles of the time from append to append.

    Parameters
    ----------
    sent_ms, appended_ms
        By transaction, in milliseconds since the epoch. Those that were not sent in the
        measurement are left out.

    Examples
    --------
    >>> latency_ms({"a": 10, "b": 20}, {"b": 40, "a": 20, "earlier": 1})["p50"]
    15.0
    """
    waits = [appended_ms[name] - at for name, at in sent_ms.items()]
    return {name: float(np.percentile(waits, at)) for name, at in PERCENTILES.items()}
