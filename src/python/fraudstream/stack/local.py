"""The whole stack as processes of one machine, in a folder that is kept."""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
import fcntl
from pathlib import Path
from typing import Self

from fraudstream.cli.steps import Steps
from fraudstream.kafka import acls
from fraudstream.kafka.topics import Topics
from fraudstream.stack.airflow import Airflow
from fraudstream.stack.kafka import KafkaBroker
from fraudstream.stack.kafka_secrets import ADMIN
from fraudstream.stack.kafka_secrets import client_properties
from fraudstream.stack.minio import MinioServer
from fraudstream.stack.mlflow import Backend
from fraudstream.stack.mlflow import MlflowServer
from fraudstream.stack.postgres import PostgresServer
from fraudstream.stack.process import STOP_S
from fraudstream.stack.process import Process
from fraudstream.stack.process import ProcessFailed
from fraudstream.stack.process import Service
from fraudstream.stack.process import listens
from fraudstream.stack.redis import RedisServer
from fraudstream.stack.secrets import Secrets

#: Where MLflow keeps artifacts.
BUCKET = "mlflow"
#: The apps that MLflow knows by name.
USERS = ("trainer", "inference")

_PARTITIONS = 4


class StackRefused(ValueError):
    """The stack cannot be started as asked."""


@dataclass(frozen=True)
class Ports:
    """Where the services listen on 127.0.0.1; 0 takes a free port."""

    kafka: int = 9092
    postgres: int = 5432
    redis: int = 6379
    s3: int = 9000
    mlflow: int = 5000
    airflow: int = 8080

    @classmethod
    def free(cls) -> Self:
        """Return ports that nobody else uses, whichever they are."""
        return cls(*(0 for _ in fields(cls)))


@dataclass(frozen=True)
class Training:
    """What trains and evaluates when Airflow says so.

    Attributes
    ----------
    airflow
        Airflow's command line, such as ``["./airflow.pex"]``.
    dags
        The folder of its DAGs: ``deploy/airflow/dags``.
    trainer
        ``trainer.pex``, which they run.
    environment
        Settings of the trainer, such as ``FRAUDSTREAM_EPOCHS``, besides where the services are.
    """

    airflow: Sequence[str]
    dags: Path
    trainer: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Programs:
    """What to start that is neither fetched nor built.

    Attributes
    ----------
    mlflow
        MLflow's command line, such as ``["./mlflow-server.pex"]``.
    minio
        A MinIO server; ``None`` builds one from source, once.
    training
        ``None``: no Airflow.
    """

    mlflow: Sequence[str]
    minio: Path | None = None
    training: Training | None = None


@dataclass(frozen=True)
class Place:
    """Where a service is.

    Attributes
    ----------
    service, address
        Its name, and where clients find it.
    secrets
        By who asks, the file that lets them in: a password, or what the client takes as it is.
    """

    service: str
    address: str
    secrets: Mapping[str, Path]


class LocalStack(Service):
    """Kafka, PostgreSQL, Redis, MinIO, MLflow, Airflow: on 127.0.0.1 only, each with passwords.

    As a context manager it starts them, waits until all are ready, and stops them.

    Parameters
    ----------
    folder
        Takes data, logs and secrets; made if absent. One that an earlier stack has used goes on
        with everything that it held.
    cache
        Keeps programs that were fetched or built, for all stacks of this user.
    programs, ports
        What to start, and where.
    steps
        Shows what is going on.

    Attributes
    ----------
    secrets
        All passwords, as files.
    broker, postgres, redis, minio, mlflow, airflow
        The services; `airflow` may be ``None``.
    """

    def __init__(
        self, folder: Path, cache: Path, programs: Programs, ports: Ports, steps: Steps
    ) -> None:
        self.folder = folder
        self.secrets = Secrets(folder / "secrets")
        self._ports = ports
        self._steps = steps
        self._running = ExitStack()
        self._started: list[Process] = []
        self.broker = KafkaBroker(folder / "kafka", cache, ports.kafka, self.secrets)
        self.postgres = PostgresServer(folder / "postgres", cache, self.secrets, ports.postgres)
        self.redis = RedisServer(folder / "redis", self.secrets, ports.redis)
        self.minio = MinioServer(folder / "minio", cache, self.secrets, ports.s3, programs.minio)
        self.mlflow = MlflowServer(
            programs.mlflow,
            folder / "mlflow",
            ports.mlflow,
            Backend(
                self.postgres.uri("mlflow", "postgresql+psycopg2"),
                f"s3://{BUCKET}",
                self.minio.store.environment(),
                self.secrets,
            ),
        )
        self.airflow = None if programs.training is None else self._airflow(programs.training)

    def _airflow(self, training: Training) -> Airflow:
        password = self.secrets.read("redis-password")
        return Airflow(
            training.airflow,
            self.folder / "airflow",
            dags=training.dags,
            database_uri=self.postgres.uri("airflow"),
            broker_uri=f"redis://:{password}@127.0.0.1:{self.redis.port}/0",
            environment={
                **self.environment("trainer"),
                **training.environment,
                "FRAUDSTREAM_TRAINER": str(training.trainer),
            },
            secrets=self.secrets,
            port=self._ports.airflow,
        )

    def start(self) -> None:
        """Start everything and wait until it is ready; stop what was started if that fails.

        Raises
        ------
        StackRefused
            If another stack runs in the folder, or a port is taken.
        ProcessFailed
            If a service does not start; the end of its log is told.
        """
        with ExitStack() as running:
            self._claim(running)
            self._running = running
            with self._steps.step("start", "Starting the services") as tell:
                self._start_services(tell)
                tell("")
            # Everything is up: it stays, until `stop`.
            self._running = running.pop_all()

    def _claim(self, running: ExitStack) -> None:
        lock = running.enter_context((self.folder / "lock").open("w"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StackRefused(
                f"a stack runs in {self.folder} already: stop it, or choose another --folder"
            ) from error
        for name, port in asdict(self._ports).items():
            if port and listens(port):
                raise StackRefused(
                    f"expected port {port} of 127.0.0.1 to be free for {name}, but something "
                    "listens there: stop it, or take other ports with --free-ports"
                )

    def _start_services(self, tell: Callable[[str], None]) -> None:
        # All that need no other start at once, and each is waited for where it is needed.
        for service in (self.postgres, self.redis, self.broker):
            tell(f"{service.name}: fetched the first time")
            self.add(service)
        tell("MinIO: built from its source the first time, in minutes")
        self.add(self.minio)
        tell("waiting for PostgreSQL and MinIO")
        self.postgres.wait_ready()
        self.postgres.provide("mlflow")
        self.minio.wait_ready()
        self.minio.store.provide(BUCKET)
        self.add(self.mlflow)
        tell("waiting for Kafka and Redis")
        self.redis.wait_ready()
        self.broker.wait_ready()
        admin = self.broker.cluster()
        admin.create_topics(Topics(), _PARTITIONS)
        acls.give(admin, acls.grants(Topics()), acls.principals())
        tell("waiting for MLflow")
        self.mlflow.wait_ready()
        for user in USERS:
            self.mlflow.provide(user)
        if self.airflow is not None:
            tell("Airflow, with its database")
            self.postgres.provide("airflow")
            self._running.callback(self.airflow.stop)
            self.airflow.start()
            self._started += self.airflow.services
            self.airflow.wait_ready()

    def add(self, program: Process, stop_s: float = STOP_S) -> None:
        """Start one more program; `stop` stops it before everything that was there.

        Parameters
        ----------
        program
            What to start; it is not waited for.
        stop_s
            How many seconds it may take to end when it is asked to.
        """
        self._running.callback(program.stop, stop_s)
        program.start()
        self._started.append(program)

    def require_running(self) -> None:
        """See that nothing has ended by itself.

        Raises
        ------
        ProcessFailed
            If something has; the end of its log is told.
        """
        for service in self._started:
            if not service.running:
                raise ProcessFailed(service.failure(f"ended with exit code {service.wait(0)}"))

    def places(self) -> list[Place]:
        """Return where clients find each service, and which files let them in."""
        kafka = {role: client_properties(role) for role in (ADMIN, *acls.ROLES)}
        mlflow = {user: f"mlflow-{user}.credentials" for user in USERS}
        return [
            self._place("Kafka", self.broker.bootstrap_servers, kafka),
            self._place(
                "PostgreSQL",
                f"127.0.0.1:{self.postgres.port}",
                {"postgres": "postgres-password", "mlflow": "postgres-mlflow.pgpass"},
            ),
            self._place("Redis", f"127.0.0.1:{self.redis.port}", {"default": "redis-password"}),
            self._place("S3", self.minio.store.endpoint, {"root": "s3.aws"}),
            self._place("MLflow", self.mlflow.uri, {"admin": "mlflow-admin-password", **mlflow}),
            *self._place_of_airflow(),
        ]

    def _place_of_airflow(self) -> list[Place]:
        if self.airflow is None:
            return []
        address = self.airflow.client.uri
        return [self._place("Airflow", address, {"admin": "airflow-admin-password"})]

    def _place(self, service: str, address: str, secrets: Mapping[str, str]) -> Place:
        folder = self.secrets.folder
        return Place(service, address, {who: folder / name for who, name in secrets.items()})

    def environment(self, role: str) -> dict[str, str]:
        """Return the variables by which one of our apps finds the services, and gets in.

        None of them is a secret: they name files.

        Parameters
        ----------
        role
            One of `fraudstream.kafka.acls.ROLES`.
        """
        secrets = self.secrets.folder
        found = {
            "FRAUDSTREAM_BOOTSTRAP_SERVERS": self.broker.bootstrap_servers,
            "FRAUDSTREAM_KAFKA_CONFIG": str(secrets / client_properties(role)),
        }
        if role in USERS:
            found["FRAUDSTREAM_TRACKING_URI"] = self.mlflow.uri
            found["FRAUDSTREAM_TRACKING_CREDENTIALS"] = str(secrets / f"mlflow-{role}.credentials")
        return found

    def stop(self) -> None:
        """Stop everything, the last started first. Doing so twice, or before, is harmless."""
        self._started.clear()
        self._running.close()
