"""Where the integration tests find what they start."""

from collections.abc import Callable
import os
from pathlib import Path
import subprocess
import sys
import time

from fraudstream.demo.main import default_cache

# Where `./pants test` puts the packaged server that the tests depend on.
_MLFLOW = Path("mlflow-server.pex")


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
    chosen = os.environ.get("FRAUDSTREAM_TEST_MLFLOW")
    program = Path(chosen) if chosen else _MLFLOW.resolve()
    if not program.exists():
        raise LookupError(f"{program} does not exist: set FRAUDSTREAM_TEST_MLFLOW to MLflow's CLI")
    return [str(program)]


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
