"""The trainer is run as a program: what it is given, what it tells, and how it is ended."""

from collections.abc import Callable
import importlib.util
import logging
import os
from pathlib import Path
from types import ModuleType

import pytest

from integration import apps


@pytest.fixture(scope="module")
def app() -> ModuleType:
    """The module as Airflow imports it: by its file, without anything of ours."""
    spec = importlib.util.spec_from_file_location("trainer_app", apps.dags() / "trainer_app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Make a trainer of a shell script."""

    def make(script: str) -> None:
        program = tmp_path / "trainer"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("FRAUDSTREAM_TRAINER", str(program))

    return make


def test_options_become_one_argument_each_and_those_left_open_none(
    app: ModuleType, trainer: Callable[[str], None]
) -> None:
    trainer('printf \'{"given": ["%s", "%s", "%s"], "more": "%s"}\' "$1" "$2" "$3" "$4"')
    found = app.run_trainer("train", {"label_delay": "7d; $(touch x) '", "window": None})
    assert found == {"given": ["train", "--json", "--label-delay=7d; $(touch x) '"], "more": ""}


def test_an_option_without_a_value_is_there_or_not(
    app: ModuleType, trainer: Callable[[str], None]
) -> None:
    trainer('printf \'{"given": ["%s", "%s"], "more": "%s"}\' "$3" "$4" "$5"')
    options = {"least_cost": True, "previous": False, "alerts_per_day": 0.5}
    found = app.run_trainer("train", options)
    assert found == {"given": ["--least-cost", "--alerts-per-day=0.5"], "more": ""}


def test_what_it_tells_is_logged_line_by_line(
    app: ModuleType, trainer: Callable[[str], None], caplog: pytest.LogCaptureFixture
) -> None:
    trainer("echo reading >&2; echo >&2; echo training >&2; echo '{}'")
    with caplog.at_level(logging.INFO):
        assert app.run_trainer("train", {}) == {}
    assert [record.getMessage() for record in caplog.records][1:] == ["reading", "training"]


def test_its_last_line_is_the_error(app: ModuleType, trainer: Callable[[str], None]) -> None:
    trainer("echo reading >&2; echo 'error: labels missing' >&2; exit 1")
    with pytest.raises(app.TrainerFailed, match=r"exit code 1: error: labels missing$"):
        app.run_trainer("train", {})
    trainer("exit 70")
    with pytest.raises(app.TrainerFailed, match="exit code 70: it did not say why"):
        app.run_trainer("train", {})


def test_a_setting_that_names_no_program_is_told(
    app: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FRAUDSTREAM_TRAINER", raising=False)
    with pytest.raises(app.TrainerMissing, match=r"expected FRAUDSTREAM_TRAINER .* got ''"):
        app.run_trainer("train", {})


class Interrupted(Exception):
    """What Airflow raises in a task that takes too long, or is stopped."""


@pytest.mark.parametrize("manners", ["", "trap '' TERM;"], ids=["polite", "stubborn"])
def test_it_does_not_outlive_its_task(
    app: ModuleType,
    trainer: Callable[[str], None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    manners: str,
) -> None:
    def tell(form: str, *told: str) -> None:
        if told == ("training",):
            raise Interrupted

    monkeypatch.setattr(app.log, "info", tell)
    monkeypatch.setattr(app, "_STOP_S", 0.3)
    trainer(f"{manners} echo $$ > {tmp_path}/number; echo training >&2; exec sleep 600")
    with pytest.raises(Interrupted):
        app.run_trainer("train", {})
    # It has been waited for, so that even its number is free again.
    number = int((tmp_path / "number").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)


def test_a_schedule_is_what_the_variable_says(
    app: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUDSTREAM_TRAIN_SCHEDULE", " @weekly ")
    assert app.schedule("FRAUDSTREAM_TRAIN_SCHEDULE") == "@weekly"
    for value in ("", "  "):
        monkeypatch.setenv("FRAUDSTREAM_TRAIN_SCHEDULE", value)
        assert app.schedule("FRAUDSTREAM_TRAIN_SCHEDULE") is None
