"""How long it takes from two topics to a data set that can be trained on, and how much memory."""

from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
import json
import multiprocessing
import os
from pathlib import Path
import tempfile
from typing import Any

import click
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from training_data.filling import fill
from training_data.filling import is_filled
from training_data.reading import measure

from fraudstream.cli.console import option
from fraudstream.cli.console import progress_bar
from fraudstream.cli.console import run
from fraudstream.cli.console import stderr
from fraudstream.cli.folders import default_cache
from fraudstream.kafka.topics import Topics
from fraudstream.stack.kafka import KafkaBroker

#: What 2 million transactions and their labels are to take at most, on two cores.
_AIM_S, _AIM_GB = 60.0, 6.0


@click.command()
@click.option(
    "--rows",
    type=click.IntRange(1_000),
    default=2_000_000,
    show_default=True,
    help="Transactions; the labels due until the last of them come with them.",
)
@click.option(
    "--cards",
    type=click.IntRange(10),
    default=10_000,
    show_default=True,
    help="Cards that make them.",
)
@click.option(
    "--repeats", type=click.IntRange(1), default=1, show_default=True, help="The median is told."
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="FOLDER",
    help="Keep the broker's data here, and use what is there.  [default: a temporary folder]",
)
@option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_cache,
    show_default=False,
    metavar="FOLDER",
    help="Keeps Kafka's jars.  [default: the user's cache]",
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report."
)
@click.option(
    "--picture",
    "picture_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a picture of the report, as PNG.",
)
def main(
    rows: int,
    cards: int,
    repeats: int,
    folder: Path | None,
    cache: Path,
    json_file: Path | None,
    picture_file: Path | None,
) -> None:
    """Measure the way from Kafka to a training data set of the default features.

    Starts a real broker, fills the topics with simulated traffic as the producer sends it, and
    then, in a fresh process, reads, decodes and checks every record, joins labels and computes
    features, as `trainer.pex train` does. Seconds of the wall clock depend on what else the
    machine does; those of the processor hardly.
    """
    with ExitStack() as stack:
        if folder is None:
            scratch = tempfile.TemporaryDirectory(prefix="fraudstream-")
            folder = Path(stack.enter_context(scratch)) / "kafka"
        filled = is_filled(folder, rows, cards)
        with stderr.status("starting Kafka"):
            broker = stack.enter_context(KafkaBroker(folder, cache))
        if not filled:
            with progress_bar("filling, transactions", rows) as advance:
                fill(folder, broker.cluster(), Topics(), rows, cards, advance)
        runs = [_in_fresh_process(broker.bootstrap_servers) for _ in range(repeats)]
    # The run in the middle, whole: stages of different runs do not add up.
    median = sorted(runs, key=lambda told: float(told["seconds"]["total"]))[(len(runs) - 1) // 2]
    result = {"cards": cards, "cores": len(os.sched_getaffinity(0)), **median, "runs": runs}
    _show(result)
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2) + "\n")
    if picture_file is not None:
        _draw(result, picture_file)


def _in_fresh_process(bootstrap_servers: str) -> dict[str, Any]:
    with (
        stderr.status("reading and building"),
        ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as one,
    ):
        return one.submit(measure, bootstrap_servers).result()


def _show(result: dict[str, Any]) -> None:
    table = Table(
        title=f"{result['rows']:,} transactions, {result['labels']:,} labels, "
        f"{result['features']} features, {result['cores']} cores"
    )
    table.add_column("stage")
    table.add_column("seconds", justify="right")
    table.add_column("of the processor", justify="right")
    table.add_column("peak so far, GB", justify="right")
    for stage, seconds in result["seconds"].items():
        table.add_row(
            stage,
            f"{seconds:.1f}",
            f"{result['cpu_seconds'][stage]:.1f}",
            f"{result['peak_gb'][stage]:.2f}",
        )
    Console().print(table)


def _draw(result: dict[str, Any], file: Path) -> None:
    figure = Figure(figsize=(7, 3), layout="constrained")
    time, memory = figure.subplots(1, 2, width_ratios=(2, 1))
    for row, kind in enumerate(("cpu_seconds", "seconds")):
        left = 0.0
        for number, (stage, seconds) in enumerate(result[kind].items()):
            if stage != "total":
                time.barh(row, seconds, left=left, color=f"C{number}", label=stage if row else None)
                left += seconds
    time.axvline(_AIM_S, color="black", linestyle=":")
    time.set_yticks([0, 1], ["processor", "wall clock"])
    time.set_xlabel("seconds")
    time.legend(fontsize="small")
    stages = [stage for stage in result["peak_gb"] if stage != "total"]
    memory.bar(stages, [result["peak_gb"][stage] for stage in stages], color="C7")
    memory.axhline(_AIM_GB, color="black", linestyle=":")
    memory.set_ylabel("peak so far, GB")
    memory.tick_params(axis="x", rotation=30)
    figure.suptitle(f"{result['rows']:,} transactions; dotted: the aim")
    figure.savefig(file)


if __name__ == "__main__":
    run(main)
