"""What is ours lies where the user keeps such things."""

from pathlib import Path

import pytest

from fraudstream.cli.folders import default_cache
from fraudstream.cli.folders import default_state


def test_cache_and_state_follow_the_users_own_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert default_cache() == Path("/cache/fraudstream")
    assert default_state() == Path("/state/fraudstream")


def test_without_a_choice_they_lie_in_the_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    assert default_cache() == Path("/home/me/.cache/fraudstream")
    assert default_state() == Path("/home/me/.local/state/fraudstream")
