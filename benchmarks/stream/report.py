"""How the measurements are shown."""

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
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
    """Draw what contenders do a second, on a scale of powers of ten, and what else was measured."""
    parts = [name for name in ("cards", "partitions", "latency_ms") if result[name]]
    figure = Figure(figsize=(5 + 3.2 * len(parts), 3.4), layout="constrained")
    widths = [1.4, *(1.0 for _ in parts)]
    first, *others = figure.subplots(1, len(widths), squeeze=False, width_ratios=widths)[0]
    _draw_contenders(first, {name: told["rows_s"] for name, told in result["contenders"].items()})
    for axes, part in zip(others, parts, strict=True):
        if part == "latency_ms":
            _draw_latency(axes, result[part])
        else:
            _draw_scale(axes, part, result[part])
    for axes in (first, *others):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)


def _draw_contenders(axes: Axes, rates: dict[str, int]) -> None:
    colours = [_OURS if name == "fraudstream" else _OTHERS for name in rates]
    bars = axes.barh(list(rates), list(rates.values()), color=colours)
    axes.bar_label(bars, fmt="{:,.0f}", padding=3)
    axes.set_xscale("log")
    axes.set_xlim(10, 10 * max(rates.values(), default=10))
    axes.invert_yaxis()
    axes.set_title("Events a second", loc="left")


def _draw_scale(axes: Axes, what: str, rates: dict[str, int]) -> None:
    bars = axes.bar([f"{int(count):,}" for count in rates], list(rates.values()), color=_OURS)
    axes.bar_label(bars, fmt="{:,.0f}", padding=2)
    axes.margins(y=0.15)
    axes.yaxis.set_visible(False)
    axes.set_title(f"The stream, by {what}", loc="left")


def _draw_latency(axes: Axes, latency: dict[str, dict[str, float]]) -> None:
    for load, told in latency.items():
        name, _, share = load.rpartition("_")
        colour = _OTHERS if name else _OURS
        label = f"{name or 'the stream'}, {share}%"
        style = "-" if share == "25" else "--"
        axes.plot(list(told), list(told.values()), style, marker="o", color=colour, label=label)
    # The legend has the room above the highest of them.
    axes.set_ylim(0, 1.4 * max(value for told in latency.values() for value in told.values()))
    axes.margins(x=0.1)
    axes.set_title("Latency, ms, by load", loc="left")
    axes.legend(frameon=False, loc="upper left")
