"""The stream beside what else could be done: floor, first attempt, bare loop, and peers."""

from collections.abc import Iterable
from contextlib import ExitStack
import json
from pathlib import Path
from statistics import median
import tempfile
from typing import Any

import click
from rich.console import Console
from stream.bench import Bench
from stream.contenders.table import CONTENDERS
from stream.contenders.table import OURS
from stream.measuring import Drained
from stream.measuring import Load
from stream.measuring import ratio
from stream.report import picture as draw
from stream.report import tables
from stream.running import TooSlow
from stream.traffic import Traffic
from stream.traffic import make_model
from stream.traffic import register

from fraudstream.cli.console import option
from fraudstream.cli.console import progress_bar
from fraudstream.cli.console import run
from fraudstream.cli.console import stderr
from fraudstream.cli.folders import default_cache
from fraudstream.stack.kafka import KafkaBroker
from fraudstream.stack.process import ProcessFailed

CARDS, PARTITIONS = 50_000, 4
SCALES = (10_000, 100_000, 1_000_000)
CUTS = (1, 2, 4)
FLOOR = "passthrough"
PARTS = ("contenders", "cards", "partitions", "latency")


def compare(bench: Bench, names: Iterable[str], load: Load, rounds: int) -> dict[str, Any]:
    """Let contenders drain one backlog in turns."""
    names = list(names)
    with progress_bar("filling, transactions", load.events) as advance:
        source = bench.backlog("transactions", CARDS, PARTITIONS, load.events, advance)
    found: dict[str, list[Drained]] = {name: [] for name in names}
    not_run: dict[str, str] = {}
    with progress_bar("draining", rounds * len(names)) as advance:
        for _ in range(rounds):
            for name in names:
                if name not in not_run:
                    try:
                        found[name].append(bench.drain(name, source, load))
                    except (TooSlow, ProcessFailed) as reason:
                        what, *log = str(reason).splitlines()
                        not_run[name] = " ".join([what, *log[-1:]])
                advance(1)
    ran = {name: each for name, each in found.items() if name not in not_run}
    return {
        "ratios": {
            name: round(ratio(ran[OURS], each), 3)
            for name, each in ran.items()
            if name != OURS and OURS in ran
        },
        "rows_s": {name: _rows_s(each) for name, each in ran.items()},
        "cpu_us": {
            name: round(median(drain.cpu_us for drain in each), 1) for name, each in ran.items()
        },
        "not_run": not_run,
    }


def scale(
    bench: Bench, settings: dict[str, tuple[int, int]], load: Load, rounds: int
) -> dict[str, int]:
    """Let the stream drain backlogs of other numbers of cards and partitions, in turns.

    Parameters
    ----------
    bench, load, rounds
        As of `compare`.
    settings
        Cards and partitions, by name.
    """
    with progress_bar("filling, transactions", len(settings) * load.events) as advance:
        sources = {
            name: bench.backlog(f"transactions-{name}", *setting, load.events, advance)
            for name, setting in settings.items()
        }
    found: dict[str, list[Drained]] = {name: [] for name in settings}
    with progress_bar("draining", rounds * len(settings)) as advance:
        for _ in range(rounds):
            for name, source in sources.items():
                found[name].append(bench.drain(OURS, source, load))
                advance(1)
    return {name: _rows_s(each) for name, each in found.items()}


def wait(
    bench: Bench, saturation: dict[str, int], seconds: float, batch: int
) -> dict[str, dict[str, float]]:
    """Measure latency at shares of what the stream, and the floor, can do at most."""
    found = {}
    for at, name, share in (("25", OURS, 0.25), ("75", OURS, 0.75), (f"{FLOOR}_25", FLOOR, 0.25)):
        source = bench.backlog(f"paced-{at}", CARDS, PARTITIONS, 0, lambda _: None)
        with stderr.status(f"measuring latency, {at}"):
            # The same rate for the floor: what differs is then what we add.
            rate = share * saturation[OURS]
            found[at] = bench.latency(name, source, Traffic(CARDS), rate, seconds, batch)
    return found


def _rows_s(each: list[Drained]) -> int:
    return round(median(drain.rows_s for drain in each))


@click.command()
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--batch",
    type=click.IntRange(1_000),
    default=200_000,
    show_default=True,
    help="The most events that a contender takes at once.",
)
@click.option("--batches", type=click.IntRange(1), default=2, show_default=True, help="Measured.")
@click.option(
    "--warm-up", type=click.IntRange(1), default=4, show_default=True, help="Batches before them."
)
@click.option(
    "--contender",
    "names",
    type=click.Choice([name for name in CONTENDERS if name != OURS]),
    multiple=True,
    help="Beside the stream, only these.  [default: all]",
)
@click.option(
    "--part", "parts", type=click.Choice(PARTS), multiple=True, help="Only these.  [default: all]"
)
@click.option(
    "--seconds",
    type=click.FloatRange(1),
    default=60,
    show_default=True,
    help="For how long events come where latency is measured.",
)
@option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_cache,
    show_default=False,
    metavar="FOLDER",
    help="Keeps jars and the peers' environments.  [default: the user's cache]",
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report."
)
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw it.")
def main(
    rounds: int,
    batch: int,
    batches: int,
    warm_up: int,
    names: tuple[str, ...],
    parts: tuple[str, ...],
    seconds: float,
    cache: Path,
    json_file: Path | None,
    picture: Path | None,
) -> None:
    """Measure how fast contenders take transactions from one topic, through a model, to another.

    All have the same broker, events, features and ONNX model. They drain the same backlog in
    turns; told are medians, ratios (how many times as fast the stream is), and microseconds of
    the processors an event. Then the stream alone: by number of cards and of partitions; and its
    latency beside that of Spark's passthrough.
    """
    load = Load(batch, warm_up, batches)
    parts = parts or PARTS
    names = (OURS, *(names or (name for name in CONTENDERS if name != OURS)))
    with ExitStack() as stack:
        scratch = tempfile.TemporaryDirectory(prefix="fraudstream-", ignore_cleanup_errors=True)
        folder = Path(stack.enter_context(scratch))
        with stderr.status("starting Kafka, making a model"):
            broker = stack.enter_context(KafkaBroker(folder / "kafka", cache))
            bundle = make_model(folder)
            bench = Bench(broker, bundle, register(bundle, folder), folder, cache)
        result: dict[str, Any] = {"ratios": {}, "cards": {}, "latency_ms": {}}
        compared = compare(bench, names if "contenders" in parts else (OURS,), load, rounds)
        result["ratios"] = compared["ratios"]
        if "cards" in parts:
            settings = {str(cards): (cards, PARTITIONS) for cards in SCALES}
            result["cards"] = scale(bench, settings, load, rounds)
        if "latency" in parts:
            result["latency_ms"] = wait(bench, compared["rows_s"], seconds, batch)
        result["cpu_us_per_event"] = compared["cpu_us"].get(OURS)
        result["not_run"] = compared["not_run"]
        result["partitions"] = {}
        if "partitions" in parts:
            settings = {f"{cut}": (CARDS, cut) for cut in CUTS}
            result["partitions"] = scale(bench, settings, load, rounds)
        result["contenders"] = {
            name: {"rows_s": rate, "cpu_us_per_event": compared["cpu_us"][name]}
            for name, rate in compared["rows_s"].items()
        }
        result["rounds"] = rounds
        result["batch"] = batch
    for table in tables(result):
        Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2) + "\n")
    if picture is not None:
        draw(result, picture)


if __name__ == "__main__":
    run(main)
