"""The command line of the stack says what it needs, and where everything is."""

from pathlib import Path

from click.testing import CliRunner
from rich.console import Console

from fraudstream.stack.local import Place
from fraudstream.stack.main import document
from fraudstream.stack.main import local
from fraudstream.stack.main import table

_PLACES = [
    Place("Kafka", "127.0.0.1:9092", {"admin": Path("/s/admin"), "trainer": Path("/s/trainer")}),
    Place("S3", "http://127.0.0.1:9000", {"root": Path("/s/s3.aws")}),
]


def test_help_names_the_variable_of_every_program() -> None:
    shown = CliRunner().invoke(local, ["--help"]).output
    for name in ("MLFLOW", "MINIO", "PRODUCER", "INFERENCE"):
        assert f"FRAUDSTREAM_LOCAL_{name}" in shown


def test_a_missing_program_is_named() -> None:
    outcome = CliRunner().invoke(local, [])
    assert outcome.exit_code == 2
    assert "--mlflow" in outcome.output


def test_places_are_told_to_machines_with_the_files_that_let_in() -> None:
    told = document(Path("/folder"), _PLACES)
    assert told["folder"] == "/folder"
    assert told["services"]["kafka"] == {
        "address": "127.0.0.1:9092",
        "secrets": {"admin": "/s/admin", "trainer": "/s/trainer"},
    }


def test_places_are_told_to_people_once_each() -> None:
    console = Console(width=100)
    with console.capture() as shown:
        console.print(table(_PLACES))
    text = shown.get()
    assert text.count("127.0.0.1:9092") == 1
    assert all(name in text for name in ("admin", "trainer", "s3.aws"))
