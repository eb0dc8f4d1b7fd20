"""Simulated traffic: a simulation's transactions and labels in the order in which they arrive."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from fraudstream.producer.agenda import Agenda
from fraudstream.producer.agenda import Due
from fraudstream.producer.agenda import Kind
from fraudstream.schema.timestamps import duration_us
from fraudstream.simulator.events import Pattern
from fraudstream.simulator.labels import LABEL_DELAY
from fraudstream.simulator.stream import Batch
from fraudstream.simulator.stream import Simulation

_DAY_US = duration_us(timedelta(days=1))
# Everything of a day has been sent this many days later: its last label is.
_DAYS_BACK = -(-duration_us(LABEL_DELAY) // _DAY_US)
# Keeps our random numbers apart from those of the simulator, which start from the same seed.
_STREAM = 0xD187

#: How long a late transaction is held back, and how long after a transaction its repeat follows.
HELD_BACK = (timedelta(minutes=5), timedelta(hours=6))
REPEATED_AFTER = (timedelta(seconds=1), timedelta(minutes=10))


@dataclass(frozen=True)
class Dirt:
    """The shares of transactions, each from 0 to 1, with which something goes wrong on the way.

    Attributes
    ----------
    repeated
        Sent a second time, moments later.
    late
        Held back for minutes to hours.
    garbled
        Followed by a copy that breaks the schema, which ends among the dead letters.
    """

    repeated: float = 0.0
    late: float = 0.0
    garbled: float = 0.0

    def __post_init__(self) -> None:
        for name in ("repeated", "late", "garbled"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a share from 0 to 1, got {getattr(self, name)}")


#: Nothing goes wrong.
CLEAN = Dirt()


class Traffic:
    """What is sent on each day of a simulation: all that falls due on it, whenever it was made.

    A day depends on the simulation and on `dirt` alone. So what follows a history of some days is
    the same whether one process sends both or another goes on where the first has ended: labels
    and late transactions that were still to come are sent by whoever sends the day on which they
    are due.

    Parameters
    ----------
    simulation
        Makes the transactions.
    dirt
        What goes wrong.

    Examples
    --------
    >>> from datetime import UTC, datetime
    >>> from fraudstream.simulator.world import WorldSpec
    >>> start = datetime(2026, 1, 1, tzinfo=UTC)
    >>> traffic = Traffic(Simulation(WorldSpec(cards=50), start))
    >>> agenda = traffic.day(0)
    >>> made_us = traffic.simulation.day(0).event_time_us
    >>> bool(np.array_equal(agenda.due_us[agenda.is_event], made_us))
    True
    """

    def __init__(self, simulation: Simulation, dirt: Dirt = CLEAN) -> None:
        self.simulation = simulation
        self.dirt = dirt
        # Each day is needed again on the days after it, until its labels have been sent.
        self._due_of = lru_cache(maxsize=_DAYS_BACK + 1)(self._draw)

    def days(self, first: int = 0) -> Iterator[Agenda]:
        """Yield what is sent on each day from `first` on, without end."""
        return map(self.day, itertools.count(first))

    def day(self, day: int) -> Agenda:
        """Return what is sent on one day, counted from the start of the simulation."""
        begin_us = self.simulation.start_us + day * _DAY_US
        batches: list[Batch] = []
        entries: dict[Kind, list[Due]] = {}
        offset = 0
        for made in range(max(0, day - _DAYS_BACK), day + 1):
            batch, due_of = self._due_of(made)
            for kind, (due_us, rows) in due_of.items():
                today = (due_us >= begin_us) & (due_us < begin_us + _DAY_US)
                entries.setdefault(kind, []).append((due_us[today], rows[today] + offset))
            batches.append(batch)
            offset += len(batch)
        return Agenda.of(
            Days(batches),
            {
                kind: (
                    np.concatenate([due for due, _ in parts]),
                    np.concatenate([r for _, r in parts]),
                )
                for kind, parts in entries.items()
            },
        )

    def _draw(self, day: int) -> tuple[Batch, dict[Kind, Due]]:
        batch = self.simulation.day(day)
        size = len(batch)
        rows = np.arange(size)
        random = np.random.default_rng([self.simulation.spec.seed, day, _STREAM])
        # All are drawn in any case, so that one share does not change what another hits.
        late, repeated, garbled = random.random((3, size)) < np.array(
            [[self.dirt.late], [self.dirt.repeated], [self.dirt.garbled]]
        )
        held_us = random.integers(duration_us(HELD_BACK[0]), duration_us(HELD_BACK[1]), size)
        after_us = random.integers(
            duration_us(REPEATED_AFTER[0]), duration_us(REPEATED_AFTER[1]), size
        )
        sent_us = batch.event_time_us + np.where(late, held_us, 0)
        return batch, {
            Kind.TRANSACTION: (sent_us, rows),
            Kind.GARBLED: (sent_us[garbled], rows[garbled]),
            Kind.REPEAT: ((sent_us + after_us)[repeated], rows[repeated]),
            Kind.LABEL: (batch.labelled_at_us, rows),
        }


class Days:
    """The transactions of several days as one `Source`; rows are counted through.

    Parameters
    ----------
    batches
        The days, in order.
    """

    def __init__(self, batches: list[Batch]) -> None:
        self._batches = batches
        self._starts = np.cumsum([0, *map(len, batches)])

    def transactions(self, rows: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        """Return the transactions of `rows`, in their order."""
        return self._take(rows).transactions()

    def labels(self, rows: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        """Return the labels of `rows`, in their order."""
        return self._take(rows).labels()

    def truth(self, rows: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        """Return of each row its id, whether it is a fraud, and the fraud's pattern or ``None``."""
        batch = self._take(rows)
        return [
            {
                "transaction_id": transaction_id,
                "is_fraud": is_fraud,
                "pattern": _PATTERNS[pattern],
            }
            for transaction_id, is_fraud, pattern in zip(
                batch.names.transactions(batch.transaction_number),
                batch.is_fraud.tolist(),
                batch.pattern.tolist(),
                strict=True,
            )
        ]

    def _take(self, rows: npt.NDArray[np.int64]) -> Batch:
        day = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(day, kind="stable")
        places = np.argsort(order, kind="stable")
        taken = [
            batch.take(rows[day == number] - self._starts[number])
            for number, batch in enumerate(self._batches)
        ]
        columns = [part.columns() for part in taken]
        merged = {
            name: np.concatenate([each[name] for each in columns])[places] for name in columns[0]
        }
        return Batch(**merged, names=self._batches[0].names)


_PATTERNS = {
    int(pattern): None if pattern is Pattern.NONE else pattern.name.lower() for pattern in Pattern
}
