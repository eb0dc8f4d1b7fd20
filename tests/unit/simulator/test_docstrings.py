"""The examples in the room's docstrings run."""

import doctest
from types import ModuleType

import pytest

from fraudstream.simulator import behaviour
from fraudstream.simulator import events
from fraudstream.simulator import fraud
from fraudstream.simulator import labels
from fraudstream.simulator import places
from fraudstream.simulator import stream
from fraudstream.simulator import world

_MODULES = [behaviour, events, fraud, labels, places, stream, world]


@pytest.mark.parametrize("module", _MODULES, ids=lambda module: module.__name__)
def test_every_example_gives_what_it_shows(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
