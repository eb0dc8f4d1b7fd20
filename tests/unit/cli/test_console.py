"""A mistake of the user is one line, a defect says that it is one, exit codes tell them apart."""

from collections.abc import Callable

import click
import orjson
import pytest
import structlog

from fraudstream.cli.console import DEFECT
from fraudstream.cli.console import INTERRUPTED
from fraudstream.cli.console import REFUSED
from fraudstream.cli.console import configure_logging
from fraudstream.cli.console import debug_option
from fraudstream.cli.console import option
from fraudstream.cli.console import progress_bar
from fraudstream.cli.console import run


def command_that(does: Callable[[], None]) -> click.Command:
    @click.command()
    @option("--card-limit", default=3)
    @debug_option
    def command(card_limit: int, debug: bool) -> None:
        does()

    return command


def raising(error: BaseException) -> Callable[[], None]:
    def does() -> None:
        raise error

    return does


def exit_code(does: Callable[[], None], *arguments: str) -> int | str | None:
    with pytest.raises(SystemExit) as leaving:
        run(command_that(does), list(arguments))
    return leaving.value.code


def test_a_command_that_ends_well_exits_with_zero() -> None:
    assert exit_code(lambda: None) == 0


@pytest.mark.parametrize(
    "error",
    [
        ValueError("too\nmany cards"),
        LookupError("too many cards"),
        KeyError("too many cards"),
        OSError("too many cards"),
        ConnectionError("too many cards"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_mistake_of_the_user_is_one_line(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(raising(error)) == REFUSED
    shown = capsys.readouterr()
    assert shown.err == "error: too many cards\n"
    assert shown.out == ""


def test_an_error_without_a_text_is_told_by_its_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raising(ValueError())) == REFUSED
    assert capsys.readouterr().err == "error: ValueError\n"


def test_a_defect_says_so_and_how_to_see_more(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(raising(TypeError("no"))) == DEFECT
    shown = capsys.readouterr().err
    assert "a defect of fraudstream (TypeError: no)" in shown
    assert "--debug" in shown
    assert "Traceback" not in shown


@pytest.mark.parametrize("error", [ValueError("no"), TypeError("no")], ids=["mistake", "defect"])
def test_debug_shows_the_stack_trace(error: Exception) -> None:
    with pytest.raises(type(error), match="no"):
        run(command_that(raising(error)), ["--debug"])


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interruption_has_its_own_code(error: BaseException) -> None:
    assert exit_code(raising(error)) == INTERRUPTED


def test_a_wrong_command_line_exits_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lambda: None, "--nonsense") == 2
    assert "--nonsense" in capsys.readouterr().err


def test_a_command_may_choose_its_exit_code() -> None:
    assert exit_code(raising(click.exceptions.Exit(7))) == 7


def test_help_goes_to_stdout_and_names_the_environment_variable(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert exit_code(lambda: None, "--help") == 0
    assert "FRAUDSTREAM_CARD_LIMIT" in capsys.readouterr().out


def test_an_option_is_taken_from_the_environment_unless_it_is_given(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    @option("--card-limit", "limit", default=3)
    def show(limit: int) -> None:
        click.echo(limit)

    monkeypatch.setenv("FRAUDSTREAM_CARD_LIMIT", "5")
    for arguments in ([], ["--card-limit", "7"]):
        with pytest.raises(SystemExit):
            run(show, arguments)
    assert capsys.readouterr().out.split() == ["5", "7"]


def test_logs_are_json_lines_on_stderr_where_that_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure_logging(debug=False)
    log = structlog.get_logger()
    log.debug("unseen")
    log.info("scored", cards=2)
    shown = capsys.readouterr()
    document = orjson.loads(shown.err)
    assert (document["event"], document["cards"], document["level"]) == ("scored", 2, "info")
    assert shown.out == ""


def test_progress_leaves_stdout_alone(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("reading", total=2) as advance:
        advance(2)
    assert capsys.readouterr().out == ""
