"""Runs the trainer as a program, which is all that the DAGs here do.

The program is the file at ``FRAUDSTREAM_TRAINER`` (`trainer.pex`); it takes its other settings from
``FRAUDSTREAM_*`` too. This module knows nothing of Airflow.
"""

from collections.abc import Mapping
import json
import logging
import os
import subprocess
import tempfile
from typing import Any

PROGRAM = "FRAUDSTREAM_TRAINER"

#: How the trainer writes a length of time, as a pattern of JSON Schema: ``7d``, ``12h``, ``90m``.
DURATION = r"^\d+(\.\d+)?[dhm]$"

_STOP_S = 20.0

log = logging.getLogger(__name__)


class TrainerMissing(LookupError):
    """There is no program at the place that the setting names."""


class TrainerFailed(ValueError):
    """The trainer ended with an error, which the message quotes."""


def schedule(variable: str) -> str | None:
    """Return the schedule that an environment variable sets; ``None``: only by hand.

    It is read when the DAG is parsed, and so it is a variable of the DAG processor.
    """
    return os.environ.get(variable, "").strip() or None


def run_trainer(command: str, options: Mapping[str, str | float | None]) -> dict[str, Any]:
    """Run a command of the trainer to its end and return its result.

    What it tells goes to the task's log, line by line. No shell is involved: whatever a value
    holds, it is one argument of one option.

    Parameters
    ----------
    command
        Such as ``"train"``.
    options
        By name, such as ``"label_delay"``; those that are ``None`` are left to the trainer. One
        that takes no value is ``True`` where it is given, ``False`` where it is not.

    Raises
    ------
    TrainerMissing
        If there is no program to run.
    TrainerFailed
        If it ends with an error; the message is its last line.
    """
    program = os.environ.get(PROGRAM, "")
    if not os.access(program, os.X_OK):
        raise TrainerMissing(
            f"expected {PROGRAM} to name the trainer's program (trainer.pex), got {program!r}: "
            "set it for the worker"
        )
    given = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}")
        for name, value in options.items()
        if value is not None and value is not False
    ]
    log.info("running %s %s %s", program, command, " ".join(given))
    with tempfile.TemporaryFile() as result:
        child = subprocess.Popen(
            [program, command, "--json", *given],
            stdin=subprocess.DEVNULL,
            stdout=result,
            stderr=subprocess.PIPE,
        )
        try:
            last = _tell(child)
            code = child.wait()
        finally:
            # Airflow ends a task by raising in it: when it takes too long, or is stopped by hand.
            _end(child)
        if code != 0:
            raise TrainerFailed(f"trainer {command} ended with exit code {code}: {last}")
        result.seek(0)
        found: dict[str, Any] = json.load(result)
    return found


def _tell(child: subprocess.Popen[bytes]) -> str:
    """Log what the program tells until it has no more to tell; return the last of it."""
    last = "it did not say why"
    for line in child.stderr or ():
        if told := line.decode(errors="replace").strip():
            log.info("%s", told)
            last = told
    return last


def _end(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
