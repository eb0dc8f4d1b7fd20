"""What came of a campaign: the document, the table and the picture."""

from collections.abc import Mapping
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from faults.injector import Outcome
from faults.injector import counts
from faults.points import POINTS
from matplotlib.figure import Figure
import numpy as np
from rich.table import Table

#: Of a campaign of an hour; shorter ones have to come to their share of it.
LANDED_AN_HOUR, AT_EACH_POINT_AN_HOUR = 100, 5
MOST_RECOVERY_S = 60.0


def document(
    events: int, outcomes: Sequence[Outcome], audited: Mapping[str, Any], bad_models_served: int
) -> dict[str, Any]:
    """Return the report.

    Parameters
    ----------
    events
        How many records were acknowledged to the load, without labels.
    outcomes
        Of all faults.
    audited
        What ``inference audit --json`` has printed.
    bad_models_served
        How many scores are of a model that was not to serve.
    """
    by_kind, by_point = counts(outcomes)
    recoveries = [o.recovery_s for o in outcomes if o.recovery_s is not None]
    return {
        "events": events,
        "faults": {
            "landed": by_kind.total(),
            "by_kind": dict(sorted(by_kind.items())),
            "by_point": dict(sorted(by_point.items())),
        },
        "missing": audited["missing"],
        "duplicate": audited["duplicate"],
        "conflicting": audited["conflicting"],
        "foreign": audited["foreign"],
        "differs_from_replay": audited["differing"],
        "bad_models_served": bad_models_served,
        "recovery_s": {
            f"p{share}": round(float(np.percentile(recoveries, share)), 2) if recoveries else None
            for share in (50, 95)
        },
    }


def wrong(result: Mapping[str, Any], minutes: float) -> list[str]:
    """Return what must not be in a report.

    Parameters
    ----------
    result
        The report.
    minutes
        How long faults went on; with 0, of which kinds there were some does not matter.

    Examples
    --------
    >>> clean = document(1, [], dict.fromkeys(
    ...     ("missing", "duplicate", "conflicting", "foreign", "differing"), 0), 0)
    >>> wrong({**clean, "missing": 2}, 0)
    ['2 missing']
    """
    zeros = (
        "missing",
        "duplicate",
        "conflicting",
        "foreign",
        "differs_from_replay",
        "bad_models_served",
    )
    found = [f"{result[name]:,} {name.replace('_', ' ')}" for name in zeros if result[name]]
    landed, by_point = result["faults"]["landed"], result["faults"]["by_point"]
    least, at_point = (int(each * minutes / 60) for each in (LANDED_AN_HOUR, AT_EACH_POINT_AN_HOUR))
    if landed < least:
        found.append(f"{landed} faults landed, which are to be {least}")
    found += [
        f"{by_point.get(point, 0)} landed {point.replace('_', ' ')}, which are to be {at_point}"
        for point in POINTS
        if by_point.get(point, 0) < at_point
    ]
    p95 = result["recovery_s"]["p95"]
    if p95 is not None and p95 > MOST_RECOVERY_S:
        found.append(f"recovery took {p95:.0f} s at p95")
    return found


def tables(result: Mapping[str, Any], outcomes: Sequence[Outcome]) -> list[Table]:
    """Return the tables of a report."""
    faults = Table(title=f"{result['faults']['landed']} faults landed")
    faults.add_column("what")
    for column in ("landed", "not seen", "recovery p50, s", "longest, s"):
        faults.add_column(column, justify="right")
    for name in sorted({str(outcome.fault) for outcome in outcomes}):
        mine = [outcome for outcome in outcomes if str(outcome.fault) == name]
        took = [o.recovery_s for o in mine if o.recovery_s is not None]
        landed = sum(bool(outcome.effect) for outcome in mine)
        faults.add_row(
            name.replace("_", " "),
            str(landed),
            str(len(mine) - landed),
            f"{np.median(took):.1f}" if took else "",
            f"{max(took):.1f}" if took else "",
        )
    whole = Table(title=f"{result['events']:,} events", show_header=False)
    for name in (
        "missing",
        "duplicate",
        "conflicting",
        "foreign",
        "differs_from_replay",
        "bad_models_served",
    ):
        whole.add_row(name.replace("_", " "), f"{result[name]:,}")
    for name, value in result["recovery_s"].items():
        whole.add_row(f"recovery {name}", "" if value is None else f"{value:.1f} s")
    return [faults, whole]


def picture(outcomes: Sequence[Outcome], a_second: Mapping[int, int], file: Path) -> None:
    """Draw how scores came while faults struck, and how long it took after each kind of them."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    flow, took = figure.subplots(2, 1)
    end = max(a_second, default=0)
    begin = min((int(outcome.at) for outcome in outcomes), default=end)
    seconds = np.arange(begin, end + 1)
    flow.fill_between(
        (seconds - begin) / 60, [a_second.get(int(s), 0) for s in seconds], color="#56b4e9"
    )
    for outcome in outcomes:
        flow.axvline((outcome.at - begin) / 60, color="#d55e00", linewidth=0.5)
    flow.set_xlabel("minutes")
    flow.set_ylabel("scores committed a second")
    flow.set_title("Scores, and faults as lines", loc="left")
    names = sorted({str(o.fault) for o in outcomes if o.recovery_s is not None}, reverse=True)
    for row, name in enumerate(names):
        mine = [o.recovery_s for o in outcomes if str(o.fault) == name and o.recovery_s is not None]
        took.plot(mine, [row] * len(mine), "o", color="#0072b2", alpha=0.5)
    took.axvline(MOST_RECOVERY_S, color="black", linestyle=":")
    took.set_yticks(range(len(names)), [name.replace("_", " ") for name in names])
    took.set_xlim(0)
    took.set_xlabel("seconds until scores flowed again; dotted: what p95 may be")
    for axes in (flow, took):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=150)
