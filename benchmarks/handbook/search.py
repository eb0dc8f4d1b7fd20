"""Hyperparameters by Optuna, on the validation folds: never on those that figures are told of."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
import json
from pathlib import Path

import click
import numpy as np
import optuna

from fraudstream.cli.console import progress_bar
from fraudstream.cli.console import run
from fraudstream.cli.console import stderr
from fraudstream.features.sets import HANDBOOK_PLUS
from fraudstream.features.windows import replay
from fraudstream.model.network import Shape
from fraudstream.trainer.train import Settings
from handbook.data import read
from handbook.models import LIGHTGBM
from handbook.models import XGBOOST
from handbook.models import Model
from handbook.models import boosted_by_lightgbm
from handbook.models import boosted_by_xgboost
from handbook.models import fraudstream
from handbook.options import data_option
from handbook.options import threads_option
from handbook.protocol import VALIDATION_FOLDS
from handbook.protocol import fold
from handbook.protocol import measure

_SHAPE = Shape()
_SETTINGS = Settings()


def _lightgbm(trial: optuna.Trial) -> Model:
    found = {
        "num_iterations": trial.suggest_int("num_iterations", 100, 600, step=50),
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.1, log=True),
        "num_leaves": trial.suggest_int("num_leaves", 7, 63, log=True),
        "min_data_in_leaf": trial.suggest_int("min_data_in_leaf", 5, 100, log=True),
        "lambda_l2": trial.suggest_float("lambda_l2", 0.1, 30.0, log=True),
        "feature_fraction": trial.suggest_float("feature_fraction", 0.2, 1.0),
        "bagging_fraction": trial.suggest_float("bagging_fraction", 0.5, 1.0),
    }
    return partial(boosted_by_lightgbm, settings=found)


def _xgboost(trial: optuna.Trial) -> Model:
    found = {
        "n_estimators": trial.suggest_int("n_estimators", 100, 600, step=50),
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 0.1, log=True),
        "max_depth": trial.suggest_int("max_depth", 3, 8),
        "min_child_weight": trial.suggest_float("min_child_weight", 0.5, 20.0, log=True),
        "reg_lambda": trial.suggest_float("reg_lambda", 0.1, 30.0, log=True),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.2, 1.0),
        "subsample": trial.suggest_float("subsample", 0.5, 1.0),
    }
    return partial(boosted_by_xgboost, settings=found)


def _fraudstream(trial: optuna.Trial) -> Model:
    found = Settings(
        epochs=trial.suggest_int("epochs", 6, 24),
        hard_share=trial.suggest_float("hard_share", 0.0, 0.8),
        learning_rate=trial.suggest_float("learning_rate", 1e-3, 1e-2, log=True),
        weight_decay=trial.suggest_float("weight_decay", 1e-2, 1.0, log=True),
        shape=replace(
            _SHAPE,
            first=trial.suggest_int("first", 64, 192, step=32),
            dropout=trial.suggest_float("dropout", 0.0, 0.5),
        ),
    )
    return partial(fraudstream, settings=found)


#: What is tried of each model, and what it is given to begin with: the defaults.
SPACES: dict[str, tuple[Callable[[optuna.Trial], Model], dict[str, float]]] = {
    "fraudstream": (
        _fraudstream,
        {
            "epochs": _SETTINGS.epochs,
            "hard_share": _SETTINGS.hard_share,
            "learning_rate": _SETTINGS.learning_rate,
            "weight_decay": _SETTINGS.weight_decay,
            "first": _SHAPE.first,
            "dropout": _SHAPE.dropout,
        },
    ),
    "lightgbm": (_lightgbm, dict(LIGHTGBM)),
    "xgboost": (_xgboost, dict(XGBOOST)),
}


@click.command()
@data_option
@click.option("--model", type=click.Choice(list(SPACES)), default="fraudstream", show_default=True)
@click.option("--trials", type=click.IntRange(1), default=30, show_default=True)
@click.option("--seeds", type=click.IntRange(1), default=1, show_default=True)
@threads_option
def main(data: Path, model: str, trials: int, seeds: int, threads: int) -> None:
    """Search for hyperparameters on the validation folds, with 7 days of training.

    Prints every trial as a line of JSON, the best one last. What is found is entered by hand: as
    the defaults of `fraudstream.trainer.train.Settings`, or as those of the peers.
    """
    history = read(data)
    with stderr.status("computing features"):
        matrix = replay(HANDBOOK_PLUS, history.transactions, history.labels).astype(np.float32)
    folds = [fold(history, name) for name in VALIDATION_FOLDS]
    space, begin = SPACES[model]

    def average_precision(trial: optuna.Trial) -> float:
        candidate = space(trial)
        found = [
            measure(
                history,
                part,
                candidate(
                    matrix[part.training],
                    history.is_fraud[part.training],
                    matrix[part.test],
                    seed,
                    threads,
                ),
            )["average_precision"]
            for part in folds
            for seed in range(seeds)
        ]
        return float(np.mean(found))

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=0))
    study.enqueue_trial(begin)
    with progress_bar("trials", trials) as advance:

        def tell(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
            click.echo(json.dumps({"average_precision": trial.value, **trial.params}))
            advance(1)

        study.optimize(average_precision, n_trials=trials, callbacks=[tell])
    click.echo(json.dumps({"average_precision": study.best_value, **study.best_params}))


if __name__ == "__main__":
    run(main)
