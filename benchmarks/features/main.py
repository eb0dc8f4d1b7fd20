"""Our engine beside Polars, DuckDB and pandas: the same windows on the same rows."""

from contextlib import ExitStack
from contextlib import closing
import json
import os
from pathlib import Path
from statistics import median
import tempfile
from typing import Any

import click
from features.engines import Engine
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

    told: dict[str, list[tuple[float, float]]] = {name: [] for name in contenders.CONTENDERS}
    with (
        progress_bar("measuring engines", total=repeats * 3 + 4) as advance,
        ExitStack() as running,
    ):
        engines = {
            name: running.enter_context(closing(Engine(name, rows, threads)))
            for name in contenders.CONTENDERS
        }
        for turn in range(repeats + 1):
            for name, engine in engines.items():
                # Pandas takes so long that once has to do, and needs no warming up.
                if name == "pandas" and turn != 1:
                    continue
                measured = engine.turn()
                if turn:
                    told[name].append(measured)
                advance(1)
        results = {name: engine.columns() for name, engine in engines.items()}
    differences = {
        name: contenders.largest_difference(results["fraudstream"], columns)
        for name, columns in results.items()
        if name != "fraudstream"
    }
    seconds, processor = (
        {name: round(median(each[kind] for each in every), 3) for name, every in told.items()}
        for kind in (0, 1)
    )
    return {
        "rows": len(rows),
        "seconds": seconds,
        "cpu_seconds": processor,
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

    Our engine, Polars and DuckDB compute in turns, in a process each, with as many threads each;
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
