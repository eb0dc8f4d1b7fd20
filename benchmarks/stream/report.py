"""How the measurements are shown."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

_OURS, _OTHERS = "#0072b2", "#999999"


def tables(result: dict[str, Any]) -> list[Table]:
    """Return the tables of a report, as `stream.main` writes it."""
    contenders = Table(title=f"A backlog drained, medians of {result['rounds']}")
    contenders.add_column("contender")
    contenders.add_column("events a second", justify="right")
    contenders.add_column("we are so many times as fast", justify="right")
    contenders.add_column("processors, µs an event", justify="right")
    for name, told in result["contenders"].items():
        times = result["ratios"].get(name)
        contenders.add_row(
            name,
            f"{told['rows_s']:,}",
            "" if times is None else f"{times:.2f}",
            f"{told['cpu_us_per_event']:.1f}",
        )
    for name, reason in result["not_run"].items():
        contenders.add_row(name, "did not run", "", reason)
    found = [contenders]
    for what in ("cards", "partitions"):
        if result[what]:
            table = Table(title=f"The stream by {what}")
            table.add_column(what, justify="right")
            table.add_column("events a second", justify="right")
            for count, rate in result[what].items():
                table.add_row(f"{int(count):,}", f"{rate:,}")
            found.append(table)
    if result["latency_ms"]:
        table = Table(title="From append to append, milliseconds")
        table.add_column("load, % of what the stream can do")
        for name in next(iter(result["latency_ms"].values())):
            table.add_column(name, justify="right")
        for load, told in result["latency_ms"].items():
            table.add_row(load.replace("_", " "), *(f"{value:,.0f}" for value in told.values()))
        found.append(table)
    return found


def picture(result: dict[str, Any], file: Path) -> None:
    """Draw what contenders do a second, on a scale of powers of ten, and latency."""
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, middle, right = figure.subplots(1, 3, width_ratios=[3, 2, 2])
    rates = {name: told["rows_s"] for name, told in result["contenders"].items()}
    colours = [_OURS if name == "fraudstream" else _OTHERS for name in rates]
    bars = left.barh(list(rates), list(rates.values()), color=colours)
    left.bar_label(bars, fmt="{:,.0f}", padding=3)
    left.set_xscale("log")
    left.margins(x=0.3)
    left.invert_yaxis()
    left.set_title("Events a second", loc="left")
    cards = result["cards"]
    middle.bar([f"{int(count):,}" for count in cards], list(cards.values()), color=_OURS)
    middle.set_title("The stream, by cards", loc="left")
    for name, told in result["latency_ms"].items():
        right.plot(list(told), list(told.values()), marker="o", label=name.replace("_", " "))
    right.set_ylim(bottom=0)
    right.set_title("Latency, ms, by load", loc="left")
    if result["latency_ms"]:
        right.legend(frameon=False)
    for axes in (left, middle, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)
