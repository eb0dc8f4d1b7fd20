"""State from the topics: what the stream has done is done again, without a score.

The records up to where Spark's progress stands go through the same steps as in the stream, so there
is no second way in which state comes to be. Where batches were cut does not matter to it. They get
numbers that end with the last one that Spark has committed; the first of them may be below zero.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import AbstractContextManager
from contextlib import contextmanager
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace
import fcntl
from math import ceil
from pathlib import Path
import shutil

import numpy as np
import pyarrow as pa
import structlog

from fraudstream.inference.generations import Generations
from fraudstream.inference.losses import missing
from fraudstream.inference.losses import next_offsets
from fraudstream.inference.steps import shared_keys
from fraudstream.inference.store import State
from fraudstream.inference.store import StateLost
from fraudstream.inference.tasks import Settings
from fraudstream.inference.tasks import Untold
from fraudstream.inference.tasks import first_task
from fraudstream.inference.tasks import key_task
from fraudstream.kafka.reading import Span
from fraudstream.kafka.reading import read
from fraudstream.kafka.reading import spans

#: Given what is done and how much there is of it, shows how far it is.
Progress = Callable[[str, float], AbstractContextManager[Callable[[float], None]]]

#: Bounds the memory: about as many records are worked on at once.
_AT_ONCE = 200_000

log = structlog.get_logger()


class CheckpointInUse(ValueError):
    """Somebody else works with a checkpoint."""


@dataclass(frozen=True)
class Done:
    """What the stream has done for good.

    Attributes
    ----------
    batch
        The number of the last batch that Spark has committed; -1 before the first.
    offsets
        By topic and partition, up to but without which offset.
    """

    batch: int
    offsets: Mapping[str, Mapping[int, int]]


def done(progress: Path) -> Done:
    """Return what Spark has noted in its folder of progress.

    Raises
    ------
    ProgressDamaged
        If it cannot be read.
    """
    finished = [int(file.name) for file in progress.glob("commits/*") if file.name.isdigit()]
    if not finished:
        return Done(-1, {})
    return Done(max(finished), next_offsets(progress))


def with_state(settings: Settings, generations: Generations, progress: Progress) -> Settings:
    """Return the settings with a state from which the stream can go on, rebuilt if it must be.

    Parameters
    ----------
    settings
        Of the stream; its state is not looked at.
    generations
        Its states.
    progress
        Shows how far a rebuild is.

    Raises
    ------
    ProgressDamaged, RecordsLost, StateLost
        See `done` and `rebuilt`.
    StateUnreachable, UnfitRedis
        See `Generations.require_fit`.
    """
    generations.require_fit()
    so_far = done(settings.progress)
    state = generations.current()
    flaw = state if isinstance(state, str) else state.flaw(so_far.batch, settings.alive.touch)
    if flaw is None and not isinstance(state, str):
        return replace(settings, state=state)
    if so_far.batch >= 0:
        log.warning("state is built again from the topics", why=flaw, batch=so_far.batch)
    return rebuilt(settings, generations, so_far, progress, state)


def rebuilt(
    settings: Settings,
    generations: Generations,
    so_far: Done,
    progress: Progress,
    found: State | str,
    *,
    keep: bool = False,
) -> Settings:
    """Build a new state from the topics, make it the current one, and return settings with it.

    Parameters
    ----------
    settings, generations, progress
        See `with_state`.
    so_far
        How far the topics are gone through.
    found
        The current state, or why there is none: see `Generations.current`.
    keep
        Whether that one is kept until the new one is whole. All others are removed before, since
        there may be no room for two: one that is flawed, and what rebuilds that were cut short
        have left.

    Raises
    ------
    RecordsLost
        If a topic does not reach as far any more: it was made anew.
    StateLost
        If another driver has chosen another state meanwhile.
    """
    generations.require_fit()
    settings = replace(settings, state=generations.new())
    state = settings.state
    there = {topic: spans(settings.cluster, topic) for topic in so_far.offsets}
    # What is gone and unread does not matter here, but a topic that was made anew does.
    missing(so_far.offsets, there)
    within = {
        topic: [
            _within(topic, span, so_far.offsets[topic].get(span.partition, span.low))
            for span in held
        ]
        for topic, held in there.items()
    }
    count = {topic: sum(s.high - s.low for s in some) for topic, some in within.items()}
    parts = ceil(max([0, *count.values()]) / _AT_ONCE)
    first = so_far.batch - parts + 1
    if generations.current() != found:
        raise StateLost(
            f"another driver has built a state in {settings.checkpoint} meanwhile: start again"
        )
    (found if keep and not isinstance(found, str) else state).remove_others()
    state.create(first - 1)
    if parts:
        with progress("building state", sum(count.values())) as advance:
            for part, batch in enumerate(range(first, so_far.batch + 1)):
                records = _records(settings, within, part, parts)
                _remember(settings, batch, records)
                advance(sum(some.num_rows for some in records))
    generations.choose(state)
    return settings


@contextmanager
def at_work(checkpoint: Path, *, alone: bool = False) -> Iterator[None]:
    """Work with a checkpoint for the length of the block.

    Parameters
    ----------
    checkpoint
        Its folder.
    alone
        Whether nobody else may. Two streams may: one of them has been given up, and is fenced.

    Raises
    ------
    CheckpointInUse
        If somebody else works with it, and one of both has to be alone.
    """
    kind = fcntl.LOCK_EX if alone else fcntl.LOCK_SH
    with (checkpoint / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError as error:
            who = "a stream runs" if alone else "`rebuild-state` runs"
            raise CheckpointInUse(f"{who} with {checkpoint}: stop that before") from error
        yield


def remove_spilled(settings: Settings) -> None:
    """Remove what a Spark that was killed has left on its way, unless another may be at work."""
    gone = settings.spill.with_name("spill.gone")
    shutil.rmtree(gone, ignore_errors=True)
    # Renamed under the lock and removed after it: another stream that starts is not in the way.
    with suppress(CheckpointInUse, OSError), at_work(settings.checkpoint, alone=True):
        settings.spill.rename(gone)
    shutil.rmtree(gone, ignore_errors=True)


def _within(topic: str, there: Span, end: int) -> Span:
    """Return what is to be read of a partition of which the stream has done all before `end`."""
    if there.low > 0:
        log.warning(
            "a topic has lost its beginning, and state with it",
            topic=topic,
            partition=there.partition,
            offsets=[0, there.low],
        )
    return Span(there.partition, min(there.low, end), end)


def _part_of(whole: Sequence[Span], part: int, parts: int) -> list[Span]:
    """Return one of so many parts, in which all partitions come equally far.

    Examples
    --------
    >>> _part_of([Span(0, 0, 10), Span(1, 5, 8)], 1, 2)
    [Span(partition=0, low=5, high=10), Span(partition=1, low=6, high=8)]
    """
    bounds = [
        [span.low + (span.high - span.low) * at // parts for at in (part, part + 1)]
        for span in whole
    ]
    return [Span(span.partition, *bound) for span, bound in zip(whole, bounds, strict=True)]


def _records(
    settings: Settings, within: Mapping[str, Sequence[Span]], part: int, parts: int
) -> list[pa.RecordBatch]:
    """Return the records of one of so many parts as Spark hands them over."""
    return [
        some
        for topic, whole in within.items()
        for some in _of_topic(settings, topic, _part_of(whole, part, parts))
    ]


def _of_topic(settings: Settings, topic: str, within: list[Span]) -> Iterator[pa.RecordBatch]:
    """Yield the records of a topic, one partition after the other."""
    found = list(read(settings.cluster, topic, within))
    if not found:
        return
    partition, offset, appended_ms = (
        np.concatenate([getattr(some, name) for some in found])
        for name in ("partition", "offset", "appended_ms")
    )
    values = [value for some in found for value in some.values]
    order = np.argsort(partition, kind="stable")
    yield pa.record_batch(
        {
            "topic": [topic] * len(order),
            "partition": partition[order],
            "offset": offset[order],
            "appended_ms": appended_ms[order],
            "value": pa.array([values[row] for row in order.tolist()], pa.large_binary()),
        }
    )


def _remember(settings: Settings, batch: int, records: list[pa.RecordBatch]) -> None:
    """Do what a batch of the stream does, but for the scores."""
    begun = settings.state.begin(batch)
    rows = list(first_task(settings, batch, Untold())(records))
    for key in shared_keys(settings.feature_set):
        rows = list(key_task(settings, batch, key, Untold())(rows))
    settings.state.keep(batch, begun)
    settings.alive.touch()
