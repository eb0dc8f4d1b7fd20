"""What the stack is started with for the first time is all there, random, and stays as it is."""

import json
from pathlib import Path
import runpy
import stat
from types import SimpleNamespace

import pytest
import yaml

from fraudstream.stack.secrets import Secrets

COMPOSE = Path(__file__).parents[3] / "deploy" / "compose"


@pytest.fixture(scope="module")
def init():
    return SimpleNamespace(**runpy.run_path(str(COMPOSE / "init.py")))


def test_every_secret_of_the_compose_file_is_made(init, tmp_path):
    made = init.provide(Secrets(tmp_path / "secrets"))
    stack = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    assert stack["secrets"].keys() <= set(made)


def test_secrets_can_be_read_by_containers_and_by_nobody_else_on_this_machine(init, tmp_path):
    init.provide(Secrets(tmp_path / "secrets"))
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    for file in (tmp_path / "secrets").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o444


def test_a_second_run_changes_no_secret_and_keeps_the_keys_of_another_s3_server(init, tmp_path):
    secrets = Secrets(tmp_path / "secrets")
    init.provide(secrets)
    secrets.write("s3.aws", "[default]\naws_access_key_id=mine\n")
    before = {file.name: file.read_text() for file in secrets.folder.iterdir()}
    init.provide(secrets)
    assert {file.name: file.read_text() for file in secrets.folder.iterdir()} == before


def test_no_two_stacks_have_a_secret_in_common(init, tmp_path):
    first, second = (Secrets(tmp_path / name) for name in ("first", "second"))
    init.provide(first)
    init.provide(second)
    for file in first.folder.iterdir():
        assert file.read_text() != (second.folder / file.name).read_text()


def test_what_is_derived_from_a_password_agrees_with_it(init, tmp_path):
    secrets = Secrets(tmp_path / "secrets")
    init.provide(secrets)
    password = secrets.read("postgres-airflow-password")
    assert f"://airflow:{password}@postgres/airflow" in secrets.read("airflow-database.uri")
    assert json.loads(secrets.read("airflow-passwords.json")) == {
        "admin": secrets.read("airflow-admin-password")
    }
    assert secrets.read("mlflow-admin-password") in secrets.read("mlflow-access.ini")
