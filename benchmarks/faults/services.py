"""The stack that is hurt, and the supervisor that starts again whatever has ended."""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextlib import contextmanager
from dataclasses import dataclass
import os
from pathlib import Path
import sys
import threading
import time

from faults.points import FOLDER
from faults.points import Traps

from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.stack.jars import spark_home
from fraudstream.stack.kafka import KafkaBroker
from fraudstream.stack.minio import MinioServer
from fraudstream.stack.mlflow import Backend
from fraudstream.stack.mlflow import MlflowServer
from fraudstream.stack.process import Process
from fraudstream.stack.process import free_port
from fraudstream.stack.redis import RedisServer
from fraudstream.stack.secrets import Secrets

TOPICS = Topics()
PARTITIONS = 4
MODEL = "fraud-detector"

BROKER, JOB, MLFLOW, OBJECT_STORE = "broker", "job", "mlflow", "object_store"
#: Where state is kept outside of the job.
STATE_STORE = "state_store"
#: Where it can be kept.
EMBEDDED, REDIS = "embedded", "redis"

_BUCKET = "mlflow"
_PROBE_S = 0.05
# Whatever cannot start is not tried without a pause.
_PAUSE_S = 0.5
_STOP_S = 120.0


class Supervisor:
    """Starts programs again when they have ended, however they have; as an init system does.

    A program is kept until `release`. What it had started is killed before it is started again.
    """

    def __init__(self) -> None:
        self._makers: dict[str, Callable[[int], Process]] = {}
        self._running: dict[str, Process] = {}
        self._starts: dict[str, int] = {}
        self._lock = threading.RLock()
        self._over = threading.Event()
        self._thread = ThreadPoolExecutor(1, "supervisor")
        self._watching = self._thread.submit(self._watch)

    def keep(self, name: str, make: Callable[[int], Process]) -> None:
        """Start a program, and keep it running.

        Parameters
        ----------
        name
            Of the program, for the other methods.
        make
            Returns it, to be started for the n-th time, from 0.
        """
        with self._lock:
            self._makers[name] = make
            self._start(name)

    def running(self, name: str) -> Process:
        """Return a program as it was started last."""
        self.require_well()
        return self._running[name]

    def starts(self, name: str) -> int:
        """Return how many times a program was started."""
        self.require_well()
        return self._starts[name]

    def second(self, name: str) -> Process:
        """Start a program beside the one that runs, and return that one: nobody keeps it now."""
        with self._lock:
            first = self._running[name]
            self._start(name)
        return first

    def release(self, name: str) -> Process:
        """Keep a program no longer, and return it."""
        with self._lock:
            del self._makers[name]
            return self._running[name]

    def stop(self) -> None:
        """Keep nothing any more, and stop what runs, the last started first."""
        self._over.set()
        self._thread.shutdown()
        for process in reversed(self._running.values()):
            process.stop()

    def _start(self, name: str) -> None:
        process = self._makers[name](self._starts.get(name, 0))
        process.start()
        self._running[name] = process
        self._starts[name] = self._starts.get(name, 0) + 1

    def _watch(self) -> None:
        paused: dict[str, float] = {}
        while not self._over.wait(_PROBE_S):
            with self._lock:
                for name in self._makers:
                    if self._running[name].running:
                        continue
                    # What it had started is still there.
                    self._running[name].stop()
                    if time.monotonic() >= paused.get(name, 0.0):
                        self._start(name)
                        paused[name] = time.monotonic() + _PAUSE_S

    def require_well(self) -> None:
        """Raise what has ended the thread that watches, if it has ended."""
        if self._watching.done():
            self._watching.result()


class Log:
    """What programs say into the logs of a folder, after this was made.

    Parameters
    ----------
    folder
        Of the logs, one a start.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = (Path(folder) / "0.log").write_text("before,")
    ...     log = Log(Path(folder))
    ...     _ = (Path(folder) / "0.log").write_text("before, after")
    ...     log.new(), log.new()
    (' after', ' after')
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._read = {log: log.stat().st_size for log in folder.glob("*.log")}
        self._new = b""

    def new(self) -> str:
        """Return all of it; what was read before is not read again."""
        for log in sorted(self._folder.glob("*.log")):
            begin = self._read.get(log, 0)
            if log.stat().st_size > begin:
                with log.open("rb") as file:
                    file.seek(begin)
                    self._new += file.read()
                    self._read[log] = file.tell()
        return self._new.decode(errors="replace")


@dataclass
class Stack:
    """Everything that runs, each kept by the supervisor.

    Attributes
    ----------
    folder
        Takes data and logs.
    supervisor
        Keeps `BROKER`, `OBJECT_STORE`, `MLFLOW`, and from `start_job` on `JOB`; also `STATE_STORE`,
        if there is one.
    traps
        Catch processes of the job.
    state
        Where the stream keeps it: `EMBEDDED`, in the job, or `REDIS`.
    cluster
        Where the broker answers, whenever it does.
    """

    folder: Path
    cache: Path
    mlflow_program: Path
    minio_program: Path | None
    supervisor: Supervisor
    traps: Traps
    state: str = EMBEDDED

    def __post_init__(self) -> None:
        self._secrets = Secrets(self.folder / "secrets")
        self._ports = {name: free_port() for name in (BROKER, MLFLOW, OBJECT_STORE, STATE_STORE)}
        self._object_store = self._minio(0).store
        self.cluster = Cluster(f"127.0.0.1:{self._ports[BROKER]}")

    @property
    def checkpoint(self) -> Path:
        """Of the job; its disk can be filled."""
        return self.folder / "volume" / "checkpoint"

    @property
    def tracking_uri(self) -> str:
        """Where MLflow answers, whenever it does."""
        return f"http://127.0.0.1:{self._ports[MLFLOW]}"

    def start(self) -> None:
        """Start all but the job, and wait until they are ready."""
        keep = self.supervisor.keep
        keep(BROKER, self._kafka)
        keep(OBJECT_STORE, self._minio)
        self.supervisor.running(OBJECT_STORE).wait_ready()
        self._object_store.provide(_BUCKET)
        keep(MLFLOW, self._mlflow)
        services = [BROKER, MLFLOW]
        if self.state == REDIS:
            keep(STATE_STORE, self._redis)
            services.append(STATE_STORE)
        for name in services:
            self.supervisor.running(name).wait_ready()
        for user in ("trainer", "inference"):
            self._mlflow(0).provide(user)
        self.cluster.create_topics(TOPICS, PARTITIONS)

    def credentials(self, user: str) -> Path:
        """Return the file by which MLflow lets a user in."""
        return self._secrets.folder / f"mlflow-{user}.credentials"

    def start_job(self, *flags: str) -> None:
        """Start the job, with more flags if there are any, and keep it running."""
        conf = self.folder / "conf"
        conf.mkdir(exist_ok=True)
        (conf / "spark-defaults.conf").write_text("spark.python.daemon.module faults.daemon\n")
        self.supervisor.keep(JOB, lambda number: self._job(number, flags))

    def stop_job(self) -> int | None:
        """Let the job end by itself, and return its exit code."""
        return self.supervisor.release(JOB).stop(_STOP_S)

    def job_log(self) -> "Log":
        """Return what the job will say from now on."""
        return Log(self.folder / "job")

    def _kafka(self, number: int) -> Process:
        broker = KafkaBroker(self.folder / "kafka", self.cache, self._ports[BROKER])
        broker.log = self.folder / "kafka" / f"{number:04}.log"
        return broker

    def _minio(self, number: int) -> MinioServer:
        return MinioServer(
            self.folder / "minio",
            self.cache,
            self._secrets,
            self._ports[OBJECT_STORE],
            self.minio_program,
        )

    def _redis(self, number: int) -> RedisServer:
        return RedisServer(self.folder / "redis", self._secrets, self._ports[STATE_STORE])

    def _mlflow(self, number: int) -> MlflowServer:
        return MlflowServer(
            [str(self.mlflow_program)],
            self.folder / "mlflow",
            self._ports[MLFLOW],
            Backend(
                f"sqlite:///{self.folder / 'mlflow' / 'mlflow.db'}",
                f"s3://{_BUCKET}",
                self._object_store.environment(),
                self._secrets,
            ),
        )

    def _job(self, number: int, flags: Sequence[str]) -> Process:
        return Process(
            "the job",
            [
                *(sys.executable, "-m", "faults.job", "run", "--wait-for-model"),
                *("--checkpoint", str(self.checkpoint), "--cache", str(self.cache)),
                *("--bootstrap-servers", self.cluster.bootstrap_servers),
                *("--tracking-uri", self.tracking_uri),
                *("--tracking-credentials", str(self.credentials("inference"))),
                *self._state_flags(),
                *flags,
            ],
            self.folder / "job" / f"{number:04}.log",
            {
                "PYTHONPATH": own_path(),
                FOLDER: str(self.traps.folder),
                "SPARK_HOME": str(spark_home()),
                "SPARK_CONF_DIR": str(self.folder / "conf"),
            },
        )

    def _state_flags(self) -> list[str]:
        if self.state == EMBEDDED:
            return []
        return [
            *("--state", f"redis://127.0.0.1:{self._ports[STATE_STORE]}/0"),
            *("--state-password-file", str(self._secrets.folder / "redis-password")),
        ]


def own_path() -> str:
    """Return where this process finds its modules, for another to find them there too."""
    return os.pathsep.join(filter(None, sys.path))


@contextmanager
def running(
    folder: Path,
    cache: Path,
    mlflow_program: Path,
    minio_program: Path | None,
    state: str = EMBEDDED,
) -> Iterator[Stack]:
    """Start all but the job; stop everything after the block."""
    with ExitStack() as over:
        supervisor = Supervisor()
        over.callback(supervisor.stop)
        stack = Stack(
            folder, cache, mlflow_program, minio_program, supervisor, Traps(folder / "traps"), state
        )
        stack.start()
        yield stack
