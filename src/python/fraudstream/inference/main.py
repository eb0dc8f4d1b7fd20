"""The command line of the inference app."""

import os
from pathlib import Path
import re
import shutil
import sys

import click
import structlog

from fraudstream.cli.console import debug_option
from fraudstream.cli.console import option
from fraudstream.cli.console import run
from fraudstream.cli.stopping import stop_requests
from fraudstream.features.definitions import DEFAULT
from fraudstream.kafka.options import kafka_options
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics

# An error as Python and Java write it: the class, perhaps within a package, and the message.
_ERROR = re.compile(r"(?:Caused by: )?(?:\w+\.)*([A-Z]\w*: .+)")

log = structlog.get_logger()


class SparkMissing(LookupError):
    """No Spark was found to run on."""


class JavaMissing(LookupError):
    """No Java was found for Spark to run on."""


class UnsupportedProperties(ValueError):
    """Client properties were given, and Spark's Kafka client would not get them."""


class StreamFailed(ValueError):
    """The stream ended by itself."""


@click.group()
def inference() -> None:
    """Score card transactions as they happen, with Spark Structured Streaming.

    Reads the topics of transactions and labels, computes features, scores with the champion from
    MLflow, and writes every score to one topic and those at or over the threshold to another.
    """


@inference.command(name="run")
@kafka_options()
@option(
    "--tracking-uri",
    default="http://localhost:5000",
    metavar="URI",
    help="The MLflow server that knows the champion.",
)
@option("--model-name", default="fraud-detector", help="The registered model.")
@option(
    "--checkpoint",
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of progress, state and models. A restart goes on from it; without it the stream "
    "begins at the first offset.",
)
@option("--master", default="local[*]", help="Spark's master, as spark-submit takes it.")
@option(
    "--tasks",
    default=2,
    type=click.IntRange(1, 16),
    help="Tasks that score at the same time; about as many as there are cores.",
)
@option(
    "--most-records",
    default=2_000_000,
    type=click.IntRange(1),
    help="The most records that one batch reads.",
)
@option(
    "--share-of-features",
    default=0.01,
    type=click.FloatRange(0, 1),
    help="Share of transactions whose features go out with the score.",
)
@option(
    "--cache",
    default=None,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where Spark's Kafka connector is resolved into, once.  [default: ~/.cache/fraudstream]",
)
@option("--spark-home", default=None, metavar="FOLDER", help="Where Spark is, if not in this PEX.")
@debug_option
def run_stream(
    cluster: Cluster,
    topics: Topics,
    tracking_uri: str,
    model_name: str,
    checkpoint: Path,
    master: str,
    tasks: int,
    most_records: int,
    share_of_features: float,
    cache: Path | None,
    spark_home: str | None,
    debug: bool,
) -> None:
    """Run the stream until it is told to stop (Ctrl-C or SIGTERM); the batch at hand is finished.

    Needs Java 17 or 21, and a Spark 4.2: the one at SPARK_HOME or --spark-home, or pyspark.
    """
    if cluster.properties:
        raise UnsupportedProperties(
            "--kafka-config is not handed on to Spark yet: expected a broker that needs no "
            "properties, so leave the option out"
        )
    cluster.require_topics(topics.names())
    _find_spark(spark_home or os.environ.get("SPARK_HOME"), master)
    _require_java()
    # An answer within seconds, or the last good model: the stream does not wait for a registry.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    from fraudstream.inference.champion import Champion
    from fraudstream.inference.champion import Registry
    from fraudstream.inference.job import claim
    from fraudstream.inference.job import session
    from fraudstream.inference.job import start
    from fraudstream.inference.tasks import Settings

    checkpoint = checkpoint.resolve()
    settings = Settings(
        cluster.bootstrap_servers, topics, checkpoint, DEFAULT, most_records, share_of_features
    )
    champion = Champion(Registry(tracking_uri, model_name), checkpoint / "models", DEFAULT)
    serving = champion.current()
    log.info("model", name=serving.name, version=serving.version, threshold=serving.threshold)
    claim(settings)
    cache = cache or Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fraudstream"
    with stop_requests() as stop:
        spark = session(master, cache, tasks)
        try:
            query, batches = start(spark, settings, champion)
            log.info("stream started", checkpoint=str(checkpoint))
            while query.isActive and not stop.wait(0.2):
                pass
            if stop.is_set():
                if not debug:
                    # A batch that comes now is refused. Spark would log that as an error, with
                    # its stack trace.
                    spark.sparkContext.setLogLevel("OFF")
                batches.finish(query)
                log.info("stream stopped")
            elif (error := query.exception()) is not None:
                raise StreamFailed(_cause(str(error), debug))
        finally:
            spark.stop()


def _find_spark(home: str | None, master: str) -> None:
    """Make pyspark importable and tell it which Python its workers run.

    Raises
    ------
    SparkMissing
        If there is none.
    """
    if home:
        archives = sorted(Path(home).glob("python/lib/py4j-*-src.zip"))
        if not archives:
            raise SparkMissing(f"expected a Spark at {home}: it has no python/lib/py4j-*-src.zip")
        sys.path[:0] = [str(Path(home) / "python" / "lib" / "pyspark.zip"), str(archives[0])]
        os.environ["SPARK_HOME"] = home
    try:
        import pyspark  # noqa: F401
    except ImportError as error:
        raise SparkMissing(
            "Spark is not in this PEX: set SPARK_HOME or --spark-home to a Spark 4.2, "
            "or run inference-local.pex, which carries it"
        ) from error
    pex = os.environ.get("PEX")
    if master.startswith("local") or pex is None:
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    else:
        os.environ.setdefault("PYSPARK_PYTHON", f"./{Path(pex).name}")


def _require_java() -> None:
    """See that there is the Java that Spark's scripts will start.

    Raises
    ------
    JavaMissing
        If there is none.
    """
    home = os.environ.get("JAVA_HOME")
    if shutil.which("java", path=str(Path(home) / "bin") if home else None) is None:
        where = f"in JAVA_HOME ({home})" if home else "on PATH, and JAVA_HOME is not set"
        raise JavaMissing(f"no java {where}: install Java 17 or 21")


def _cause(message: str, debug: bool) -> str:
    """Return in one line why the stream ended, from what Spark says of it.

    Spark quotes the stacks of Python and of Java, the outermost error first.

    Examples
    --------
    >>> _cause("Job aborted\\nCaused by: a.TimeoutException: no broker", debug=False)
    'the stream ended: TimeoutException: no broker (--debug shows all)'
    """
    if debug:
        return message
    lines = [line.strip() for line in message.partition("=== Streaming Query")[0].splitlines()]
    named = [found for line in lines if (found := _ERROR.fullmatch(line))]
    what = named[-1].group(1) if named else next(filter(None, lines), "Spark does not say why")
    return f"the stream ended: {what} (--debug shows all)"


if __name__ == "__main__":
    run(inference)
