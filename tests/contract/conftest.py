"""No test leaves stores open: a process can address only so many."""

from collections.abc import Iterator

import pytest

from fraudstream.inference.embedded import close_all


@pytest.fixture(autouse=True)
def stores_closed() -> Iterator[None]:
    yield
    close_all()
