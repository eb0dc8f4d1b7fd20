"""The examples in the room's docstrings run."""

import doctest
from types import ModuleType

import pytest

from fraudstream.kafka import acls
from fraudstream.kafka import options
from fraudstream.kafka import reading
from fraudstream.kafka import security
from fraudstream.kafka import tables
from fraudstream.kafka import topics

_MODULES = [acls, options, reading, security, tables, topics]


@pytest.mark.parametrize("module", _MODULES, ids=lambda module: module.__name__)
def test_every_example_gives_what_it_shows(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
