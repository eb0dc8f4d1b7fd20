"""What is fetched or built is made once, and never by halves."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fraudstream.stack.cache import made_once


def make(scratch: Path) -> Path:
    assert not list(scratch.iterdir())
    (scratch / "made").write_text("whole")
    return scratch / "made"


def test_it_is_made_once_however_many_ask(tmp_path: Path) -> None:
    calls = []

    def counted(scratch: Path) -> Path:
        calls.append(scratch)
        return make(scratch)

    with ThreadPoolExecutor(4) as callers:
        found = set(callers.map(lambda _: made_once(tmp_path, "it-1", counted), range(8)))
    assert found == {tmp_path / "it-1"}
    assert len(calls) == 1


def test_a_failure_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    def fail(scratch: Path) -> Path:
        make(scratch)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        made_once(tmp_path, "it-1", fail)
    assert [entry.name for entry in tmp_path.iterdir()] == ["it-1.lock"]
    assert made_once(tmp_path, "it-1", make).read_text() == "whole"
