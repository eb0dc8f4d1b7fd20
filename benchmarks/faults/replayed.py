"""Whether a million recorded transactions are served as a replay has them, job killed or not."""

from collections.abc import Mapping
import json
from pathlib import Path
from typing import Any

import click
from faults.campaign import Programs
from faults.options import new_folder
from faults.options import stack_options
from faults.parity import SAME_FEATURE
from faults.recorded import Found
from faults.recorded import Plan
from faults.recorded import rehearse
from rich.console import Console
from rich.table import Table

from fraudstream.cli.console import debug_option
from fraudstream.cli.console import run
from fraudstream.cli.console import stderr

_AUDITED = (
    "transactions",
    "copies",
    "scores",
    "alerts",
    "refused",
    "dead_letters",
    "missing",
    "duplicate",
    "conflicting",
    "foreign",
    "differing",
    "not_compared",
)
_ZERO = _AUDITED[-6:]


class NotAsReplayed(ValueError):
    """The stream did not serve what a replay gives."""


@click.command()
@click.option(
    "--data",
    required=True,
    type=click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path),
    help="The Handbook's transactions, as a Parquet file.",
)
@click.option(
    "--rows",
    type=click.IntRange(1_000),
    default=1_000_000,
    show_default=True,
    help="How many of them.",
)
@click.option(
    "--kills",
    type=click.IntRange(0),
    default=3,
    show_default=True,
    help="How often the job is killed.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Draws where.")
@stack_options
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report."
)
@debug_option
def main(
    *,
    data: Path,
    rows: int,
    kills: int,
    seed: int,
    programs: Programs,
    folder: Path | None,
    cache: Path,
    json_file: Path | None,
    debug: bool,
) -> None:
    """Replay recorded transactions through a real stack, and compare every served feature.

    Starts Kafka, an S3 server and MLflow, sends the recording with `producer replay`, and lets the
    stream score it and serve all features. On the way the whole job is killed, driver, JVM and
    workers at once. Then each row is compared with an offline replay, and all topics are audited.

    \b
    Exit codes: 0, nothing differs and the audit is clean; 1, it is not so.
    """
    with new_folder(folder) as empty:
        plan = Plan(data, rows, kills, seed)
        found = rehearse(plan, programs, empty, cache, stderr.print)
    result = document(rows, found)
    Console().print(_table(result))
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2) + "\n")
    if faults := wrong(result):
        raise NotAsReplayed("; ".join(faults))


def document(rows: int, found: Found) -> dict[str, Any]:
    """Return the report of a run with so many rows.

    ``max_abs_difference`` is ``None`` where a value is absent on one side only.
    """
    largest = found.parity.max_abs_difference
    return {
        "rows": rows,
        "labels": found.labels,
        "kills": len(found.killed_at),
        "killed_at": found.killed_at,
        "rows_compared": found.parity.rows_compared,
        "max_abs_difference": None if largest == float("inf") else largest,
        "rows_differing": found.parity.rows_differing,
        "differing_features": dict(found.parity.by_feature.most_common()),
        "audit": {name: _count(found.audited[name]) for name in _AUDITED},
        "seconds": {step: round(took, 1) for step, took in found.seconds.items()},
    }


def wrong(result: Mapping[str, Any]) -> list[str]:
    """Return what must not be in a report.

    Examples
    --------
    >>> audited = {**dict.fromkeys(_AUDITED, 0), "transactions": 9, "scores": 9}
    >>> fine = {"rows": 9, "rows_compared": 9, "rows_differing": 0, "audit": audited}
    >>> wrong(fine), wrong({**fine, "rows_compared": 8})
    ([], ['8 of 9 rows were compared'])
    """
    rows, compared, audited = result["rows"], result["rows_compared"], result["audit"]
    found = []
    if compared != rows:
        found.append(f"{compared:,} of {rows:,} rows were compared")
    if result["rows_differing"]:
        found.append(f"{result['rows_differing']:,} rows differ by more than {SAME_FEATURE:g}")
    for name in ("transactions", "scores"):
        if audited[name] != rows:
            found.append(f"the audit found {audited[name]:,} {name}, not {rows:,}")
    return found + [
        f"{audited[name]:,} {name.replace('_', ' ')}" for name in _ZERO if audited[name]
    ]


def _count(told: int | list[Any]) -> int:
    return told if isinstance(told, int) else len(told)


def _table(result: Mapping[str, Any]) -> Table:
    table = Table(title=f"{result['rows']:,} rows, {result['kills']} kills", show_header=False)
    for point in result["killed_at"]:
        table.add_row("killed", point.replace("_", " "))
    for name in ("labels", "rows_compared", "rows_differing"):
        table.add_row(name.replace("_", " "), f"{result[name]:,}")
    table.add_row("largest difference", str(result["max_abs_difference"]))
    for name, count in result["audit"].items():
        table.add_row(f"audit: {name.replace('_', ' ')}", f"{count:,}")
    for step, took in result["seconds"].items():
        table.add_row(f"{step}, s", f"{took:.1f}")
    return table


if __name__ == "__main__":
    run(main)
