"""Trainings that race for the alias `champion`, on a real registry: it never moves backwards."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC
from datetime import datetime
from datetime import timedelta
from pathlib import Path
import random
import threading

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from fraudstream.model.bundle import Bundle
from fraudstream.model.bundle import load_bundle
from fraudstream.stack.mlflow import MlflowServer
from fraudstream.trainer.challenge import Decision
from fraudstream.trainer.challenge import Rows
from fraudstream.trainer.challenge import compare
from fraudstream.trainer.challenge import settle
from fraudstream.trainer.registry import Registry
from integration import apps
from unit.model.example_bundles import TINY
from unit.model.example_bundles import tiny_rows
from unit.model.example_bundles import write_tiny

TRAININGS = 3
ROUNDS = 6
FEATURES = tiny_rows(3000, seed=9)
# Untrained networks rank rows in as many ways as there are seeds; some way is as good as another.
ROWS = Rows(
    FEATURES,
    FEATURES[:, 1] + FEATURES[:, 2] > 6,
    np.arange(len(FEATURES)) // 5,
    datetime(2026, 1, 1, tzinfo=UTC),
)


@dataclass
class Candidate:
    """A bundle, and how good it is."""

    bundle: Bundle
    folder: Path
    average_precision: float

    def beats(self, other: "Candidate") -> bool:
        """Tell whether it is better beyond noise."""
        mine, theirs = (each.bundle.score(FEATURES) for each in (self, other))
        return compare(ROWS.is_fraud, mine, theirs, ROWS.card).lower > 0


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> list[Candidate]:
    """Return bundles each of which is better beyond noise than the one before it."""
    found = []
    for seed in range(8):
        folder = tmp_path_factory.mktemp("bundle")
        write_tiny(folder, seed=seed)
        bundle = load_bundle(folder, TINY)
        precision = float(average_precision_score(ROWS.is_fraud, bundle.score(FEATURES)))
        found.append(Candidate(bundle, folder, precision))
    found.sort(key=lambda each: each.average_precision)
    # The tests need several that are better than one another beyond noise.
    ladder = found[:1]
    for each in found[1:]:
        if each.beats(ladder[-1]):
            ladder.append(each)
    assert len(ladder) >= 4
    return ladder


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    with MlflowServer(apps.mlflow(), tmp_path_factory.mktemp("mlflow")) as server:
        yield server


class Training:
    """What a training does when its network is ready."""

    def __init__(self, mlflow: MlflowServer, model: str, scratch: Path) -> None:
        self.registry = Registry(mlflow.uri, model)
        self._model = model
        self._pictures = scratch / "pictures"
        self._pictures.mkdir(exist_ok=True)

    def register(self, candidate: Candidate) -> str:
        with self.registry.run(self._model, {}) as run:
            self.registry.log(run, {}, {}, self._pictures, candidate.folder)
            return self.registry.register(run, candidate.bundle)

    def settle(
        self, candidate: Candidate, version: str, turn: timedelta = timedelta(minutes=1)
    ) -> Decision:
        return settle(
            self.registry,
            candidate.bundle,
            version,
            TINY,
            ROWS,
            turn=turn,
        )


def test_racing_trainings_are_decided_as_if_one_came_after_the_other(
    mlflow: MlflowServer, candidates: list[Candidate], tmp_path: Path
) -> None:
    made: dict[str, float] = {}
    told: dict[str, Decision] = {}
    # The weakest serves before the race, so that whoever comes first, champion moves in it.
    first = Training(mlflow, "raced", tmp_path)
    weakest = first.register(candidates[0])
    made[weakest] = candidates[0].average_precision
    told[weakest] = first.settle(candidates[0], weakest)
    seen: list[str | None] = [first.registry.champion()]
    together = threading.Barrier(TRAININGS)
    over = threading.Event()

    def train(number: int) -> None:
        draw = random.Random(number)
        training = Training(mlflow, "raced", tmp_path)
        for _ in range(ROUNDS):
            candidate = draw.choice(candidates)
            together.wait(60)
            version = training.register(candidate)
            made[version] = candidate.average_precision
            told[version] = training.settle(candidate, version)

    def watch() -> None:
        registry = Registry(mlflow.uri, "raced")
        while not over.is_set():
            seen.append(registry.champion())

    with ThreadPoolExecutor(TRAININGS + 1) as pool:
        watching = pool.submit(watch)
        try:
            for done in [pool.submit(train, number) for number in range(TRAININGS)]:
                done.result()
        finally:
            over.set()
        watching.result()

    best = 0.0
    for version in sorted(made, key=int):
        assert told[version].is_promoted == (made[version] > best), told[version]
        best = max(best, made[version])
    champion = Registry(mlflow.uri, "raced").champion()
    assert champion is not None
    assert made[champion] == best
    served = [made[version] for version in seen if version is not None]
    assert served == sorted(served)
    assert len(set(served)) > 1


def test_a_training_that_died_holds_up_the_next_for_one_turn_and_comes_too_late(
    mlflow: MlflowServer, candidates: list[Candidate], tmp_path: Path
) -> None:
    training = Training(mlflow, "bereaved", tmp_path)
    worse, better, best = candidates[-3:]
    died = training.register(best)
    later = training.register(worse)
    assert training.settle(worse, later, timedelta(seconds=1)).is_promoted
    assert training.registry.decision(died).startswith("given up: ")

    # It was not dead, only slow: it has lost its turn, and moves nothing.
    decision = training.settle(best, died)
    assert not decision.is_promoted
    assert decision.reason.startswith("given up: ")
    assert training.registry.champion() == later
    # Nobody waits for it again.
    assert training.settle(better, training.register(better)).is_promoted


def test_the_same_training_again_moves_nothing(
    mlflow: MlflowServer, candidates: list[Candidate], tmp_path: Path
) -> None:
    training = Training(mlflow, "repeated", tmp_path)
    first, second = (training.register(candidates[0]) for _ in range(2))
    assert training.settle(candidates[0], first).is_promoted
    assert not training.settle(candidates[0], second).is_promoted
    # Deciding once more on what serves already is harmless too.
    assert not training.settle(candidates[0], first).is_promoted
    assert training.registry.champion() == first
