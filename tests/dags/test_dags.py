"""The DAGs under a real Airflow: read without an error, as promised, and training for real."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
import json
import os
from pathlib import Path
import sqlite3
import subprocess
from typing import Any

import pytest

from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.producer.main import producer
from fraudstream.stack.kafka import KafkaBroker
from fraudstream.stack.mlflow import MlflowServer
from fraudstream.trainer.registry import Registry
from integration import apps

MODEL = "fraud-detector"


@dataclass
class Airflow:
    """An Airflow on SQLite, by its command line."""

    home: Path

    @property
    def database(self) -> Path:
        return self.home / "airflow.db"

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*apps.airflow(), *arguments],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
            env={
                "PATH": os.environ["PATH"],
                "HOME": os.environ.get("HOME", str(self.home)),
                "AIRFLOW_HOME": str(self.home),
                "AIRFLOW__CORE__DAGS_FOLDER": str(apps.dags()),
                "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
                # The folder of the DAGs stays as it ships.
                "PYTHONDONTWRITEBYTECODE": "1",
                **environment,
            },
        )

    def query(self, question: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self.database)) as connection:
            return connection.execute(question).fetchall()


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    """An Airflow that has read the DAGs, with a schedule set for the evaluation."""
    found = Airflow(tmp_path_factory.mktemp("airflow"))
    for arguments in (("db", "migrate"), ("dags", "reserialize")):
        done = found.run(*arguments, FRAUDSTREAM_EVALUATE_SCHEDULE="@daily")
        assert done.returncode == 0, done.stderr
    return found


@pytest.fixture(scope="module")
def dags(airflow: Airflow) -> dict[str, dict[str, Any]]:
    """Each DAG as Airflow keeps it."""
    rows = airflow.query("SELECT dag_id, data FROM serialized_dag")
    return {name: json.loads(data)["dag"] for name, data in rows}


def test_the_dags_are_read_without_an_error(
    airflow: Airflow, dags: dict[str, dict[str, Any]]
) -> None:
    assert airflow.query("SELECT filename, stacktrace FROM import_error") == []
    assert sorted(dags) == ["evaluate_live", "train_fraud_model"]


@pytest.mark.parametrize("name", ["train_fraud_model", "evaluate_live"])
def test_one_run_at_a_time_none_for_the_past_and_all_is_explained(
    dags: dict[str, dict[str, Any]], name: str
) -> None:
    dag = dags[name]
    assert dag["max_active_runs"] == 1
    assert dag.get("catchup", False) is False
    assert dag["is_paused_upon_creation"] is False
    assert "label_delay" in dag["doc_md"]
    [task] = dag["tasks"]
    assert task["__var"]["execution_timeout"] > 0
    assert task["__var"].get("retries", 0) == 0


def test_the_schedule_is_a_setting_and_there_is_none_without_it(
    airflow: Airflow, dags: dict[str, dict[str, Any]]
) -> None:
    found = airflow.query("SELECT dag_id, timetable_description FROM dag")
    described = dict(found)
    assert described["train_fraud_model"] == "Never, external triggers only"
    assert described["evaluate_live"] == "At 00:00"


def schema(dag: dict[str, Any], name: str) -> dict[str, Any]:
    [found] = [param for each, param in dag["params"] if each == name]
    return {"default": found["default"], **found["schema"]["__var"]}


def test_the_parameters_are_described_by_a_schema(dags: dict[str, dict[str, Any]]) -> None:
    window = schema(dags["train_fraud_model"], "window")
    assert window["default"] is None
    assert window["type"] == ["null", "string"]
    delay = schema(dags["train_fraud_model"], "label_delay")
    assert (delay["default"], delay["type"]) == ("7d", "string")
    assert delay["pattern"] == window["pattern"]
    budget = schema(dags["train_fraud_model"], "alerts_per_day")
    assert (budget["default"], budget["type"]) == (None, ["null", "number"])
    assert schema(dags["train_fraud_model"], "least_cost")["default"] is False
    assert schema(dags["evaluate_live"], "until")["format"] == "date-time"


def test_a_parameter_that_is_not_as_its_schema_says_is_refused(airflow: Airflow) -> None:
    conf = json.dumps({"label_delay": "7d; touch /tmp/pwned"})
    done = airflow.run("dags", "test", "train_fraud_model", "--conf", conf)
    assert done.returncode != 0
    assert "does not match" in done.stderr + done.stdout


def test_what_the_trainer_has_to_say_of_its_failure_is_in_the_log(
    airflow: Airflow, tmp_path: Path
) -> None:
    failing = tmp_path / "trainer"
    failing.write_text("#!/bin/sh\necho 'reading' >&2\necho 'error: labels missing' >&2\nexit 1\n")
    failing.chmod(0o755)
    done = airflow.run("dags", "test", "evaluate_live", FRAUDSTREAM_TRAINER=str(failing))
    assert done.returncode != 0
    said = done.stdout + done.stderr
    assert "trainer evaluate ended with exit code 1: error: labels missing" in said


@dataclass
class Services:
    """A broker with a month of traffic, and a registry."""

    kafka: str
    mlflow: str


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"), apps.cache())
    mlflow = MlflowServer(apps.mlflow(), tmp_path_factory.mktemp("mlflow"))
    try:
        mlflow.start()
        broker.start()
        broker.wait_ready()
        Cluster(broker.bootstrap_servers).create_topics(Topics(), partitions=2)
        kafka = f"--bootstrap-servers={broker.bootstrap_servers}"
        producer.main(
            ["simulate", kafka, "--cards=400", "--days=28", "--start=2026-01-01T00:00:00Z"],
            standalone_mode=False,
        )
        mlflow.wait_ready()
        yield Services(broker.bootstrap_servers, mlflow.uri)
    finally:
        mlflow.stop()
        broker.stop()


def test_training_registers_a_champion(
    airflow: Airflow, services: Services, tmp_path: Path
) -> None:
    trainer = apps.from_sources("fraudstream.trainer.main", tmp_path / "trainer")
    done = airflow.run(
        *("dags", "test", "train_fraud_model"),
        *("--conf", json.dumps({"window": "10d", "alerts_per_day": 30})),
        FRAUDSTREAM_TRAINER=str(trainer),
        FRAUDSTREAM_BOOTSTRAP_SERVERS=services.kafka,
        FRAUDSTREAM_TRACKING_URI=services.mlflow,
        FRAUDSTREAM_VALIDATION="6d",
        FRAUDSTREAM_EPOCHS="2",
    )
    assert done.returncode == 0, done.stderr + done.stdout
    [version] = Registry(services.mlflow, MODEL).versions()
    assert version.is_champion
    [(result,)] = airflow.query(
        "SELECT value FROM xcom WHERE dag_id = 'train_fraud_model' AND key = 'return_value'"
    )
    told = json.loads(result)
    assert told["version"] == version.number
    assert told["is_champion"] is True
    assert told["threshold_policy"] == "largest recall within 30 alerts a day"
