"""Every app finds the MLflow server, and the password for it, in the same way."""

import os
from pathlib import Path
import subprocess

import click
from click.testing import CliRunner
import pytest

from fraudstream.cli.tracking import BadCredentials
from fraudstream.cli.tracking import credentials_withheld
from fraudstream.cli.tracking import read_credentials
from fraudstream.cli.tracking import tracking_options

_SECRET = "s3=cret"  # noqa: S105


@click.command()
@tracking_options
def show(tracking_uri: str, model_name: str) -> None:
    names = ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD")
    click.echo(" ".join([tracking_uri, model_name, *(os.environ.get(name, "-") for name in names)]))


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    # Set first, so that what a test sets is taken back as well.
    proxied = [f"MLFLOW_ENABLE_PROXY_MULTIPART_{way}" for way in ("DOWNLOAD", "UPLOAD")]
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", *proxied):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def credentials(folder: Path, content: bytes) -> Path:
    file = folder / "credentials"
    file.write_bytes(content)
    return file


def test_artifacts_are_had_from_the_server_alone_unless_the_environment_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    assert CliRunner().invoke(show, []).exit_code == 0
    assert os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD"] == "false"
    assert os.environ["MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"] == "true"


def test_name_and_password_of_a_file_reach_mlflows_client(tmp_path: Path) -> None:
    file = credentials(tmp_path, b"username=trainer\npassword=s3=cret\n")
    for arguments, variables in (
        (["--tracking-credentials", str(file)], {}),
        ([], {"FRAUDSTREAM_TRACKING_CREDENTIALS": str(file)}),
    ):
        outcome = CliRunner().invoke(show, arguments, env=variables)
        assert outcome.output == "http://localhost:5000 fraud-detector trainer s3=cret\n"


def test_what_is_started_in_between_does_not_inherit_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", _SECRET)
    with credentials_withheld():
        inherited = subprocess.run(["/usr/bin/env"], check=True, capture_output=True).stdout
    assert b"MLFLOW_TRACKING" not in inherited
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == _SECRET
    assert "MLFLOW_TRACKING_USERNAME" not in os.environ


def test_without_a_file_nothing_is_set() -> None:
    outcome = CliRunner().invoke(show, ["--tracking-uri", "http://m:1", "--model-name", "x"])
    assert outcome.output == "http://m:1 x - -\n"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"s3cret",
        b"username=a\n",
        b"username=a\npassword=\n",
        b"username=a\npassword=s3cret\nhost=b\n",
        b"username=a\npassword=s3cret\xff\n",
    ],
)
def test_a_file_of_anything_else_is_refused_without_quoting_it(
    tmp_path: Path, content: bytes
) -> None:
    with pytest.raises(BadCredentials, match="expected two lines of text") as refusal:
        read_credentials(credentials(tmp_path, content))
    assert "s3cret" not in str(refusal.value)
