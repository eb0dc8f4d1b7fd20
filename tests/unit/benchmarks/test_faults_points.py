"""A process that comes to a named point is caught only where a trap stands, and is told apart."""

from concurrent.futures import ThreadPoolExecutor
import os
from pathlib import Path
import subprocess
import sys
import threading

from faults.points import FOLDER
from faults.points import Traps
from faults.points import halt
from faults.points import halting
import pytest


@pytest.fixture
def traps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Traps:
    monkeypatch.setenv(FOLDER, str(tmp_path / "traps"))
    return Traps(tmp_path / "traps")


def await_caught(traps: Traps, point: str) -> int:
    waited = threading.Event()
    for _ in range(1_000):
        pid = traps.caught(point)
        if pid is not None:
            return pid
        waited.wait(0.01)
    raise AssertionError("nobody was caught")


def test_without_a_trap_nothing_is_waited_for(traps: Traps) -> None:
    halt("before_commit")
    assert traps.caught("before_commit") is None


def test_one_of_many_is_caught_and_goes_on_when_the_trap_is_cleared(traps: Traps) -> None:
    traps.set("before_commit")
    with ThreadPoolExecutor(4) as pool:
        coming = [pool.submit(halt, "before_commit") for _ in range(4)]
        assert await_caught(traps, "before_commit") == os.getpid()
        assert sum(each.done() for each in coming) <= 3
        traps.clear("before_commit")
        for each in coming:
            each.result(10)
    assert traps.caught("before_commit") is None


def test_a_trap_catches_at_its_own_point_alone(traps: Traps) -> None:
    traps.set("after_commit")
    halt("after")
    halt("before_commit")
    assert traps.caught("after_commit") is None


def test_a_trap_that_was_cleared_catches_nobody(traps: Traps) -> None:
    traps.set("after_commit")
    traps.clear("after_commit")
    halt("after_commit")
    assert traps.caught("after_commit") is None


def test_points_lie_before_and_after_what_they_are_around(traps: Traps) -> None:
    done: list[str] = []
    traps.set("before")
    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(halting(done.append, before="before", after="after"), "it")
        await_caught(traps, "before")
        assert done == []
        traps.set("after")
        traps.clear("before")
        await_caught(traps, "after")
        assert done == ["it"]
        assert not calling.done()
        traps.clear("after")
        calling.result(10)


def test_the_functions_that_points_lie_around_are_there() -> None:
    # In a process of its own, since what is wrapped stays so.
    program = (
        "from faults.points import install_in_driver, install_in_worker\n"
        "install_in_driver()\n"
        "install_in_worker()\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
