"""A campaign: the audit is proven, the stack is hurt under load, and what it did is audited."""

from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence
from concurrent.futures import Future
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from contextlib import ExitStack
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
import random
import shutil
import sys
import threading
import time
from typing import Any

from faults.auditing import audit
from faults.auditing import bad_models_served
from faults.auditing import log_in
from faults.auditing import prove
from faults.auditing import registry
from faults.flow import Flow
from faults.injector import DISK_FULL
from faults.injector import Injector
from faults.injector import Outcome
from faults.models import Champions
from faults.models import FeatureRows
from faults.models import sample
from faults.services import PARTITIONS
from faults.services import TOPICS
from faults.services import Stack
from faults.services import own_path
from faults.services import running
from faults.volume import Volume
from faults.volume import mounted
import orjson

from fraudstream.stack.process import Process
from fraudstream.stack.process import ProcessFailed

#: How long the load is of which the audit is proven.
_PROOF_S = 5.0
_STARTED_S = 180.0
_DRAINED_S = 300.0
# The longest that the injector may say nothing; publishing a champion is its longest step.
_SILENCE_S = 120.0
_LOOK_S = 0.5
# So many rows of features tell what traffic is like.
_TELLING_ROWS = 1_000
_STOP_S = 700.0


class CampaignFailed(ValueError):
    """The campaign itself failed: what it says of the stream would mean nothing."""


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes
    ----------
    minutes, seed
        How long faults go on, and what draws them.
    rate, cards
        Of the load: events a second, and how many cards make them.
    kinds
        Of faults.
    volume_mb
        Size of the job's disk.
    state
        Where the stream keeps it; see `Stack`.
    """

    minutes: float
    seed: int
    rate: float
    cards: int
    kinds: Sequence[str]
    volume_mb: int
    state: str


@dataclass(frozen=True)
class Programs:
    """Where programs are that are neither fetched nor ours."""

    mlflow: Path
    minio: Path | None


@dataclass(frozen=True)
class Found:
    """What came of it.

    Attributes
    ----------
    events
        Records that were acknowledged to the load, without labels.
    outcomes
        Of all faults.
    audited
        What the audit said.
    bad_models_served
        How many scores are of a model that was not to serve.
    a_second
        How many scores were committed in each second since the epoch.
    """

    events: int
    outcomes: list[Outcome]
    audited: dict[str, Any]
    bad_models_served: int
    a_second: Counter[int]


def campaign(
    plan: Plan,
    programs: Programs,
    folder: Path,
    cache: Path,
    say: Callable[[str], None],
    tell: Callable[[Outcome], None],
) -> Found:
    """Run a campaign.

    Parameters
    ----------
    plan, programs
        What to do, and with what.
    folder, cache
        What is made for this run, and what is kept for others.
    say, tell
        Are told what goes on, and what came of each fault.

    Raises
    ------
    CampaignFailed, AuditBlind
        If it would mean nothing.
    NoScores
        If the stream does not recover from a fault.
    """
    with ExitStack() as over:
        volume = over.enter_context(_disk(plan, folder / "volume"))
        say("starting the stack")
        stack = over.enter_context(
            running(folder, cache, programs.mlflow, programs.minio, plan.state)
        )
        log_in(stack)
        flow = Flow(stack.cluster, TOPICS.scores, PARTITIONS)
        over.callback(flow.stop)
        at_first = sample(plan.seed, plan.cards, plan.rate, time.time_ns() // 1000)
        champions = Champions(registry(stack), lambda: _latest(flow, at_first), plan.seed)
        champions.publish_good()
        stack.start_job()

        say("a load without faults, to prove the audit on")
        events = _load(stack, plan, "proof", over, "--seconds", str(_PROOF_S)).finish()
        flow.await_last("proof", PARTITIONS, _STARTED_S)
        prove(stack, lambda kind: say(f"the audit of scores spoiled to be {kind}"))

        say(f"faults for {plan.minutes:g} minutes")
        draw = random.Random(plan.seed)
        injector = Injector(stack, flow, champions, volume, draw, plan.kinds, tell)
        load = _load(stack, plan, "load", over)
        flow.await_score_of(time.time_ns() // 1_000_000, _STARTED_S, lambda: None)
        _inject(injector, load, plan.minutes * 60)

        say("the load stops, and the stream comes to the end of it")
        load.stop()
        events += load.finish()
        flow.await_last("load", PARTITIONS, _DRAINED_S)
        code = stack.stop_job()
        if code != 0:
            raise CampaignFailed(f"the job was to end with 0 when it was told to, got {code}")
        # Its disk is in memory, of which the audit needs much.
        shutil.rmtree(stack.checkpoint)
        say("the audit, with a replay")
        audited = audit(stack, "whole")
        _require_whole(audited, events)
        served = bad_models_served(stack.cluster, champions.bad)
        return Found(events, injector.outcomes, audited, served, flow.a_second)


def _disk(plan: Plan, folder: Path) -> AbstractContextManager[Volume]:
    """Return the job's disk, which only root can have of its own: it is one where it is filled."""
    if DISK_FULL in plan.kinds:
        return mounted(folder, plan.volume_mb)
    folder.mkdir(parents=True)
    return nullcontext(Volume(folder))


def _latest(flow: Flow, at_first: FeatureRows) -> FeatureRows:
    """Return what a model is made on: the stream refuses one that does not fit the traffic."""
    served = flow.features()
    return served if len(served) >= _TELLING_ROWS else at_first


def _inject(injector: Injector, load: "_Load", seconds: float) -> None:
    """Let the injector work, and watch over its life and the load's."""
    stop = threading.Event()
    with ThreadPoolExecutor(1, "injector") as one:
        injecting: Future[None] = one.submit(injector.run, stop)
        try:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                load.require_running()
                if time.monotonic() - injector.beat > _SILENCE_S:
                    raise CampaignFailed(f"the injector has said nothing for {_SILENCE_S:.0f} s")
                if injecting.done():
                    injecting.result()
                    raise CampaignFailed("the injector ended by itself")
                time.sleep(_LOOK_S)
        finally:
            stop.set()
        injecting.result()


def _require_whole(audited: dict[str, Any], events: int) -> None:
    """See that what was acknowledged is in the topic, and that every score was compared."""
    there = audited["transactions"] + audited["copies"] + audited["refused"]
    if there != events:
        raise CampaignFailed(f"{events:,} events were acknowledged, and {there:,} are in the topic")
    if audited["not_compared"]:
        raise CampaignFailed(f"{audited['not_compared']:,} scores were compared with no replay")


class _Load:
    """The load, as a program of its own."""

    def __init__(self, process: Process, output: Path) -> None:
        self._process = process
        self._output = output

    def require_running(self) -> None:
        if not self._process.running:
            raise ProcessFailed(self._process.failure("ended by itself"))

    def stop(self) -> None:
        """Tell it to end, with what it has to send yet."""
        self._process.stop(_STOP_S)

    def finish(self) -> int:
        """Wait for its end, and return how many events were acknowledged."""
        code = self._process.wait(_STOP_S)
        if code != 0:
            raise ProcessFailed(self._process.failure(f"ended with exit code {code}"))
        told = orjson.loads(self._output.read_bytes())
        return sum(told.get(kind, 0) for kind in ("transactions", "duplicates", "late", "poison"))


def _load(stack: Stack, plan: Plan, name: str, over: ExitStack, *flags: str) -> _Load:
    output = stack.folder / f"{name}.json"
    process = Process(
        "the load",
        [
            *(sys.executable, "-m", "faults.load", "--name", name),
            *("--bootstrap-servers", stack.cluster.bootstrap_servers),
            *("--rate", str(plan.rate), "--cards", str(plan.cards), "--seed", str(plan.seed)),
            *flags,
        ],
        stack.folder / f"{name}.log",
        {"PYTHONPATH": own_path()},
        output,
    )
    over.callback(process.stop)
    process.start()
    return _Load(process, output)
