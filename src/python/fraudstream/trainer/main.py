"""The command line of the trainer app."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
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
from fraudstream.cli.console import debug_option
from fraudstream.cli.console import option
from fraudstream.cli.console import progress_bar
from fraudstream.cli.console import run
from fraudstream.cli.console import stderr
from fraudstream.features.definitions import DEFAULT
from fraudstream.kafka.options import kafka_options
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics

# The rest of the app is imported by the commands that use it: torch alone takes seconds, and it
# reads its part of the environment when it is imported.
if TYPE_CHECKING:
    from fraudstream.trainer.dataset import Dataset
    from fraudstream.trainer.registry import Version

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


def registry_options(command: Any) -> Any:
    """Add the options that say where the registry is, and of which model."""
    command = option("--model-name", default="fraud-detector", help="The registered model.")(
        command
    )
    return option(
        "--tracking-uri",
        default="http://localhost:5000",
        metavar="URI",
        help="The MLflow server.",
    )(command)


@click.group()
def trainer() -> None:
    """Train the fraud detector on what the topics hold, and keep its versions.

    Reads transactions and labels from Kafka, computes features as the stream does, trains a
    network, judges it on later days, and registers it in MLflow. It becomes the champion, which
    the stream serves, only if it is better than the present one on the same days.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)


@trainer.command()
@kafka_options("transactions", "labels")
@registry_options
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
    "--min-precision",
    type=click.FloatRange(0, 1),
    default=0.90,
    help="The threshold gives the most recall with at least this precision.",
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
    min_precision: float,
    seed: int,
    epochs: int,
    threads: int,
    work_dir: Path | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Train a model, register it, and make it the champion if it is better.

    \b
    Example:
      trainer.pex train --bootstrap-servers localhost:9092 --tracking-uri http://localhost:5000
    """
    from fraudstream.model.network import predict
    from fraudstream.trainer.dataset import split
    from fraudstream.trainer.evaluate import PrecisionFloor
    from fraudstream.trainer.evaluate import judge
    from fraudstream.trainer.evaluate import metrics
    from fraudstream.trainer.packing import pack
    from fraudstream.trainer.pictures import draw
    from fraudstream.trainer.registry import Registry
    from fraudstream.trainer.registry import settle
    from fraudstream.trainer.train import Settings
    from fraudstream.trainer.train import train as fit

    seconds: dict[str, float] = {}
    # What is out of reach is told before anything is read.
    cluster.require_topics((topics.transactions, topics.labels))
    registry = Registry(tracking_uri, model_name)
    registry.check()
    with _timed(seconds, "read"):
        dataset, source = _read(cluster, topics)
    parts = split(dataset, label_delay, validation, warm_up)
    settings = Settings(seed=seed, epochs=epochs)
    parameters = {
        **{name: value for name, value in asdict(settings).items() if name != "shape"},
        **{f"shape.{name}": value for name, value in asdict(settings.shape).items()},
        "feature_set": DEFAULT.identity,
        "label_delay": label_delay,
        "validation": validation,
        "warm_up": warm_up,
        "min_precision": min_precision,
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
            selection = predict(trained.network, dataset.features[parts.selection])
            chosen = PrecisionFloor(min_precision).choose(
                judge(dataset, parts.selection, parts.validation_us, selection)
            )
            scores = predict(trained.network, dataset.features[parts.report])
            judged = judge(dataset, parts.report, parts.report_us, scores)
            figures = metrics(judged, chosen.value)
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
            for name, content in draw(judged, chosen.value).items():
                (pictures / name).write_bytes(content)
            curves = {
                "epoch.loss": [epoch.loss for epoch in trained.epochs],
                "epoch.average_precision": [epoch.average_precision for epoch in trained.epochs],
            }
            registry.log(run_id, curves, figures, pictures, folder / "bundle")
            version = registry.register(run_id, bundle)
            decision = settle(
                registry,
                bundle,
                version,
                DEFAULT,
                dataset.features[parts.report],
                dataset.is_fraud[parts.report],
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
            "threshold": chosen.value,
            "threshold_policy": chosen.policy,
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
@registry_options
@option("--version", required=True, metavar="N", help="The version that shall serve.")
@debug_option
def promote(tracking_uri: str, model_name: str, version: str, debug: bool) -> None:
    """Make a version the champion, by hand: forward, or back to an earlier one.

    The bundle is checked first: one that the stream would refuse is refused here.
    """
    from fraudstream.model.bundle import load_bundle
    from fraudstream.trainer.registry import Registry

    registry = Registry(tracking_uri, model_name)
    with tempfile.TemporaryDirectory(prefix="fraudstream-") as folder:
        load_bundle(registry.fetch(version, Path(folder)), DEFAULT, version)
    before = registry.champion()
    registry.promote(version, f"by hand, after {f'version {before}' if before else 'none'}")
    click.echo(f"version {version} of {model_name} is the champion", err=True)


@trainer.command()
@registry_options
@click.option("--json", "as_json", is_flag=True, help="Print the versions as JSON.")
@debug_option
def models(tracking_uri: str, model_name: str, as_json: bool, debug: bool) -> None:
    """Show the versions of the model, the newest first, and which one is the champion."""
    from fraudstream.trainer.registry import Registry
    from fraudstream.trainer.registry import UnknownVersion

    versions = Registry(tracking_uri, model_name).versions()
    if as_json:
        click.echo(json.dumps([_document(version) for version in versions], indent=2))
        return
    if not versions:
        raise UnknownVersion(
            f"{tracking_uri} has no version of {model_name}: train one with `trainer.pex train`"
        )
    table = Table("version", "champion", "average precision", "registered", "decision")
    for version in versions:
        table.add_row(
            version.number,
            "yes" if version.is_champion else "",
            "" if version.average_precision is None else f"{version.average_precision:.4f}",
            f"{version.created:%Y-%m-%d %H:%M} UTC",
            version.decision,
        )
    Console().print(table)


def _read(cluster: Cluster, topics: Topics) -> "tuple[Dataset, dict[str, Any]]":
    from fraudstream.kafka.reading import spans
    from fraudstream.schema.decoding import decode_labels
    from fraudstream.schema.decoding import decode_transactions
    from fraudstream.trainer.dataset import build
    from fraudstream.trainer.dataset import offsets
    from fraudstream.trainer.dataset import read_topic

    decode = {topics.transactions: decode_transactions, topics.labels: decode_labels}
    # All ends are noted before anything is read, so that both topics are of one moment.
    within = {topic: spans(cluster, topic) for topic in decode}
    read = {}
    for topic, decoder in decode.items():
        with progress_bar(
            f"reading {topic}", sum(span.high - span.low for span in within[topic])
        ) as advance:
            read[topic] = read_topic(cluster, topic, within[topic], decoder, advance)
    transactions, labels = read[topics.transactions], read[topics.labels]
    with stderr.status("computing features"):
        dataset = build(DEFAULT, transactions.columns, labels.columns)
    return dataset, {
        "offsets": offsets(read),
        "duplicates": dataset.duplicates,
        "rejected": {topic: found.rejected for topic, found in read.items()},
    }


def _show(result: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(result, indent=2))
        return
    table = Table(title=f"{result['model']}, version {result['version']}", show_header=False)
    for name, value in result["metrics"].items():
        table.add_row(name, f"{value:,.4f}".rstrip("0").rstrip("."))
    table.add_row("threshold", f"{result['threshold']:.4f} ({result['threshold_policy']})")
    table.add_row("champion", "yes" if result["is_champion"] else "no")
    table.add_row("because", result["decision"])
    Console().print(table)


def _document(version: "Version") -> dict[str, Any]:
    return {**asdict(version), "created": version.created.isoformat()}


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


def main() -> None:
    """Run the app."""
    run(trainer)


if __name__ == "__main__":
    main()
