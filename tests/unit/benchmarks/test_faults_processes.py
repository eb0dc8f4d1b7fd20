"""Processes are told apart from those that take their number, and from those that are gone."""

from collections.abc import Callable
from collections.abc import Iterator
import os
from pathlib import Path
import signal
import subprocess
import sys

from faults.processes import descendants
from faults.processes import process
from faults.services import Supervisor
import pytest

from fraudstream.stack.process import Process
from unit.awaiting import await_that


def test_a_child_of_a_child_is_a_descendant_and_is_gone_when_it_is_killed() -> None:
    with subprocess.Popen(["/bin/sh", "-c", "sleep 60 & wait"]) as shell:
        await_that(lambda: [each.name for each in descendants(shell.pid)] == ["sleep"])
        [sleeper] = descendants(shell.pid)
        assert sleeper.arguments.split() == ["sleep", "60"]
        assert shell.pid in {each.pid for each in descendants(os.getpid())}
        sleeper.send(signal.SIGSTOP)
        await_that(lambda: sleeper.state == "T")
        sleeper.send(signal.SIGKILL)
        await_that(lambda: sleeper.is_gone)
        # Nobody is hurt who has its number by now.
        sleeper.send(signal.SIGKILL)


def test_what_has_ended_and_was_not_asked_for_its_code_is_gone() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    seen = process(ended.pid)
    assert seen is not None
    await_that(lambda: seen.is_gone)
    ended.wait()
    assert process(ended.pid) is None


@pytest.fixture
def supervisor() -> Iterator[Supervisor]:
    supervisor = Supervisor()
    yield supervisor
    supervisor.stop()


def sleeper(folder: Path, command: str = "sleep 60 & wait") -> Callable[[int], Process]:
    def make(number: int) -> Process:
        return Process("sleeper", ["sh", "-c", command], folder / f"{number}.log")

    return make


def test_what_is_kept_is_started_again_when_it_ends_with_what_it_had_started_gone(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    supervisor.keep("sleeper", sleeper(tmp_path))
    first = process(supervisor.running("sleeper").pid)
    assert first is not None
    await_that(lambda: descendants(first.pid))
    [child] = descendants(first.pid)
    first.send(signal.SIGKILL)
    await_that(lambda: supervisor.starts("sleeper") == 2)
    assert supervisor.running("sleeper").running
    await_that(lambda: child.is_gone)


def test_a_second_one_runs_beside_the_first_which_nobody_keeps_any_more(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    supervisor.keep("sleeper", sleeper(tmp_path))
    first = supervisor.second("sleeper")
    assert first.running
    assert supervisor.running("sleeper").pid != first.pid
    first.stop()
    assert supervisor.starts("sleeper") == 2


def test_what_is_released_may_end(tmp_path: Path, supervisor: Supervisor) -> None:
    supervisor.keep("sleeper", sleeper(tmp_path))
    supervisor.release("sleeper").stop()
    assert supervisor.starts("sleeper") == 1


def test_a_program_that_cannot_be_started_again_is_told_to_who_asks(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    def make(number: int) -> Process:
        if number:
            raise OSError("no more")
        return sleeper(tmp_path, "exit 0")(number)

    supervisor.keep("sleeper", make)

    def told() -> bool:
        try:
            supervisor.running("sleeper")
        except OSError as error:
            return str(error) == "no more"
        return False

    await_that(told)
