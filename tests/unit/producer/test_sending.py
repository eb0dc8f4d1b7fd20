"""The loop sends what is due when it is due, and stops when told to."""

import threading
from typing import Any

import pytest

from fraudstream.producer.agenda import ConstantRate
from fraudstream.producer.agenda import FullSpeed
from fraudstream.producer.sending import PART
from fraudstream.producer.sending import send
from unit.producer.recorders import RecordingSink
from unit.producer.recorders import agenda


class SimulatedWait(threading.Event):
    """An event on which waiting takes no time, but moves the clock that goes with it."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        assert timeout > 0
        self.now += timeout
        return self.is_set()


def amounts(sink: RecordingSink) -> list[Any]:
    return [document["amount"] for document in sink.taken]


def test_everything_is_sent_in_order_over_days_and_parts() -> None:
    sink = RecordingSink()
    days = [agenda(transaction=range(PART + 5)), agenda(transaction=range(3))]
    send(days, FullSpeed(), sink, threading.Event())
    assert amounts(sink) == [*range(PART + 5), *range(3)]


def test_what_was_taken_is_told() -> None:
    told: list[int] = []
    send(
        [agenda(transaction=[1, 3], label=[2])],
        FullSpeed(),
        RecordingSink(),
        threading.Event(),
        sent=lambda part: told.append(len(part)),
    )
    assert sum(told) == 3


@pytest.mark.parametrize("rate", [3.0, 200.0, 5_000.0])
def test_a_rate_is_kept_to_the_second(rate: float) -> None:
    stop = SimulatedWait()
    sent: list[float] = []
    send(
        [agenda(transaction=range(50_000))],
        ConstantRate(rate),
        RecordingSink(),
        stop,
        sent=lambda part: sent.extend([stop.now - 100.0] * len(part)),
        limit_s=5,
        clock=stop.clock,
    )
    for second in range(1, 5):
        assert sum(when <= second for when in sent) == pytest.approx(
            rate * second, abs=rate / 50 + 1
        )


def test_a_run_ends_at_its_limit() -> None:
    stop = SimulatedWait()
    sink = RecordingSink()
    days = [agenda(transaction=range(100))]
    send(days, ConstantRate(10), sink, stop, limit_s=2, clock=stop.clock)
    assert stop.now == pytest.approx(102)
    assert len(sink.taken) == 20


def test_a_run_that_was_told_to_stop_sends_nothing_more() -> None:
    stop = threading.Event()
    sink = RecordingSink()
    days = [agenda(transaction=range(PART * 3))]
    send(days, FullSpeed(), sink, stop, sent=lambda part: stop.set())
    assert len(sink.taken) == PART


def test_a_wait_ends_when_the_run_is_told_to_stop() -> None:
    stop = threading.Event()
    threading.Timer(0.05, stop.set).start()
    sink = RecordingSink()
    send([agenda(transaction=range(2))], ConstantRate(0.001), sink, stop)
    assert amounts(sink) == [0]


def test_nothing_more_is_sent_after_a_failure() -> None:
    sink = RecordingSink(works_for=1)
    send([agenda(transaction=range(PART * 3))], FullSpeed(), sink, threading.Event())
    assert len(sink.taken) == PART
