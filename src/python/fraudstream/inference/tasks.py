"""What runs on Spark's workers: the tasks of a batch, between Arrow and the steps.

Kept apart from the job, so that a worker loads neither Spark's SQL nor the registry's client.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import replace
import functools
import gc
from itertools import groupby
from itertools import pairwise
from operator import itemgetter
from pathlib import Path
import tempfile
import time
from typing import NamedTuple
from typing import Protocol

import numpy as np
import pyarrow as pa
from pyspark import AccumulatorParam
from pyspark import TaskContext

from fraudstream.features.definitions import FeatureSet
from fraudstream.features.history import Int64
from fraudstream.inference.scoring import Destinations
from fraudstream.inference.scoring import Results
from fraudstream.inference.scoring import results
from fraudstream.inference.sink import Sink
from fraudstream.inference.steps import card_step
from fraudstream.inference.steps import key_step
from fraudstream.inference.steps import label_step
from fraudstream.inference.steps import portions
from fraudstream.inference.steps import shared_keys
from fraudstream.inference.store import Buckets
from fraudstream.inference.store import State
from fraudstream.inference.tally import Stopwatch
from fraudstream.inference.tally import Tally
from fraudstream.inference.tally import added
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.model.bundle import Bundle
from fraudstream.model.bundle import BundleRefused
from fraudstream.model.bundle import load_bundle
from fraudstream.schema.decoding import Decoded
from fraudstream.schema.decoding import concatenate
from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_transactions

#: How many rows the features are computed of at once; bounds a worker's memory.
_ROWS_AT_ONCE = 50_000
#: How many models a worker keeps: champion and challenger, and those before them.
_MOST_BUNDLES = 4

Task = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

#: The last step, before its results are written.
Scoring = Callable[[Iterable[pa.RecordBatch]], Iterator[Results]]


@dataclass(frozen=True)
class Settings:
    """What a run of the job needs to know.

    Attributes
    ----------
    cluster, topics
        Where records come from and go to.
    checkpoint
        Folder of the query's progress, of embedded state, of the models that it has used, and of
        what Spark has on its way on this machine.
        **Removing it makes the stream begin anew**, at the first offset.
    feature_set
        What is served.
    most_records
        The most records that one batch reads of a topic, over all partitions.
    share_of_features
        The share of transactions whose features go out with the score.
    state
        What the stream remembers, and where.
    """

    cluster: Cluster
    topics: Topics
    checkpoint: Path
    feature_set: FeatureSet
    most_records: int
    share_of_features: float
    state: State

    @property
    def progress(self) -> Path:
        """Where Spark writes down how far it has come."""
        return self.checkpoint / "progress"

    @property
    def spill(self) -> Path:
        """Where Spark keeps what is on its way between steps, on this machine."""
        return self.checkpoint / "spill"

    @property
    def alive(self) -> Path:
        """The file that is touched while a stream works or waits with this checkpoint."""
        return self.checkpoint / "alive"


class Model(Protocol):
    """A model's files by name, as a broadcast of Spark gives them."""

    @property
    def value(self) -> dict[str, bytes]:
        """The files."""
        ...


class Shipped(NamedTuple):
    """A model as it reaches a worker."""

    version: str
    digest: str
    model: Model


class Spent(Protocol):
    """Takes what a task has spent its time on, as an accumulator of Spark does."""

    def add(self, seconds: dict[str, float], /) -> None:
        """Add seconds by stage: ``reading``, ``features``, ``exchange``, ``scoring``, ``writing``.

        ``exchange`` is what Spark takes to bring rows from one step to the next.
        """
        ...


class Untold:
    """A `Spent` that nobody asks."""

    def add(self, seconds: dict[str, float], /) -> None:
        """See `Spent.add`."""


class SecondsByStage(AccumulatorParam[dict[str, float]]):
    """How Spark adds up what tasks have spent their time on."""

    def zero(self, value: dict[str, float]) -> dict[str, float]:
        """Return no time at all."""
        return {}

    def addInPlace(  # noqa: N802 - Spark's name
        self, value1: dict[str, float], value2: dict[str, float]
    ) -> dict[str, float]:
        """Return the sums; see `fraudstream.inference.tally.added`."""
        return added(value1, value2)


def first_task(settings: Settings, batch: int, spent: Spent) -> Task:
    """Return the task of the first step: some partitions of topics, one after the other."""

    def task(records: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        watch = Stopwatch()
        for place, parts in groupby(_by_place(records), key=itemgetter(0)):
            rows = _first_step(settings, batch, place, (part for _, part in parts), watch)
            yield from rows.combine_chunks().to_batches()
            watch.lap("exchange")
        spent.add(watch.seconds)
        _settle()

    return task


def _by_place(
    records: Iterable[pa.RecordBatch],
) -> Iterator[tuple[tuple[str, int], pa.RecordBatch]]:
    """Yield records with the topic and the partition that they come from."""
    for some in records:
        topic = some["topic"].dictionary_encode()
        partition = some["partition"].to_numpy()
        names, number = topic.dictionary.to_pylist(), topic.indices.to_numpy()
        begins = [0] * (some.num_rows > 0)
        begins += (np.flatnonzero(np.diff(number) | np.diff(partition)) + 1).tolist()
        for begin, end in pairwise([*begins, some.num_rows]):
            yield (names[number[begin]], int(partition[begin])), some.slice(begin, end - begin)


def _first_step(
    settings: Settings,
    batch: int,
    place: tuple[str, int],
    records: Iterable[pa.RecordBatch],
    watch: Stopwatch,
) -> pa.Table:
    store = settings.state.open(f"{place[0]}-{place[1]}", batch)
    # Asked first: a task that was given up learns of it here, and reads nothing more.
    clock_before_us = store.clock_before(batch)
    # What is computed depends on all records of the partition, so they are brought together first;
    # decoding as they come keeps that small.
    is_label = place[0] == settings.topics.labels
    decode = decode_labels if is_label else decode_transactions
    parts: list[Decoded] = []
    originals: list[bytes | None] = []
    offsets = []
    for some in records:
        values = some["value"]
        appended_ms = some["appended_ms"].to_numpy()
        parts.append(_placed(decode(values, appended_ms), appended_ms))
        originals += [values[rejection.row].as_py() for rejection in parts[-1].rejections]
        offsets.append(some["offset"].to_numpy())
    watch.lap("reading")
    rows = (label_step if is_label else card_step)(
        settings.feature_set,
        concatenate(parts, [len(some) for some in offsets]),
        originals,
        place,
        np.concatenate(offsets),
        batch,
        store,
        clock_before_us,
    )
    watch.lap("features")
    return rows


def _placed(decoded: Decoded, appended_ms: Int64) -> Decoded:
    """Return what was decoded with the append time of each record, by which latency is told."""
    column = pa.array(appended_ms[decoded.rows])
    return replace(decoded, columns=decoded.columns.append_column("appended_ms", column))


def key_task(settings: Settings, batch: int, key: str, spent: Spent) -> Task:
    """Return the task of a further step but the last: some buckets of a key."""
    step = _key_step(settings, batch, key)

    def task(records: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        watch = Stopwatch()
        for rows in _handed_on(records):
            watch.lap("exchange")
            after = step(rows).combine_chunks().to_batches()
            watch.lap("features")
            yield from after
        watch.lap("exchange")
        spent.add(watch.seconds)
        _settle()

    return task


def scoring_task(
    settings: Settings, batch: int, champion: Shipped, challenger: Shipped | None, spent: Spent
) -> Scoring:
    """Return the task of the last step: it scores, too."""
    step = _key_step(settings, batch, shared_keys(settings.feature_set)[-1])
    topics = settings.topics
    to = Destinations(topics.scores, topics.predicted, topics.dead_letters)

    def task(records: Iterable[pa.RecordBatch]) -> Iterator[Results]:
        watch = Stopwatch()
        for rows in _handed_on(records):
            watch.lap("exchange")
            featured = step(rows)
            watch.lap("features")
            yield results(
                settings.feature_set,
                _bundle(champion),
                featured,
                to,
                settings.share_of_features,
                _in_shadow(challenger),
            )
            watch.lap("scoring")
        spent.add(watch.seconds)
        _settle()

    return task


def _key_step(settings: Settings, batch: int, key: str) -> Callable[[pa.Table], pa.Table]:
    def step(rows: pa.Table) -> pa.Table:
        store = Buckets(lambda bucket: settings.state.open(f"by-{key}-{bucket}", batch))
        return key_step(settings.feature_set, key, rows, batch, store)

    return step


def _handed_on(records: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    batches = [some for some in records if some.num_rows]
    if batches:
        yield from portions(pa.Table.from_batches(batches), _ROWS_AT_ONCE)


def shard_at_hand() -> int:
    """Return which partition of the last step this task of Spark works on."""
    return int(TaskContext.get().partitionId())  # type: ignore[union-attr]


def writing_task(
    task: Scoring, sink: Sink, batch: int, spent: Spent, shard: Callable[[], int] = shard_at_hand
) -> Task:
    """Return a task that sends what `task` yields to Kafka, and yields `WRITTEN`."""

    def write(records: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Kafka is asked while scores are computed. All of them are there before any is sent: no
        # transaction is open for longer than sending takes.
        with ThreadPoolExecutor(1) as beside:
            opening = beside.submit(sink.open, shard(), batch)
            parts = list(task(records))
            watch = Stopwatch()
            opened = opening.result()
            rows = [some for part in parts for some in part.outgoing.to_batches()]
            count = sum(some.num_rows for some in rows)
            if count:
                is_new = opened.write(rows)
                tally = Tally()
                for part in parts:
                    tally.add(part.tally)
                yield tally.written(shard(), count, not is_new, time.time() * 1000)
            watch.lap("writing")
            spent.add(watch.seconds)

    return write


_bundles: dict[str, Bundle] = {}


def _bundle(shipped: Shipped) -> Bundle:
    """Return this worker's copy of a model, checked when it is first used here."""
    version, digest, model = shipped
    if digest not in _bundles:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in model.value.items():
                (Path(folder) / name).write_bytes(content)
            while len(_bundles) >= _MOST_BUNDLES:
                del _bundles[next(iter(_bundles))]
            _bundles[digest] = load_bundle(Path(folder), version=version)
    return _bundles[digest]


def _in_shadow(shipped: Shipped | None) -> Bundle | None:
    """Return a challenger; none where it is damaged, since nothing depends on it."""
    try:
        return _bundle(shipped) if shipped else None
    except BundleRefused:
        return None


@functools.cache
def _settle() -> None:
    # pyspark.daemon collects garbage after every task: with our libraries loaded, 100 ms. What is
    # alive after the first task stays alive, and need not be looked at again.
    gc.freeze()
