"""The detector on data that nobody here wrote, beside the book's table and boosted trees."""

from collections.abc import Callable
from dataclasses import dataclass
import json
from pathlib import Path

import click
import numpy as np
import numpy.typing as npt
from rich.console import Console

from fraudstream.cli.console import progress_bar
from fraudstream.cli.console import run
from fraudstream.cli.console import stderr
from fraudstream.features.sets import HANDBOOK
from fraudstream.features.sets import HANDBOOK_PLUS
from fraudstream.features.windows import replay
from handbook.data import History
from handbook.data import read
from handbook.models import LEGITIMATE_AT_MOST
from handbook.models import MODELS
from handbook.options import data_option
from handbook.options import threads_option
from handbook.protocol import METRICS
from handbook.protocol import TEST_FOLDS
from handbook.protocol import fold
from handbook.protocol import measure
from handbook.protocol import thinned
from handbook.report import Row
from handbook.report import paired_differences
from handbook.report import picture
from handbook.report import report
from handbook.report import tables

Matrix = npt.NDArray[np.float32]

SETS = {"book": HANDBOOK, "ours": HANDBOOK_PLUS}


class TrainingDays(click.ParamType):
    """A number of days, or ``all``: everything up to the label delay."""

    name = "days"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | None:
        """See `click.ParamType`."""
        if value == "all":
            return None
        try:
            days = int(str(value))
        except ValueError:
            days = 0
        if days < 1:
            self.fail(f"expected a number of days from 1 on, or all, got {value!r}", param, ctx)
        return days


@dataclass(frozen=True)
class Plan:
    """What is run: every model on every feature set, in every fold."""

    models: tuple[str, ...]
    features: tuple[str, ...]
    folds: tuple[str, ...]
    train_days: tuple[int | None, ...]
    seeds: int
    threads: int

    def fits(self) -> int:
        """How many models are trained."""
        return (
            len(self.models)
            * len(self.features)
            * len(self.folds)
            * len(self.train_days)
            * self.seeds
        )


@click.command()
@data_option
@click.option(
    "--train-start",
    "folds",
    multiple=True,
    default=TEST_FOLDS,
    show_default=True,
    metavar="DATE",
    help="First of a fold's seven days of training; several times for several folds.",
)
@click.option(
    "--train-days",
    type=TrainingDays(),
    multiple=True,
    default=("7", "all"),
    show_default=True,
    metavar="N|all",
    help="Days of training, up to the same day; all: all labelled history.",
)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--model",
    "models",
    type=click.Choice(list(MODELS)),
    multiple=True,
    default=tuple(MODELS),
    help="Only this one; several times for several.  [default: all]",
)
@click.option(
    "--features",
    type=click.Choice(list(SETS)),
    multiple=True,
    default=tuple(SETS),
    help="Only the book's 15 features, or only ours.  [default: both]",
)
@threads_option
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report."
)
@click.option(
    "--picture",
    "picture_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write a picture of the report, as PNG.",
)
def main(
    data: Path,
    folds: tuple[str, ...],
    train_days: tuple[int | None, ...],
    seeds: int,
    models: tuple[str, ...],
    features: tuple[str, ...],
    threads: int,
    json_file: Path | None,
    picture_file: Path | None,
) -> None:
    """Run the Handbook's prequential protocol: training, a label delay and a test of 7 days each.

    Every model is trained on the book's 15 features and on ours, in every fold, with every seed;
    ours is scored as it is served, as ONNX. Beside the figures stand those that the book
    published, and what a perfect classifier reaches.

    \b
    Example:
      ./pants run benchmarks/handbook -- --data handbook.parquet --train-days 7 --json h.json
    """
    plan = Plan(models, features, folds, train_days, seeds, threads)
    history = read(data)
    for name in folds:
        for days in train_days:
            # What the data does not hold is told before anything takes time.
            fold(history, name, days)
    matrices = {}
    for name in features:
        with stderr.status(f"computing the features of {SETS[name].name}"):
            matrices[name] = replay(
                SETS[name], history.transactions, history.labels, threads
            ).astype(np.float32)
    with progress_bar("training", plan.fits()) as advance:
        rows = _rows(plan, history, matrices, advance)
    perfect = [
        measure(history, part, history.is_fraud[part.test].astype(np.float64))
        for part in (fold(history, name) for name in folds)
    ]
    ceiling = float(np.mean([figures["card_precision_100"] for figures in perfect]))
    console = Console()
    for table in tables(rows, ceiling):
        console.print(table)
    for line in paired_differences(rows):
        console.print(line)
    if json_file is not None:
        json_file.write_text(json.dumps(report(rows, folds, seeds, ceiling), indent=2) + "\n")
    if picture_file is not None:
        picture_file.write_bytes(picture(rows, ceiling))


def _rows(
    plan: Plan, history: History, matrices: dict[str, Matrix], advance: Callable[[float], None]
) -> list[Row]:
    """Train and measure everything that is planned."""
    rows = []
    for days in plan.train_days:
        for features in plan.features:
            matrix = matrices[features]
            for model in plan.models:
                figures = np.empty((plan.seeds, len(plan.folds), len(METRICS)))
                for number, name in enumerate(plan.folds):
                    part = fold(history, name, days)
                    for seed in range(plan.seeds):
                        training = thinned(
                            history, part.training, LEGITIMATE_AT_MOST.get(model), seed
                        )
                        score = MODELS[model](
                            matrix[training],
                            history.is_fraud[training],
                            matrix[part.test],
                            seed,
                            plan.threads,
                        )
                        measured = measure(history, part, score)
                        figures[seed, number] = [measured[metric] for metric in METRICS]
                        advance(1)
                rows.append(Row(model, features, days, figures))
    return rows


if __name__ == "__main__":
    run(main)
