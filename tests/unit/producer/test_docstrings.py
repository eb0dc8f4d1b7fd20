"""The examples in the room's docstrings run."""

import doctest
from types import ModuleType

import pytest

from fraudstream.producer import agenda
from fraudstream.producer import delivery
from fraudstream.producer import dirt
from fraudstream.producer import main
from fraudstream.producer import recording
from fraudstream.producer import sending
from fraudstream.producer import traffic


@pytest.mark.parametrize(
    "module",
    [agenda, delivery, dirt, main, recording, sending, traffic],
    ids=lambda module: module.__name__,
)
def test_every_example_gives_what_it_shows(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
