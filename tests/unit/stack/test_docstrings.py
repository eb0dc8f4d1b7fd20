"""The examples in the room's docstrings run."""

import doctest
from types import ModuleType

import pytest

from fraudstream.stack import cache
from fraudstream.stack import certificates
from fraudstream.stack import process
from fraudstream.stack import secrets

_MODULES = [cache, certificates, process, secrets]


@pytest.mark.parametrize("module", _MODULES, ids=lambda module: module.__name__)
def test_every_example_gives_what_it_shows(module: ModuleType) -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0
