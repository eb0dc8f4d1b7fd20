"""The command-line options by which every app finds the MLflow server and its model.

An app's ``main.py`` puts `tracking_options` on a command; click reads the flags and the
environment.
"""

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
import functools
import os
from pathlib import Path
from typing import Any

import click

from fraudstream.cli.console import option

DEFAULT_TRACKING_URI = "http://localhost:5000"

#: What an MLflow server means that does not let somebody in.
WHO_ARE_YOU = (
    "asks for a name and a password, and does not know those that came, if any did: "
    "give them with --tracking-credentials"
)

_NAMES = ("username", "password")

# Artifacts pass through the MLflow server. It offers to send its clients to the object store
# instead, which they need not reach, and have no business with (docs/adr/0006). Nor is there a
# bar that its client writes between the lines of a log.
_SWITCHED_OFF = (
    "MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD",
    "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR",
)


class BadCredentials(ValueError):
    """A file of credentials that cannot be used."""


def tracking_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command the options of a client of MLflow.

    The command receives the keyword arguments ``tracking_uri`` and ``model_name``. A name and a
    password go where MLflow's client looks for them, and so does the setting by which artifacts
    are had from the server alone, unless the environment says otherwise.

    Examples
    --------
    >>> @click.command()
    ... @tracking_options
    ... def show(tracking_uri: str, model_name: str) -> None:
    ...     print(tracking_uri, model_name)
    >>> show.main(["--tracking-uri=http://mlflow:1"], standalone_mode=False)
    http://mlflow:1 fraud-detector
    """

    @functools.wraps(command)
    def with_credentials(*arguments: Any, tracking_credentials: Path | None, **others: Any) -> Any:
        for name in _SWITCHED_OFF:
            os.environ.setdefault(name, "false")
        if tracking_credentials is not None:
            found = read_credentials(tracking_credentials)
            # The only way in that MLflow's client has, short of a file in the home folder.
            os.environ.update({_variable(name): value for name, value in found.items()})
        return command(*arguments, **others)

    decorated: Callable[..., Any] = with_credentials
    # Click lists the option that was added last first.
    decorated = option("--model-name", default="fraud-detector", help="The registered model.")(
        decorated
    )
    decorated = option(
        "--tracking-credentials",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        metavar="FILE",
        help="Two lines, username=... and password=..., where the MLflow server asks for them.",
    )(decorated)
    return option(
        "--tracking-uri",
        default=DEFAULT_TRACKING_URI,
        metavar="URI",
        help="The MLflow server.",
    )(decorated)


@contextmanager
def credentials_withheld() -> Iterator[None]:
    """Let no program that is started in the block inherit the name and the password.

    Examples
    --------
    >>> with credentials_withheld():
    ...     "MLFLOW_TRACKING_PASSWORD" in os.environ
    False
    """
    withheld = {name: os.environ.pop(name) for name in map(_variable, _NAMES) if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(withheld)


def read_credentials(file: Path) -> dict[str, str]:
    r"""Return the name and the password that a file holds: ``username=…`` and ``password=…``.

    Raises
    ------
    BadCredentials
        If it holds anything else. It is not quoted, because it may be a password.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.NamedTemporaryFile("w") as file:
    ...     _ = file.write("username=trainer\npassword=a=b\n")
    ...     file.flush()
    ...     read_credentials(Path(file.name))
    {'username': 'trainer', 'password': 'a=b'}
    """
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise BadCredentials(_expected(file)) from error
    found = {}
    for line in filter(None, map(str.strip, lines)):
        name, _, value = line.partition("=")
        found[name.strip()] = value.strip()
    if sorted(found) != sorted(_NAMES) or not all(found.values()):
        raise BadCredentials(_expected(file))
    return found


def _variable(name: str) -> str:
    return f"MLFLOW_TRACKING_{name.upper()}"


def _expected(file: Path) -> str:
    return f"{file}: expected two lines of text, username=... and password=..."
