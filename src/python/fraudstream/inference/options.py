"""The command-line options by which the stream finds its checkpoint and its state."""

from collections.abc import Callable
import functools
from pathlib import Path
from typing import Any

import click

from fraudstream.cli.console import option
from fraudstream.inference.generations import EMBEDDED
from fraudstream.inference.shared import RedisServer

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


def checkpoint_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command ``--checkpoint``."""
    return option(
        "--checkpoint",
        required=True,
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder of progress, models and embedded state. A restart goes on from it; without it "
        "the stream begins at the first offset.",
    )(command)


def state_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a click command the options that say where state is kept.

    The command receives the keyword argument ``server``: the Redis, or ``None`` where state is
    embedded.

    Examples
    --------
    >>> @click.command()
    ... @state_options
    ... def show(server: RedisServer | None) -> None:
    ...     print(server)
    >>> show.main(["--state=rediss://state:6380/0"], standalone_mode=False)
    RedisServer(url='rediss://state:6380/0')
    """

    @functools.wraps(command)
    def with_server(
        *arguments: Any,
        state: str,
        state_password_file: Path | None,
        state_ca: Path | None,
        **others: Any,
    ) -> Any:
        server = None
        if state != EMBEDDED:
            server = RedisServer.of(state, state_password_file, state_ca)
        return command(*arguments, server=server, **others)

    decorated: Callable[..., Any] = with_server
    # Click lists the option that was added last first.
    decorated = option(
        "--state-ca",
        type=_FILE,
        metavar="FILE",
        help="PEM of who signs the certificate of that Redis, if not one that the system trusts.",
    )(decorated)
    decorated = option(
        "--state-password-file",
        type=_FILE,
        metavar="FILE",
        help="The password of that Redis, and nothing else.",
    )(decorated)
    return option(
        "--state",
        default=EMBEDDED,
        metavar="URL",
        help="Where the stream remembers: embedded, in the checkpoint on this machine, or in a "
        "Redis that all machines reach: redis://HOST:PORT/DATABASE, rediss:// with TLS.",
    )(decorated)
