"""Waiting for what other processes bring about."""

from collections.abc import Callable
import threading
import time


def await_that(condition: Callable[[], object], within_s: float = 30.0) -> None:
    """Return as soon as `condition` holds; fail if it does not in time."""
    deadline = time.monotonic() + within_s
    between = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"not so after {within_s:g} s"
        between.wait(0.01)
