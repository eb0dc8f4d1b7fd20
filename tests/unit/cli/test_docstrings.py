"""The examples in the room's docstrings run."""

import doctest
from types import ModuleType

import pytest

from fraudstream.cli import console
from fraudstream.cli import stopping
from fraudstream.cli import tracking


@pytest.mark.parametrize(
    "module", [console, stopping, tracking], ids=lambda module: module.__name__
)
def test_every_example_gives_what_it_shows(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
