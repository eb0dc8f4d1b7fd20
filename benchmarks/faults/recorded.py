"""Recorded transactions through a real stack, the whole job killed again and again on the way.

A stream agrees with a replay as long as no partition is more than ten seconds of event time behind
another where a batch is cut (README, "Limits known today"). A recording that is sent as fast as
possible passes ten seconds in the time of a record. So it is sent in parts, one more than there are
kills, each while the job is down, and a batch finds all partitions at the end of a part.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
import itertools
from pathlib import Path
import random
import signal
import sys
import time
from typing import Any

from faults.auditing import audit
from faults.auditing import log_in
from faults.auditing import registry
from faults.campaign import CampaignFailed
from faults.campaign import Programs
from faults.models import Champions
from faults.parity import Parity
from faults.parity import compare
from faults.parity import history
from faults.points import DURING_SWAP
from faults.points import POINTS
from faults.processes import descendants
from faults.processes import process
from faults.services import JOB
from faults.services import TOPICS
from faults.services import Stack
from faults.services import Supervisor
from faults.services import own_path
from faults.services import running
import numpy as np
import pyarrow.parquet as pq

from fraudstream.features.sets import DEFAULT
from fraudstream.inference.losses import next_offsets
from fraudstream.kafka.reading import spans
from fraudstream.stack.process import Process
from fraudstream.stack.process import ProcessFailed
from fraudstream.stack.process import run_to_end

# Short, so that the labels of all but the last hour of a part come with it.
_LABEL_DELAY = "1h"
_COLUMNS = {"card_id": "customer_id", "merchant_id": "terminal_id"}
_MODELLED_ROWS = 20_000
_BATCH_S = 900.0
_GONE_S = 60.0
_PROBE_S = 0.02

#: By topic and partition, an offset.
Ends = dict[str, dict[int, int]]


@dataclass(frozen=True)
class Plan:
    """What to do.

    Attributes
    ----------
    data
        A Parquet file of the Handbook's transactions, in the order of their times.
    rows
        How many of them, from the first on.
    kills, seed
        How often the job is killed, and what draws where.
    """

    data: Path
    rows: int
    kills: int
    seed: int


@dataclass(frozen=True)
class Found:
    """What came of it.

    Attributes
    ----------
    killed_at
        The points at which the job was killed.
    labels
        How many there are.
    parity
        Of served features and replayed ones.
    audited
        What the audit, with a replay, said.
    seconds
        By step, how long it took.
    """

    killed_at: list[str]
    labels: int
    parity: Parity
    audited: dict[str, Any]
    seconds: dict[str, float]


def rehearse(
    plan: Plan, programs: Programs, folder: Path, cache: Path, say: Callable[[str], None]
) -> Found:
    """Send the recording, kill the job on the way, and compare what it served with a replay.

    Parameters
    ----------
    plan, programs
        What to do, and with what.
    folder, cache
        What is made for this run, and what is kept for others.
    say
        Is told what goes on.

    Raises
    ------
    CampaignFailed
        If there are fewer rows than asked for, or the job does not get on.
    ProcessFailed
        If a program ends that was not to.
    """
    clock = _Clock()
    with ExitStack() as over:
        files = parts(plan.data, plan.rows, plan.kills + 1, folder / "parts")
        say("starting the stack")
        stack = over.enter_context(running(folder, cache, programs.mlflow, programs.minio))
        log_in(stack)
        clock.lap("starting")
        killed_at = []
        ends: Ends = {}
        for number, (file, point) in enumerate(
            itertools.zip_longest(files, kill_points(plan.kills, plan.seed))
        ):
            say(f"sending {file.stem} of {len(files)}")
            _send(stack, file)
            before, ends = ends, _ends(stack)
            clock.lap("sending")
            if number == 0:
                _publish(stack, plan.seed)
                clock.lap("modelling")
            stack.start_job("--share-of-features", "1")
            job = stack.supervisor.running(JOB)
            # The batch that was cut is repeated first.
            _await_reached(stack, job, before)
            if point is None:
                _await_reached(stack, job, ends)
            else:
                _await_caught(stack, job, point)
                kill_job(stack.supervisor)
                stack.traps.clear(point)
                killed_at.append(point)
                say(f"killed {point.replace('_', ' ')}")
            clock.lap("scoring")
        code = stack.stop_job()
        if code != 0:
            raise CampaignFailed(f"the job was to end with 0 when it was told to, got {code}")
        say("comparing every row with a replay")
        replayed = history(stack.cluster, TOPICS, DEFAULT)
        parity = compare(stack.cluster, TOPICS, DEFAULT, replayed)
        labels = len(replayed.labels)
        # The audit needs the memory.
        del replayed
        clock.lap("comparing")
        say("the audit, with a replay")
        audited = audit(stack, "whole")
        clock.lap("auditing")
        return Found(killed_at, labels, parity, audited, clock.seconds)


def parts(data: Path, rows: int, count: int, folder: Path) -> list[Path]:
    """Write the first rows of a Parquet file as `count` files of about the same length.

    Raises
    ------
    CampaignFailed
        If there are not so many rows.
    """
    table = pq.read_table(data)
    if len(table) < rows:
        raise CampaignFailed(f"expected {rows:,} rows in {data}, there are {len(table):,}")
    folder.mkdir(parents=True)
    cuts = np.linspace(0, rows, count + 1).astype(int).tolist()
    files = []
    for number, (begin, end) in enumerate(itertools.pairwise(cuts), 1):
        files.append(folder / f"part-{number}.parquet")
        pq.write_table(table[begin:end], files[-1])
    return files


def kill_points(kills: int, seed: int) -> list[str]:
    """Return where the job is killed, as `seed` draws it: all points before one comes again.

    Examples
    --------
    >>> len(set(kill_points(5, 0))), kill_points(3, 1) == kill_points(5, 1)[:3]
    (5, True)
    """
    draw = random.Random(seed)
    found: list[str] = []
    while len(found) < kills:
        # During a swap is no point of a batch.
        points = [point for point in POINTS if point != DURING_SWAP]
        draw.shuffle(points)
        found += points
    return found[:kills]


def kill_job(supervisor: Supervisor) -> None:
    """Kill driver, JVM, daemon and workers, at once, and let nobody start them again.

    Raises
    ------
    CampaignFailed
        If one of them is still there a minute later.
    """
    job = supervisor.release(JOB)
    driver = process(job.pid)
    everyone = [each for each in (driver, *descendants(job.pid)) if each is not None]
    for each in everyone:
        each.send(signal.SIGKILL)
    deadline = time.monotonic() + _GONE_S
    while left := [each for each in everyone if not each.is_gone]:
        if time.monotonic() > deadline:
            raise CampaignFailed(f"{len(left)} processes of the job outlived their kill")
        time.sleep(_PROBE_S)
    job.stop()


def _ends(stack: Stack) -> Ends:
    names = (TOPICS.transactions, TOPICS.labels)
    return {
        name: {span.partition: span.high for span in spans(stack.cluster, name)} for name in names
    }


def _send(stack: Stack, file: Path) -> None:
    mapped = [f"--map={field}={column}" for field, column in _COLUMNS.items()]
    run_to_end(
        "the producer",
        [
            *(sys.executable, "-m", "fraudstream.producer.main", "replay", str(file)),
            *(*mapped, "--set=currency=EUR", "--label=is_fraud", f"--label-delay={_LABEL_DELAY}"),
            *("--bootstrap-servers", stack.cluster.bootstrap_servers),
        ],
        stack.folder / "producer" / f"{file.stem}.log",
        {"PYTHONPATH": own_path()},
    )


def _publish(stack: Stack, seed: int) -> None:
    """Make a champion on what is in the topics."""
    features = history(stack.cluster, TOPICS, DEFAULT).features
    some = np.random.default_rng(seed).permutation(len(features))[:_MODELLED_ROWS]
    Champions(registry(stack), lambda: features[np.sort(some)], seed).publish_good()


def _await_reached(stack: Stack, job: Process, ends: Ends) -> None:
    wanted = {(topic, *each) for topic, offsets in ends.items() for each in offsets.items()}

    def is_there() -> bool:
        here = next_offsets(stack.checkpoint / "progress")
        return all(here.get(topic, {}).get(number, 0) >= end for topic, number, end in wanted)

    _await(job, is_there, "did not come to the end of its topics")


def _await_caught(stack: Stack, job: Process, point: str) -> None:
    traps = stack.traps
    traps.set(point)
    _await(job, lambda: traps.caught(point) is not None, f"did not come to {point}")


def _await(job: Process, condition: Callable[[], bool], otherwise: str) -> None:
    deadline = time.monotonic() + _BATCH_S
    while not condition():
        # That the supervisor has started another is no way on: nobody but us may end it here.
        if not job.running:
            raise ProcessFailed(job.failure("ended by itself"))
        if time.monotonic() > deadline:
            raise CampaignFailed(job.failure(f"{otherwise} within {_BATCH_S:.0f} s"))
        time.sleep(_PROBE_S)


class _Clock:
    """Adds up how long each step takes."""

    def __init__(self) -> None:
        self._since = time.monotonic()
        self.seconds: dict[str, float] = {}

    def lap(self, step: str) -> None:
        now = time.monotonic()
        self.seconds[step] = self.seconds.get(step, 0.0) + now - self._since
        self._since = now
