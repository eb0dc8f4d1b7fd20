"""Worlds that several test files look at; drawn once, because they are pure."""

from datetime import UTC
from datetime import datetime
from typing import Any

import numpy as np
import pytest

from fraudstream.simulator.stream import Batch
from fraudstream.simulator.stream import Simulation
from fraudstream.simulator.world import WorldSpec

START = datetime(2026, 3, 1, tzinfo=UTC)


def joined(batches: list[Batch]) -> Batch:
    """Return one batch that holds the rows of all."""
    columns: dict[str, Any] = {
        name: np.concatenate([batch.columns()[name] for batch in batches])
        for name in batches[0].columns()
    }
    return Batch(names=batches[0].names, **columns)


@pytest.fixture(scope="session")
def simulation() -> Simulation:
    return Simulation(WorldSpec(cards=5_000, seed=11), START)


@pytest.fixture(scope="session")
def month(simulation: Simulation) -> Batch:
    return joined([simulation.day(day) for day in range(30)])


@pytest.fixture(scope="session", params=[0, 1])
def transactions(request: pytest.FixtureRequest) -> Batch:
    """More than 200,000 transactions, for each of two seeds."""
    simulation = Simulation(WorldSpec(cards=6_000, seed=request.param), START)
    return joined([simulation.day(day) for day in range(16)])
