"""A step is shown while it runs, and timed."""

import io

import pytest
from rich.console import Console

from fraudstream.cli.steps import Steps


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=160, color_system=None)


def text(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def test_steps_are_timed_and_shown_with_their_latest_news() -> None:
    for terminal in (False, True):
        to = console(terminal)
        steps = Steps(to)
        with steps.step("count", "Counting [all]") as tell:
            tell("1 of 2")
            tell("2 of [2]")
        assert list(steps.seconds) == ["count"]
        assert "Counting [all]: 0.0 s (2 of [2])" in text(to)


def test_a_step_that_fails_is_not_shown_as_done() -> None:
    to = console(terminal=False)
    steps = Steps(to)
    with pytest.raises(ValueError, match="broken"), steps.step("count", "Counting"):
        raise ValueError("broken")
    assert steps.seconds == {}
    assert text(to) == ""
