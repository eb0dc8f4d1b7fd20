"""Airflow's services start and stop together, and its API is asked with patience and an end."""

from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from functools import partial
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
import json
from pathlib import Path
import threading
from typing import Any

from click.testing import CliRunner
import pytest

from fraudstream.stack.airflow import Airflow
from fraudstream.stack.airflow_client import AirflowClient
from fraudstream.stack.airflow_client import AirflowRefused
from fraudstream.stack.airflow_client import AirflowSlow
from fraudstream.stack.airflow_client import AirflowUnreachable
from fraudstream.stack.main import local
from fraudstream.stack.process import ProcessFailed
from fraudstream.stack.process import free_port
from fraudstream.stack.secrets import Secrets

_HEALTH = {
    "metadatabase": {"status": "healthy"},
    "scheduler": {"status": "healthy"},
    "triggerer": {"status": "unhealthy"},
    "dag_processor": None,
}


@dataclass
class Api:
    """Stands in for Airflow's API: one DAG, which is known at the second look."""

    port: int = 0
    looks: int = 0
    states: list[str] = field(default_factory=lambda: ["queued", "running", "success"])
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def answer(self, method: str, path: str, who: str | None, body: Any) -> tuple[int, Any]:
        self.asked.append((f"{method} {path}", body))
        if path == "/api/v2/monitor/health":
            return 200, _HEALTH
        if path == "/auth/token":
            right = body == {"username": "admin", "password": "secret"}
            return (201, {"access_token": "t"}) if right else (401, {"detail": "no"})
        if who != "Bearer t":
            return 403, {"detail": "who are you"}
        if path == "/api/v2/dags/d":
            self.looks += 1
            return (200, {}) if self.looks > 1 else (404, {"detail": "not found"})
        if path == "/api/v2/dags/d/dagRuns":
            return 200, {"dag_run_id": "r"}
        if path == "/api/v2/dags/d/dagRuns/r":
            return 200, {"state": self.states.pop(0) if len(self.states) > 1 else self.states[0]}
        if "/xcomEntries/" in path:
            return 200, {"value": {"a": 1}}
        if "/logs/" in path:
            return 200, {"content": [{"event": "reading"}, "done"]}
        return 404, {"detail": "not found"}


@pytest.fixture
def api() -> Iterator[Api]:
    found = Api()

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            who = self.headers.get("Authorization")
            status, answer = found.answer(self.command, self.path, who, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _handle  # noqa: N815

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", free_port()), Handler) as server:
        found.port = server.server_address[1]
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield found
        server.shutdown()
        serving.join()


def client(api: Api, password: str = "secret") -> AirflowClient:  # noqa: S107
    return AirflowClient(f"http://127.0.0.1:{api.port}", "admin", password)


def test_health_is_told_part_by_part_and_absent_parts_are_left_out(api: Api) -> None:
    assert client(api).health() == {
        "metadatabase": "healthy",
        "scheduler": "healthy",
        "triggerer": "unhealthy",
    }


def test_a_dag_is_triggered_once_it_has_been_read_and_its_run_is_awaited(api: Api) -> None:
    asking = client(api)
    assert asking.trigger("d", {"window": "9d"}) == "r"
    assert api.asked[-1] == (
        "POST /api/v2/dags/d/dagRuns",
        {"logical_date": None, "conf": {"window": "9d"}},
    )
    assert asking.await_end("d", "r", 20) == "success"
    assert asking.result("d", "r", "t") == {"a": 1}
    assert asking.log("d", "r", "t") == "reading\ndone"
    # One token is enough.
    assert [path for path, _ in api.asked].count("POST /auth/token") == 1


def test_a_dag_that_is_never_read_is_told(api: Api) -> None:
    with pytest.raises(AirflowSlow, match="has no DAG nothing after 0 s"):
        client(api).trigger("nothing", timeout_s=0.1)


def test_a_run_that_does_not_end_is_told(api: Api) -> None:
    api.states = ["running"]
    with pytest.raises(AirflowSlow, match="run r of d has not ended after 0 s"):
        client(api).await_end("d", "r", 0.1)


def test_a_wrong_password_is_refused_and_not_repeated(api: Api) -> None:
    with pytest.raises(AirflowRefused, match="status 401") as refused:
        client(api, "wrong").trigger("d")
    assert "wrong" not in str(refused.value)


def test_no_airflow_at_the_address_is_told() -> None:
    with pytest.raises(AirflowUnreachable, match="no Airflow answers at http://127"):
        AirflowClient(f"http://127.0.0.1:{free_port()}", "admin", "x").health()


def airflow(folder: Path, script: str, port: int = 0) -> Airflow:
    """Return an Airflow whose command line is a script."""
    program = folder / "airflow.sh"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return Airflow(
        [str(program)],
        folder / "home",
        dags=folder / "dags",
        database_uri="postgresql://airflow@127.0.0.1:5/airflow?passfile=%2Fs",
        broker_uri="redis://:pass@127.0.0.1:6/0",
        environment={"FRAUDSTREAM_TRAINER": "/trainer"},
        secrets=Secrets(folder / "secrets"),
        port=port,
    )


def test_a_database_that_cannot_be_brought_up_to_date_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed, match=r"(?s)database up to date failed.*no such role"):
        airflow(tmp_path, "echo no such role; exit 1").start()


def test_if_one_service_ends_all_are_stopped(tmp_path: Path) -> None:
    script = '[ "$1" = db ] && exit 0; [ "$1" = api-server ] && exit 3; exec sleep 600'
    failing = airflow(tmp_path, script)
    with pytest.raises(ProcessFailed, match="API server ended with exit code 3"), failing:
        pass
    assert not any(service.running for service in failing.services)


def test_if_one_service_is_not_ready_in_time_all_are_stopped(tmp_path: Path) -> None:
    failing = airflow(tmp_path, '[ "$1" = db ] && exit 0; exec sleep 600')
    failing.wait_ready = partial(failing.wait_ready, 0.2)  # type: ignore[method-assign]
    with pytest.raises(ProcessFailed, match="API server was not ready after 0 s"), failing:
        pass
    assert not any(service.running for service in failing.services)


def test_if_one_service_cannot_be_started_the_others_are_stopped(tmp_path: Path) -> None:
    failing = airflow(tmp_path, '[ "$1" = db ] && { rm "$0"; exit 0; }; exec sleep 600')
    failing.services[0]._command = ["sleep", "600"]
    with pytest.raises(ProcessFailed, match="could not be started"), failing:
        pass
    assert not any(service.running for service in failing.services)


def test_ready_is_who_is_healthy_and_a_worker_that_says_so(api: Api, tmp_path: Path) -> None:
    script = '[ "$1" = db ] && exit 0; echo celery@host ready.; exec sleep 600'
    started = airflow(tmp_path, script, api.port)
    started.start()
    try:
        server, scheduler, processor, triggerer, worker = started.services
        worker.wait_ready(20)
        assert [each.is_ready() for each in (server, scheduler, processor, triggerer)] == [
            True,
            True,
            False,
            False,
        ]
    finally:
        started.stop()
        started.stop()


def test_only_what_runs_dags_and_tasks_gets_their_environment(tmp_path: Path) -> None:
    started = airflow(tmp_path, '[ "$1" = db ] && exit 0; env; echo all; exec sleep 600')
    started.start()
    for service in started.services:
        while not service.log.read_text().endswith("all\n"):
            assert service.wait(0.05) is None
    started.stop()
    having = [s.name for s in started.services if "FRAUDSTREAM_TRAINER" in s.log.read_text()]
    assert having == ["Airflow's DAG processor", "Airflow's worker"]


def test_configuration_and_passwords_are_for_their_owner_only(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed):
        airflow(tmp_path, "exit 1").start()
    configuration = tmp_path / "home" / "airflow.cfg"
    # A percent sign is written twice in this format.
    assert "airflow?passfile=%%2Fs" in configuration.read_text()
    password = (tmp_path / "secrets" / "airflow-admin-password").read_text()
    passwords = tmp_path / "home" / "passwords.json"
    assert json.loads(passwords.read_text()) == {"admin": password}
    for file in (configuration, passwords):
        assert file.stat().st_mode & 0o077 == 0


def test_airflow_without_what_it_is_to_run_is_a_mistake_on_the_command_line(
    tmp_path: Path,
) -> None:
    (tmp_path / "program").touch()
    program = str(tmp_path / "program")
    outcome = CliRunner().invoke(
        local, ["--mlflow", program, "--airflow", program, "--folder", str(tmp_path / "stack")]
    )
    assert outcome.exit_code == 2
    assert "--airflow needs --trainer and --dags" in outcome.output
