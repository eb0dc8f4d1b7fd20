"""The examples in the room's docstrings run."""

import doctest
from types import ModuleType

import pytest

from fraudstream.model import bundle
from fraudstream.model import network
from fraudstream.model import reasons
from fraudstream.model import sentences
from fraudstream.model import served


@pytest.mark.parametrize(
    "module", [bundle, network, reasons, sentences, served], ids=lambda module: module.__name__
)
def test_every_example_gives_what_it_shows(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
