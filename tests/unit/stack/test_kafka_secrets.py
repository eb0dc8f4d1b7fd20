"""A secured Kafka and its clients are given secrets that agree, and keep them."""

from base64 import b64decode
from datetime import UTC
from datetime import datetime
import hashlib
from pathlib import Path
import re

import pytest

from fraudstream.kafka.acls import ROLES
from fraudstream.kafka.options import read_properties
from fraudstream.stack.kafka import KafkaBroker
from fraudstream.stack.kafka_secrets import ADMIN
from fraudstream.stack.kafka_secrets import AUTHORITY
from fraudstream.stack.kafka_secrets import BROKER
from fraudstream.stack.kafka_secrets import USERS
from fraudstream.stack.kafka_secrets import provide
from fraudstream.stack.secrets import Secrets

_NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
_USER = re.compile(
    r'SCRAM-SHA-512=\[name="(\w+)",iterations=(\d+),salt="(.+)",saltedpassword="(.+)"\]'
)


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    return Secrets(tmp_path / "secrets")


def contents(secrets: Secrets) -> dict[str, str]:
    return {file.name: file.read_text() for file in secrets.folder.iterdir()}


def test_each_role_has_a_password_of_its_own_in_its_properties(secrets: Secrets) -> None:
    provide(secrets, ["kafka"], _NOW)
    found = {}
    for role in (ADMIN, *ROLES):
        properties = read_properties(secrets.folder / f"kafka-{role}.properties")
        assert properties["sasl.username"] == role
        assert properties["ssl.ca.pem"] == secrets.read(AUTHORITY).strip()
        found[role] = properties["sasl.password"]
    assert len(set(found.values())) == len(found)
    assert min(map(len, found.values())) >= 32


def test_the_users_are_made_with_those_passwords_and_do_not_tell_them(secrets: Secrets) -> None:
    secrets.write("kafka-trainer-password", '"awkward, one\n')
    provide(secrets, ["kafka"], _NOW)
    flags, users = secrets.read(USERS).splitlines()[::2], secrets.read(USERS).splitlines()[1::2]
    assert set(flags) == {"--add-scram"}
    for role, user in zip((ADMIN, *ROLES), users, strict=True):
        found = _USER.fullmatch(user)
        assert found is not None
        name, iterations, salt, salted = found.groups()
        password = read_properties(secrets.folder / f"kafka-{role}.properties")["sasl.password"]
        assert name == role
        assert b64decode(salted) == hashlib.pbkdf2_hmac(
            "sha512", password.encode(), b64decode(salt), int(iterations)
        )
        assert password not in secrets.read(USERS)


def test_what_is_there_stays(secrets: Secrets) -> None:
    made = provide(secrets, ["kafka"], _NOW)
    before = contents(secrets)
    assert provide(secrets, ["elsewhere"], _NOW) == made
    after = contents(secrets)
    # Salted anew, which is as good.
    del before[USERS], after[USERS]
    assert after == before
    assert {file.name for file in made} == {*before, USERS}


@pytest.mark.parametrize("removed", [AUTHORITY, BROKER])
def test_a_certificate_is_issued_together_with_its_authority(
    secrets: Secrets, removed: str
) -> None:
    provide(secrets, ["kafka"], _NOW)
    before = contents(secrets)
    (secrets.folder / removed).unlink()
    provide(secrets, ["kafka"], _NOW)
    after = contents(secrets)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {AUTHORITY, BROKER, USERS, "kafka-tools.properties"}


def java_file(text: str) -> dict[str, str]:
    """Read a file of properties as Java does, as far as ours go."""
    joined = re.sub(r"\\\n\s*", "", text)
    lines = [line for line in joined.splitlines() if line and not line.startswith("#")]
    return dict(line.split("=", 1) for line in lines)


def test_the_broker_of_the_containers_is_secured_as_the_one_that_is_tested(
    tmp_path: Path, secrets: Secrets
) -> None:
    deployed = java_file((_root() / "deploy" / "kafka" / "secured.properties").read_text())
    ours = java_file(KafkaBroker(tmp_path, tmp_path, secrets=secrets).properties())
    for name in ("containers", "machine"):
        login = deployed.pop(f"listener.name.{name}.scram-sha-512.sasl.jaas.config")
        assert login == ours["listener.name.clients.scram-sha-512.sasl.jaas.config"]
    # Clients have two ways to the one in a container, and one to ours.
    listeners = [deployed.pop(name) for name in ("listeners", "listener.security.protocol.map")]
    assert re.findall(r"(\w+)://127\.0\.0\.1:", listeners[0]) == ["INTERNAL", "CONTROLLER"]
    assert listeners[1] == ("CONTAINERS:SASL_SSL,MACHINE:SASL_SSL,INTERNAL:SSL,CONTROLLER:SSL")
    assert "PLAINTEXT" not in ours["listener.security.protocol.map"]
    folder = str(secrets.folder.resolve())
    told = {name: ours[name].replace(folder, "/run/secrets") for name in deployed}
    assert told == deployed


def _root() -> Path:
    return next(p for p in Path(__file__).resolve().parents if (p / "deploy" / "kafka").is_dir())
