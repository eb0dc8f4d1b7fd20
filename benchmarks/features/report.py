"""How the measurements are shown."""

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.table import Table

_OURS, _OTHERS = "#0072b2", "#999999"


def tables(result: dict[str, Any]) -> list[Table]:
    """Return the tables of a report, as `features.main` writes it."""
    seconds = result["seconds"]
    whole = Table(title=f"12 windows over {result['rows']:,} rows, {result['threads']} threads")
    whole.add_column("engine")
    whole.add_column("seconds", justify="right")
    whole.add_column("to ours", justify="right")
    whole.add_column("of the processor", justify="right")
    for name, value in seconds.items():
        to_ours = value / seconds["fraudstream"]
        processor = result["cpu_seconds"][name]
        whole.add_row(name, f"{value:.2f}", f"{to_ours:.1f}", f"{processor:.2f}")
    batch = Table(title=f"A batch of {result['incremental']['events']:,} events, milliseconds")
    batch.add_column("keys in the store")
    parts = result["incremental"]["parts_ms"]
    for part in next(iter(parts.values())):
        batch.add_column(part, justify="right")
    for keys, values in parts.items():
        batch.add_row(f"{int(keys):,}", *(f"{value:.1f}" for value in values.values()))
    return [whole, batch]


def picture(result: dict[str, Any], file: Path) -> None:
    """Draw the seconds of all engines, on a scale of powers of ten, and what batches cost."""
    seconds, incremental = result["seconds"], result["incremental"]
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    names = list(seconds)
    bars = left.barh(
        names,
        list(seconds.values()),
        color=[_OURS if n == "fraudstream" else _OTHERS for n in names],
    )
    left.bar_label(bars, fmt="%.2f s", padding=3)
    left.set_xscale("log")
    left.margins(x=0.25)
    left.invert_yaxis()
    left.set_title(f"12 windows, {result['rows']:,} rows", loc="left")
    left.set_xlabel("seconds")
    keys = list(incremental["parts_ms"])
    bottom = [0.0] * len(keys)
    for part, colour in (("read", "#56b4e9"), ("features", _OURS), ("write", "#e69f00")):
        values = [incremental["parts_ms"][key][part] for key in keys]
        right.bar([f"{int(key):,}" for key in keys], values, 0.5, bottom, label=part, color=colour)
        bottom = [low + value for low, value in zip(bottom, values, strict=True)]
    right.set_title(f"A batch of {incremental['events']:,} events", loc="left")
    right.set_xlabel("keys in the store")
    right.set_ylabel("milliseconds")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)
