"""How many transactions a second the simulator draws on one core, beside a plain Python loop."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC
from datetime import datetime
import json
from pathlib import Path
import random
from statistics import median
from time import perf_counter
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from fraudstream.cli.console import progress_bar
from fraudstream.cli.console import run
from fraudstream.simulator.places import CATEGORIES
from fraudstream.simulator.places import CHANNELS
from fraudstream.simulator.places import CITIES
from fraudstream.simulator.stream import Simulation
from fraudstream.simulator.world import WorldSpec

START = datetime(2026, 1, 1, tzinfo=UTC)
WARM_UP_DAYS = 2
BASELINE_ROWS = 100_000


def draw_columns(cards: int, days: int) -> Callable[[], tuple[int, float]]:
    """Return a measurement of whole days of a world as columns; the world is built before."""

    def measure() -> tuple[int, float]:
        simulation = Simulation(WorldSpec(cards=cards), START)
        for day in range(WARM_UP_DAYS):
            simulation.day(day)
        begin = perf_counter()
        drawn = sum(len(simulation.day(day)) for day in range(WARM_UP_DAYS, WARM_UP_DAYS + days))
        return drawn, perf_counter() - begin

    return measure


def render_documents(cards: int) -> Callable[[], tuple[int, float]]:
    """Return a measurement of rendering one day's columns as transaction documents."""
    batch = Simulation(WorldSpec(cards=cards), START).day(WARM_UP_DAYS)

    def measure() -> tuple[int, float]:
        begin = perf_counter()
        return len(batch.transactions()), perf_counter() - begin

    return measure


def loop_baseline() -> tuple[int, float]:
    """Draw the same fields one transaction at a time, with the standard library alone.

    It is the least that such a loop does: independent draws, no habits, no trips, no fraud but a
    coin. A loop with the simulator's mechanisms would be slower still.
    """
    generator = random.Random(0)
    begin = perf_counter()
    rows = []
    for number in range(BASELINE_ROWS):
        city = CITIES[generator.randrange(len(CITIES))]
        fraud = generator.random() < 0.008
        rows.append(
            (
                number,
                number * 1_000 + generator.randrange(1_000),
                generator.randrange(5_000),
                generator.randrange(1_000),
                CATEGORIES[generator.randrange(len(CATEGORIES))].code,
                round(generator.lognormvariate(3.3, 1.0), 2),
                generator.randrange(4),
                generator.randrange(len(CHANNELS)),
                city.latitude + generator.gauss(0.0, 0.05),
                city.longitude + generator.gauss(0.0, 0.08),
                city.country,
                generator.randrange(2**24),
                fraud,
                generator.randrange(1, 5) if fraud else 0,
                generator.lognormvariate(4.3, 0.7),
                generator.randrange(4),
            )
        )
    return len(rows), perf_counter() - begin


def report(cards: int, days: int, repeats: int) -> dict[str, Any]:
    """Measure everything in turns, so that a busy moment of the machine strikes all alike."""
    measures = {
        "python_loop": loop_baseline,
        "columns": draw_columns(cards, days),
        "documents": render_documents(cards),
    }
    rates: dict[str, list[float]] = {name: [] for name in measures}
    with progress_bar("measuring", total=repeats * len(measures)) as advance:
        for _ in range(repeats):
            for name, measure in measures.items():
                rows, seconds = measure()
                rates[name].append(rows / seconds)
                advance(1)
    medians = {name: median(values) for name, values in rates.items()}
    return {
        "cards": cards,
        "days": days,
        "repeats": repeats,
        "transactions_per_second": {name: round(rate) for name, rate in medians.items()},
        "ratio_to_python_loop": {
            name: round(rate / medians["python_loop"], 2) for name, rate in medians.items()
        },
    }


@click.command()
@click.option("--cards", type=click.IntRange(10), default=5_000, show_default=True)
@click.option(
    "--days", type=click.IntRange(1), default=20, show_default=True, help="Days in one measurement."
)
@click.option("--repeats", type=click.IntRange(1), default=5, show_default=True)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report."
)
def main(cards: int, days: int, repeats: int, json_file: Path | None) -> None:
    """Measure the simulator on one core: medians, beside a plain loop that draws the same fields.

    "columns" draws whole days as NumPy columns, fraud and labels included. "documents" renders
    columns as the documents that go to Kafka. "python_loop" is the baseline of the ratios.
    """
    result = report(cards, days, repeats)
    table = Table(title=f"Transactions a second, one core, median of {repeats}")
    table.add_column("what")
    table.add_column("a second", justify="right")
    table.add_column("to the loop", justify="right")
    for name, rate in result["transactions_per_second"].items():
        table.add_row(name, f"{rate:,}", f"{result['ratio_to_python_loop'][name]:.2f}")
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
