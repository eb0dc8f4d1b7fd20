"""End a long-running command when it is told to, with its work brought to an end."""

from collections.abc import Iterator
from contextlib import contextmanager
import signal
import threading
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stop_requests() -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT (Ctrl-C) or SIGTERM sets while the block runs.

    A second signal acts as it did before the block, so that an end that takes too long can be cut
    short.

    Raises
    ------
    ValueError
        If called outside the main thread, where Python handles no signals.

    Examples
    --------
    >>> with stop_requests() as stop:
    ...     signal.raise_signal(signal.SIGTERM)
    ...     stop.wait(10)
    True
    """
    stop = threading.Event()

    def request(number: int, frame: FrameType | None) -> None:
        restore()
        # This runs in the midst of whatever the main thread does, perhaps with the event's own
        # lock in hand: setting it right here could wait for itself.
        threading.Thread(target=stop.set).start()

    def restore() -> None:
        for each, handler in before.items():
            signal.signal(each, handler)

    before = {each: signal.getsignal(each) for each in _SIGNALS}
    try:
        for each in _SIGNALS:
            signal.signal(each, request)
        yield stop
    finally:
        restore()
