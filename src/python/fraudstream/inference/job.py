"""The Spark job: Kafka to features to score to Kafka."""

from pathlib import Path
import threading
import time
from typing import Any
from uuid import uuid4

import orjson
from pyspark import Accumulator
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.streaming.query import StreamingQuery
import structlog

from fraudstream.inference.champion import Models
from fraudstream.inference.champion import Pin
from fraudstream.inference.durable import is_past
from fraudstream.inference.durable import settle_batch
from fraudstream.inference.durable import write_once
from fraudstream.inference.exchange import BLOCKS
from fraudstream.inference.exchange import received
from fraudstream.inference.exchange import sent
from fraudstream.inference.metrics import Metrics
from fraudstream.inference.session import NAME
from fraudstream.inference.sink import PREFIX
from fraudstream.inference.sink import Sink
from fraudstream.inference.steps import shared_keys
from fraudstream.inference.tally import WRITTEN
from fraudstream.inference.tally import rows_of
from fraudstream.inference.tasks import SecondsByStage
from fraudstream.inference.tasks import Settings
from fraudstream.inference.tasks import Shipped
from fraudstream.inference.tasks import first_task
from fraudstream.inference.tasks import key_task
from fraudstream.inference.tasks import scoring_task
from fraudstream.inference.tasks import writing_task
from fraudstream.kafka.security import java_properties
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.model.bundle import Bundle

log = structlog.get_logger()

#: Of the checkpoint: what lies where in it, and how it is to be read. Raised with any change, but
#: for state, which is built again where it is of another form.
_FORMAT = "3"


class ForeignState(ValueError):
    """The checkpoint was made for other topics."""


class Overtaken(RuntimeError):
    """Another driver has gone on from the same checkpoint while this one stood still."""


class StreamStopped(ValueError):
    """A batch came when the stream was being stopped. It is the first one of the next run."""


def start(
    spark: SparkSession,
    settings: Settings,
    models: Models,
    sink: Sink,
    metrics: Metrics,
    *,
    skip_lost: bool = False,
) -> tuple[StreamingQuery, "Batches"]:
    """Start the stream on a checkpoint that `claim` has bound to it.

    Parameters
    ----------
    spark, settings, champion, sink
        What it runs on, what it does, by which model, and where results go.
    skip_lost
        Go on behind records that are gone from a topic, and end where the topics end now. Else the
        stream has no end, and fails where records are gone that it has not read.

    Returns
    -------
    query
        Spark's handle of it.
    batches
        Ours: stop through `Batches.finish`, so that no batch is cut in the middle.
    """
    batches = Batches(settings, models, sink, metrics)
    tasks = spark.sparkContext.defaultParallelism
    # A task costs more than the few records of a partition. So one reads several of these, and the
    # labels, of which there are few, all go to one: in this order, to the last.
    topics = settings.topics
    transactions = _records(spark, settings, topics.transactions, skip_lost).coalesce(tasks)
    labels = _records(spark, settings, topics.labels, skip_lost).coalesce(1)
    records = transactions.union(labels).coalesce(tasks)
    writer = (
        records.writeStream.queryName(NAME)
        # By its scheme: a cluster may have another file system as its default.
        .option("checkpointLocation", settings.progress.as_uri())
        .foreachBatch(batches.process)
    )
    if skip_lost:
        writer = writer.trigger(availableNow=True)
    return writer.start(), batches


def _records(spark: SparkSession, settings: Settings, topic: str, skip_lost: bool) -> DataFrame:
    return (
        spark.readStream.format("kafka")
        .options(**_kafka_options(settings.cluster))
        .option("subscribe", topic)
        .option("groupIdPrefix", PREFIX)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", settings.most_records)
        # As the trainer reads: what was aborted is in neither.
        .option("kafka.isolation.level", "read_committed")
        # The consumer asks what comes next before it asks where the topic ends, and Kafka answers
        # one after the other: with the default it would wait for half a second where nothing comes.
        .option("kafka.fetch.max.wait.ms", "5")
        # After each poll Spark asks where the partition begins and ends: with Kafka's default that
        # is twice for every 500 records. How many bytes a poll brings is bounded all the same.
        .option("kafka.max.poll.records", "20000")
        .option("failOnDataLoss", str(not skip_lost).lower())
        .load()
        .select(
            "topic",
            "partition",
            "offset",
            sf.unix_millis("timestamp").alias("appended_ms"),
            "value",
        )
    )


def _kafka_options(cluster: Cluster) -> dict[str, str]:
    told = {"bootstrap.servers": cluster.bootstrap_servers, **java_properties(cluster.properties)}
    return {f"kafka.{name}": value for name, value in told.items()}


class Batches:
    """Takes one batch after another from records to results."""

    def __init__(self, settings: Settings, models: Models, sink: Sink, metrics: Metrics) -> None:
        self._settings = settings
        self._models = models
        self._sink = sink
        self._metrics = metrics
        self._between = threading.Lock()
        self._finished = False
        self._broadcast: dict[str, Broadcast[dict[str, bytes]]] = {}
        self._failing = ""
        self._at_hand: int | None = None
        self._is_cut = False
        # One for all batches: Spark never forgets one.
        self._spent: Accumulator[dict[str, float]] | None = None

    def process(self, records: DataFrame, batch: int) -> None:
        """Score a batch and write the results, but for what of it was written before.

        Raises
        ------
        StreamStopped
            If `finish` was first. Spark then knows that the batch is not done.
        Overtaken
            If it was cut.
        """
        with self._between:
            if self._finished:
                raise StreamStopped(f"batch {batch} is left to the next run")
            context = records.sparkSession.sparkContext
            pin = self._models.for_batch(batch, context.defaultParallelism)
            if self._spent is None:
                self._spent = context.accumulator({}, SecondsByStage())
            begin = time.monotonic()
            settle_batch(self._settings.progress, batch)
            state = self._settings.state
            begun = state.begin(batch)
            self._at_hand = batch
            try:
                written = self._results(records, batch, pin, self._spent).collect()
            finally:
                self._at_hand = None
                if self._is_cut:
                    # In place of what Spark says of a job that was cancelled.
                    raise Overtaken(
                        f"another stream has done batch {batch} of {self._settings.checkpoint} "
                        "while this one stood still: nothing is lost or twice, let that one run"
                    ) from None
            state.keep(batch, begun)
            seconds = time.monotonic() - begin
        told = [row.asDict() for row in written]
        self._models.saw(rows_of(told, len(self._settings.feature_set.names)))
        self._metrics.add_batch(told, pin, seconds, self._spent.value)
        self._see_whether_fails(pin.challenger, told)
        there = sorted(row["shard"] for row in written if row["was_there"])
        if there:
            log.info("batch repeated", batch=batch, shards=pin.shards, written_before=there)

    def _see_whether_fails(self, challenger: Bundle | None, told: list[dict[str, Any]]) -> None:
        """Warn, once, of a challenger that did not score all that the champion has scored."""
        lacking = sum(row["scores"] - row["shadow_scores"] for row in told)
        if challenger and lacking and challenger.digest != self._failing:
            self._failing = challenger.digest
            log.warning("challenger fails", version=challenger.version, not_scored=lacking)

    def is_overtaken(self) -> bool:
        """Tell whether the batch at hand is done: another driver did it while we stood still."""
        at_hand = self._at_hand
        if at_hand is None or not is_past(self._settings.progress, at_hand):
            return False
        # Else it was we who have done it meanwhile.
        return self._at_hand == at_hand

    def cut(self, spark: SparkSession) -> None:
        """End the batch at hand without results: it, and with it the query, fails.

        Its tasks would find out by themselves that it is done. But Spark repeats a task that fails,
        and begins with a new worker: by the logs of a campaign, 28 to 82 s for all tries (ADR 7).
        """
        self._is_cut = True
        # Not the query: to stop one in a batch overflows the stack of Spark's search for the cause.
        spark.sparkContext.cancelAllJobs()

    def finish(self, query: StreamingQuery) -> None:
        """Stop the stream between two batches."""
        with self._between:
            self._finished = True
        # Not under the lock: Spark waits here for a batch that it has just handed to `process`.
        query.stop()
        self._settings.state.settle()

    def _results(
        self,
        records: DataFrame,
        batch: int,
        pin: Pin,
        spent: Accumulator[dict[str, float]],
    ) -> DataFrame:
        settings = self._settings
        champion, *in_shadow = self._shipped(records.sparkSession, pin)
        *between, _ = shared_keys(settings.feature_set)
        blocks = from_arrow_schema(BLOCKS)
        rows = records.mapInArrow(sent(first_task(settings, batch, spent), pin.shards), blocks)
        for key in between:
            step = sent(received(key_task(settings, batch, key, spent)), pin.shards)
            rows = rows.repartitionById(pin.shards, "shard").mapInArrow(step, blocks)
        challenger = in_shadow[0] if in_shadow else None
        scoring = received(scoring_task(settings, batch, champion, challenger, spent))
        return rows.repartitionById(pin.shards, "shard").mapInArrow(
            writing_task(scoring, self._sink, batch, spent), from_arrow_schema(WRITTEN)
        )

    def _shipped(self, spark: SparkSession, pin: Pin) -> list[Shipped]:
        """Return the models of a batch as workers get them, the champion first."""
        bundles = [pin.champion, *([pin.challenger] if pin.challenger else [])]
        # What is broadcast and not named here any more, Spark takes back.
        self._broadcast = {
            bundle.digest: self._broadcast.get(bundle.digest)
            or spark.sparkContext.broadcast(self._models.files(bundle))
            for bundle in bundles
        }
        return [
            Shipped(bundle.version, bundle.digest, self._broadcast[bundle.digest])
            for bundle in bundles
        ]


def claim(checkpoint: Path, topics: Topics) -> str:
    """Bind a new checkpoint to its topics, or see that it is bound to them.

    Returns
    -------
    str
        The name of the stream that began with this checkpoint: see `Sink`.

    Raises
    ------
    ForeignState
        If it is bound to others.
    """
    ours = {
        "format": _FORMAT,
        "transactions": topics.transactions,
        "labels": topics.labels,
    }
    owner = checkpoint / "owner.json"
    checkpoint.mkdir(parents=True, exist_ok=True)
    # Looked for in this order: another driver may begin at this moment.
    is_used = (checkpoint / "state").exists() or (checkpoint / "progress").exists()
    if not owner.exists():
        if is_used:
            raise ForeignState(
                f"{checkpoint} holds state and has no {owner.name}, by which it would tell whose: "
                "give another --checkpoint; the new one is built from the topic"
            )
        write_once(owner, {**ours, "stream": uuid4().hex[:12]})
    theirs = orjson.loads(owner.read_bytes())
    for name, value in ours.items():
        if theirs.get(name) != value:
            raise ForeignState(
                f"{checkpoint} belongs to {name} {theirs.get(name)}, not {value}: "
                "give another --checkpoint; the new one is built from the topic"
            )
    return str(theirs["stream"])
