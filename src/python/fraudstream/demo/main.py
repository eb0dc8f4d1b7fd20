"""The demo: a real broker and a real registry on this machine, the three apps as they ship."""

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from datetime import datetime
from datetime import timedelta
from pathlib import Path
import tempfile
from typing import Any

import click
import orjson
from rich.table import Table

from fraudstream.cli.console import debug_option
from fraudstream.cli.console import option
from fraudstream.cli.console import run
from fraudstream.cli.console import stderr
from fraudstream.cli.folders import default_cache
from fraudstream.demo.interrupts import Interrupts
from fraudstream.demo.show import Apps
from fraudstream.demo.show import Plan
from fraudstream.demo.show import Show


class NotConserved(ValueError):
    """A transaction was lost or scored twice."""


def _program(name: str, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        f"--{name}",
        envvar=f"FRAUDSTREAM_DEMO_{name.upper()}",
        show_envvar=True,
        required=True,
        type=click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path),
        metavar="FILE",
        help=what,
    )


@click.command()
@option(
    "--seconds", type=click.FloatRange(min=1), help="Seconds of live traffic.  [default: endless]"
)
@option(
    "--report",
    "report_file",
    type=click.Path(dir_okay=False, writable=True, resolve_path=True, path_type=Path),
    metavar="FILE",
    help="Write what came of the traffic to this JSON file.",
)
@option(
    "--cards", default=5_000, type=click.IntRange(min=100), help="Cards in the simulated world."
)
@option("--days", default=45, type=click.IntRange(min=30), help="Days of history to train on.")
@option("--rate", default=200.0, type=click.FloatRange(min=1), help="Live transactions a second.")
@option("--seed", default=0, type=click.IntRange(min=0), help="Seed of the simulated world.")
@option(
    "--keep",
    type=click.Path(file_okay=False, resolve_path=True, path_type=Path),
    metavar="FOLDER",
    help="Keep all data and logs in this folder, which must be new or empty.",
)
@option(
    "--cache",
    type=click.Path(file_okay=False, resolve_path=True, path_type=Path),
    metavar="FOLDER",
    help="Keeps the jars of Kafka and Spark between runs.  [default: ~/.cache/fraudstream]",
)
@_program("producer", "producer.pex")
@_program("trainer", "trainer.pex")
@_program("inference", "inference.pex")
@_program("mlflow", "MLflow's command line.")
@debug_option
def demo(
    *,
    seconds: float | None,
    report_file: Path | None,
    cards: int,
    days: int,
    rate: float,
    seed: int,
    keep: Path | None,
    cache: Path | None,
    producer: Path,
    trainer: Path,
    inference: Path,
    mlflow: Path,
    debug: bool,
) -> None:
    """Show frauds being caught as they happen.

    Starts Kafka and MLflow on this machine, produces a history of simulated card transactions,
    trains a model on it and registers it, starts the Spark job, sends live traffic and shows what
    is caught. Ctrl-C ends the live traffic, scores what is left and writes the report; a second
    one ends everything at once. Nothing is left running.
    """
    if report_file is not None and not report_file.parent.is_dir():
        raise ValueError(f"the report's folder {report_file.parent} does not exist: create it")
    apps = Apps(producer, trainer, inference, mlflow)
    plan = Plan(cards, seed, timedelta(days=days), rate, seconds)
    with _work_folder(keep) as folder, Interrupts() as interrupts:
        show = Show(apps, plan, folder, cache or default_cache(), stderr)
        result = show.run(datetime.now(UTC), interrupts)
    if result is None:
        stderr.print("Stopped before there was anything to report.")
        return
    if report_file is not None:
        report_file.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2) + b"\n")
    stderr.print(summary(result))
    for text in explained(result):
        stderr.print(text, highlight=False, markup=False, soft_wrap=True)
    if result["lost"] or result["duplicates"]:
        raise NotConserved(
            f"{result['lost']} transactions were lost and {result['duplicates']} scored twice: "
            "run again with --keep FOLDER and look at inference.log there"
        )


@contextmanager
def _work_folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="fraudstream-demo-") as folder:
            yield Path(folder)
        return
    if keep.is_dir() and any(keep.iterdir()):
        raise ValueError(f"{keep} is not empty: give --keep a new folder")
    keep.mkdir(parents=True, exist_ok=True)
    yield keep


def summary(result: dict[str, Any]) -> Table:
    """Return the report's main figures as a table for people."""
    table = Table(show_header=False)
    rows = [
        ("Transactions", f"{result['transactions_produced']:,}"),
        ("  of them history", f"{result['history_transactions']:,}"),
        ("Scored", f"{result['transactions_scored']:,}"),
        ("Dead letters", f"{result['dead_letters']:,}"),
        ("Lost, scored twice", f"{result['lost']:,}, {result['duplicates']:,}"),
        ("Live alerts", f"{result['alerts']:,}"),
        (
            "  precision, recall",
            f"{_share(result['alert_precision'])}, {_share(result['alert_recall'])}",
        ),
        (
            "Latency p50, p99",
            f"{_ms(result['latency_ms']['p50'])}, {_ms(result['latency_ms']['p99'])}",
        ),
        ("Model", f"{result['model']['name']} version {result['model']['version']}"),
        ("  average precision", f"{result['model']['average_precision']:.3f}"),
    ]
    for row in rows:
        table.add_row(*row)
    return table


def explained(result: dict[str, Any]) -> list[str]:
    """Return the report's latest alerts, and below each its reasons, as lines for people."""
    return [
        text
        for alert in result["latest_alerts"]
        for text in (
            f"{alert['amount']:,.2f} by {alert['card_id']} at {alert['merchant_id']}, "
            f"score {alert['score']:.2f}, {'a fraud' if alert['is_fraud'] else 'no fraud'}:",
            *(f"  {number}. {reason}" for number, reason in enumerate(alert["reasons"], start=1)),
        )
    ]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"


def main() -> None:
    """Run the demo's command line."""
    run(demo)


if __name__ == "__main__":
    main()
