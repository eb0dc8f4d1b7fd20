"""The whole stack on this machine, without Docker: ``./pants local``."""

from collections.abc import Callable
from datetime import UTC
from datetime import datetime
from pathlib import Path
import shlex
import signal
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from fraudstream.cli.console import debug_option
from fraudstream.cli.console import option
from fraudstream.cli.console import run
from fraudstream.cli.console import stderr
from fraudstream.cli.folders import default_cache
from fraudstream.cli.folders import default_state
from fraudstream.cli.steps import Steps
from fraudstream.cli.stopping import stop_requests
from fraudstream.kafka.acls import ROLES
from fraudstream.stack.apps import HISTORY
from fraudstream.stack.apps import Traffic
from fraudstream.stack.apps import inference as stream
from fraudstream.stack.local import LocalStack
from fraudstream.stack.local import Place
from fraudstream.stack.local import Ports
from fraudstream.stack.local import Programs
from fraudstream.stack.local import Training

_LOOK_S = 1.0
# The batch at hand is finished first.
_STREAM_STOP_S = 120.0


def _program(
    name: str, what: str, *, required: bool = False
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(
        f"--{name}",
        envvar=f"FRAUDSTREAM_LOCAL_{name.upper()}",
        show_envvar=True,
        required=required,
        type=click.Path(exists=True, dir_okay=False, resolve_path=True, path_type=Path),
        metavar="FILE",
        help=what,
    )


def _folder(name: str, what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return option(
        f"--{name}",
        type=click.Path(file_okay=False, resolve_path=True, path_type=Path),
        metavar="FOLDER",
        help=what,
    )


@click.command()
@_folder(
    "folder",
    "Keeps data, logs and secrets: the next start goes on with them.  "
    "[default: ~/.local/state/fraudstream]",
)
@_folder("cache", "Keeps programs that were fetched or built.  [default: ~/.cache/fraudstream]")
@option("--free-ports", is_flag=True, help="Listen on ports that are free, not on the usual ones.")
@_program("mlflow", "MLflow's command line.", required=True)
@_program("minio", "A MinIO server, instead of one built from source.")
@_program("producer", "producer.pex: send simulated transactions.")
@_program("inference", "inference.pex: score them, once there is a champion.")
@_program("airflow", "Airflow's command line: train and evaluate when its DAGs are triggered.")
@_program("trainer", "trainer.pex, which the DAGs run.")
@click.option(
    "--dags",
    envvar="FRAUDSTREAM_LOCAL_DAGS",
    show_envvar=True,
    type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path),
    metavar="FOLDER",
    help="The folder of the DAGs, deploy/airflow/dags.",
)
@click.option("--json", "as_json", is_flag=True, help="Print where everything is as JSON.")
@debug_option
def local(
    *,
    folder: Path | None,
    cache: Path | None,
    free_ports: bool,
    mlflow: Path,
    minio: Path | None,
    producer: Path | None,
    inference: Path | None,
    airflow: Path | None,
    trainer: Path | None,
    dags: Path | None,
    as_json: bool,
    debug: bool,
) -> None:
    """Run the whole stack as plain processes on this machine, until Ctrl-C.

    Kafka, PostgreSQL, Redis, MinIO, MLflow and Airflow, on 127.0.0.1 only and each with passwords,
    which are made at the first start and kept as files. What they hold is kept as well.
    """
    training = None
    if airflow is not None:
        if trainer is None or dags is None:
            raise click.UsageError("--airflow needs --trainer and --dags: what it is to run")
        training = Training([str(airflow)], dags, trainer)
    # Until everything is up, both signals take back what was started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    cache = cache or default_cache()
    steps = Steps(stderr)
    stack = LocalStack(
        folder or default_state(),
        cache,
        Programs([str(mlflow)], minio, training),
        Ports.free() if free_ports else Ports(),
        steps,
    )
    with stack:
        for role in ROLES:
            _write_environment(stack, role)
        if producer is not None:
            _send_traffic(stack, producer, steps)
        if inference is not None:
            stack.add(stream(inference, stack, cache), _STREAM_STOP_S)
        with stop_requests() as stop:
            _show(stack, as_json)
            while not stop.wait(_LOOK_S):
                stack.require_running()
            with steps.step("stop", "Stopping"):
                stack.stop()


def _write_environment(stack: LocalStack, role: str) -> None:
    """Write a file by which a shell becomes one in which an app finds everything."""
    found = stack.environment(role).items()
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in found]
    (stack.folder / f"{role}.env").write_text("".join(lines))


def _send_traffic(stack: LocalStack, producer: Path, steps: Steps) -> None:
    traffic = Traffic(producer, stack, datetime.now(UTC))
    if not traffic.has_history:
        with steps.step("history", f"Producing {HISTORY.days} days of transactions"):
            traffic.send_history()
    stack.add(traffic.live())


def _show(stack: LocalStack, as_json: bool) -> None:
    places = stack.places()
    if as_json:
        click.echo(orjson.dumps(document(stack.folder, places)))
        return
    Console().print(table(places))
    stderr.print(
        f"Data and logs are in {stack.folder}, the secrets in {stack.secrets.folder}.\n"
        f"An app finds everything after, for example: . {stack.folder / 'trainer.env'}\n"
        "Ctrl-C stops all of it.",
        highlight=False,
        soft_wrap=True,
    )


def document(folder: Path, places: list[Place]) -> dict[str, Any]:
    """Return where everything is, for machines."""
    services = {
        place.service.lower(): {
            "address": place.address,
            "secrets": {who: str(file) for who, file in place.secrets.items()},
        }
        for place in places
    }
    return {"folder": str(folder), "services": services}


def table(places: list[Place]) -> Table:
    """Return where everything is, for people."""
    shown = Table("service", "address", "who", "let in by the secret")
    for place in places:
        for row, (who, file) in enumerate(place.secrets.items()):
            named = ("", "") if row else (place.service, place.address)
            shown.add_row(*named, who, file.name)
    return shown


def main() -> None:
    """Run the command line."""
    run(local)


if __name__ == "__main__":
    main()
