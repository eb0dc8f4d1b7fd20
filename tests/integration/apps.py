"""Where the integration tests find what they start."""

from collections.abc import Callable
import os
from pathlib import Path
import subprocess
import sys
import time

from fraudstream.cli.folders import default_cache

# Where `./pants test` puts the packages that a test depends on.
_MLFLOW = Path("mlflow-server.pex")
_INFERENCE = Path("inference.pex")
_AIRFLOW = Path("airflow.pex")
_DAGS = Path("deploy/airflow/dags")


def cache() -> Path:
    """Return the folder that keeps Kafka's jars: the user's own, so that they are resolved once."""
    chosen = os.environ.get("FRAUDSTREAM_CACHE")
    return Path(chosen) if chosen else default_cache()


def mlflow() -> list[str]:
    """Return MLflow's command line: ``FRAUDSTREAM_TEST_MLFLOW``, or what Pants has packaged.

    Raises
    ------
    LookupError
        If there is neither.
    """
    return [_program("FRAUDSTREAM_TEST_MLFLOW", _MLFLOW)]


def inference() -> list[str]:
    """Return the stream's program as it ships: ``FRAUDSTREAM_TEST_INFERENCE``, or Pants' own.

    Raises
    ------
    LookupError
        If there is neither.
    """
    return [_program("FRAUDSTREAM_TEST_INFERENCE", _INFERENCE)]


def airflow() -> list[str]:
    """Return Airflow's command line: ``FRAUDSTREAM_TEST_AIRFLOW``, or what Pants has packaged.

    Raises
    ------
    LookupError
        If there is neither.
    """
    return [_program("FRAUDSTREAM_TEST_AIRFLOW", _AIRFLOW)]


def dags() -> Path:
    """Return the folder of the DAGs that ship."""
    return _DAGS.resolve()


def from_sources(module: str, program: Path) -> Path:
    """Write an executable that runs one of our apps from its sources, and return it."""
    path = os.pathsep.join(filter(None, sys.path))
    program.write_text(
        f"#!/bin/sh\nPYTHONPATH='{path}' exec '{sys.executable}' -m {module} \"$@\"\n"
    )
    program.chmod(0o755)
    return program


def _program(variable: str, packaged: Path) -> str:
    chosen = os.environ.get(variable)
    program = Path(chosen) if chosen else packaged.resolve()
    if not program.exists():
        raise LookupError(f"{program} does not exist: set {variable} to such a program")
    return str(program)


def environment() -> dict[str, str]:
    """Return the environment in which an interpreter of our own finds our sources."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


def await_that(
    condition: Callable[[], bool], program: subprocess.Popen[bytes], deadline_s: float
) -> None:
    """Wait until something is so; fail if the program ends before, or the deadline passes."""
    deadline = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < deadline, f"not so after {deadline_s:.0f} s"
        try:
            program.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"the program ended early, with exit code {program.returncode}")
