"""The injector: does one harm after another, and counts those whose effect it has seen."""

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
import itertools
import random
import signal
import threading
import time
from typing import NamedTuple

from faults.flow import Flow
from faults.flow import NoScores
from faults.models import Champions
from faults.points import DURING_STATE_WRITE
from faults.points import DURING_SWAP
from faults.points import POINTS
from faults.processes import Running
from faults.processes import descendants
from faults.processes import process
from faults.services import BROKER
from faults.services import JOB
from faults.services import MLFLOW
from faults.services import OBJECT_STORE
from faults.services import REDIS
from faults.services import STATE_STORE
from faults.services import Stack
from faults.volume import Volume

from fraudstream.trainer.registry import RegistryRefused
from fraudstream.trainer.registry import RegistryUnreachable

DRIVER, WORKER, JVM = "driver", "python_worker", "jvm"
ZOMBIE, BROKER_RESTART = "zombie", "broker_restart"
DISK_FULL, BAD_MODEL = "disk_full", "bad_model"

#: Kinds of faults that strike at a random moment.
RANDOM = (
    WORKER,
    DRIVER,
    JVM,
    BROKER,
    BROKER_RESTART,
    MLFLOW,
    OBJECT_STORE,
    ZOMBIE,
    DISK_FULL,
)
#: All kinds.
KINDS = (*RANDOM, STATE_STORE, BAD_MODEL)

#: Who is killed at a point of the workers, in turns. What a worker takes with it is back soonest.
_AT_POINTS = (WORKER, DRIVER, WORKER, JVM)

_CHAMPION_EVERY_S = 60.0
_AGAIN_S = 1.0
_PROBE_S = 0.05
_SEEN_S = 120.0
# Longer than it may take, so that a report tells how long it took.
_RECOVERED_S = 600.0
_FULL = ("No space left on device", "ENOSPC")


class NotSeen(TimeoutError):
    """The effect of a fault was not seen in time: it does not count."""


class Over(Exception):
    """The campaign ended before anything could be seen: there is nothing to tell."""


class Seen(NamedTuple):
    """What was seen of a fault.

    Attributes
    ----------
    effect
        In words.
    struck_s
        When it struck, seconds since the epoch: a victim may have been waited for.
    seen_ms
        When its effect was seen, milliseconds since the epoch; ``None`` where it stops nothing.
    """

    effect: str
    struck_s: float
    seen_ms: int | None


@dataclass(frozen=True)
class Fault:
    """A fault to be done.

    Attributes
    ----------
    kind
        Whom it strikes: one of `KINDS`.
    point
        Where: one of `faults.points.POINTS`; ``None`` at a random moment.
    """

    kind: str
    point: str | None = None

    def __str__(self) -> str:
        return self.kind if self.point is None else f"{self.kind} {self.point}"


@dataclass(frozen=True)
class Outcome:
    """What came of a fault.

    Attributes
    ----------
    fault
        The fault.
    at
        When it struck, seconds since the epoch.
    effect
        What was seen of it; empty if nothing was, and then it does not count.
    recovery_s
        How long it took until a transaction was scored that was made after the effect;
        ``None`` where the fault was not seen, or stops nothing.
    """

    fault: Fault
    at: float
    effect: str
    recovery_s: float | None


def deck(
    kinds: Sequence[str], draw: random.Random, at_random: Sequence[str] = RANDOM
) -> Iterator[Fault]:
    """Yield faults without end: in each round every kind and every point once, in any order.

    Who is killed at a point changes from round to round; every other time it is the worker.

    Examples
    --------
    >>> some = deck(("driver", "broker"), random.Random(0))
    >>> len({next(some) for _ in range(2 + 5)})
    7
    """
    number = 0
    while True:
        number += 1
        faults = [Fault(kind) for kind in at_random if kind in kinds]
        for place, point in enumerate(POINTS):
            victims: Sequence[str] = [kind for kind in _AT_POINTS if kind in kinds]
            if point == DURING_SWAP:
                victims = [kind for kind in victims if kind != WORKER]
            if point == DURING_STATE_WRITE:
                victims = [kind for kind in (STATE_STORE,) if kind in kinds]
            if victims:
                faults.append(Fault(victims[(number + place) % len(victims)], point))
        draw.shuffle(faults)
        yield from faults


@dataclass
class Injector:
    """Does harm until told to stop, and publishes champions meanwhile.

    Attributes
    ----------
    beat
        When the thread that does harm was last known to be alive, by the monotonic clock.
    outcomes
        Of all faults so far, bad champions among them.
    """

    stack: Stack
    flow: Flow
    champions: Champions
    volume: Volume
    draw: random.Random
    kinds: Sequence[str]
    tell: Callable[[Outcome], None]
    pause_s: tuple[float, float] = (1.0, 4.0)
    beat: float = field(default_factory=time.monotonic)
    outcomes: list[Outcome] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        """Do one fault after another, and a new champion each minute, until `stop` is set.

        Raises
        ------
        NoScores
            If the stream does not recover from one.
        """
        # One that is embedded has no process of its own.
        at_random = (*RANDOM, STATE_STORE) if self._has_store else RANDOM
        with ThreadPoolExecutor(1, "champions") as beside:
            promoting = beside.submit(self._promote, stop)
            try:
                for fault in deck(self.kinds, self.draw, at_random):
                    self._alive()
                    if promoting.done() or stop.wait(self.draw.uniform(*self.pause_s)):
                        break
                    self._note(fault, self._strike(fault))
            finally:
                stop.set()
            promoting.result()

    def _promote(self, stop: threading.Event) -> None:
        """Publish a champion each minute, every other one unfit, until `stop` is set."""
        publish_s = time.monotonic()
        for is_bad in itertools.cycle((BAD_MODEL in self.kinds, False)):
            if stop.wait(max(publish_s - time.monotonic(), 0.0)):
                return
            publish_s += _CHAMPION_EVERY_S
            if is_bad:
                self._note(Fault(BAD_MODEL), lambda fault: self._bad_model(stop))
            else:
                self._published(self.champions.publish_good, stop)

    def _published(self, publish: Callable[[], str], stop: threading.Event) -> str | None:
        """Return the version of a champion; ``None`` if there was to be no more.

        Where MLflow or the object store is killed meanwhile, it is tried again.
        """
        while True:
            try:
                return publish()
            except (RegistryRefused, RegistryUnreachable):
                if stop.wait(_AGAIN_S):
                    return None

    def _note(self, fault: Fault, strike: Callable[[Fault], Seen]) -> None:
        outcome = Outcome(fault, time.time(), "", None)
        try:
            effect, struck_s, seen_ms = strike(fault)
            outcome = Outcome(fault, struck_s, effect, None)
            if seen_ms is not None:
                scored_ms = self.flow.await_score_of(seen_ms, _RECOVERED_S, self._alive)
                outcome = replace(outcome, recovery_s=scored_ms / 1000 - struck_s)
        except NotSeen:
            # Told without an effect.
            pass
        except NoScores as error:
            # Its log is to tell where the job is; see `faults.job`.
            if (driver := process(self.stack.supervisor.running(JOB).pid)) is not None:
                driver.send(signal.SIGUSR1)
            raise NoScores(f"{fault}: {error}") from error
        except Over:
            return
        self.outcomes.append(outcome)
        self.tell(outcome)

    def _strike(self, fault: Fault) -> Callable[[Fault], Seen]:
        if fault.point is not None:
            return self._at_point
        return {
            BROKER: self._service,
            MLFLOW: self._service,
            OBJECT_STORE: self._service,
            STATE_STORE: self._service,
            BROKER_RESTART: self._broker_restart,
            ZOMBIE: self._zombie,
            DISK_FULL: self._disk_full,
        }.get(fault.kind, self._process)

    # --- faults: each returns what was seen, and when ---------------------------------------------

    def _process(self, fault: Fault) -> Seen:
        return self._kill(fault.kind, self._victim(fault.kind))

    def _at_point(self, fault: Fault) -> Seen:
        point = str(fault.point)
        traps = self.stack.traps
        traps.set(point)
        try:
            if point == DURING_SWAP:
                self._publish_to_be_caught()
            self._until(lambda: traps.caught(point) is not None, f"nobody came to {point}")
            caught = process(traps.caught(point) or 0)
            if caught is None:
                raise NotSeen(f"who came to {point} is gone")
            if fault.kind == STATE_STORE and self._has_store:
                # Who was caught goes on when the store is gone.
                return self._end(STATE_STORE, signal.SIGKILL, lambda: traps.clear(point))
            is_caught = fault.kind in (WORKER, STATE_STORE)
            victim = caught if is_caught else self._victim(fault.kind)
            # Where another process dies, the one that was caught goes on without it.
            return self._kill(fault.kind, victim, lambda: traps.clear(point))
        finally:
            traps.clear(point)

    def _publish_to_be_caught(self) -> None:
        try:
            self.champions.publish_good()
        except (RegistryRefused, RegistryUnreachable) as error:
            raise NotSeen(f"no champion could be published: {error}") from error

    def _kill(self, kind: str, victim: Running, then: Callable[[], None] = lambda: None) -> Seen:
        starts, struck_s = self.stack.supervisor.starts(JOB), time.time()
        victim.send(signal.SIGKILL)
        self._until(lambda: victim.is_gone, f"{kind} outlived it")
        then()
        effect = f"process {victim.pid} gone"
        if kind in (DRIVER, JVM):
            self._until(lambda: self.stack.supervisor.starts(JOB) > starts, "nothing was restarted")
            effect += ", the job restarted"
        return Seen(effect, struck_s, _now_ms())

    def _service(self, fault: Fault) -> Seen:
        return self._end(fault.kind, signal.SIGKILL)

    def _broker_restart(self, fault: Fault) -> Seen:
        return self._end(BROKER, signal.SIGTERM)

    def _end(self, name: str, by: signal.Signals, then: Callable[[], None] = lambda: None) -> Seen:
        supervisor = self.stack.supervisor
        victim, starts, struck_s = self._main_process(name), supervisor.starts(name), time.time()
        victim.send(by)
        self._until(lambda: victim.is_gone, f"{name} outlived it")
        then()
        # Its children still answer until they are gone, too.
        self._until(lambda: supervisor.starts(name) > starts, f"{name} was not restarted")
        self._until(lambda: supervisor.running(name).is_ready(), f"{name} did not get ready")
        return Seen(f"process {victim.pid} gone, another ready", struck_s, _now_ms())

    def _zombie(self, fault: Fault) -> Seen:
        frozen = [self._victim(DRIVER), self._victim(JVM)]
        struck_s = time.time()
        for each in frozen:
            each.send(signal.SIGSTOP)
        try:
            self._until(lambda: all(each.state == "T" for each in frozen), "it was not stopped")
            zombie = self.stack.supervisor.second(JOB)
            self.flow.await_score_of(_now_ms(), _RECOVERED_S, self._alive)
        finally:
            for each in frozen:
                each.send(signal.SIGCONT)
        try:
            # Nobody has told it to end: it must see for itself that it has been replaced.
            self._until(lambda: frozen[0].is_gone, "the zombie lives on")
            code = zombie.wait()
        finally:
            zombie.stop(0)
        effect = f"a second one scored, the first ended with exit code {code}"
        return Seen(effect, struck_s, _now_ms())

    def _disk_full(self, fault: Fault) -> Seen:
        log, struck_s = self.stack.job_log(), time.time()
        self.volume.fill()
        try:
            self._until(lambda: any(text in log.new() for text in _FULL), "nobody missed the room")
        finally:
            self.volume.empty()
        return Seen("no space was left on the job's disk", struck_s, _now_ms())

    def _bad_model(self, stop: threading.Event) -> Seen:
        log, struck_s = self.stack.job_log(), time.time()
        version = self._published(self.champions.publish_bad, stop)
        told = f'"version": "{version}"'

        def is_refused() -> bool:
            return any("refused" in line and told in line for line in log.new().splitlines())

        if version is None or not _awaited(is_refused, _CHAMPION_EVERY_S, stop.is_set):
            if stop.is_set():
                raise Over
            raise NotSeen(f"version {version} was not refused")
        return Seen(f"version {version} refused: {self.champions.bad[version]}", struck_s, None)

    # --- who and what -----------------------------------------------------------------------------

    def _victim(self, kind: str) -> Running:
        """Return a process of the job; wait for one if it is being started."""
        found: list[Running] = []

        def look() -> bool:
            pid = self.stack.supervisor.running(JOB).pid
            mine = descendants(pid)
            daemons = {each.pid for each in mine if "faults.daemon" in each.arguments}
            own = process(pid)
            found[:] = {
                DRIVER: [own] if own is not None and not own.is_gone else [],
                JVM: [each for each in mine if each.name == "java"],
                WORKER: [each for each in mine if each.parent in daemons],
            }[kind]
            return bool(found)

        self._until(look, f"there was no {kind}")
        return self.draw.choice(found)

    @property
    def _has_store(self) -> bool:
        return self.stack.state == REDIS

    def _main_process(self, name: str) -> Running:
        found = process(self.stack.supervisor.running(name).pid)
        if found is None:
            raise NotSeen(f"{name} is gone already")
        return found

    def _until(self, condition: Callable[[], bool], otherwise: str) -> None:
        def goes_on() -> bool:
            self._alive()
            return False

        if not _awaited(condition, _SEEN_S, goes_on):
            raise NotSeen(otherwise)

    def _alive(self) -> None:
        self.stack.supervisor.require_well()
        self.beat = time.monotonic()


def _awaited(condition: Callable[[], bool], within_s: float, is_over: Callable[[], bool]) -> bool:
    """Return whether a condition holds in time, and before there is no more waiting for it."""
    deadline = time.monotonic() + within_s
    while not condition():
        if is_over() or time.monotonic() > deadline:
            return False
        time.sleep(_PROBE_S)
    return True


def counts(outcomes: Sequence[Outcome]) -> tuple[Counter[str], Counter[str]]:
    """Return how many faults landed by kind, and by point."""
    landed = [outcome.fault for outcome in outcomes if outcome.effect]
    return (
        Counter(fault.kind for fault in landed),
        Counter(fault.point for fault in landed if fault.point is not None),
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
