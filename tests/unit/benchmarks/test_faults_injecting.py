"""Each fault strikes whom it is meant for, and counts only if its effect is seen."""

from collections.abc import Callable
from collections.abc import Iterator
from pathlib import Path
import random
import shutil
import threading
from typing import cast

from faults import injector as module
from faults.flow import Flow
from faults.flow import NoScores
from faults.injector import BAD_MODEL
from faults.injector import DISK_FULL
from faults.injector import DRIVER
from faults.injector import JVM
from faults.injector import KINDS
from faults.injector import WORKER
from faults.injector import ZOMBIE
from faults.injector import Fault
from faults.injector import Injector
from faults.injector import Outcome
from faults.models import Champions
from faults.points import DURING_STATE_WRITE
from faults.points import DURING_SWAP
from faults.points import POINTS
from faults.points import Traps
from faults.processes import descendants
from faults.processes import process
from faults.services import JOB
from faults.services import MLFLOW
from faults.services import REDIS
from faults.services import STATE_STORE
from faults.services import Stack
from faults.services import Supervisor
from faults.volume import Volume
import pytest

from fraudstream.stack.process import Process
from fraudstream.trainer.registry import RegistryUnreachable
from unit.awaiting import await_that

# A job as a tree of processes, which is all that an injector sees of one: a driver, which ends when
# its JVM does, a JVM, a daemon and a worker.
_JOB = """
{java} 60 &
jvm=$!
/bin/sh -c 'sleep 60 & wait' faults.daemon &
{more}
wait $jvm
exit 3
"""


class StandIns:
    """What is around the injector, with nothing real in it but processes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.java = folder / "java"
        shutil.copy(str(shutil.which("sleep")), self.java)
        self.more: Callable[[int], str] = lambda number: ""
        supervisor = Supervisor()
        self.stack = Stack(
            folder, folder, folder / "mlflow", None, supervisor, Traps(folder / "traps")
        )
        self.published: list[str] = []
        self.bad: dict[str, str] = {}
        self.scores = True
        self.away = 0

    def job(self, number: int) -> Process:
        program = _JOB.format(java=self.java, more=self.more(number))
        return Process("job", ["/bin/sh", "-c", program], self.folder / "job" / f"{number}.log")

    def say(self, text: str) -> None:
        with (self.folder / "job" / "0.log").open("a") as log:
            log.write(f"{text}\n")

    # As `Flow`.
    def await_score_of(self, made_ms: int, within_s: float, alive: Callable[[], None]) -> int:
        if not self.scores:
            raise NoScores("none")
        return made_ms + 2_000

    # As `Champions`.
    def publish_good(self) -> str:
        self.require_there()
        self.published.append("good")
        return "1"

    def publish_bad(self) -> str:
        self.require_there()
        self.published.append("bad")
        self.bad["7"] = "nan"
        return "7"

    def require_there(self) -> None:
        if self.away:
            self.away -= 1
            raise RegistryUnreachable("away")

    # As `Volume`.
    def fill(self) -> None:
        self.published.append("full")
        self.say("OSError: No space left on device")

    def empty(self) -> None:
        self.published.append("empty")


@pytest.fixture
def stand_ins(tmp_path: Path) -> Iterator[StandIns]:
    found = StandIns(tmp_path)
    yield found
    found.stack.supervisor.stop()


@pytest.fixture
def injector(stand_ins: StandIns) -> Injector:
    stand_ins.stack.supervisor.keep(JOB, stand_ins.job)
    return Injector(
        stand_ins.stack,
        cast(Flow, stand_ins),
        cast(Champions, stand_ins),
        cast(Volume, stand_ins),
        random.Random(0),
        KINDS,
        lambda outcome: None,
        pause_s=(0.0, 0.0),
    )


def strike(injector: Injector, fault: Fault) -> Outcome:
    injector._note(fault, injector._strike(fault))
    return injector.outcomes[-1]


@pytest.mark.parametrize("kind", [DRIVER, JVM])
def test_whoever_holds_up_the_job_is_killed_and_the_job_is_started_again(
    injector: Injector, kind: str
) -> None:
    outcome = strike(injector, Fault(kind))
    assert outcome.effect.endswith("gone, the job restarted")
    assert outcome.recovery_s is not None
    assert outcome.recovery_s > 2
    assert injector.stack.supervisor.starts(JOB) == 2


def test_a_worker_is_killed_alone(injector: Injector) -> None:
    assert strike(injector, Fault(WORKER)).effect.endswith("gone")
    assert injector.stack.supervisor.starts(JOB) == 1


def come_to(injector: Injector, point: str) -> tuple[threading.Thread, list[int]]:
    """Let the job's worker come to a point as soon as a trap stands there."""
    traps = injector.stack.traps
    came: list[int] = []

    def wait() -> None:
        for _ in range(2_000):
            if (traps.folder / point).exists():
                came.append(injector._victim(WORKER).pid)
                (traps.folder / point).rename(traps.folder / f"{point}.{came[0]}")
                return
            threading.Event().wait(0.005)

    thread = threading.Thread(target=wait)
    thread.start()
    return thread, came


@pytest.mark.parametrize("kind", [WORKER, STATE_STORE])
@pytest.mark.parametrize("point", POINTS)
def test_who_comes_to_a_point_is_killed_there(injector: Injector, kind: str, point: str) -> None:
    thread, came = come_to(injector, point)
    outcome = strike(injector, Fault(kind, point))
    thread.join()
    assert outcome.effect == f"process {came[0]} gone"
    assert injector.stack.traps.caught(point) is None


@pytest.mark.parametrize("kind", [DRIVER, JVM])
def test_another_is_killed_while_one_waits_at_a_point(injector: Injector, kind: str) -> None:
    pid = injector._victim(kind).pid
    thread, _ = come_to(injector, DURING_SWAP)
    outcome = strike(injector, Fault(kind, DURING_SWAP))
    thread.join()
    assert outcome.effect == f"process {pid} gone, the job restarted"
    assert cast(StandIns, injector.volume).published == ["good"]


def test_nobody_at_the_point_is_no_fault(
    injector: Injector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SEEN_S", 0.2)
    outcome = strike(injector, Fault(WORKER, DURING_SWAP))
    assert (outcome.effect, outcome.recovery_s) == ("", None)
    assert not list(injector.stack.traps.folder.iterdir())


def test_a_zombie_counts_when_it_has_ended_by_itself(
    stand_ins: StandIns, request: pytest.FixtureRequest
) -> None:
    # The second one takes over; the first one sees that, once it goes on.
    taken = stand_ins.folder / "taken"
    stand_ins.more = lambda number: (
        f"touch {taken}"
        if number
        else f"while [ ! -e {taken} ]; do sleep 0.05; done; echo replaced; exit 4"
    )
    injector: Injector = request.getfixturevalue("injector")
    outcome = strike(injector, Fault(ZOMBIE))
    assert outcome.effect == "a second one scored, the first ended with exit code 4"
    assert injector.stack.supervisor.starts(JOB) == 2


def test_a_zombie_that_lives_on_is_no_fault_and_is_gone_afterwards(
    injector: Injector, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = injector._victim(DRIVER)
    # All of the job is there: what is short is the time in which it is to see that it is replaced.
    injector._victim(JVM)
    injector._victim(WORKER)
    tree = descendants(first.pid)
    monkeypatch.setattr(module, "_SEEN_S", 2.0)
    assert strike(injector, Fault(ZOMBIE)).effect == ""
    assert first.is_gone
    # What its group has left is killed, too, and is awaited by nobody.
    await_that(lambda: all(each.is_gone for each in tree))


def test_a_full_disk_counts_when_somebody_missed_the_room_and_is_emptied(
    injector: Injector,
) -> None:
    stand_ins = cast(StandIns, injector.volume)
    stand_ins.say("No space left on device, long ago")
    assert strike(injector, Fault(DISK_FULL)).effect == "no space was left on the job's disk"
    assert stand_ins.published == ["full", "empty"]


def test_a_full_disk_that_nobody_minds_is_no_fault(
    injector: Injector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SEEN_S", 0.2)
    monkeypatch.setattr(StandIns, "fill", lambda self: self.say("room enough"))
    assert strike(injector, Fault(DISK_FULL)).effect == ""
    assert cast(StandIns, injector.volume).published == ["empty"]


def test_a_bad_model_counts_when_it_was_refused(
    injector: Injector, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand_ins = cast(StandIns, injector.volume)
    publish = stand_ins.publish_bad

    def publish_and_say() -> str:
        version = publish()
        stand_ins.say('{"version": "7", "event": "champion refused", "level": "warning"}')
        return version

    monkeypatch.setattr(stand_ins, "publish_bad", publish_and_say)
    injector._note(Fault(BAD_MODEL), lambda fault: injector._bad_model(threading.Event()))
    assert injector.outcomes[-1].effect == "version 7 refused: nan"
    assert injector.outcomes[-1].recovery_s is None


def test_a_champion_that_cannot_be_published_is_no_fault(injector: Injector) -> None:
    cast(StandIns, injector.champions).away = 1
    outcome = strike(injector, Fault(DRIVER, DURING_SWAP))
    assert outcome.effect == ""
    assert not list(injector.stack.traps.folder.iterdir())


def test_champions_come_beside_the_faults_every_other_one_unfit_also_where_mlflow_was_away(
    injector: Injector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CHAMPION_EVERY_S", 0.05)
    monkeypatch.setattr(module, "_AGAIN_S", 0.01)
    stand_ins = cast(StandIns, injector.champions)
    stand_ins.away = 3
    stop = threading.Event()
    thread = threading.Thread(target=injector._promote, args=[stop])
    thread.start()
    await_that(lambda: len(stand_ins.published) >= 4)
    stop.set()
    thread.join()
    assert stand_ins.published[:4] == ["bad", "good", "bad", "good"]
    # Nobody has refused it within the time that it had.
    assert {str(outcome.fault) for outcome in injector.outcomes} == {BAD_MODEL}
    assert not any(outcome.effect for outcome in injector.outcomes)


def test_no_champion_is_waited_for_when_it_is_over(injector: Injector) -> None:
    stand_ins = cast(StandIns, injector.champions)
    stand_ins.away = 1_000
    stop = threading.Event()
    stop.set()
    assert injector._published(stand_ins.publish_good, stop) is None
    injector._note(Fault(BAD_MODEL), lambda fault: injector._bad_model(stop))
    assert injector.outcomes == []


def test_who_cannot_go_on_with_champions_ends_the_campaign(
    injector: Injector, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> str:
        raise OSError("no room")

    monkeypatch.setattr(injector.champions, "publish_bad", broken)
    # A fault that nobody comes to may have begun before champions were found broken.
    monkeypatch.setattr(module, "_SEEN_S", 0.2)
    injector.kinds = [BAD_MODEL, WORKER]
    with pytest.raises(OSError, match="no room"):
        injector.run(threading.Event())


def keep(injector: Injector, name: str) -> None:
    def make(number: int) -> Process:
        return Process(name, ["/bin/sleep", "60"], injector.stack.folder / f"{name}.log")

    injector.stack.supervisor.keep(name, make)


def test_a_service_is_killed_and_awaited(injector: Injector) -> None:
    keep(injector, MLFLOW)
    assert strike(injector, Fault(MLFLOW)).effect.endswith("gone, another ready")
    assert injector.stack.supervisor.starts(MLFLOW) == 2


@pytest.mark.parametrize("point", [None, DURING_STATE_WRITE])
def test_a_store_outside_of_the_job_is_killed_in_the_place_of_a_worker(
    injector: Injector, point: str | None
) -> None:
    injector.stack.state = REDIS
    keep(injector, STATE_STORE)
    thread, came = come_to(injector, DURING_STATE_WRITE)
    if point is None:
        injector.stack.traps.set(DURING_STATE_WRITE)
    outcome = strike(injector, Fault(STATE_STORE, point))
    thread.join()
    assert outcome.effect.endswith("gone, another ready")
    assert injector.stack.supervisor.starts(STATE_STORE) == 2
    worker = process(came[0])
    assert worker is not None
    assert not worker.is_gone
    assert injector.stack.supervisor.starts(JOB) == 1


def test_it_ends_when_it_is_told_to_and_gives_up_where_nothing_recovers(
    injector: Injector,
) -> None:
    stop = threading.Event()
    stop.set()
    injector.run(stop)
    assert injector.outcomes == []
    cast(StandIns, injector.volume).scores = False
    with pytest.raises(NoScores, match="driver: none"):
        strike(injector, Fault(DRIVER))
