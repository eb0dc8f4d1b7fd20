"""The command-line options by which a real stack is started here, and where it keeps its data."""

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
import functools
from pathlib import Path
import shutil
import tempfile
from typing import Any

import click
from faults.campaign import CampaignFailed
from faults.campaign import Programs

from fraudstream.cli.console import option
from fraudstream.cli.console import stderr
from fraudstream.cli.folders import default_cache

_Command = Callable[..., Any]

_PROGRAM = click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path)
_FOLDER = click.Path(file_okay=False, resolve_path=True, path_type=Path)


def stack_options(command: _Command) -> _Command:
    """Give a click command the options of a stack.

    The command receives three keyword arguments: ``programs``, a `Programs`; ``folder``, which
    `new_folder` takes; and ``cache``, a folder.

    Examples
    --------
    >>> @click.command()
    ... @stack_options
    ... def show(programs: Programs, folder: Path | None, cache: Path) -> None:
    ...     print(programs.minio, folder, cache.name)
    >>> show.main(["--mlflow", "/bin/sh", "--cache", "/tmp/kept"], standalone_mode=False)
    None None kept
    """

    @functools.wraps(command)
    def with_programs(*, mlflow: Path, minio: Path | None, **others: Any) -> Any:
        return command(programs=Programs(mlflow, minio), **others)

    decorated: _Command = with_programs
    # Click lists the option that was added last first.
    decorated = option(
        "--cache",
        type=_FOLDER,
        default=default_cache,
        show_default=False,
        metavar="FOLDER",
        help="Keeps what was fetched or built.  [default: the user's cache]",
    )(decorated)
    decorated = click.option(
        "--folder",
        type=_FOLDER,
        metavar="FOLDER",
        help="Keep data and logs here.  [default: a temporary folder, kept on failure]",
    )(decorated)
    decorated = click.option(
        "--minio", type=_PROGRAM, help="A MinIO server, instead of one built from source."
    )(decorated)
    return click.option(
        "--mlflow",
        envvar="FRAUDSTREAM_FAULTS_MLFLOW",
        show_envvar=True,
        required=True,
        type=_PROGRAM,
        help="MLflow's command line: dist/mlflow-server.pex.",
    )(decorated)


@contextmanager
def new_folder(folder: Path | None) -> Iterator[Path]:
    """Make a folder that is to be empty; ``None``: a temporary one, for the length of the block.

    A temporary one stays where the block raises: its logs are needed then. It is told where.

    Raises
    ------
    CampaignFailed
        If something is in it.
    """
    if folder is None:
        scratch = Path(tempfile.mkdtemp(prefix="fraudstream-"))
        stderr.print(f"data and logs are in {scratch}, and stay there if this fails")
        yield scratch
        # Not reached where the block raises.
        shutil.rmtree(scratch)
        return
    if folder.exists() and any(folder.iterdir()):
        raise CampaignFailed(f"expected {folder} to be empty: name another --folder")
    folder.mkdir(parents=True, exist_ok=True)
    yield folder
