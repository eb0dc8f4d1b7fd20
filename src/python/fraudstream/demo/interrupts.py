"""Ctrl-C and SIGTERM where they are welcome, and nowhere else."""

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
import signal
import time
from types import FrameType
from types import TracebackType
from typing import Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# One Ctrl-C can reach us twice: from the terminal, and from the program that started us.
_SAME_S = 1.0


class Interrupts:
    """While entered, SIGINT and SIGTERM interrupt a `welcome` block and are told in a `noted` one.

    Elsewhere they are ignored, so that nothing interrupts the stopping of what was started. They
    stay ignored afterwards: the program is about to end, and ends with the exit code that it chose.

    Raises
    ------
    ValueError
        If entered outside the main thread, where Python handles no signals.

    Examples
    --------
    >>> before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    >>> with Interrupts() as interrupts:
    ...     signal.raise_signal(signal.SIGINT)   # Not welcome.
    ...     try:
    ...         with interrupts.welcome():
    ...             signal.raise_signal(signal.SIGINT)
    ...     except KeyboardInterrupt:
    ...         print("interrupted")
    interrupted
    >>> _ = signal.signal(signal.SIGINT, before[0]), signal.signal(signal.SIGTERM, before[1])
    """

    def __init__(self) -> None:
        self._interrupt: Callable[[], None] | None = None
        self._last = float("-inf")

    @contextmanager
    def welcome(self) -> Iterator[None]:
        """Let the first signal raise ``KeyboardInterrupt`` in the block.

        A signal that comes within a second of one that counted is taken for its echo.
        """
        with self._while_entered(_raise):
            yield

    @contextmanager
    def noted(self) -> Iterator[Callable[[], bool]]:
        """Yield a function that tells whether a signal has come; nothing is raised in the block.

        It is for work that must not be torn apart.
        """
        came: list[bool] = []
        with self._while_entered(lambda: came.append(True)):
            yield lambda: bool(came)

    @contextmanager
    def _while_entered(self, interrupt: Callable[[], None]) -> Iterator[None]:
        self._interrupt = interrupt
        try:
            yield
        finally:
            self._interrupt = None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if self._interrupt is None or now - self._last < _SAME_S:
            return
        self._last = now
        interrupt, self._interrupt = self._interrupt, None
        interrupt()

    def __enter__(self) -> Self:
        for each in _SIGNALS:
            signal.signal(each, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)


def _raise() -> None:
    raise KeyboardInterrupt
