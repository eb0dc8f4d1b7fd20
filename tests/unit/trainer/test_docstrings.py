"""The examples in the room's docstrings run."""

import doctest
from types import ModuleType

import pytest

from fraudstream.trainer import challenge
from fraudstream.trainer import dataset
from fraudstream.trainer import evaluate
from fraudstream.trainer import thresholds
from fraudstream.trainer import train
from fraudstream.trainer import versions


@pytest.mark.parametrize(
    "module",
    [challenge, dataset, evaluate, thresholds, train, versions],
    ids=lambda module: module.__name__,
)
def test_every_example_gives_what_it_shows(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
