"""Run a click command so that a user's mistake is one line and a bug says that it is one.

Exit codes: 0 done; 1 refused, with the reason on stderr; 2 the command line itself was wrong;
70 a defect of ours; 130 interrupted.
"""

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC
from datetime import datetime
from datetime import timedelta
import logging
import re
import sys
from typing import Any
from typing import NoReturn

import click
from rich.console import Console
from rich.progress import BarColumn
from rich.progress import MofNCompleteColumn
from rich.progress import Progress
from rich.progress import TextColumn
from rich.progress import TimeElapsedColumn
from rich.progress import TimeRemainingColumn
import structlog

REFUSED = 1
DEFECT = 70
INTERRUPTED = 130

#: What a person reads goes to stderr: stdout is for data.
stderr = Console(stderr=True)

_Command = Callable[..., Any]
_UNITS = {"d": timedelta(days=1), "h": timedelta(hours=1), "m": timedelta(minutes=1)}


def configure_logging(debug: bool) -> None:
    """Send structured logs to stderr: for people on a terminal, as JSON lines elsewhere."""
    renderer: Any = (
        structlog.dev.ConsoleRenderer()
        if sys.stderr.isatty()
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.DEBUG if debug else logging.INFO
        ),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def option(flag: str, *names: str, **attributes: Any) -> Callable[[_Command], _Command]:
    """Add an option that can also be set by its environment variable, as ``--help`` shows.

    Parameters
    ----------
    flag
        The option's long name, such as ``"--card-limit"`` (or ``"--on/--off"``); its variable is
        ``FRAUDSTREAM_CARD_LIMIT``.
    names
        Short flags, and the parameter's name where it is not the flag's.
    attributes
        What `click.option` takes.

    Examples
    --------
    >>> @click.command()
    ... @option("--card-limit", default=3, help="How many cards.")
    ... def show(card_limit: int) -> None:
    ...     print(card_limit)
    >>> "FRAUDSTREAM_CARD_LIMIT" in show.get_help(click.Context(show))
    True
    """
    name = flag.partition("/")[0].removeprefix("--").replace("-", "_")
    attributes = {"show_default": True, "show_envvar": True, **attributes}
    return click.option(flag, *names, envvar=f"FRAUDSTREAM_{name.upper()}", **attributes)


def debug_option(command: _Command) -> _Command:
    """Add ``--debug``, which shows stack traces and debug logs."""
    return click.option(
        "--debug", is_flag=True, help="Show debug logs, and a stack trace with an error."
    )(command)


def run(command: click.Command, arguments: list[str] | None = None) -> NoReturn:
    """Run `command` as the process's main program and exit with a code that means something.

    ``ValueError``, ``LookupError`` and ``OSError`` (``ConnectionError`` among them) are what our
    modules raise for something that the user can mend, and become one line. Anything else is a
    defect, and says so.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    configure_logging(debug)
    try:
        # Click returns the code that a command chose with `Context.exit`, and else its result.
        outcome = command.main(args=arguments, standalone_mode=False)
    except click.ClickException as mistake:
        mistake.show()
        sys.exit(mistake.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except (ValueError, LookupError, OSError) as error:
        if debug:
            raise
        click.echo(f"error: {_one_line(error)}", err=True)
        sys.exit(REFUSED)
    except Exception as error:
        if debug:
            raise
        name = type(error).__name__
        click.echo(
            f"error: a defect of fraudstream ({name}: {_one_line(error)}); "
            "run again with --debug for the stack trace",
            err=True,
        )
        sys.exit(DEFECT)
    sys.exit(outcome if isinstance(outcome, int) else 0)


def _one_line(error: BaseException) -> str:
    # A KeyError's text is the key in quotes; its arguments are what was meant.
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    return " ".join(text.split()) or type(error).__name__


class Duration(click.ParamType):
    """A duration such as ``7d``, ``12h`` or ``90m``."""

    name = "duration"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        """Return the duration; see `click.ParamType.convert`."""
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([dhm])", value)
        if not found:
            self.fail(f"expected a duration such as 7d, 12h or 90m, got {value!r}", param, ctx)
        return float(found[1]) * _UNITS[found[2]]


class Moment(click.ParamType):
    """A time such as ``2026-01-31T12:00:00Z`` (RFC 3339); one without a zone is UTC."""

    name = "time"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Return the aware time; see `click.ParamType.convert`."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"expected a time such as 2026-01-31T00:00:00Z, got {value!r}", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


@contextmanager
def progress_bar(description: str, total: float | None) -> Iterator[Callable[[float], None]]:
    """Show progress on stderr while the block runs; yields a function that advances it.

    Where stderr is no terminal nothing moves, and one line is printed at the end.

    Examples
    --------
    >>> with progress_bar("reading", total=2) as advance:
    ...     advance(2)
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=stderr) as progress:
        task = progress.add_task(description, total=total)
        yield lambda amount: progress.advance(task, amount)
