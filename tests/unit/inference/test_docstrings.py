"""The examples in the room's docstrings run."""

import doctest
from types import ModuleType

import pytest

from fraudstream.inference import audit
from fraudstream.inference import bounds
from fraudstream.inference import champion
from fraudstream.inference import cluster
from fraudstream.inference import executors
from fraudstream.inference import fitness
from fraudstream.inference import losses
from fraudstream.inference import main
from fraudstream.inference import options
from fraudstream.inference import progress
from fraudstream.inference import rebuild
from fraudstream.inference import scoring
from fraudstream.inference import session
from fraudstream.inference import shared
from fraudstream.inference import steps
from fraudstream.inference import store
from fraudstream.inference import tally
from fraudstream.inference import tasks


@pytest.mark.parametrize(
    "module",
    [
        audit,
        bounds,
        champion,
        cluster,
        executors,
        fitness,
        losses,
        main,
        progress,
        options,
        rebuild,
        scoring,
        session,
        shared,
        steps,
        store,
        tally,
        tasks,
    ],
    ids=lambda module: module.__name__,
)
def test_every_example_gives_what_it_shows(module: ModuleType) -> None:
    assert doctest.testmod(module).failed == 0
