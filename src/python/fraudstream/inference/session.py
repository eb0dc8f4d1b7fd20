"""The Spark session, with what the stream needs of Spark's many settings."""

from collections.abc import Mapping
import os
from pathlib import Path
import re
import signal

from py4j.protocol import Py4JJavaError  # pants: no-infer-dep (it comes with Spark)
import pyspark
from pyspark import SparkConf
from pyspark import SparkContext
from pyspark.sql import SparkSession

from fraudstream.inference.cluster import for_executors

#: The app's name at the cluster.
NAME = "inference"
#: Spark's own reader of Kafka. `deploy/spark/submit` names it as well.
CONNECTOR = "org.apache.spark:spark-sql-kafka-0-10_2.13:4.2.0"

#: Spark has these itself. They would be sent to every executor, twice: 100 MB.
OF_SPARK = "org.apache.hadoop:hadoop-client-api,org.apache.hadoop:hadoop-client-runtime"

#: What a cluster is asked for where its own settings (``spark-defaults.conf``, or ``--conf`` of
#: ``spark-submit``) say nothing.
_ON_A_CLUSTER = {
    # A killed process is noticed at once, by its connections. A machine that loses power or its
    # network says nothing: it is given up after this time, not after two minutes. A pause of the
    # garbage collector must not be taken for that.
    "spark.network.timeout": "30s",
    "spark.network.timeoutInterval": "5s",
    "spark.executor.heartbeatInterval": "5s",
    # A task counts as failed when its executor is lost; several can be lost while one batch is
    # tried, and a fourth failure would end the stream.
    "spark.task.maxFailures": "8",
    # Spark keeps a task back for the executor that read the same partition before, by default for
    # three seconds: longer than a batch takes.
    "spark.locality.wait": "100ms",
    # Executors that come and go would only be filled anew with the PEX and the models.
    "spark.dynamicAllocation.enabled": "false",
}

#: The same where all of Spark is one process on this machine.
_ON_THIS_MACHINE = {
    # Nobody else's to reach.
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # Spark notes each batch in two small files. By its own way each of them has a checksum beside
    # it, and takes several processes of chmod and readlink: 80 ms a batch.
    "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
    "spark.sql.streaming.checkpointFileManagerClass": (
        "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
    ),
    # What goes from step to step goes through files that nobody waits for: to make them smaller
    # takes longer than to copy them, a microsecond of 31 an event.
    "spark.shuffle.compress": "false",
}

#: Workers of Python keep memory that they have used once for the next batch. By default they give
#: it back whenever they can, and the system clears each page before they have it again.
_FOR_WORKERS = {
    "spark.executorEnv.ARROW_DEFAULT_MEMORY_POOL": "system",
    "spark.executorEnv.MALLOC_MMAP_THRESHOLD_": str(1024**3),
    "spark.executorEnv.MALLOC_TRIM_THRESHOLD_": str(1024**3),
}

# On this machine, without a number of failures: Spark would let no task fail even once.
_LOCAL = re.compile(r"local(?:\[([^,\]]+)\])?")
_FAILURES = 4


class SparkNotStarted(ConnectionError):
    """The master did not take the application, or Spark does not take a setting."""


def session(
    master: str,
    cache: Path,
    tasks: int,
    worker_timeout: int,
    environment: Mapping[str, str],
    spill: Path | None = None,
) -> SparkSession:
    """Return the Spark session.

    Parameters
    ----------
    master
        As ``spark-submit`` takes it; ``local[*]`` for this machine. Not used where
        ``spark-submit`` has started this program: it has been told a master itself.
    cache
        Where the Kafka connector is resolved into, once. Not used where it lies among Spark's own
        jars, as in an image.
    tasks
        How many tasks each step is spread over, at most.
    worker_timeout
        Seconds. A worker from which nothing comes for so long is killed, and its task repeated.
        No honest task may be silent for so long: it computes in silence, and waits for Kafka.
    environment
        Variables of this process: see `for_executors`.
    spill
        Where Spark on this machine keeps what is on its way between steps, unless its own settings
        say so; by default where it likes.

    Raises
    ------
    SparkNotStarted
        If the master does not take the application. Spark tries for a minute.
    """
    settings = {
        "spark.app.name": NAME,
        **_connector(cache),
        "spark.default.parallelism": str(tasks),
        "spark.sql.shuffle.partitions": str(tasks),
        "spark.sql.execution.pyspark.udf.idleTimeoutSeconds": f"{worker_timeout}s",
        "spark.sql.execution.pyspark.udf.killOnIdleTimeout": "true",
        # Batches are small: a plan that changes on the way costs more than it saves.
        "spark.sql.adaptive.enabled": "false",
        "spark.sql.execution.arrow.maxRecordsPerBatch": "20000",
        # A record can be a megabyte, and so can each of so many.
        "spark.sql.execution.arrow.maxBytesPerBatch": str(64 * 1024 * 1024),
        "spark.sql.streaming.minBatchesToRetain": "20",
        # What goes wrong at the start is told by an error of ours.
        "spark.log.level": "OFF",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
    }
    if "PYSPARK_GATEWAY_PORT" not in environment:
        settings["spark.master"] = forgiving(master)
    # Spark is started first, and asked for its settings then: what it was told by its own files
    # and its own command line would be hidden by a setting of the same name from here.
    SparkContext._ensure_initialized(conf=SparkConf().setAll(list(settings.items())))
    conf = SparkConf().setAll(list(settings.items()))
    master = str(conf.get("spark.master"))
    python, sent = for_executors(master, environment)
    os.environ["PYSPARK_PYTHON"] = python
    conf.setAll(list(sent.items()))
    where = dict(_ON_THIS_MACHINE if master.startswith("local") else _ON_A_CLUSTER)
    if spill is not None and master.startswith("local"):
        where["spark.local.dir"] = str(spill)
    for name, value in (where | _FOR_WORKERS).items():
        conf.setIfMissing(name, value)
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        spark = SparkSession.builder.config(conf=conf).getOrCreate()
    except Py4JJavaError as error:
        told = error.java_exception.toString().partition("\n")[0]
        raise SparkNotStarted(
            f"Spark did not start: expected the master of a Spark 4.2 at {master}, and settings "
            f"that Spark takes; Spark says: {told}"
        ) from error
    # Spark makes Ctrl-C its own, to cancel a job. Here it ends the stream between two batches.
    signal.signal(signal.SIGINT, interrupt)
    spark.sparkContext.setLogLevel("ERROR")
    return spark


def forgiving(master: str) -> str:
    """Return a master under which a task that failed is repeated; on a cluster it always is.

    Examples
    --------
    >>> forgiving("local[*]"), forgiving("local"), forgiving("local[2,1]"), forgiving("yarn")
    ('local[*,4]', 'local[1,4]', 'local[2,1]', 'yarn')
    """
    found = _LOCAL.fullmatch(master)
    return f"local[{found[1] or 1},{_FAILURES}]" if found else master


def _connector(cache: Path) -> dict[str, str]:
    """Return the settings by which Spark fetches its reader of Kafka; none where it has it."""
    home = Path(os.environ.get("SPARK_HOME") or Path(pyspark.__file__).parent)
    _, module, version = CONNECTOR.split(":")
    if (home / "jars" / f"{module}-{version}.jar").exists():
        return {}
    return {
        "spark.jars.packages": CONNECTOR,
        "spark.jars.excludes": OF_SPARK,
        "spark.jars.ivy": str(cache / "ivy"),
    }
