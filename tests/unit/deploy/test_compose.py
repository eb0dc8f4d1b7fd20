"""The compose file keeps its promises: health, limits, ports, secrets, settings, least rights."""

from pathlib import Path
import re

import pytest
import yaml

COMPOSE = Path(__file__).parents[3] / "deploy" / "compose"
# `${NAME:-default}`: the default where NAME is unset or empty; `${NAME-default}`: where unset.
_VARIABLE = re.compile(r"\$\{(\w+)(?::?-([^}]*))?\}")
_ESCAPED = re.compile(r"\$\$")
_SIZES = {"m": 2**20, "g": 2**30}
_GIB = 2**30

TEXT = (COMPOSE / "compose.yaml").read_text()
STACK = yaml.safe_load(TEXT)
SERVICES = STACK["services"]
# What is waited for until it has ended is not expected to stay.
ONE_SHOTS = {
    name
    for service in SERVICES.values()
    for name, awaited in service.get("depends_on", {}).items()
    if awaited["condition"] == "service_completed_successfully"
}
each_service = pytest.mark.parametrize("name", SERVICES)


def _settings() -> dict[str, str]:
    lines = (COMPOSE / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def _bytes(size: str) -> int:
    return int(size[:-1]) * _SIZES[size[-1]]


def test_the_services_are_all_that_the_system_needs():
    assert {
        *("kafka", "postgres", "redis", "minio", "mlflow", "producer", "inference"),
        *("airflow-apiserver", "airflow-scheduler", "airflow-dag-processor"),
        *("airflow-triggerer", "airflow-worker"),
    } == SERVICES.keys() - ONE_SHOTS
    assert {"topics", "buckets", "mlflow-migrate", "mlflow-users", "airflow-migrate"} == ONE_SHOTS


@each_service
def test_a_service_has_a_health_check_or_runs_to_its_end(name):
    service = SERVICES[name]
    if name in ONE_SHOTS:
        assert service["restart"] == "no"
    else:
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}
        assert service["restart"] == "unless-stopped"


@each_service
def test_a_service_waits_for_the_health_or_the_end_of_what_it_needs(name):
    for needed, awaited in SERVICES[name].get("depends_on", {}).items():
        end = "service_completed_successfully" if needed in ONE_SHOTS else "service_healthy"
        assert awaited["condition"] == end


@each_service
def test_a_service_belongs_to_a_profile_that_the_settings_turn_on(name):
    profiles = SERVICES[name]["profiles"]
    assert profiles
    assert set(profiles) <= set(_settings()["COMPOSE_PROFILES"].split(","))


@each_service
def test_a_service_has_no_rights_that_it_does_not_need(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert "cap_add" not in service


@each_service
def test_a_service_does_not_run_as_root(name):
    service = SERVICES[name]
    if service["image"].startswith("fraudstream/"):
        assert "user" not in service, "our images name a user themselves"
    else:
        assert int(service["user"].partition(":")[0]) > 0


@pytest.mark.parametrize(
    "name",
    ["base", "producer", "trainer", "inference", "mlflow", "airflow", "airflow-worker", "minio"],
)
def test_an_image_of_ours_ends_as_a_user_without_rights(name):
    lines = (COMPOSE.parent / "images" / name / "Dockerfile").read_text().splitlines()
    last = lines[max(n for n, line in enumerate(lines) if line.startswith("FROM")) :]
    users = [line.split()[1] for line in last if line.startswith("USER")]
    # Where the last stage names none, it has that of the base.
    assert all(user.partition(":")[0] != "0" for user in users[-1:])
    assert "pip install" not in "\n".join(lines)


@each_service
def test_a_port_is_open_to_this_machine_only(name):
    for port in SERVICES[name].get("ports", []):
        assert port.startswith("127.0.0.1:")


def test_the_memory_of_all_services_is_less_than_16_gib():
    assert sum(_bytes(service["mem_limit"]) for service in SERVICES.values()) < 16 * _GIB


@each_service
def test_no_secret_is_in_an_environment_or_a_command(name):
    service = SERVICES[name]
    told = [*service.get("command", []), *service.get("entrypoint", [])]
    told += [f"{key}={value}" for key, value in service.get("environment", {}).items()]
    for text in told:
        for key, value in re.findall(r"(?i)(\w*(?:password|secret|key)\w*)=(\S+)", text):
            assert "/run/secrets/" in text, f"{key} is {value}"
        assert not re.search(r"://[^/\s]*:[^/\s]*@", text)


@each_service
def test_a_service_gets_the_secrets_that_it_reads_and_no_others(name):
    service = SERVICES[name]
    given = set(service.get("secrets", []))
    assert given <= STACK["secrets"].keys()
    read = set(re.findall(r"/run/secrets/([\w.-]+)", yaml.safe_dump(service, width=1000)))
    assert read <= given


def test_every_secret_is_a_file_of_the_folder_of_secrets_and_is_used():
    for name, secret in STACK["secrets"].items():
        assert secret == {"file": f"${{SECRETS:-./secrets}}/{name}"}
    used = {name for service in SERVICES.values() for name in service.get("secrets", [])}
    assert used == STACK["secrets"].keys()


def test_the_settings_that_are_told_are_those_that_are_used_with_the_same_defaults():
    used = {m[1]: m[2] for m in _VARIABLE.finditer(_ESCAPED.sub("", TEXT))}
    told = _settings()
    assert told.pop("COMPOSE_PROFILES") == "core,airflow,live"
    assert used == told


def test_a_default_is_the_same_wherever_a_setting_is_used():
    defaults: dict[str, set[str]] = {}
    for match in _VARIABLE.finditer(_ESCAPED.sub("", TEXT)):
        defaults.setdefault(match[1], set()).add(match[2])
    assert {name: values for name, values in defaults.items() if len(values) > 1} == {}


@each_service
def test_an_image_is_pinned_to_a_version(name):
    image = _VARIABLE.sub(lambda match: match[2], SERVICES[name]["image"])
    tag = image.rpartition(":")[2]
    assert re.search(r"\d+\.\d+", tag)


def test_what_has_to_be_kept_is_in_named_volumes():
    mounted = {
        volume.partition(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if not volume.startswith(".")
    }
    assert mounted == STACK["volumes"].keys()


def test_with_a_secured_kafka_each_part_has_the_password_of_its_own_role_only():
    secure = yaml.safe_load((COMPOSE / "compose.secure.yaml").read_text())
    roles = {
        "topics": "admin",
        "producer": "producer",
        "inference": "inference",
        "airflow-worker": "trainer",
    }
    assert secure["services"].keys() == {"kafka", *roles}
    for name, role in roles.items():
        service = secure["services"][name]
        config = f"kafka-{role}.properties"
        assert service["environment"]["FRAUDSTREAM_KAFKA_CONFIG"] == f"/run/secrets/{config}"
        assert set(service["secrets"]) == {"kafka-ca.crt", config, f"kafka-{role}-password"}
    for name, secret in secure["secrets"].items():
        assert secret == {"file": f"${{SECRETS:-./secrets}}/{name}"}
