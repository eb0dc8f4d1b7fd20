"""Our engine beside Polars, DuckDB and pandas: the same windows on the same rows."""

import json
import os
from pathlib import Path
from statistics import median
import tempfile
from time import perf_counter
from time import process_time
from typing import Any

import click
from features.incremental import BATCH
from features.incremental import Batches
from features.incremental import medians
from features.report import picture as draw
from features.report import tables
from features.rows import Rows
from features.rows import drawn
from features.rows import read
from rich.console import Console

from fraudstream.cli.console import progress_bar
from fraudstream.cli.console import run

FEW_KEYS, MANY_KEYS = 10_000, 1_000_000


def compare(rows: Rows, threads: int, repeats: int) -> dict[str, Any]:
    """Let the engines compute in turns, so that a busy moment of the machine strikes all alike."""
    # Polars reads this when it is imported, and never again.
    os.environ["POLARS_MAX_THREADS"] = str(threads)
    from features import contenders

    seconds: dict[str, list[float]] = {}
    processor: dict[str, list[float]] = {}
    results: dict[str, contenders.Columns] = {}
    differences = {}
    with progress_bar("measuring engines", total=repeats * 3 + 4) as advance:
        computing = {
            name: prepare(rows, threads) for name, prepare in contenders.CONTENDERS.items()
        }
        for turn in range(repeats + 1):
            for name, compute in computing.items():
                # Pandas takes so long that once has to do, and needs no warming up.
                if name == "pandas" and turn != 1:
                    continue
                begin, begin_cpu = perf_counter(), process_time()
                columns = compute()
                if turn:
                    seconds.setdefault(name, []).append(perf_counter() - begin)
                    processor.setdefault(name, []).append(process_time() - begin_cpu)
                # The first is kept to be compared; others leave their memory to the next turn.
                results.setdefault(name, columns)
                del columns
                advance(1)
    for name, columns in results.items():
        if name != "fraudstream":
            differences[name] = contenders.largest_difference(results["fraudstream"], columns)
    return {
        "rows": len(rows),
        "seconds": {name: round(median(seconds[name]), 3) for name in contenders.CONTENDERS},
        "cpu_seconds": {name: round(median(processor[name]), 3) for name in contenders.CONTENDERS},
        "max_abs_difference": max(differences.values()),
        "differences": differences,
        "threads": threads,
        "repeats": repeats,
    }


def count_keys(events: int, repeats: int) -> dict[str, Any]:
    """Measure batches over few and over many keys."""
    with (
        tempfile.TemporaryDirectory(prefix="fraudstream-") as scratch,
        progress_bar("filling stores, keys", FEW_KEYS + MANY_KEYS) as advance,
    ):
        batches = {
            keys: Batches(Path(scratch) / str(keys), keys, events, advance)
            for keys in (FEW_KEYS, MANY_KEYS)
        }
        parts = medians(batches, repeats)
    return {
        **{f"keys_{keys}_ms": values["read and features"] for keys, values in parts.items()},
        "events": BATCH,
        "events_a_key": events,
        "parts_ms": {str(keys): values for keys, values in parts.items()},
    }


@click.command()
@click.option(
    "--data",
    envvar="FRAUDSTREAM_HANDBOOK",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Parquet file in the layout of the Handbook's data.  [default: drawn rows]",
)
@click.option("--rows", type=click.IntRange(1_000), default=1_600_000, show_default=True)
@click.option(
    "--threads",
    type=click.IntRange(1),
    default=lambda: len(os.sched_getaffinity(0)),
    help="Threads of each engine; pandas has one.  [default: one a core]",
)
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--events",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Transactions that each card in the store has.",
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report."
)
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw it.")
def main(
    data: Path | None,
    rows: int,
    threads: int,
    repeats: int,
    events: int,
    json_file: Path | None,
    picture: Path | None,
) -> None:
    """Measure the 12 windows of the set handbook, and what a batch of the stream costs.

    Our engine, Polars and DuckDB compute in turns, in one process, with as many threads each;
    medians are told, and the largest difference of any number. Pandas computes once. Then
    batches of 10,000 events are worked off over 10,000 and over 1,000,000 cards.
    """
    given = drawn(rows) if data is None else read(data, rows)
    result = compare(given, threads, repeats)
    result["incremental"] = count_keys(events, 4 * repeats + 1)
    result["data"] = "drawn" if data is None else data.name
    for table in tables(result):
        Console().print(table)
    Console().print(f"largest difference of any number: {result['max_abs_difference']:.1e}")
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2) + "\n")
    if picture is not None:
        draw(result, picture)


if __name__ == "__main__":
    run(main)
