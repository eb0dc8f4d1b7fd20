"""The command line of the trainer app."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC
from datetime import datetime
from datetime import timedelta
import json
import os
from pathlib import Path
import tempfile
import time
from typing import TYPE_CHECKING
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from fraudstream.cli.console import Duration
from fraudstream.cli.console import Moment
from fraudstream.cli.console import debug_option
from fraudstream.cli.console import option
from fraudstream.cli.console import progress_bar
from fraudstream.cli.console import run
from fraudstream.cli.console import stderr
from fraudstream.cli.tracking import tracking_options
from fraudstream.features.sets import DEFAULT
from fraudstream.kafka.options import kafka_options
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.trainer.versions import figure
from fraudstream.trainer.versions import models
from fraudstream.trainer.versions import promote
from fraudstream.trainer.versions import shadow

# The rest of the app is imported by the commands that use it: torch alone takes seconds, and it
# reads its part of the environment when it is imported.
if TYPE_CHECKING:
    from fraudstream.kafka.tables import Decode
    from fraudstream.kafka.tables import Topic
    from fraudstream.trainer.dataset import Dataset

_ENVIRONMENT = {
    # Threads that wait by spinning take the core that the thread they wait for needs: on a busy
    # machine that makes training ten times slower.
    "OMP_WAIT_POLICY": "PASSIVE",
    # An absent server should be told in seconds, not after minutes of patience.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


_investigation_cost = option(
    "--investigation-cost",
    type=click.FloatRange(0),
    default=5.0,
    help="What a look at one alert costs, in the unit of the amounts.",
)


@click.group()
def trainer() -> None:
    """Train the fraud detector on what the topics hold, and keep its versions.

    `train` reads transactions and labels from Kafka, computes features as the stream does, trains a
    network, judges it on later days, and registers it in MLflow. It becomes the champion, which
    the stream serves, only if it is better than the present one on the same days, beyond noise.
    `promote` undoes that, or makes the choice by hand; `shadow` lets a version score beside the
    champion, with no effect.

    `evaluate` judges the versions that have served, by the labels that have arrived since.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


for command in (promote, shadow, models):
    trainer.add_command(command)


@trainer.command()
@kafka_options("transactions", "labels")
@tracking_options
@option("--experiment", default="fraudstream", help="The MLflow experiment of the run.")
@option(
    "--label-delay",
    type=Duration(),
    default="7d",
    help="Within it labels arrive: as long a gap parts training from validation.",
)
@option(
    "--validation",
    type=Duration(),
    default="7d",
    help="Validation: its first half is for every choice, its second for the figures reported.",
)
@option(
    "--warm-up",
    type=Duration(),
    default="0d",
    help="At the beginning of the topic, what is history only and not trained on.",
)
@option(
    "--window",
    type=Duration(),
    metavar="DURATION",
    help="Train on no more than this, such as 90d; what is older is history only.  "
    "[default: all that the topic holds]",
)
@option(
    "--min-precision",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="The threshold gives the most recall with at least this precision.  "
    "[default: 0.9, where it is not chosen otherwise]",
)
@option(
    "--alerts-per-day",
    type=click.FloatRange(0, min_open=True),
    metavar="NUMBER",
    help="Or it gives the most recall with no more alerts than that, on average over the days.",
)
@option(
    "--false-positive-rate",
    type=click.FloatRange(0, 1),
    metavar="SHARE",
    help="Or it gives the most recall while no more of the legitimate transactions are alerts.",
)
@option(
    "--least-cost",
    is_flag=True,
    help="Or it gives the least sum of the amounts of frauds missed and of investigation.",
)
@_investigation_cost
@option(
    "--confidence",
    type=click.FloatRange(0.5, 1, min_open=True, max_open=True),
    default=0.95,
    help="That the new model is better than the champion, if it is to replace it: the interval of "
    "their difference lies above 0.",
)
@option("--seed", type=int, default=0, help="Of the weights and of all that is drawn.")
@option("--epochs", type=click.IntRange(1), default=12, help="At most so many.")
@option("--threads", type=click.IntRange(1), default=2, help="Of the training.")
@option(
    "--work-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Keep the bundle and the pictures here too.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@debug_option
def train(
    cluster: Cluster,
    topics: Topics,
    tracking_uri: str,
    model_name: str,
    experiment: str,
    label_delay: timedelta,
    validation: timedelta,
    warm_up: timedelta,
    window: timedelta | None,
    min_precision: float | None,
    alerts_per_day: float | None,
    false_positive_rate: float | None,
    least_cost: bool,
    investigation_cost: float,
    confidence: float,
    seed: int,
    epochs: int,
    threads: int,
    work_dir: Path | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Train a model, register it, and make it the champion if it is better beyond noise.

    The threshold, over which a score is an alert, is chosen in one of four ways, on days on which
    no figure is reported.

    \b
    Examples:
      trainer.pex train --bootstrap-servers localhost:9092 --tracking-uri http://localhost:5000
      trainer.pex train --alerts-per-day 200
    """
    from fraudstream.model.network import predict
    from fraudstream.schema.timestamps import from_us
    from fraudstream.trainer.challenge import Rows
    from fraudstream.trainer.challenge import settle
    from fraudstream.trainer.dataset import split
    from fraudstream.trainer.evaluate import judge
    from fraudstream.trainer.evaluate import metrics
    from fraudstream.trainer.packing import pack
    from fraudstream.trainer.pictures import draw
    from fraudstream.trainer.registry import Registry
    from fraudstream.trainer.thresholds import policy_of
    from fraudstream.trainer.thresholds import trade_off
    from fraudstream.trainer.train import Settings
    from fraudstream.trainer.train import train as fit

    policy = policy_of(
        min_precision,
        alerts_per_day,
        false_positive_rate,
        investigation_cost if least_cost else None,
    )
    seconds: dict[str, float] = {}
    # What is out of reach is told before anything is read.
    cluster.require_topics((topics.transactions, topics.labels))
    registry = Registry(tracking_uri, model_name)
    registry.check()
    with _timed(seconds, "read"):
        dataset, source = _read(cluster, topics, threads)
    parts = split(dataset, label_delay, validation, warm_up, window)
    settings = Settings(seed=seed, epochs=epochs)
    parameters = {
        **{name: value for name, value in asdict(settings).items() if name != "shape"},
        **{f"shape.{name}": value for name, value in asdict(settings.shape).items()},
        "feature_set": DEFAULT.identity,
        "label_delay": label_delay,
        "validation": validation,
        "warm_up": warm_up,
        "window": window or "all",
        "threshold_policy": policy,
        "investigation_cost": investigation_cost,
        "confidence": confidence,
    }
    with registry.run(experiment, parameters) as run_id, _folder(work_dir) as folder:
        with _timed(seconds, "train"), progress_bar("training, epochs", epochs) as advance:
            trained = fit(
                dataset.features[parts.training],
                dataset.is_fraud[parts.training],
                dataset.features[parts.selection],
                dataset.is_fraud[parts.selection],
                settings,
                advance,
                threads,
            )
        with _timed(seconds, "register"), stderr.status("evaluating and registering"):
            times = dataset.event_time_us
            unlabelled = (times >= parts.validation_us) & (times < parts.report_us)
            unlabelled &= ~parts.selection
            found = trade_off(
                judge(
                    dataset,
                    parts.selection,
                    parts.validation_us,
                    predict(trained.network, dataset.features[parts.selection]),
                ),
                (from_us(parts.report_us) - from_us(parts.validation_us)) / timedelta(days=1),
                investigation_cost,
                predict(trained.network, dataset.features[unlabelled]),
            )
            chosen = policy.choose(found)
            scores = predict(trained.network, dataset.features[parts.report])
            judged = judge(dataset, parts.report, parts.report_us, scores)
            figures = metrics(judged, chosen.value, investigation_cost)
            bundle = pack(
                folder / "bundle",
                name=model_name,
                run=run_id,
                feature_set=DEFAULT,
                dataset=dataset,
                parts=parts,
                trained=trained,
                settings=settings,
                threshold=chosen,
                metrics=figures,
                label_delay=label_delay,
                source=source,
            )
            pictures = folder / "pictures"
            pictures.mkdir(exist_ok=True)
            for name, content in draw(judged, chosen, found).items():
                (pictures / name).write_bytes(content)
            curves = {
                "epoch.loss": [epoch.loss for epoch in trained.epochs],
                "epoch.average_precision": [epoch.average_precision for epoch in trained.epochs],
            }
            chosen_figures = {f"threshold.{name}": value for name, value in chosen.figures.items()}
            registry.log(
                run_id,
                curves,
                {**figures, **chosen_figures},
                pictures,
                folder / "bundle",
            )
            version = registry.register(run_id, bundle)
            decision = settle(
                registry,
                bundle,
                version,
                DEFAULT,
                Rows(
                    dataset.features[parts.report],
                    dataset.is_fraud[parts.report],
                    dataset.card[parts.report],
                    from_us(parts.report_us),
                ),
                confidence,
                stderr.print,
            )
            registry.measure(run_id, decision.figures, datetime.now(UTC))
            registry.describe(
                run_id,
                {
                    "threshold": chosen.value,
                    "champion_before": decision.rival.version if decision.rival else "none",
                },
                {"threshold_policy": chosen.policy, "decision": decision.reason},
            )
    _show(
        {
            "model": model_name,
            "version": version,
            "run": run_id,
            "digest": bundle.digest,
            "feature_set": bundle.feature_set,
            "is_champion": decision.is_promoted,
            "decision": decision.reason,
            "challenge": decision.figures,
            "threshold": chosen.value,
            "threshold_policy": chosen.policy,
            "threshold_figures": dict(chosen.figures),
            "average_precision": figures["average_precision"],
            "metrics": figures,
            "rows": {
                "transactions": len(dataset),
                "training": int(parts.training.sum()),
                "selection": int(parts.selection.sum()),
                "report": int(parts.report.sum()),
            },
            "source": source,
            "seconds": seconds,
        },
        as_json,
    )


@trainer.command()
@kafka_options("scores", "labels")
@tracking_options
@option(
    "--evaluation-experiment",
    default="fraudstream-live",
    help="The MLflow experiment of the runs, one for each model version.",
)
@option(
    "--label-delay",
    type=Duration(),
    default="7d",
    help="Within it labels arrive: transactions that are not so old are not judged.",
)
@option("--period", type=Duration(), default="7d", help="How much event time to judge.")
@option(
    "--until",
    type=Moment(),
    metavar="TIME",
    help="When the period ends.  [default: the last midnight, UTC, that is old enough]",
)
@_investigation_cost
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@debug_option
def evaluate(
    cluster: Cluster,
    topics: Topics,
    tracking_uri: str,
    model_name: str,
    evaluation_experiment: str,
    label_delay: timedelta,
    period: timedelta,
    until: datetime | None,
    investigation_cost: float,
    as_json: bool,
    debug: bool,
) -> None:
    """Judge the model versions that have served, by the labels that have arrived since.

    Joins the scores that were served with the labels. Judged are transactions that are older than
    the label delay and have a label; those without one are counted. For each model version a run
    is logged, tagged with it. The same period gives the same figures, whenever it is evaluated.

    \b
    Example:
      trainer.pex evaluate --period 7d --until 2026-03-01T00:00:00Z
    """
    from fraudstream.schema.decoding import decode_labels
    from fraudstream.schema.decoding import decode_predictions
    from fraudstream.schema.timestamps import from_us
    from fraudstream.schema.timestamps import to_us
    from fraudstream.trainer.dataset import offsets
    from fraudstream.trainer.live import choose_period
    from fraudstream.trainer.live import evaluate as judge_all
    from fraudstream.trainer.live import of_model
    from fraudstream.trainer.live import served
    from fraudstream.trainer.registry import Registry

    seconds: dict[str, float] = {}
    cluster.require_topics((topics.scores, topics.labels))
    registry = Registry(tracking_uri, model_name)
    registry.check()
    with _timed(seconds, "read"):
        read = _topics(
            cluster,
            {topics.scores: decode_predictions, topics.labels: decode_labels},
            transactional=(topics.scores,),
        )
    with _timed(seconds, "evaluate"), stderr.status("evaluating"):
        scores, of_others = of_model(read[topics.scores].columns, model_name)
        rows = served(scores, read[topics.labels].columns)
        chosen = choose_period(rows, label_delay, period, to_us(until) if until else None)
        verdicts = judge_all(rows, chosen, investigation_cost)
    begin, end = from_us(chosen.begin_us), from_us(chosen.end_us)
    versions = []
    with _timed(seconds, "register"), stderr.status("logging"):
        for verdict in verdicts:
            parameters = {"begin": begin, "end": end, "label_delay": label_delay}
            tags = {
                "model_name": model_name,
                "model_role": verdict.role,
                "model_version": verdict.version,
                "model_digest": verdict.digest,
            }
            with registry.run(evaluation_experiment, parameters, tags) as run_id:
                registry.measure(run_id, verdict.metrics, end)
            versions.append({**asdict(verdict), "run": run_id})
    result = {
        "model": model_name,
        "begin": begin.isoformat(),
        "end": end.isoformat(),
        "label_delay_days": label_delay / timedelta(days=1),
        "versions": versions,
        "source": {
            "offsets": offsets(read),
            "duplicates": rows.duplicates,
            "of_other_models": of_others,
            "rejected": {topic: found.rejected for topic, found in read.items()},
        },
        "seconds": seconds,
    }
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    table = Table(
        "",
        *(f"{verdict.role}, version {verdict.version}" for verdict in verdicts),
        title=f"{model_name}, transactions from {begin:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} UTC",
    )
    for name in dict.fromkeys(name for verdict in verdicts for name in verdict.metrics):
        table.add_row(name, *(figure(verdict.metrics.get(name)) for verdict in verdicts))
    Console().print(table)


def _read(cluster: Cluster, topics: Topics, threads: int) -> "tuple[Dataset, dict[str, Any]]":
    from fraudstream.schema.decoding import decode_labels
    from fraudstream.schema.decoding import decode_transactions
    from fraudstream.trainer.dataset import build
    from fraudstream.trainer.dataset import offsets

    read = _topics(
        cluster, {topics.transactions: decode_transactions, topics.labels: decode_labels}
    )
    transactions, labels = read[topics.transactions], read[topics.labels]
    with progress_bar("computing features, percent", 100) as advance:
        dataset = build(
            DEFAULT, transactions.columns, labels.columns, threads, lambda part: advance(100 * part)
        )
    return dataset, {
        "offsets": offsets(read),
        "duplicates": dataset.duplicates,
        "rejected": {topic: found.rejected for topic, found in read.items()},
    }


def _topics(
    cluster: Cluster, decoders: "dict[str, Decode]", transactional: tuple[str, ...] = ()
) -> "dict[str, Topic]":
    """Read topics to where they end now; the `transactional` ones have offsets without records."""
    from fraudstream.kafka.reading import spans
    from fraudstream.kafka.tables import read_topic

    # All ends are noted before anything is read, so that all topics are of one moment.
    within = {topic: spans(cluster, topic) for topic in decoders}
    read = {}
    for topic, decode in decoders.items():
        with progress_bar(
            f"reading {topic}", sum(span.high - span.low for span in within[topic])
        ) as advance:
            read[topic] = read_topic(
                cluster, topic, within[topic], decode, advance, topic not in transactional
            )
    return read


def _show(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    table = Table(title=f"{result['model']}, version {result['version']}", show_header=False)
    for name, value in result["metrics"].items():
        table.add_row(name, figure(value))
    table.add_row("threshold", f"{result['threshold']:.4f} ({result['threshold_policy']})")
    for name, value in result["threshold_figures"].items():
        table.add_row(f"  {name}, where it was chosen", figure(value))
    table.add_row("champion", "yes" if result["is_champion"] else "no")
    table.add_row("because", result["decision"])
    Console().print(table)


@contextmanager
def _folder(chosen: Path | None) -> Iterator[Path]:
    if chosen is not None:
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen
        return
    with tempfile.TemporaryDirectory(prefix="fraudstream-") as scratch:
        yield Path(scratch)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    begin = time.monotonic()
    yield
    seconds[stage] = round(time.monotonic() - begin, 3)


if __name__ == "__main__":
    run(trainer)
