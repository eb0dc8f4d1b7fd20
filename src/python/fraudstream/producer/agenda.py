"""What to send, in which order, and when."""

from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fraudstream.producer.dirt import garble

_Rows = npt.NDArray[np.int64]
#: When entries are due, microseconds since the epoch, and their rows.
Due = tuple[npt.NDArray[np.int64], _Rows]
_SECOND_US = 1_000_000


class Kind(IntEnum):
    """What an entry of an agenda sends.

    A repeat is a transaction once more; a garbled one is a copy of it that breaks the schema.
    """

    TRANSACTION = 0
    LABEL = 1
    REPEAT = 2
    GARBLED = 3


class Source(Protocol):
    """Renders rows of transactions and of their labels as documents."""

    def transactions(self, rows: _Rows) -> list[dict[str, Any]]:
        """Return the transactions of `rows`, in their order."""

    def labels(self, rows: _Rows) -> list[dict[str, Any]]:
        """Return the labels of `rows`, in their order."""


@dataclass(frozen=True)
class Agenda:
    """Entries in the order in which they are due.

    Attributes
    ----------
    source
        Renders the entries.
    kind
        ``int8``, a `Kind` an entry.
    due_us
        ``int64``, not decreasing: when to send, in event time, microseconds since the epoch.
    row
        ``int64``, the row of `source` that an entry sends.

    Examples
    --------
    >>> agenda = Agenda.of(None, {Kind.TRANSACTION: (np.array([3, 1]), np.array([0, 1])),
    ...                           Kind.LABEL: (np.array([3]), np.array([1]))})
    >>> agenda.due_us.tolist(), agenda.kind.tolist(), agenda.row.tolist()
    ([1, 3, 3], [0, 0, 1], [1, 0, 1])
    """

    source: Source
    kind: npt.NDArray[np.int8]
    due_us: npt.NDArray[np.int64]
    row: _Rows

    @classmethod
    def of(cls, source: Source, entries: dict[Kind, Due]) -> "Agenda":
        """Return the entries of all kinds in order; those due at once in the order of `entries`.

        Parameters
        ----------
        source
            Renders them.
        entries
            For each kind, when its entries are due and their rows.
        """
        due_us = np.concatenate([due for due, _ in entries.values()])
        order = np.argsort(due_us, kind="stable")
        kind = np.concatenate(
            [np.full(len(due), kind, dtype=np.int8) for kind, (due, _) in entries.items()]
        )
        row = np.concatenate([rows for _, rows in entries.values()])
        return cls(source, kind[order], due_us[order], row[order])

    def __len__(self) -> int:
        return len(self.due_us)

    def part(self, start: int, stop: int) -> "Agenda":
        """Return the entries from `start` up to but without `stop`."""
        return Agenda(
            self.source, self.kind[start:stop], self.due_us[start:stop], self.row[start:stop]
        )

    def parts(self, size: int) -> Iterator["Agenda"]:
        """Yield the entries in parts of at most `size`."""
        for start in range(0, len(self), size):
            yield self.part(start, start + size)

    @property
    def is_label(self) -> npt.NDArray[np.bool_]:
        """Which entries go to the topic of labels."""
        return self.kind == Kind.LABEL

    @property
    def is_event(self) -> npt.NDArray[np.bool_]:
        """Which entries go to the topic of transactions: what a rate counts."""
        return (self.kind == Kind.TRANSACTION) | (self.kind == Kind.REPEAT)

    def documents(self) -> list[dict[str, Any]]:
        """Return the documents of all entries, in their order."""
        labels = iter(self.source.labels(self.row[self.is_label]))
        transactions = iter(self.source.transactions(self.row[~self.is_label]))
        documents = [next(labels if label else transactions) for label in self.is_label.tolist()]
        for place in np.flatnonzero(self.kind == Kind.GARBLED).tolist():
            documents[place] = garble(documents[place], int(self.row[place]))
        return documents


def first_events(agendas: Iterable[Agenda], count: int) -> Iterator[Agenda]:
    """Yield agendas up to the `count`-th event, and no further.

    Examples
    --------
    >>> day = Agenda.of(None, {Kind.TRANSACTION: (np.arange(3), np.arange(3))})
    >>> [len(part) for part in first_events([day, day, day], 4)]
    [3, 1]
    """
    left = count
    for agenda in agendas:
        events = np.flatnonzero(agenda.is_event)
        if len(events) >= left:
            yield agenda.part(0, int(events[left - 1]) + 1)
            return
        left -= len(events)
        yield agenda


class Pace(Protocol):
    """Says when entries are to be sent; asked once for each part of a run, in order."""

    def due_s(self, part: Agenda) -> npt.NDArray[np.float64]:
        """Return when to send each entry, in seconds from the beginning; not decreasing."""


class FullSpeed:
    """As fast as the brokers take them."""

    def due_s(self, part: Agenda) -> npt.NDArray[np.float64]:
        """Return zeros: everything is due at once."""
        return np.zeros(len(part))


class ConstantRate:
    """So many events per second of the wall clock; a label goes just before the event after it.

    Parameters
    ----------
    rate
        Events per second.

    Examples
    --------
    >>> part = Agenda.of(None, {Kind.TRANSACTION: (np.array([0, 60, 61]), np.arange(3)),
    ...                         Kind.LABEL: (np.array([30]), np.array([0]))})
    >>> ConstantRate(10).due_s(part).tolist()
    [0.0, 0.1, 0.1, 0.2]
    """

    def __init__(self, rate: float) -> None:
        self._rate = rate
        self._before = 0

    def due_s(self, part: Agenda) -> npt.NDArray[np.float64]:
        """Return the times of evenly spaced events."""
        event = part.is_event
        number = self._before + np.cumsum(event) - event
        self._before += int(event.sum())
        return number / self._rate


class Scaled:
    """As the events happened, `speed` times as fast.

    Parameters
    ----------
    speed
        Seconds of event time per second of the wall clock.

    Examples
    --------
    >>> part = Agenda.of(None, {Kind.TRANSACTION: (np.array([0, 60_000_000]), np.arange(2))})
    >>> Scaled(60).due_s(part).tolist()
    [0.0, 1.0]
    """

    def __init__(self, speed: float) -> None:
        self._speed = speed
        self._first_us: int | None = None

    def due_s(self, part: Agenda) -> npt.NDArray[np.float64]:
        """Return the times since the first entry, scaled."""
        if self._first_us is None and len(part):
            self._first_us = int(part.due_us[0])
        return (part.due_us - (self._first_us or 0)) / (_SECOND_US * self._speed)


class NeverAhead:
    """Another pace, slowed down where event time would run ahead of the wall clock.

    Parameters
    ----------
    pace
        The pace to follow.
    began_us
        The wall clock when the run began, microseconds since the epoch.

    Examples
    --------
    >>> part = Agenda.of(None, {Kind.TRANSACTION: (np.array([0, 60_000_000]), np.arange(2))})
    >>> NeverAhead(FullSpeed(), began_us=50_000_000).due_s(part).tolist()
    [0.0, 10.0]
    """

    def __init__(self, pace: Pace, began_us: int) -> None:
        self._pace = pace
        self._began_us = began_us
        self._slowed_from_us: int | None = None

    def due_s(self, part: Agenda) -> npt.NDArray[np.float64]:
        """Return the times of the pace, none before its event time has come."""
        wanted = self._pace.due_s(part)
        possible = (part.due_us - self._began_us) / _SECOND_US
        slowed = part.due_us[possible > wanted]
        if self._slowed_from_us is None and len(slowed):
            self._slowed_from_us = int(slowed[0])
        return np.maximum(wanted, possible)

    def has_slowed(self, until_us: int) -> bool:
        """Return whether an entry due at `until_us` or before had to be slowed down."""
        return self._slowed_from_us is not None and self._slowed_from_us <= until_us
