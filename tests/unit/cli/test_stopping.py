"""The first signal asks for an end, the second does not ask."""

import signal
import threading

import pytest

from fraudstream.cli.stopping import stop_requests


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sets_the_event(number: signal.Signals) -> None:
    with stop_requests() as stop:
        assert not stop.is_set()
        signal.raise_signal(number)
        assert stop.wait(10)


def test_the_second_signal_acts_as_it_did_before() -> None:
    with stop_requests() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.wait(10)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_after_the_block_signals_act_as_before() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_requests():
        pass
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_other_threads_cannot_ask_for_signals() -> None:
    refusals: list[str] = []

    def ask() -> None:
        try:
            with stop_requests():
                pass
        except ValueError as error:
            refusals.append(str(error))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join(10)
    assert len(refusals) == 1
