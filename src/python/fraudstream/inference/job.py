"""The Spark job: Kafka to features to score to Kafka."""

from pathlib import Path
import threading

import orjson
from pyspark import Broadcast
from pyspark.sql import DataFrame
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.streaming.query import StreamingQuery

from fraudstream.inference.champion import Champion
from fraudstream.inference.scoring import HANDED_ON
from fraudstream.inference.scoring import OUTGOING
from fraudstream.inference.tasks import Settings
from fraudstream.inference.tasks import card_task
from fraudstream.inference.tasks import merchant_task
from fraudstream.model.bundle import Bundle

#: The query's name, which is also that of the app and of its consumer group.
NAME = "inference"
CONNECTOR = "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0"


class ForeignState(ValueError):
    """The checkpoint was made with another feature set, or for other topics."""


class StreamStopped(ValueError):
    """A batch came when the stream was being stopped. It is the first one of the next run."""


def start(
    spark: SparkSession, settings: Settings, champion: Champion
) -> tuple[StreamingQuery, "Batches"]:
    """Start the stream on a checkpoint that `claim` has bound to it.

    Returns
    -------
    query
        Spark's handle of it.
    batches
        Ours: stop through `Batches.finish`, so that no batch is cut in the middle.
    """
    batches = Batches(settings, champion)
    records = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", settings.bootstrap_servers)
        .option("subscribe", f"{settings.topics.transactions},{settings.topics.labels}")
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", settings.most_records)
        # As the trainer reads: what was aborted is in neither.
        .option("kafka.isolation.level", "read_committed")
        .option("failOnDataLoss", "true")
        .load()
    )
    query = (
        records.writeStream.queryName(NAME)
        .option("checkpointLocation", str(settings.checkpoint / "progress"))
        .foreachBatch(batches.process)
        .start()
    )
    return query, batches


class Batches:
    """Takes one batch after another from records to results."""

    def __init__(self, settings: Settings, champion: Champion) -> None:
        self._settings = settings
        self._champion = champion
        self._written = settings.checkpoint / "written.json"
        self._between = threading.Lock()
        self._finished = False
        self._models: dict[str, Broadcast[dict[str, bytes]]] = {}

    def process(self, records: DataFrame, batch: int) -> None:
        """Score a batch. One that was written whole is not written again.

        Raises
        ------
        StreamStopped
            If `finish` was first. Spark then knows that the batch is not done.
        """
        with self._between:
            if self._finished:
                raise StreamStopped(f"batch {batch} is left to the next run")
            if batch <= self._last_written():
                return
            bundle = self._champion.for_batch(batch)
            self._results(records, batch, bundle).write.format("kafka").option(
                "kafka.bootstrap.servers", self._settings.bootstrap_servers
            ).save()
            _write_whole(self._written, {"batch": batch})

    def finish(self, query: StreamingQuery) -> None:
        """Stop the stream between two batches."""
        with self._between:
            self._finished = True
        # Not under the lock: Spark waits here for a batch that it has just handed to `process`.
        query.stop()

    def _results(self, records: DataFrame, batch: int, bundle: Bundle) -> DataFrame:
        settings = self._settings
        spark = records.sparkSession
        if bundle.digest not in self._models:
            self._models = {
                bundle.digest: spark.sparkContext.broadcast(self._champion.files(bundle))
            }
        model = self._models[bundle.digest]
        of_cards = card_task(settings, batch)
        of_merchants = merchant_task(settings, bundle.version, bundle.digest, model)
        tasks = spark.sparkContext.defaultParallelism
        return (
            records.select(
                "topic",
                "partition",
                "offset",
                (sf.unix_millis("timestamp")).alias("appended_ms"),
                "value",
            )
            .mapInArrow(of_cards, from_arrow_schema(HANDED_ON))
            .repartition(tasks, "bucket")
            .mapInArrow(of_merchants, from_arrow_schema(OUTGOING))
        )

    def _last_written(self) -> int:
        if not self._written.exists():
            return -1
        return int(orjson.loads(self._written.read_bytes())["batch"])


def claim(settings: Settings) -> None:
    """Bind a new checkpoint to its feature set and topics, or see that it is bound to them.

    Raises
    ------
    ForeignState
        If it is bound to others.
    """
    ours = {
        "feature_set": settings.feature_set.identity,
        "transactions": settings.topics.transactions,
        "labels": settings.topics.labels,
    }
    owner = settings.checkpoint / "owner.json"
    settings.checkpoint.mkdir(parents=True, exist_ok=True)
    if not owner.exists():
        _write_whole(owner, ours)
    theirs = orjson.loads(owner.read_bytes())
    for name, value in ours.items():
        if theirs.get(name) != value:
            raise ForeignState(
                f"{settings.checkpoint} belongs to {name} {theirs.get(name)}, not {value}: "
                "give another --checkpoint; the new one is built from the topic"
            )


def _write_whole(file: Path, document: object) -> None:
    # A kill in the middle must not leave half a file, on which no run could go on.
    scratch = file.with_suffix(".new")
    scratch.write_bytes(orjson.dumps(document))
    scratch.replace(file)


def session(master: str, cache: Path, tasks: int) -> SparkSession:
    """Return the Spark session, with what the stream needs of Spark's many settings.

    Parameters
    ----------
    master
        As ``spark-submit`` takes it; ``local[*]`` for this machine.
    cache
        Where the Kafka connector is resolved into, once.
    tasks
        How many tasks the second step is spread over.
    """
    settings = {
        "spark.jars.packages": CONNECTOR,
        "spark.jars.ivy": str(cache / "ivy"),
        "spark.default.parallelism": tasks,
        "spark.sql.shuffle.partitions": tasks,
        # Batches are small: a plan that changes on the way costs more than it saves.
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.execution.arrow.maxRecordsPerBatch": 20_000,
        "spark.sql.streaming.minBatchesToRetain": 20,
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
    }
    if master.startswith("local"):
        # All of it is one process on this machine, and nobody else's to reach.
        settings |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    builder = SparkSession.builder.appName(NAME).master(master)
    for name, value in settings.items():
        builder = builder.config(name, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark
