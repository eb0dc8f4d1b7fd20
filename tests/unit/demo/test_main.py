"""The command line refuses what cannot work before anything is started."""

from contextlib import nullcontext
from pathlib import Path

from click.testing import CliRunner
import pytest

from fraudstream.demo.main import demo

_PROGRAMS = ("producer", "trainer", "inference", "mlflow")


@pytest.fixture
def programs(tmp_path: Path) -> list[str]:
    for name in _PROGRAMS:
        (tmp_path / name).touch()
    return [f"--{name}={tmp_path / name}" for name in _PROGRAMS]


def test_help_names_the_variable_of_every_program() -> None:
    shown = CliRunner().invoke(demo, ["--help"]).output
    assert all(f"FRAUDSTREAM_DEMO_{name.upper()}" in shown for name in _PROGRAMS)


def test_a_missing_program_is_named() -> None:
    outcome = CliRunner().invoke(demo, [])
    assert outcome.exit_code == 2
    assert "--producer" in outcome.output


def test_programs_are_found_through_the_environment(tmp_path: Path, programs: list[str]) -> None:
    variables = {f"FRAUDSTREAM_DEMO_{name.upper()}": str(tmp_path / name) for name in _PROGRAMS}
    outcome = CliRunner().invoke(demo, ["--report", str(tmp_path / "no" / "r.json")], env=variables)
    assert "does not exist: create it" in str(outcome.exception)


def test_a_report_in_a_folder_that_does_not_exist_is_refused(
    tmp_path: Path, programs: list[str]
) -> None:
    outcome = CliRunner().invoke(demo, [*programs, "--report", str(tmp_path / "no" / "r.json")])
    assert isinstance(outcome.exception, ValueError)
    assert "does not exist: create it" in str(outcome.exception)


def test_a_folder_to_keep_that_holds_something_is_refused(
    tmp_path: Path, programs: list[str]
) -> None:
    outcome = CliRunner().invoke(demo, [*programs, "--keep", str(tmp_path)])
    assert isinstance(outcome.exception, ValueError)
    assert "is not empty: give --keep a new folder" in str(outcome.exception)


def test_a_folder_to_keep_is_made_and_stays(
    tmp_path: Path, programs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fraudstream.demo.main.Show.run", lambda *given: None)
    # The real one leaves signals ignored, and what later tests start would inherit that.
    monkeypatch.setattr("fraudstream.demo.main.Interrupts", nullcontext)
    outcome = CliRunner().invoke(demo, [*programs, "--keep", str(tmp_path / "new" / "kept")])
    assert outcome.exit_code == 0
    assert (tmp_path / "new" / "kept").is_dir()
