"""The processes of an app that runs: Spark's own, and the Python workers that it starts."""

from collections.abc import Iterator
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import os
from pathlib import Path
import signal

_DAEMON = "pyspark.daemon"


@dataclass(frozen=True)
class Running:
    """A process, its parent, and its command line."""

    number: int
    parent: int
    command: str


def java_of(checkpoint: Path) -> int:
    """Return the process in which Spark runs for the app with a checkpoint."""
    [java] = [each.number for each in _below_app(checkpoint) if _is_java(each)]
    return java


def workers_of(checkpoint: Path) -> set[int]:
    """Return the Python workers of the app with a checkpoint; they are forked from one process."""
    forked = [each for each in _below_app(checkpoint) if _DAEMON in each.command]
    first = {each.number for each in forked}
    return {each.number for each in forked if each.parent in first}


@contextmanager
def frozen(processes: Sequence[int]) -> Iterator[None]:
    """Have processes stand still."""
    for each in processes:
        os.kill(each, signal.SIGSTOP)
    try:
        yield
    finally:
        for each in processes:
            os.kill(each, signal.SIGCONT)


def _is_java(process: Running) -> bool:
    return Path(process.command.split("\0")[0]).name == "java"


def _below_app(checkpoint: Path) -> list[Running]:
    running = list(_running())
    found = {each.number for each in running if str(checkpoint) in each.command}
    while True:
        more = [each for each in running if each.parent in found and each.number not in found]
        if not more:
            return [each for each in running if each.number in found]
        found |= {each.number for each in more}


def _running() -> list[Running]:
    seen = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_text()
            # The program's name, in brackets, may hold anything.
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            # It has ended since it was listed.
            continue
        seen.append(Running(int(folder.name), parent, command))
    return seen
