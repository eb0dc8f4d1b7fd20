"""What runs on Spark's workers: the tasks of a batch, between Arrow and the two steps.

Kept apart from the job, so that a worker loads neither Spark's SQL nor the registry's client.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
import functools
import gc
from pathlib import Path
import tempfile
from typing import Protocol

import numpy as np
import pyarrow as pa
from pyspark import TaskContext

from fraudstream.features.definitions import FeatureSet
from fraudstream.inference.scoring import HANDED_ON
from fraudstream.inference.scoring import Destinations
from fraudstream.inference.scoring import card_step
from fraudstream.inference.scoring import label_step
from fraudstream.inference.scoring import merchant_step
from fraudstream.inference.sink import Sink
from fraudstream.inference.store import open_embedded
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.model.bundle import Bundle
from fraudstream.model.bundle import load_bundle
from fraudstream.schema.decoding import concatenate
from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_transactions

Task = Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]

#: What comes of a batch, one row a shard that had anything to write.
WRITTEN = pa.schema([("shard", pa.int32()), ("rows", pa.int64()), ("was_there", pa.bool_())])


@dataclass(frozen=True)
class Settings:
    """What a run of the job needs to know.

    Attributes
    ----------
    cluster, topics
        Where records come from and go to.
    checkpoint
        Folder of the query's progress, the state and the models that it has used. **Removing it
        makes the stream begin anew**, at the first offset.
    feature_set
        What is served. The checkpoint belongs to it: another one needs another checkpoint.
    most_records
        The most records that one batch reads, over all partitions.
    share_of_features
        The share of transactions whose features go out with the score.
    """

    cluster: Cluster
    topics: Topics
    checkpoint: Path
    feature_set: FeatureSet
    most_records: int
    share_of_features: float

    @property
    def state(self) -> Path:
        """Where the stores are."""
        return self.checkpoint / "state"


class Model(Protocol):
    """A model's files by name, as a broadcast of Spark gives them."""

    @property
    def value(self) -> dict[str, bytes]:
        """The files."""
        ...


def card_task(settings: Settings, batch: int) -> Task:
    """Return the task of the first step: one partition of one topic."""

    def task(records: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # A task reads one partition of one topic. What it computes depends on all its records, so
        # they are brought together first; decoding as they come keeps that small.
        parts, lengths, values, offsets = [], [], [], []
        place = None
        for some in records:
            if some.num_rows == 0:
                continue
            place = place or (some["topic"][0].as_py(), some["partition"][0].as_py())
            decode = decode_labels if place[0] == settings.topics.labels else decode_transactions
            came = some["value"].to_pylist()
            parts.append(decode(came, some["appended_ms"].to_numpy()))
            lengths.append(len(came))
            offsets.append(some["offset"].to_numpy())
            values += came
        if place is None:
            return
        store = open_embedded(settings.state / f"{place[0]}-{place[1]}")
        decoded = concatenate(parts, lengths)
        if place[0] == settings.topics.labels:
            rows = label_step(decoded, values, place, np.concatenate(offsets), batch, store)
        else:
            rows = card_step(
                settings.feature_set, decoded, values, place, np.concatenate(offsets), batch, store
            )
        _settle()
        yield from rows.combine_chunks().to_batches()

    return task


def merchant_task(settings: Settings, version: str, digest: str, model: Model) -> Task:
    """Return the task of the second step: some buckets of merchants."""
    to = Destinations(
        settings.topics.scores, settings.topics.predicted, settings.topics.dead_letters
    )

    def task(records: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        batches = [some for some in records if some.num_rows]
        if not batches:
            return
        rows = pa.Table.from_batches(batches).cast(HANDED_ON)
        bundle = _bundle(version, digest, model)
        buckets = rows["bucket"].to_numpy()
        for bucket in np.unique(buckets).tolist():
            results = merchant_step(
                settings.feature_set,
                bundle,
                rows.filter(pa.array(buckets == bucket)),
                open_embedded(settings.state / f"merchants-{bucket}"),
                to,
                settings.share_of_features,
            )
            yield from results.combine_chunks().to_batches()
        _settle()

    return task


def shard_at_hand() -> int:
    """Return which partition of the second step this task of Spark works on."""
    return int(TaskContext.get().partitionId())  # type: ignore[union-attr]


def writing_task(
    task: Task, sink: Sink, batch: int, shard: Callable[[], int] = shard_at_hand
) -> Task:
    """Return a task that sends what `task` yields to Kafka, and yields `WRITTEN`."""

    def write(records: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # Kafka is asked while scores are computed. All of them are there before any is sent: no
        # transaction is open for longer than sending takes.
        with ThreadPoolExecutor(1) as beside:
            opening = beside.submit(sink.open, shard())
            rows = list(task(records))
            with closing(opening.result()) as opened:
                count = sum(some.num_rows for some in rows)
                if count:
                    is_new = opened.write(batch, rows)
                    yield pa.record_batch([[shard()], [count], [not is_new]], schema=WRITTEN)

    return write


_bundles: dict[str, Bundle] = {}


def _bundle(version: str, digest: str, model: Model) -> Bundle:
    """Return this worker's copy of a model, checked when it is first used here."""
    if digest not in _bundles:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in model.value.items():
                (Path(folder) / name).write_bytes(content)
            _bundles.clear()
            _bundles[digest] = load_bundle(Path(folder), version=version)
    return _bundles[digest]


@functools.cache
def _settle() -> None:
    # pyspark.daemon collects garbage after every task: with our libraries loaded, 100 ms. What is
    # alive after the first task stays alive, and need not be looked at again.
    gc.freeze()
