"""A program that runs beside us: started, awaited, stopped, and never left behind."""

from collections import deque
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from http import HTTPStatus
from http.client import HTTPConnection
import os
from pathlib import Path
import random
import signal
import socket
import subprocess
import time
from types import TracebackType
from typing import Self

#: How long a program may take to end when it is asked to.
STOP_S = 20.0

_READY_S = 120.0
_PROBE_S = 0.1
_TOLD_LINES = 15

# The guard leads the process group of its program. It waits for the end of its standard input,
# whose other end only we hold: when we are gone, however we went, it kills the whole group. A
# parent-death signal would do this for one process, but not for the children that it has started.
_GUARD = ["sh", "-c", 'trap "" HUP INT TERM; read -r _; kill -KILL 0']

_OUR_OWN = ("FRAUDSTREAM_", "PEX", "__PEX", "PYTHONPATH")
# Folders that all programs of this user share.
_SHARED = {"FRAUDSTREAM_CACHE", "PEX_ROOT"}


class ProcessFailed(ValueError):
    """A program ended early, did not get ready in time, or could not be started."""


class Service:
    """What runs for the length of a ``with`` block: started, ready inside it, stopped after it.

    A subclass says how. Each of the three may be called without the others' block too.
    """

    def start(self) -> None:
        """Start, and return at once."""
        raise NotImplementedError

    def wait_ready(self) -> None:
        """Wait until everything can be used; needs nothing where it is so after `start`."""

    def stop(self) -> object:
        """Stop. Doing so twice, or before the start, is harmless."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        with ExitStack() as over:
            # Also after Ctrl-C: nobody else knows yet what has to be stopped.
            over.callback(self.stop)
            self.start()
            self.wait_ready()
            over.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class Process(Service):
    """One program in a process group of its own, with its output in a log file.

    As a context manager it starts the program, waits until it is ready, and stops it. Where
    several programs can start at once, call `start` on each before `wait_ready`.

    Parameters
    ----------
    name
        What to call it in errors.
    command
        The program and its arguments.
    log
        A file that takes its standard output and standard error; it is overwritten.
    environment
        Variables set in addition to those inherited. Not inherited are our own settings
        (``FRAUDSTREAM_*``) and what steers our own imports: both would steer another of our
        programs as well, and what we start is whole without them.
    output
        A file that takes its standard output instead of `log`; overwritten as well.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with Process("sleeper", ["sleep", "60"], Path(folder) / "log") as sleeper:
    ...         sleeper.running
    True
    """

    #: What asks the program to end; a subclass knows better where another signal does.
    stop_signal = signal.SIGTERM

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str] | None = None,
        output: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._command = list(command)
        self._environment = dict(environment or {})
        self._output = output
        self._child: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program and return at once.

        Raises
        ------
        ProcessFailed
            If there is no such program.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as files:
            log = files.enter_context(self.log.open("wb"))
            output = log
            if self._output is not None:
                output = files.enter_context(self._output.open("wb"))
            self._guard = subprocess.Popen(
                _GUARD,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                process_group=0,
            )
            try:
                self._child = subprocess.Popen(
                    self._command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=log,
                    env={**_inherited(), **self._environment},
                    process_group=self._guard.pid,
                )
            except OSError as error:
                self._kill_group()
                raise ProcessFailed(
                    f"{self.name} could not be started: {self._command[0]}: {error.strerror}"
                ) from error

    @property
    def pid(self) -> int:
        """The number of the process of the program, which has been started."""
        if self._child is None:
            raise ProcessFailed(f"{self.name} has not been started")
        return self._child.pid

    @property
    def running(self) -> bool:
        """Whether the program has been started and has not ended."""
        return self._child is not None and self._child.poll() is None

    def is_ready(self) -> bool:
        """Return whether the running program can be used; a subclass knows how to ask it."""
        return True

    def wait_ready(self, timeout_s: float = _READY_S) -> None:
        """Wait until the program is ready.

        Raises
        ------
        ProcessFailed
            If it ends before that, or `timeout_s` pass; the last lines of its log are told.
        """
        deadline = time.monotonic() + timeout_s
        while not self.is_ready():
            code = self.wait(_PROBE_S)
            if code is not None:
                raise ProcessFailed(self.failure(f"ended with exit code {code}"))
            if time.monotonic() > deadline:
                raise ProcessFailed(self.failure(f"was not ready after {timeout_s:.0f} s"))

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Return the exit code, or ``None`` if the program still runs after `timeout_s`."""
        if self._child is None:
            raise ProcessFailed(f"{self.name} has not been started")
        try:
            return self._child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, timeout_s: float = STOP_S) -> int | None:
        """Ask the program to end, kill what is left of its group after `timeout_s`.

        Doing so twice, or before the start, is harmless.

        Returns
        -------
        int or None
            The exit code (negative: the signal that ended it), ``None`` if it was never started.
        """
        if self._child is None:
            return None
        if self.running:
            # Only the program itself is asked: it knows in which order its children have to end.
            self._child.send_signal(self.stop_signal)
            self.wait(timeout_s)
        self._kill_group()
        return self._child.wait()

    def _kill_group(self) -> None:
        if self._guard is None or self._guard.returncode is not None:
            return
        # The guard has not been waited for, so its number still names this group and no other.
        os.killpg(self._guard.pid, signal.SIGKILL)
        self._guard.wait()
        if self._guard.stdin is not None:
            self._guard.stdin.close()

    def failure(self, what: str) -> str:
        """Return a message that says `what` happened, followed by the last lines of the log."""
        return f"{self.name} {what}; the end of its log:\n{last_lines(self.log)}"


def _inherited() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name in _SHARED or not name.startswith(_OUR_OWN)
    }


def last_lines(log: Path, count: int = _TOLD_LINES) -> str:
    """Return the last `count` lines of a log file; an absent or empty file says so."""
    try:
        with log.open(errors="replace") as lines:
            told = "".join(deque(lines, count)).rstrip()
    except FileNotFoundError:
        told = ""
    return told or f"({log.name} is empty)"


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which nothing listens.

    It lies below the range from which systems take the ports of outgoing connections, so that no
    connection made in the meantime, by us or by anyone, can take it away.

    Examples
    --------
    >>> 20_000 <= free_port() < 32_000
    True
    """
    for port in random.sample(range(20_000, 32_000), 200):
        with socket.socket() as candidate:
            try:
                candidate.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ProcessFailed("no free TCP port was found between 20000 and 32000 on 127.0.0.1")


def listens(port: int) -> bool:
    """Return whether something listens on a TCP port of 127.0.0.1."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def answers(port: int, path: str) -> bool:
    """Return whether a web server on 127.0.0.1 answers a GET of `path` with 200."""
    connection = HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == HTTPStatus.OK
    except OSError:
        return False
    finally:
        connection.close()


def run_to_end(
    what: str,
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run a program until it ends by itself.

    Parameters
    ----------
    what
        What it does, for the error.
    command, log, environment
        As `Process` takes them.

    Raises
    ------
    ProcessFailed
        If it could not be started, or its exit code is not 0; the end of its log is told.
    """
    process = Process(what, command, log, environment)
    process.start()
    try:
        code = process.wait()
        if code != 0:
            raise ProcessFailed(process.failure(f"failed with exit code {code}"))
    finally:
        process.stop()
