"""The examples in the room's docstrings run."""

import doctest
from types import ModuleType

import pytest

from fraudstream.schema import card_numbers
from fraudstream.schema import columnar
from fraudstream.schema import decoding
from fraudstream.schema import timestamps
from fraudstream.schema import validation


@pytest.mark.parametrize(
    "module",
    [card_numbers, columnar, decoding, timestamps, validation],
    ids=lambda module: module.__name__,
)
def test_every_example_gives_what_it_shows(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
