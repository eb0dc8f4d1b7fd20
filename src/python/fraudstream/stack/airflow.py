"""A real Airflow on this machine, without Docker: all five of its services."""

from base64 import urlsafe_b64encode
from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
import hashlib
import json
from pathlib import Path

from fraudstream.stack.airflow_client import AirflowClient
from fraudstream.stack.airflow_client import AirflowUnreachable
from fraudstream.stack.process import Process
from fraudstream.stack.process import Service
from fraudstream.stack.process import free_port
from fraudstream.stack.process import run_to_end
from fraudstream.stack.secrets import Secrets
from fraudstream.stack.secrets import write_private

_ADMIN = "admin"
_READY_S = 180.0

_CONFIGURATION = """\
[core]
executor = CeleryExecutor
dags_folder = {dags}
load_examples = False
fernet_key = {fernet_key}
execution_api_server_url = {uri}/execution/
simple_auth_manager_users = {admin}:admin
simple_auth_manager_passwords_file = {passwords}
# A machine's full name may take a name server seconds to tell.
hostname_callable = socket.gethostname
[database]
sql_alchemy_conn = {database_uri}
[api]
base_url = {uri}
secret_key = {secret_key}
[api_auth]
jwt_secret = {jwt_secret}
[celery]
broker_url = {broker_uri}
[logging]
base_log_folder = {logs}
[dag_processor]
# Two small files, on two cores.
parsing_processes = 1
"""


class _Service(Process):
    """One of Airflow's services.

    Parameters
    ----------
    name, command, log, environment
        See `Process`.
    ready
        Tells, from the log file, whether the service can be used.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        ready: Callable[[Path], bool],
    ) -> None:
        super().__init__(f"Airflow's {name}", command, log, environment)
        self._ready = ready

    def is_ready(self) -> bool:
        """Return whether it can be used."""
        return self._ready(self.log)


class Airflow(Service):
    """A real Airflow: API server, scheduler, DAG processor, triggerer, and a Celery worker.

    As a context manager it starts them, waits until all are healthy, and stops them. It listens on
    127.0.0.1 only, and asks everybody for a password.

    Parameters
    ----------
    executable
        The Airflow command line, such as ``["./airflow.pex"]``.
    folder
        Takes its configuration (which holds keys and passwords, and is for its owner only) and its
        logs; made if absent.
    dags
        The folder of DAGs.
    database_uri
        Of a PostgreSQL database that is Airflow's own, as `PostgresServer.provide` gives it. Its
        runs and results are kept there.
    broker_uri
        Of the Redis through which tasks reach the worker.
    environment
        What DAGs and tasks find in their environment, such as ``FRAUDSTREAM_TRAINER``.
    secrets
        Holds or gets ``airflow-admin-password`` and Airflow's keys.
    port
        Where the API server listens; 0 takes a free one.

    Attributes
    ----------
    client
        Asks its API, as the administrator.
    services
        Its five programs.
    """

    def __init__(
        self,
        executable: Sequence[str],
        folder: Path,
        *,
        dags: Path,
        database_uri: str,
        broker_uri: str,
        environment: Mapping[str, str],
        secrets: Secrets,
        port: int = 0,
    ) -> None:
        port = port or free_port()
        self.client = AirflowClient(
            f"http://127.0.0.1:{port}", _ADMIN, secrets.read("airflow-admin-password")
        )
        self._folder = folder
        self._executable = list(executable)
        self._secrets = secrets
        self._settings = {"dags": dags, "database_uri": database_uri, "broker_uri": broker_uri}
        self._own = {"AIRFLOW_HOME": str(folder)}
        of_tasks = {**environment, **self._own}
        # No service hands out its logs: the API server reads them where they are written.
        self.services: list[Process] = [
            self._service(
                "API server",
                ("api-server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
                self._own,
                self._healthy("metadatabase"),
            ),
            self._service("scheduler", ("scheduler", "-s"), self._own, self._healthy("scheduler")),
            self._service(
                "DAG processor", ("dag-processor",), of_tasks, self._healthy("dag_processor")
            ),
            self._service("triggerer", ("triggerer", "-s"), self._own, self._healthy("triggerer")),
            self._service(
                "worker",
                ("celery", "worker", "-s", "--concurrency", "2", "--without-gossip"),
                of_tasks,
                _worker_is_ready,
            ),
        ]

    def _service(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        ready: Callable[[Path], bool],
    ) -> _Service:
        log = self._folder / f"{name.lower().replace(' ', '-')}.log"
        return _Service(name, [*self._executable, *command], log, environment, ready)

    def _healthy(self, part: str) -> Callable[[Path], bool]:
        def ready(log: Path) -> bool:
            try:
                return self.client.health().get(part) == "healthy"
            except AirflowUnreachable:
                return False

        return ready

    def start(self) -> None:
        """Write the configuration, bring the database up to date, and start the services.

        Raises
        ------
        ProcessFailed
            If a step fails; the end of its log is told.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        self._configure()
        run_to_end(
            "bringing Airflow's database up to date",
            [*self._executable, "db", "migrate"],
            self._folder / "migrate.log",
            self._own,
        )
        for service in self.services:
            service.start()

    def _configure(self) -> None:
        password = self._secrets.read("airflow-admin-password")
        settings = {
            **self._settings,
            "admin": _ADMIN,
            "uri": self.client.uri,
            "logs": self._folder / "logs",
            # Airflow opens this file for writing too.
            "passwords": write_private(
                self._folder / "passwords.json", json.dumps({_ADMIN: password})
            ),
            "fernet_key": _fernet_key(self._secrets.read("airflow-fernet-key")),
            "secret_key": self._secrets.read("airflow-secret-key"),
            "jwt_secret": _signing_key(self._secrets.read("airflow-jwt-secret")),
        }
        # In this format a percent sign begins a reference.
        write_private(
            self._folder / "airflow.cfg",
            _CONFIGURATION.format(
                **{name: str(value).replace("%", "%%") for name, value in settings.items()}
            ),
        )

    def wait_ready(self, timeout_s: float = _READY_S) -> None:
        """Wait until each service is healthy.

        Raises
        ------
        ProcessFailed
            If one ends before that, or takes longer than `timeout_s`; the end of its log is told.
        """
        for service in self.services:
            service.wait_ready(timeout_s)

    def stop(self) -> None:
        """Stop all services. Doing so twice, or before the start, is harmless."""
        # At once: each takes seconds to say goodbye.
        with ThreadPoolExecutor(len(self.services)) as stopping:
            for stopped in [stopping.submit(service.stop) for service in self.services]:
                stopped.result()


def _worker_is_ready(log: Path) -> bool:
    # So Celery says that it is connected to its broker and takes tasks.
    return log.exists() and " ready." in log.read_text(errors="replace")


def _fernet_key(secret: str) -> str:
    """Return a key in the form that Fernet wants: 32 bytes in base 64."""
    return urlsafe_b64encode(hashlib.sha256(secret.encode()).digest()).decode()


def _signing_key(secret: str) -> str:
    """Return a key as long as the signature of Airflow's tokens wants it."""
    return hashlib.sha512(secret.encode()).hexdigest()
