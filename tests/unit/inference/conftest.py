"""Models at work over a registry on a folder."""

import pytest

from fraudstream.inference.champion import Models
from fraudstream.inference.kept import Kept
from unit.inference.shelves import TRAFFIC
from unit.inference.shelves import Shelf
from unit.inference.shelves import Told
from unit.model.example_bundles import TINY


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path)


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def started(shelf, told, tmp_path):
    """Return what makes `Models` over the same kept folder, as a restart would."""

    def start(registry=shelf, bounds=None):
        return Models(registry, Kept(tmp_path / "kept", TINY), told, bounds)

    return start


@pytest.fixture
def serving(shelf, started):
    """Return models of which version 1 serves, and that have seen traffic."""
    shelf.add("1")
    models = started()
    models.look()
    models.saw(TRAFFIC)
    return models
