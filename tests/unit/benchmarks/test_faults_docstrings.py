"""The examples in the docstrings of the fault campaign run."""

import doctest
from types import ModuleType

from faults import injector
from faults import options
from faults import parity
from faults import points
from faults import processes
from faults import recorded
from faults import replayed
from faults import report
from faults import services
import pytest

_MODULES = [injector, options, parity, points, processes, recorded, replayed, report, services]


@pytest.mark.parametrize("module", _MODULES, ids=lambda module: module.__name__)
def test_every_example_gives_what_it_shows(module: ModuleType) -> None:
    outcome = doctest.testmod(module)
    assert outcome.attempted > 0
    assert outcome.failed == 0
