"""The command line of the inference app."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
import os
from pathlib import Path
import re
import threading
from typing import TYPE_CHECKING

import click
import numpy as np
import orjson
from rich.console import Console
from rich.table import Table
import structlog

from fraudstream.cli.console import debug_option
from fraudstream.cli.console import option
from fraudstream.cli.console import progress_bar
from fraudstream.cli.console import run
from fraudstream.cli.console import stderr
from fraudstream.cli.folders import default_cache
from fraudstream.cli.stopping import stop_requests
from fraudstream.cli.tracking import credentials_withheld
from fraudstream.cli.tracking import tracking_options
from fraudstream.features.sets import DEFAULT
from fraudstream.inference.cluster import find_spark
from fraudstream.inference.cluster import require_java
from fraudstream.inference.cluster import require_master
from fraudstream.inference.options import checkpoint_option
from fraudstream.inference.options import state_options
from fraudstream.kafka.options import kafka_options
from fraudstream.kafka.security import java_properties
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

    from fraudstream.inference.audit import Audit
    from fraudstream.inference.champion import Models
    from fraudstream.inference.job import Batches
    from fraudstream.inference.losses import Loss
    from fraudstream.inference.metrics import Metrics
    from fraudstream.inference.shared import RedisServer
    from fraudstream.inference.sink import Sink
    from fraudstream.inference.tasks import Settings

# An error as Python and Java write it: the class, perhaps within a package, and the message.
_ERROR = re.compile(r"(?:Caused by: )?(?:\w+\.)*([A-Z]\w*: .+)")
_PROBE_S = 0.2
_SHOWN_FINDINGS = 20

log = structlog.get_logger()


class StreamFailed(ValueError):
    """The stream ended by itself."""


class NoCheckpoint(LookupError):
    """There is no checkpoint in the folder."""


class NotClean(ValueError):
    """An audit found something wrong."""


@click.group()
def inference() -> None:
    """Score card transactions as they happen, with Spark Structured Streaming.

    Reads the topics of transactions and labels, computes features, scores with the champion from
    MLflow, and writes every score to one topic and those at or over the threshold to another.
    """


@inference.command(name="run")
@kafka_options()
@tracking_options
@checkpoint_option
@option(
    "--master",
    default="local[*]",
    help="Spark's master, as spark-submit takes it; under spark-submit its own counts.",
)
@option(
    "--tasks",
    default=2,
    type=click.IntRange(1, 16),
    help="Tasks that work at the same time; about as many as there are cores.",
)
@option(
    "--most-records",
    default=2_000_000,
    type=click.IntRange(1),
    help="The most transactions that one batch reads, and the most labels.",
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
@option(
    "--executor-timeout",
    default=120,
    type=click.IntRange(1),
    metavar="SECONDS",
    help="On a cluster, how long to wait for executors to come and to be fit for the work.",
)
@option(
    "--wait-for-model",
    is_flag=True,
    help="Where there is no model to serve yet, wait for the first one.",
)
@option(
    "--worker-timeout",
    default=300,
    type=click.IntRange(1),
    metavar="SECONDS",
    help="A Python worker that gives no sign for so long is killed, and its work repeated.",
)
@click.option(
    "--skip-lost",
    is_flag=True,
    help="Go on behind records that are gone from a topic and were not read; else they stop the "
    "stream.",
)
@option(
    "--most-alert-share",
    default=0.25,
    type=click.FloatRange(0, 1),
    help="A new model that would call a larger share of the latest transactions alerts is refused.",
)
@option(
    "--most-alert-times",
    default=10.0,
    type=click.FloatRange(1),
    help="So is one that would call more than so many times as many alerts as the champion, which "
    "counts as calling a hundredth at least.",
)
@option(
    "--metrics-port",
    default=0,
    type=click.IntRange(0, 65535),
    help="Port at which Prometheus finds metrics, below /metrics; 0: none.",
)
@option("--metrics-host", default="127.0.0.1", help="Address that this port is opened at.")
@option("--spark-home", default=None, metavar="FOLDER", help="Where Spark is, if not in this PEX.")
@state_options
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
    executor_timeout: int,
    wait_for_model: bool,
    worker_timeout: int,
    skip_lost: bool,
    most_alert_share: float,
    most_alert_times: float,
    metrics_port: int,
    metrics_host: str,
    spark_home: str | None,
    server: "RedisServer | None",
    debug: bool,
) -> None:
    """Run the stream until it is told to stop (Ctrl-C or SIGTERM); the batch at hand is finished.

    Needs Java 17 or 21, and a Spark 4.2: the one at SPARK_HOME or --spark-home, or pyspark.

    While it runs or waits, it touches the file `alive` in the checkpoint, for who watches over it.
    """
    # What cannot be told to Spark's Kafka client is refused before anything is started.
    java_properties(cluster.properties)
    cluster.require_topics(topics.names())
    _require_spark(spark_home, master)
    # An answer within seconds, or the last good model: the stream does not wait for a registry.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    from fraudstream.inference.champion import Models
    from fraudstream.inference.champion import await_first
    from fraudstream.inference.durable import drop_unsettled
    from fraudstream.inference.executors import require_executors
    from fraudstream.inference.fitness import Bounds
    from fraudstream.inference.generations import Generations
    from fraudstream.inference.job import claim
    from fraudstream.inference.kept import Kept
    from fraudstream.inference.losses import find_losses
    from fraudstream.inference.metrics import Metrics
    from fraudstream.inference.metrics import served
    from fraudstream.inference.progress import Ends
    from fraudstream.inference.rebuild import at_work
    from fraudstream.inference.rebuild import remove_spilled
    from fraudstream.inference.rebuild import with_state
    from fraudstream.inference.registry import Registry
    from fraudstream.inference.session import session
    from fraudstream.inference.sink import Sink
    from fraudstream.inference.tasks import Settings

    checkpoint = checkpoint.resolve()
    stream = claim(checkpoint, topics)
    generations = Generations(checkpoint, stream, DEFAULT.identity, server)
    settings = Settings(
        cluster,
        topics,
        checkpoint,
        DEFAULT,
        most_records,
        share_of_features,
        generations.new(),
    )
    inputs = (topics.transactions, topics.labels)
    remove_spilled(settings)
    click.get_current_context().with_resource(at_work(checkpoint))
    drop_unsettled(settings.progress)
    losses = find_losses(settings.progress, cluster, inputs, skip_lost=skip_lost)
    _warn_of(losses)
    settings = with_state(settings, generations, progress_bar)
    metrics = Metrics(settings.state, Ends(cluster))
    models = Models(
        Registry(tracking_uri, model_name),
        Kept(checkpoint / "models", DEFAULT),
        metrics,
        Bounds(most_alert_share, most_alert_times),
    )
    with stop_requests() as stop, served(metrics, metrics_host, metrics_port):
        serving = (
            await_first(models, stop, settings.alive.touch) if wait_for_model else models.current()
        )
        if serving is None:
            return
        log.info("model", name=serving.name, version=serving.version, threshold=serving.threshold)
        # Kafka lets only readers of a topic mark it, and the stream reads none of its results.
        sink = Sink(cluster, stream, topics.transactions)
        # Spark and its workers need no registry.
        with credentials_withheld():
            spark = session(
                master,
                cache or default_cache(),
                tasks,
                worker_timeout,
                os.environ,
                settings.spill,
            )
        with _stopped_after(spark):
            if not str(spark.sparkContext.master).startswith("local"):
                require_executors(spark, None if server else checkpoint, executor_timeout, stop)
            if stop.is_set():
                return
            _serve(spark, settings, models, sink, metrics, stop, bool(losses), debug)


@contextmanager
def _stopped_after(spark: "SparkSession") -> Iterator[None]:
    """Stop Spark after the block.

    Raises
    ------
    StreamFailed
        If its JVM is gone: whatever is asked of Spark then fails, and so does stopping it.
    """
    from py4j.protocol import Py4JError  # pants: no-infer-dep (it comes with Spark)
    from py4j.protocol import Py4JJavaError  # pants: no-infer-dep

    try:
        try:
            yield
        finally:
            spark.stop()
    except Py4JJavaError:
        # Java answers.
        raise
    except (Py4JError, ConnectionRefusedError, ConnectionResetError) as error:
        raise StreamFailed(
            "the stream ended: Spark's JVM is gone; was it killed, or out of memory?"
        ) from error


def _serve(
    spark: "SparkSession",
    settings: "Settings",
    models: "Models",
    sink: "Sink",
    metrics: "Metrics",
    stop: threading.Event,
    has_losses: bool,
    debug: bool,
) -> None:
    """Run the stream until it is told to stop.

    Raises
    ------
    StreamFailed, RecordsLost
        If it ends by itself.
    """
    from fraudstream.inference.champion import watched
    from fraudstream.inference.job import start
    from fraudstream.inference.losses import find_losses
    from fraudstream.inference.losses import next_offsets
    from fraudstream.inference.progress import Progress

    topics = (settings.topics.transactions, settings.topics.labels)
    # Where an earlier run has come to: lag is told before the first batch, which can take long.
    for topic, offsets in next_offsets(settings.progress).items():
        metrics.add_records({}, {(topic, number): at for number, at in offsets.items()})
    spark.streams.addListener(Progress(metrics))
    with watched(models):
        # What is lost is passed in a run of its own, up to where the topics end now: in the one
        # that follows, a loss is an error again.
        for skipping in (True, False) if has_losses else (False,):
            query, batches = start(spark, settings, models, sink, metrics, skip_lost=skipping)
            log.info("stream started", checkpoint=str(settings.checkpoint))
            while query.isActive and not stop.wait(_PROBE_S):
                settings.alive.touch()
                if batches.is_overtaken():
                    _silence(spark, debug)
                    batches.cut(spark)
            if stop.is_set():
                _finish(spark, query, batches, debug)
                return
            if (error := query.exception()) is not None:
                find_losses(settings.progress, settings.cluster, topics)
                raise StreamFailed(_cause(str(error), debug))


def _require_spark(home: str | None, master: str) -> None:
    find_spark(home or os.environ.get("SPARK_HOME"))
    require_java(os.environ)
    require_master(master)


def _warn_of(losses: "list[Loss]") -> None:
    for loss in losses:
        log.warning("records lost", **asdict(loss))


def _finish(
    spark: "SparkSession", query: "StreamingQuery", batches: "Batches", debug: bool
) -> None:
    # A batch that comes now is refused.
    _silence(spark, debug)
    batches.finish(query)
    log.info("stream stopped")


def _silence(spark: "SparkSession", debug: bool) -> None:
    """Keep Spark from logging, with their stacks, errors that come of its being stopped."""
    if not debug:
        spark.sparkContext.setLogLevel("OFF")


@inference.command(name="rebuild-state")
@kafka_options()
@checkpoint_option
@state_options
@debug_option
def rebuild_state(
    cluster: Cluster,
    topics: Topics,
    checkpoint: Path,
    server: "RedisServer | None",
    debug: bool,
) -> None:
    """Build the state of a stream anew, from the topics, up to where the stream has come.

    The stream must not run. When it starts it does so by itself where state is missing, behind,
    damaged or of other features; this is for who wants it done before, or wants it in another
    place: the stream has to be started with the same --state. No score is written.
    """
    from fraudstream.inference.generations import Generations
    from fraudstream.inference.job import claim
    from fraudstream.inference.rebuild import at_work
    from fraudstream.inference.rebuild import done
    from fraudstream.inference.rebuild import rebuilt
    from fraudstream.inference.tasks import Settings

    cluster.require_topics(topics.names())
    checkpoint = checkpoint.resolve()
    if not (checkpoint / "owner.json").exists():
        raise NoCheckpoint(f"{checkpoint} is no checkpoint: name the one that the stream has")
    generations = Generations(checkpoint, claim(checkpoint, topics), DEFAULT.identity, server)
    settings = Settings(cluster, topics, checkpoint, DEFAULT, 0, 0.0, generations.new())
    with at_work(checkpoint, alone=True):
        so_far = done(settings.progress)
        found = generations.current()
        rebuilt(settings, generations, so_far, progress_bar, found, keep=True)
    log.info("state built", batch=so_far.batch)


@inference.command(name="audit")
@kafka_options()
@tracking_options
@click.option(
    "--replay",
    "is_replayed",
    is_flag=True,
    help="Also compute each score again, by a replay of the topics and the model that it names.",
)
@click.option(
    "--ended",
    is_flag=True,
    help="The stream will score nothing more: what it has not come to is missing.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the audit, every finding, as JSON.")
@debug_option
def audit_topics(
    cluster: Cluster,
    topics: Topics,
    tracking_uri: str,
    model_name: str,
    is_replayed: bool,
    ended: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Check that each transaction has one score, and name each that has not.

    Reads the topics and nothing else. Named are results that are missing, there twice, in conflict
    with each other, or foreign: of no transaction. With --replay also scores that differ from what
    an offline replay gives; those of models that are no longer to be had are counted. A
    challenger's scores may be missing, and are else held to the same.

    \b
    Exit codes: 0, all is well; 1, something is not.
    """
    from fraudstream.inference.audit import differing
    from fraudstream.inference.evidence import gather
    from fraudstream.inference.evidence import scored_again
    from fraudstream.inference.registry import Registry

    cluster.require_topics(topics.names())
    evidence = gather(cluster, topics, progress_bar)
    found = evidence.audit()
    not_compared = 0
    if is_replayed:
        with stderr.status("replaying"):
            registry = Registry(tracking_uri, model_name)
            again = scored_again(evidence, DEFAULT, registry.bundle)
        found = found.plus(differing(topics.scores, evidence.scores.columns, again))
        not_compared = int(np.isnan(again).sum())
    if ended:
        found = found.ended()
    if as_json:
        document = {**asdict(found), **found.counts(), "not_compared": not_compared}
        click.echo(orjson.dumps(document))
    else:
        _show(found, not_compared if is_replayed else None)
    if not found.is_clean:
        raise NotClean(f"{len(found.findings):,} findings: not every transaction has one score")


def _show(found: "Audit", not_compared: int | None) -> None:
    table = Table(title="audit", show_header=False)
    table.add_row("transactions", f"{found.transactions:,}")
    table.add_row("  sent again", f"{found.copies:,}")
    table.add_row("scores", f"{found.scores:,}")
    table.add_row("  by a challenger", f"{found.shadow_scores:,}")
    table.add_row("alerts", f"{found.alerts:,}")
    table.add_row("refused records", f"{found.refused:,}")
    table.add_row("dead letters", f"{found.dead_letters:,}")
    table.add_row("not come to yet", f"{len(found.pending):,}")
    for kind, count in found.counts().items():
        table.add_row(kind, f"{count:,}")
    if not_compared is not None:
        table.add_row("not compared", f"{not_compared:,}")
    console = Console()
    console.print(table)
    for finding in found.findings[:_SHOWN_FINDINGS]:
        click.echo(f"{finding.kind} in {finding.topic}: {finding.what} ({finding.detail})")
    if len(found.findings) > _SHOWN_FINDINGS:
        click.echo(f"… and {len(found.findings) - _SHOWN_FINDINGS:,} more: --json tells all")


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
