"""Each engine in a process of its own, so that none computes in memory as another has left it."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
import multiprocessing
from time import perf_counter
from time import process_time

from features.rows import Rows
import numpy as np
import numpy.typing as npt

Columns = dict[str, npt.NDArray[np.float64]]


class Engine:
    """One of `features.contenders.CONTENDERS`, prepared and waiting.

    Parameters
    ----------
    name
        Which one.
    rows, threads
        What it computes on, and with how many threads.
    """

    def __init__(self, name: str, rows: Rows, threads: int) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._process = ProcessPoolExecutor(1, spawn, _prepare, (name, rows, threads))

    def turn(self) -> tuple[float, float]:
        """Let it compute, and return the seconds of the clock and of the processor."""
        return self._process.submit(_turn).result()

    def columns(self) -> Columns:
        """Return what it has computed in its first turn."""
        return self._process.submit(_columns).result()

    def close(self) -> None:
        """End its process."""
        self._process.shutdown()


# Of such a process: how to compute, and what came of it first.
_prepared: list[Callable[[], Columns]] = []
_found: list[Columns] = []


def _prepare(name: str, rows: Rows, threads: int) -> None:
    # Here, since Polars reads from the environment how many threads it may use.
    from features import contenders

    _prepared.append(contenders.CONTENDERS[name](rows, threads))


def _turn() -> tuple[float, float]:
    [compute] = _prepared
    begin, begin_cpu = perf_counter(), process_time()
    columns = compute()
    told = perf_counter() - begin, process_time() - begin_cpu
    if not _found:
        _found.append(columns)
    return told


def _columns() -> Columns:
    [first] = _found
    return first
