"""A million mutated records through the decoder: each is valid, or rejected with a reason."""

from collections import Counter
from concurrent.futures import ProcessPoolExecutor
import json
import multiprocessing
import os
from pathlib import Path
from time import perf_counter
from typing import Any

import click
from fuzzing.campaign import PART
from fuzzing.campaign import Findings
from fuzzing.campaign import run_part
from rich.console import Console
from rich.table import Table

from fraudstream.cli.console import progress_bar
from fraudstream.cli.console import run

_SHOWN_REASONS = 20
_SHOWN_WRONG = 20


class Wrong(ValueError):
    """Something came of a record that must not."""


def fuzz(records: int, seed: int, sample: float, processes: int) -> Findings:
    """Run a campaign, part by part, in so many processes."""
    sizes = [min(PART, records - start) for start in range(0, records, PART)]
    found = Findings()
    with (
        # Not forked: a library of this process may have threads that hold locks.
        ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as workers,
        progress_bar("mutating records", records) as advance,
    ):
        running = [
            workers.submit(run_part, seed, part, size, sample) for part, size in enumerate(sizes)
        ]
        for each, size in zip(running, sizes, strict=True):
            found.add(each.result())
            advance(size)
    return found


def report(found: Findings, seed: int, seconds: float) -> dict[str, Any]:
    """Return the figures of a campaign."""
    return {
        "records": found.records,
        "seed": seed,
        "valid": found.count("valid"),
        "copies": found.count("copies"),
        "rejected": found.count("rejected"),
        "compared": found.compared,
        "wrong": found.wrong,
        "mutations": {name: dict(counts) for name, counts in sorted(found.of.items())},
        "reasons": dict(found.reasons.most_common()),
        "seconds": round(seconds, 1),
    }


def _tables(result: dict[str, Any]) -> list[Table]:
    fates = Table(title=f"{result['records']:,} mutated records, seed {result['seed']}")
    fates.add_column("mutation")
    for name in ("valid", "copies", "rejected"):
        fates.add_column(name, justify="right")
    for name, counts in result["mutations"].items():
        told = Counter(counts)
        fates.add_row(name, *(f"{told[fate]:,}" for fate in ("valid", "copies", "rejected")))
    fates.add_section()
    fates.add_row("all", *(f"{result[fate]:,}" for fate in ("valid", "copies", "rejected")))
    reasons = Table("reason", "records", title="most frequent reasons")
    for reason, count in list(result["reasons"].items())[:_SHOWN_REASONS]:
        reasons.add_row(reason, f"{count:,}")
    return [fates, reasons]


@click.command()
@click.option("--records", type=click.IntRange(1), default=1_000_000, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Equal ones mutate alike.")
@click.option(
    "--sample",
    type=click.FloatRange(0, 1),
    default=0.02,
    show_default=True,
    help="Share of the records that is also judged one by one, by jsonschema.",
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    default=lambda: len(os.sched_getaffinity(0)),
    help="How many work at the same time.  [default: one a core]",
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report."
)
def main(records: int, seed: int, sample: float, processes: int, json_file: Path | None) -> None:
    """Mutate simulated transactions and labels, and decode them as the stream does.

    Each is damaged as bytes or wrong as a document, then taken through the stream's decoder and
    first step, with its dead letter written. Told is what became of them. Anything lost, rejected
    without a reason, left with a card number, or judged otherwise than by jsonschema alone is an
    error.
    """
    began = perf_counter()
    found = fuzz(records, seed, sample, processes)
    result = report(found, seed, perf_counter() - began)
    for table in _tables(result):
        Console().print(table)
    for each in found.wrong[:_SHOWN_WRONG]:
        click.echo(each)
    Console().print(
        f"{found.compared:,} judged one by one; {result['seconds']:.0f} s, {processes} processes"
    )
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2) + "\n")
    fates = sum(result[fate] for fate in ("valid", "copies", "rejected"))
    if found.wrong or fates != records:
        raise Wrong(f"{len(found.wrong):,} findings; {fates:,} of {records:,} records came out")


if __name__ == "__main__":
    run(main)
