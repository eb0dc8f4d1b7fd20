"""Signals interrupt where they are welcome, once."""

from collections.abc import Iterator
import signal

import pytest

from fraudstream.demo import interrupts as module
from fraudstream.demo.interrupts import Interrupts


@pytest.fixture(autouse=True)
def _handlers_as_before() -> Iterator[None]:
    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts_a_block_that_welcomes_it(number: signal.Signals) -> None:
    with Interrupts() as interrupts, pytest.raises(KeyboardInterrupt), interrupts.welcome():
        signal.raise_signal(number)


def test_a_signal_elsewhere_is_ignored() -> None:
    with Interrupts() as interrupts:
        signal.raise_signal(signal.SIGINT)
        with interrupts.welcome():
            pass
        signal.raise_signal(signal.SIGINT)


def test_a_signal_is_only_noted_where_nothing_may_be_torn_apart() -> None:
    with Interrupts() as interrupts, interrupts.noted() as interrupted:
        assert not interrupted()
        signal.raise_signal(signal.SIGTERM)
        assert interrupted()


def test_an_echo_of_a_signal_does_not_interrupt_again() -> None:
    with Interrupts() as interrupts:
        with pytest.raises(KeyboardInterrupt), interrupts.welcome():
            signal.raise_signal(signal.SIGINT)
        with interrupts.welcome():
            signal.raise_signal(signal.SIGINT)


def test_a_second_signal_interrupts_the_next_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SAME_S", 0.0)
    with Interrupts() as interrupts:
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt), interrupts.welcome():
                signal.raise_signal(signal.SIGINT)


def test_signals_stay_ignored_afterwards() -> None:
    with Interrupts():
        pass
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)
