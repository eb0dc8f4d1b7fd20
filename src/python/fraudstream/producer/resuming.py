"""Live traffic that can be stopped and started: it goes on where it has stopped."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
import time

import numpy as np
import numpy.typing as npt

from fraudstream.producer.agenda import Agenda
from fraudstream.producer.agenda import Pace
from fraudstream.schema.timestamps import from_us
from fraudstream.schema.timestamps import to_us

_EVERY_S = 1.0


class BadPosition(ValueError):
    """A file that should say how far the traffic has come says something else."""


class Position:
    """How far the traffic has come, in a file.

    Entries that were taken and never reached Kafka, because the process was killed, are not sent
    again. Nobody misses them: they were never in a topic.

    Parameters
    ----------
    file
        Holds the time at which the last entry was due, RFC 3339; absent before the first one.
    clock
        Seconds that only increase.

    Attributes
    ----------
    reached_us
        That time, in microseconds since the epoch; ``None`` where nothing has been sent.

    Raises
    ------
    BadPosition
        If the file holds anything else.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     position = Position(Path(folder) / "position")
    ...     print(position.reached_us)
    ...     position.note(60_000_000)
    ...     print(Position(Path(folder) / "position").reached_us)
    None
    60000000
    """

    def __init__(self, file: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._file = file
        self._clock = clock
        self._next_s = clock()
        self.reached_us: int | None = None
        if file.exists():
            text = file.read_text(encoding="utf-8", errors="replace").strip()
            try:
                self.reached_us = to_us(datetime.fromisoformat(text))
            except ValueError as error:
                raise BadPosition(
                    f"{file}: expected a time such as 2026-01-31T12:00:00Z, got {text[:40]!r}: "
                    "name another file, or remove it to begin from --start"
                ) from error

    def note(self, us: int) -> None:
        """Note that entries due at `us` and before are sent; at most once a second on disk."""
        self.reached_us = us
        if self._clock() >= self._next_s:
            self.keep()
            self._next_s = self._clock() + _EVERY_S

    def keep(self) -> None:
        """Write what was noted last."""
        if self.reached_us is not None:
            scratch = self._file.with_suffix(".new")
            scratch.write_text(f"{from_us(self.reached_us).isoformat()}\n")
            scratch.replace(self._file)


def after(agendas: Iterable[Agenda], us: int | None) -> Iterator[Agenda]:
    """Yield of agendas, which are in order, what is due after `us`; ``None`` is before all.

    Examples
    --------
    >>> from fraudstream.producer.agenda import Kind
    >>> day = Agenda.of(None, {Kind.TRANSACTION: (np.arange(3), np.arange(3))})
    >>> [part.due_us.tolist() for part in after([day], 1)]
    [[2]]
    """
    for agenda in agendas:
        start = 0 if us is None else int(np.searchsorted(agenda.due_us, us, side="right"))
        yield agenda.part(start, len(agenda))


class HistoryFirst:
    """Another pace from a moment of event time on; what is due before that is sent at once.

    Parameters
    ----------
    pace
        The pace to follow then.
    until_us
        The end of the history, microseconds since the epoch.

    Examples
    --------
    >>> from fraudstream.producer.agenda import ConstantRate, Kind
    >>> part = Agenda.of(None, {Kind.TRANSACTION: (np.array([0, 60, 61]), np.arange(3))})
    >>> HistoryFirst(ConstantRate(10), until_us=60).due_s(part).tolist()
    [0.0, 0.0, 0.1]
    """

    def __init__(self, pace: Pace, until_us: int) -> None:
        self._pace = pace
        self._until_us = until_us

    def due_s(self, part: Agenda) -> npt.NDArray[np.float64]:
        """Return zeros for the history, and the times of the pace for what follows."""
        history = int(np.searchsorted(part.due_us, self._until_us, side="left"))
        rest = self._pace.due_s(part.part(history, len(part)))
        return np.concatenate([np.zeros(history), rest])
