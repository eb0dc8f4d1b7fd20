"""Runs the whole stack on this machine's Docker engine and sees that it does what it promises.

A project of its own, with its own secrets, ports and volumes, is started and waited for. A first
model is trained in a hurry; then Airflow's DAG trains a better one, and the stream goes over to it
without a restart. Kafka, MLflow and the stream are restarted, one after another. In the end every
transaction has a score or a dead letter, counted by reading the topics; and what `down` and `up`
leave is what was there. All of it is removed afterwards.

Exit codes: 0 all is as promised; 1 something is not, with the reason in one line; 130 interrupted.
"""

# It talks, and asks, with what Python brings, so that any machine can run it; all addresses that it
# asks are this machine's.
# ruff: noqa: T201, S310, S607

import argparse
from base64 import b64encode
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from functools import partial
import json
import os
from pathlib import Path
import subprocess
import sys
import tempfile
import time
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request
from urllib.request import urlopen

import init

from fraudstream.stack.airflow_client import AirflowClient
from fraudstream.stack.process import free_port
from fraudstream.stack.secrets import Secrets

_HERE = Path(__file__).parent
_SOURCES = _HERE.parents[1] / "src" / "python" / "fraudstream"
# Where the producer's image has our modules, and which it lacks of those that the ledger needs.
_PACKAGE = "/opt/producer/lib/python3.11/site-packages/fraudstream"
_LACKING = ("demo/report.py", "kafka/reading.py")

# Published on this machine, each by its setting.
_PORTS = ("KAFKA", "MLFLOW", "AIRFLOW", "METRICS")

_UP_S = 900
_COMMAND_S = 300
_TRAINING_S = 1800
_SCORING_S = 900
_PROBE_S = 2.0


class NotAsPromised(ValueError):
    """The stack does not do what it should."""


class Stack:
    """The compose project of one smoke test.

    Parameters
    ----------
    project
        Its name.
    settings
        Variables of `.env.example` that differ.
    folder
        Takes its settings.
    secrets
        Holds or gets its secrets.
    overrides
        Further compose files.
    """

    def __init__(
        self,
        project: str,
        settings: Mapping[str, str],
        folder: Path,
        secrets: Path,
        overrides: Sequence[str],
    ) -> None:
        self.secrets = Secrets(secrets)
        init.provide(self.secrets)
        self._settings = {**_defaults(), **settings, "SECRETS": str(self.secrets.folder)}
        self._environment = folder / "env"
        self._environment.write_text("".join(f"{k}={v}\n" for k, v in self._settings.items()))
        files = [_HERE / "compose.yaml", *map(Path, overrides)]
        self._compose = [
            *("docker", "compose", "--project-name", project),
            *("--env-file", str(self._environment)),
            *(part for file in files for part in ("--file", str(file))),
        ]
        self.airflow = AirflowClient(
            f"http://127.0.0.1:{self._settings['AIRFLOW_PORT']}",
            "admin",
            self.secrets.read("airflow-admin-password"),
        )

    def run(self, *arguments: str, timeout_s: float = _COMMAND_S) -> str:
        """Run a command of Docker Compose and return what it prints.

        Raises
        ------
        NotAsPromised
            If it fails or takes longer; the end of what it said is told.
        """
        what = f"docker compose {' '.join(arguments[:4])}"
        try:
            done = subprocess.run(
                [*self._compose, *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
                # What this shell has set must not hide the settings of the test.
                env={k: v for k, v in os.environ.items() if k not in self._settings},
            )
        except subprocess.TimeoutExpired as error:
            raise NotAsPromised(f"{what} was not done after {timeout_s:.0f} s") from error
        if done.returncode != 0:
            told = " | ".join(done.stderr.strip().splitlines()[-5:])
            raise NotAsPromised(f"{what} ended with exit code {done.returncode}: {told}")
        return done.stdout

    def up(self, *services: str) -> None:
        """Start services, all by default, and wait until they are healthy."""
        self.run(
            *("up", "--detach", "--wait", "--wait-timeout", str(_UP_S)),
            *services,
            timeout_s=_UP_S + _COMMAND_S,
        )

    def ledger(self) -> dict[str, Any]:
        """Return what became of the traffic: see `ledger.py`."""
        told = self.run(
            *("run", "--rm", "--no-deps", "--no-TTY"),
            *("--volume", f"{_HERE / 'ledger.py'}:/opt/ledger.py:ro"),
            *(
                part
                for module in _LACKING
                for part in ("--volume", f"{_SOURCES / module}:{_PACKAGE}/{module}:ro")
            ),
            *("--entrypoint", "/opt/producer/bin/python", "topics", "/opt/ledger.py"),
        )
        found: dict[str, Any] = json.loads(told)
        return found

    def champion(self) -> str | None:
        """Return the version that MLflow calls champion; ``None`` if there is none."""
        password = self.secrets.read("mlflow-admin-password")
        uri = f"http://127.0.0.1:{self._settings['MLFLOW_PORT']}/api/2.0/mlflow"
        request = Request(
            f"{uri}/registered-models/alias?name=fraud-detector&alias=champion",
            headers={"Authorization": f"Basic {b64encode(f'admin:{password}'.encode()).decode()}"},
        )
        try:
            with urlopen(request, timeout=30) as answer:
                return str(json.load(answer)["model_version"]["version"])
        except HTTPError as refusal:
            if refusal.code == 404 or "RESOURCE_DOES_NOT_EXIST" in refusal.read().decode():
                return None
            raise NotAsPromised(f"{uri}: status {refusal.code}") from refusal

    def started(self, service: str) -> str:
        """Return when the container of a service was started, and how often it was restarted."""
        [container] = self.run("ps", "--quiet", service).split()
        done = subprocess.run(
            ["docker", "inspect", "--format", "{{.State.StartedAt}} {{.RestartCount}}", container],
            capture_output=True,
            text=True,
            check=True,
            timeout=_COMMAND_S,
        )
        return done.stdout.strip()


class Course:
    """The steps of the test, told on stderr with the seconds they take."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def step(self, name: str, do: Callable[[], Any]) -> Any:
        """Take a step and return what it gives."""
        print(f"{name} …", file=sys.stderr, flush=True)
        began = time.monotonic()
        result = do()
        self.seconds[name] = round(time.monotonic() - began, 1)
        print(f"  {self.seconds[name]} s", file=sys.stderr)
        return result


def await_that(condition: Callable[[], bool], timeout_s: float, otherwise: str) -> None:
    """Wait until a condition holds.

    Raises
    ------
    NotAsPromised
        If it does not after `timeout_s`; `otherwise` is what it says.
    """
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            raise NotAsPromised(f"{otherwise} after {timeout_s:.0f} s")
        time.sleep(_PROBE_S)


def smoke(stack: Stack, course: Course) -> dict[str, Any]:
    """Run the test and return its report."""
    course.step("starting everything, healthy", stack.up)
    course.step("history in the topic", lambda: _await_history(stack))
    hurried = course.step("a first model, trained in a hurry", lambda: _train_in_a_hurry(stack))
    first = stack.champion()
    course.step(f"alerts by version {first}", lambda: _await_alerts(stack, first))
    stream = stack.started("inference")
    trained = course.step("training by Airflow's DAG", lambda: _trigger(stack))
    second = stack.champion()
    if second in (None, first):
        raise NotAsPromised(f"the champion was {first} and is {second}: {trained['decision']}")
    course.step(f"alerts by version {second}", lambda: _await_alerts(stack, second))
    if stack.started("inference") != stream:
        raise NotAsPromised("the stream was restarted to get at its new champion")
    for service in ("kafka", "mlflow", "inference"):
        course.step(f"restarting {service}", partial(_restart, stack, service))
    course.step("stopping the traffic", lambda: stack.run("stop", "producer"))
    course.step("everything accounted for", lambda: _await_nothing_open(stack))
    before = stack.ledger()
    course.step("down", lambda: stack.run("down"))
    course.step("up again, Kafka and MLflow", lambda: stack.up("kafka", "mlflow"))
    after, champion = stack.ledger(), stack.champion()
    if (after, champion) != (before, second):
        raise NotAsPromised(f"down and up has changed {before}, {second} to {after}, {champion}")
    return {
        **after,
        "first_champion": first,
        "champion": second,
        "average_precision": [each["average_precision"] for each in (hurried, trained)],
        "decision": trained["decision"],
        "seconds": course.seconds,
    }


def _await_history(stack: Stack) -> None:
    """Wait until live traffic has begun, which is when the rate falls."""
    counts = [0]

    def slow() -> bool:
        counts.append(int(stack.ledger()["transactions"]))
        return 0 < counts[-1] < counts[-2] * 1.01

    await_that(slow, _SCORING_S, "the history is still being sent")


def _train_in_a_hurry(stack: Stack) -> dict[str, Any]:
    """Train two epochs on three days in the worker, and return the trainer's result.

    So the next training, on all days, is better beyond any noise, as a new champion has to be. A
    budget of alerts makes a model alert, however little it is worth.
    """
    told = stack.run(
        *("exec", "--no-TTY", "airflow-worker", "/opt/trainer/pex", "train", "--json"),
        *("--epochs", "2", "--window", "3d", "--alerts-per-day", "500"),
        timeout_s=_TRAINING_S,
    )
    result: dict[str, Any] = json.loads(told)
    return result


def _trigger(stack: Stack) -> dict[str, Any]:
    """Train by the DAG and return the trainer's result, as Airflow keeps it."""
    run = stack.airflow.trigger("train_fraud_model")
    state = stack.airflow.await_end("train_fraud_model", run, _TRAINING_S)
    if state != "success":
        raise NotAsPromised(
            f"run {run} of train_fraud_model is {state}: "
            f"{stack.airflow.log('train_fraud_model', run, 'train')[-500:]}"
        )
    result: dict[str, Any] = stack.airflow.result("train_fraud_model", run, "train")
    return result


def _await_alerts(stack: Stack, version: str | None) -> None:
    await_that(
        lambda: version in stack.ledger()["alerts"],
        _SCORING_S,
        f"there is no alert in `predicted` by version {version}",
    )


def _restart(stack: Stack, service: str) -> None:
    """Restart a service, wait for its health, and see that scores come after that."""
    stack.run("restart", service)
    stack.up()
    scored = stack.ledger()["scored"]
    await_that(
        lambda: bool(stack.ledger()["scored"] > scored),
        _SCORING_S,
        f"nothing was scored since {service} was restarted",
    )


def _await_nothing_open(stack: Stack) -> None:
    found: dict[str, Any] = {}

    def closed() -> bool:
        found.update(stack.ledger())
        return bool(found["open"] == 0)

    await_that(closed, _SCORING_S, "there are transactions without a score or a dead letter")
    if found["transactions"] != found["scored"] + found["dead_letters"]:
        raise NotAsPromised(f"transactions are not scores and dead letters together: {found}")
    if found["scored_twice"]:
        raise NotAsPromised(f"{found['scored_twice']} transactions have more than one score")


def _defaults() -> dict[str, str]:
    lines = (_HERE / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def main() -> None:
    """Read the command line, run the test, clean up, report."""
    parser = argparse.ArgumentParser(
        prog="deploy/compose/smoke",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    parser.add_argument("--keep", action="store_true", help="leave the stack as it is in the end")
    parser.add_argument("--project", default="fraudstream-smoke", metavar="NAME")
    parser.add_argument("--set", action="append", default=[], metavar="VARIABLE=VALUE")
    parser.add_argument(
        "--file", action="append", default=[], metavar="FILE", help="a further compose file"
    )
    parser.add_argument(
        "--secrets", type=Path, metavar="FOLDER", help="use these rather than new ones"
    )
    given = parser.parse_args()
    settings = {f"{name}_PORT": str(free_port()) for name in _PORTS}
    # The history is long enough to train on, and as short as that; live traffic is brisk.
    settings |= {"SIMULATED_HISTORY": "30", "SIMULATED_RATE": "50"}
    settings |= dict(each.split("=", 1) for each in given.set)
    course = Course()
    with tempfile.TemporaryDirectory(prefix="fraudstream-smoke-") as folder:
        secrets = given.secrets or Path(folder) / "secrets"
        stack = Stack(given.project, settings, Path(folder), secrets.resolve(), given.file)
        try:
            report = smoke(stack, course)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            sys.exit(130)
        except (ValueError, LookupError, OSError) as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(1)
        finally:
            if not given.keep:
                stack.run("down", "--volumes", "--remove-orphans")
    print(json.dumps(report, indent=2) if given.json else _told(report))


def _told(report: Mapping[str, Any]) -> str:
    return "\n".join(f"{name}: {value}" for name, value in report.items() if name != "seconds")


if __name__ == "__main__":
    main()
