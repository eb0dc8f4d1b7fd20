"""Whether the stream survives: killed, frozen and starved under load, then audited."""

import json
from pathlib import Path

import click
from faults.campaign import Plan
from faults.campaign import Programs
from faults.campaign import campaign
from faults.injector import KINDS
from faults.injector import Outcome
from faults.options import new_folder
from faults.options import stack_options
from faults.report import document
from faults.report import picture as draw
from faults.report import tables
from faults.report import wrong
from faults.services import EMBEDDED
from faults.services import REDIS
from rich.console import Console

from fraudstream.cli.console import debug_option
from fraudstream.cli.console import run
from fraudstream.cli.console import stderr


class NotSurvived(ValueError):
    """The stream did not come through the campaign as it should."""


@click.command()
@click.option(
    "--minutes",
    type=click.FloatRange(0, min_open=True),
    default=60.0,
    show_default=True,
    help="How long faults go on.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Draws load and faults.")
@click.option(
    "--rate",
    type=click.FloatRange(1),
    default=2_000.0,
    show_default=True,
    help="Events a second.",
)
@click.option(
    "--cards",
    type=click.IntRange(10),
    default=100_000,
    show_default=True,
    help="Cards that make them.",
)
@click.option(
    "--without",
    type=click.Choice(KINDS),
    multiple=True,
    help="A kind of faults to leave out. Repeatable.",
)
@click.option(
    "--state",
    type=click.Choice([EMBEDDED, REDIS]),
    default=EMBEDDED,
    show_default=True,
    help="Where the stream keeps its state; a Redis is killed, too.",
)
@stack_options
@click.option(
    "--volume",
    type=click.IntRange(64),
    default=6_000,
    show_default=True,
    metavar="MB",
    help="Size of the job's disk, which is in memory.",
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report."
)
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), help="Draw it, as PNG.")
@debug_option
def main(
    *,
    minutes: float,
    seed: int,
    rate: float,
    cards: int,
    without: tuple[str, ...],
    state: str,
    programs: Programs,
    volume: int,
    folder: Path | None,
    cache: Path,
    json_file: Path | None,
    picture: Path | None,
    debug: bool,
) -> None:
    """Hurt a real stack under load, and audit what it has written.

    Starts Kafka, an S3 server, MLflow and the stream, each restarted by a supervisor when it ends,
    and a load of events of which some come twice, late or broken. Processes are killed at random
    moments and at named points, frozen, and left without room on their disk; a champion comes each
    minute, every other one unfit to serve. Then all that was written is audited and replayed.

    \b
    Exit codes: 0, no fault left a trace and the stream recovered each time; 1, it is not so.
    """
    kinds = [kind for kind in KINDS if kind not in without]
    plan = Plan(minutes, seed, rate, cards, kinds, volume, state)
    with new_folder(folder) as empty:
        found = campaign(plan, programs, empty, cache, stderr.print, _tell)
    result = document(found.events, found.outcomes, found.audited, found.bad_models_served)
    for table in tables(result, found.outcomes):
        Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2) + "\n")
    if picture is not None:
        draw(found.outcomes, found.a_second, picture)
    if faults := wrong(result, 0 if without else minutes):
        raise NotSurvived("; ".join(faults))


def _tell(outcome: Outcome) -> None:
    recovery = (
        "" if outcome.recovery_s is None else f", scores again after {outcome.recovery_s:.1f} s"
    )
    told = f"{outcome.fault}: {outcome.effect or 'nothing was seen of it'}{recovery}"
    stderr.print(told, soft_wrap=True)


if __name__ == "__main__":
    run(main)
