"""The examples in the room's docstrings run."""

import doctest
from types import ModuleType

import pytest

from fraudstream.features import definitions
from fraudstream.features import history
from fraudstream.features import sets
from fraudstream.features import statistics
from fraudstream.features import view
from fraudstream.features import windows


@pytest.mark.parametrize(
    "module",
    [definitions, history, sets, statistics, view, windows],
    ids=lambda module: module.__name__,
)
def test_every_example_gives_what_it_shows(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
