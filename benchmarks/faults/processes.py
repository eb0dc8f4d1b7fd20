"""Processes of this machine, as ``/proc`` shows them: who is whose child, and who is gone."""

from collections.abc import Iterator
from dataclasses import dataclass
import os
from pathlib import Path
import signal

_STATE, _PARENT, _STARTED = 0, 1, 19


@dataclass(frozen=True)
class Running:
    """A process that was seen; its number alone may be another's by now.

    Attributes
    ----------
    pid, started
        Its number, and when it began, in ticks since the machine did.
    parent
        The number of who had started it.
    name, arguments
        As ``/proc`` has them.
    """

    pid: int
    started: int
    parent: int
    name: str
    arguments: str

    @property
    def state(self) -> str | None:
        """What it does, such as ``"S"`` or ``"T"`` (stopped); ``None`` if it is gone.

        One that has ended, and that nobody has asked for its exit code yet, is gone.
        """
        found = _stat(self.pid)
        if found is None or int(found[1][_STARTED]) != self.started or found[1][_STATE] in "ZX":
            return None
        return found[1][_STATE]

    @property
    def is_gone(self) -> bool:
        """Whether it has ended."""
        return self.state is None

    def send(self, number: signal.Signals) -> None:
        """Send it a signal, if it is still there."""
        if not self.is_gone:
            os.kill(self.pid, number)


def process(pid: int) -> Running | None:
    """Return the process of a number, or ``None`` if there is none.

    Examples
    --------
    >>> process(os.getpid()).is_gone
    False
    """
    found = _stat(pid)
    if found is None:
        return None
    name, fields = found
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return None
    return Running(pid, int(fields[_STARTED]), int(fields[_PARENT]), name, arguments)


def descendants(pid: int) -> list[Running]:
    """Return all processes that a process has started, and those that these have started."""
    children: dict[int, list[Running]] = {}
    for each in _everyone():
        children.setdefault(each.parent, []).append(each)
    found, waiting = [], [pid]
    while waiting:
        own = children.get(waiting.pop(), [])
        found += own
        waiting += [each.pid for each in own]
    return found


def _everyone() -> Iterator[Running]:
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            found = process(int(folder.name))
            if found is not None and not found.is_gone:
                yield found


def _stat(pid: int) -> tuple[str, list[str]] | None:
    try:
        told = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name is in brackets, and may hold any character.
    head, _, tail = told.rpartition(")")
    return head.partition("(")[2], tail.split()
