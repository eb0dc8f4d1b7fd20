"""Run a contender as a process, and note what it appends and what it costs."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
import os
from pathlib import Path
import signal
import threading
import time

import numpy as np
import numpy.typing as npt
from stream.plan import Plan

from fraudstream.kafka.reading import read
from fraudstream.kafka.reading import spans
from fraudstream.stack.process import Process

Int64 = npt.NDArray[np.int64]

_SAMPLE_S = 0.2
_PROBE_S = 1.0
_TICKS = os.sysconf("SC_CLK_TCK")


class TooSlow(ValueError):
    """A contender ended, or did not do its work in time."""


@dataclass(frozen=True)
class Cost:
    """What a tree of processes had used of the processors, by the wall clock.

    Attributes
    ----------
    at_s
        Seconds since the epoch, increasing.
    used_s
        Seconds of the processors until then.
    """

    at_s: npt.NDArray[np.float64]
    used_s: npt.NDArray[np.float64]

    def between(self, begin_s: float, end_s: float) -> float:
        """Return what was used between two moments.

        Examples
        --------
        >>> Cost(np.array([0.0, 2.0]), np.array([0.0, 4.0])).between(0.5, 1.0)
        1.0
        """
        begin, end = np.interp([begin_s, end_s], self.at_s, self.used_s)
        return float(end - begin)


class Program(Process):
    """A contender's program; it is killed, not asked."""

    stop_signal = signal.SIGKILL

    @property
    def pid(self) -> int:
        """The number of its process."""
        return 0 if self._child is None else self._child.pid


class Contender:
    """A contender that runs; `started` starts one."""

    def __init__(self, process: Program, plan: Plan) -> None:
        self._process = process
        self._plan = plan
        self._samples: list[tuple[float, float]] = []
        self._over = threading.Event()
        self._watcher = threading.Thread(target=self._watch)
        self._watcher.start()

    def appended(self, count: int, within_s: float) -> Int64:
        """Wait until so many results are there, and return when each was appended.

        Returns
        -------
        int64
            Milliseconds since the epoch, of all results, increasing.

        Raises
        ------
        TooSlow
            If it ends before, or takes longer than `within_s`.
        """
        deadline = time.monotonic() + within_s
        cluster, topic = self._plan.cluster, self._plan.destination
        while True:
            if self._process.wait(_PROBE_S) is not None:
                raise TooSlow(self._process.failure("ended"))
            # Ends of transactions are counted here, and are no results: hence the second look.
            within = spans(cluster, topic)
            if sum(span.high - span.low for span in within) >= count:
                parts = read(cluster, topic, within)
                found = np.sort(np.concatenate([_NONE, *(part.appended_ms for part in parts)]))
                if len(found) >= count:
                    return found
            if time.monotonic() > deadline:
                raise TooSlow(
                    self._process.failure(f"had not {count:,} results in {within_s:.0f} s")
                )

    def cost(self) -> Cost:
        """Return what it has used until now."""
        at_s, used_s = np.array(self._samples).T
        return Cost(at_s, used_s)

    def stop(self) -> None:
        """Look no longer."""
        self._over.set()
        self._watcher.join()

    def _watch(self) -> None:
        while not self._over.wait(_SAMPLE_S):
            self._samples.append((time.time(), processor_s(self._process.pid)))


_NONE = np.zeros(0, dtype=np.int64)


@contextmanager
def started(
    name: str, command: list[str], environment: dict[str, str], plan: Plan
) -> Iterator[Contender]:
    """Start a contender's program, and kill it with all that it has started after the block."""
    with Program(name, command, Path(plan.folder) / "log", environment) as process:
        contender = Contender(process, plan)
        try:
            yield contender
        finally:
            contender.stop()


def processor_s(pid: int) -> float:
    """Return the seconds of the processors that a process and all below it have used.

    What a process has waited for that has ended is counted with it.
    """
    parents: dict[int, list[int]] = {}
    used: dict[int, float] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:
            # It has ended meanwhile.
            continue
        # The name of the program may hold anything, blanks and brackets too.
        fields = text[text.rindex(")") + 2 :].split()
        number = int(stat.parent.name)
        parents.setdefault(int(fields[1]), []).append(number)
        used[number] = sum(map(int, fields[11:15])) / _TICKS
    below = [pid]
    for each in below:
        below += parents.get(each, [])
    return sum(used.get(each, 0.0) for each in below)
