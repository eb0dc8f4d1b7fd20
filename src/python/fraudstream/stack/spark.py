"""A real Spark cluster on this machine: a standalone master and its workers, without Docker."""

from collections.abc import Mapping
from collections.abc import Sequence
from http.client import HTTPConnection
from http.client import HTTPException
import json
from pathlib import Path
from typing import Any

from fraudstream.stack.jars import java
from fraudstream.stack.jars import spark_home
from fraudstream.stack.process import Process
from fraudstream.stack.process import Service
from fraudstream.stack.process import free_port

_HOST = "127.0.0.1"


class SparkCluster(Service):
    """A standalone master and its workers, each a process, from the jars that pyspark carries.

    As a context manager it starts them, waits until the master counts all workers as alive, and
    stops them. All listen on 127.0.0.1 only; without a secret, so any user of this machine can
    run programs on it.

    Parameters
    ----------
    folder
        Takes logs, and what workers keep of applications; made if absent.
    workers, cores
        How many workers, and how many tasks each runs at the same time. 0 workers are a master
        that has nothing to give.
    memory
        What each worker may give to executors, as Spark writes it. An executor takes ``1g``
        unless its application says otherwise.

    Attributes
    ----------
    url
        For ``--master``.
    """

    def __init__(
        self, folder: Path, workers: int = 2, cores: int = 1, memory: str = "1500m"
    ) -> None:
        self._master = _Master(folder / "master")
        self.url = self._master.url
        self._workers = [
            _Worker(self._master, number, folder / f"worker-{number}", cores, memory)
            for number in range(workers)
        ]

    def start(self) -> None:
        """Start the processes and return at once: workers wait for their master by themselves.

        Raises
        ------
        ProcessFailed
            If Java or Spark is missing.
        """
        for each in (self._master, *self._workers):
            each.start()

    def wait_ready(self) -> None:
        """Wait until the master counts all workers as alive.

        Raises
        ------
        ProcessFailed
            If a process ends before that, or is not ready in time.
        """
        for each in (self._master, *self._workers):
            each.wait_ready()

    def kill_worker(self, number: int) -> None:
        """Kill a worker with its executors (``kill -9``), as a machine does that loses power.

        Parameters
        ----------
        number
            Which one, from 0. It stays down.
        """
        self._workers[number].kill()

    def alive(self) -> list[int]:
        """Return the numbers of the workers that the master counts as alive."""
        ports = self._master.ports_of_workers()
        return [each.number for each in self._workers if each.port in ports]

    def stop(self) -> None:
        """Stop workers and master. Doing so twice, or before the start, is harmless."""
        for each in (*self._workers, self._master):
            each.stop()


class _Daemon(Process):
    """One of Spark's daemons, started by Spark's own script but not put in the background."""

    def __init__(
        self, name: str, main: str, arguments: Sequence[str], folder: Path, options: str
    ) -> None:
        self._folder = folder
        super().__init__(
            name,
            [str(spark_home() / "bin" / "spark-class"), main, *arguments],
            folder / "log",
            _environment(folder, options),
        )

    def start(self) -> None:
        """See `Process.start`."""
        java()
        (self._folder / "conf").mkdir(parents=True, exist_ok=True)
        super().start()


class _Master(_Daemon):
    def __init__(self, folder: Path) -> None:
        port, self._page = free_port(), free_port()
        self.url = f"spark://{_HOST}:{port}"
        super().__init__(
            "Spark's master",
            "org.apache.spark.deploy.master.Master",
            [*("--host", _HOST, "--port", str(port)), *("--webui-port", str(self._page))],
            folder,
            # Applications come by the port of the master itself. The other door has no guard.
            "-Dspark.master.rest.enabled=false",
        )

    def is_ready(self) -> bool:
        """Return whether the master takes workers and applications."""
        return self._status().get("status") == "ALIVE"

    def ports_of_workers(self) -> set[int]:
        """Return the ports of the workers that are counted as alive."""
        workers = self._status().get("workers", [])
        return {each["port"] for each in workers if each["state"] == "ALIVE"}

    def _status(self) -> dict[str, Any]:
        connection = HTTPConnection(_HOST, self._page, timeout=5)
        try:
            connection.request("GET", "/json/")
            status: dict[str, Any] = json.loads(connection.getresponse().read())
        except (OSError, HTTPException, json.JSONDecodeError):
            # The server is there before its pages are, and answers with something else then.
            return {}
        finally:
            connection.close()
        return status


class _Worker(_Daemon):
    def __init__(self, master: _Master, number: int, folder: Path, cores: int, memory: str) -> None:
        self._master = master
        self.number = number
        self.port = free_port()
        super().__init__(
            f"Spark's worker {number}",
            "org.apache.spark.deploy.worker.Worker",
            [
                *("--host", _HOST, "--port", str(self.port), "--webui-port", "0"),
                *("--cores", str(cores), "--memory", memory, "--work-dir", str(folder / "work")),
                master.url,
            ],
            folder,
            # The folder goes when its user is done with it; an application's, with the PEX that
            # was sent to it, goes an hour after its end.
            "-Dspark.worker.cleanup.enabled=true -Dspark.worker.cleanup.appDataTtl=3600",
        )

    def is_ready(self) -> bool:
        """Return whether the master counts the worker as alive."""
        return self.port in self._master.ports_of_workers()

    def kill(self) -> None:
        """Kill the worker and its executors, and wait until they are gone."""
        self._kill_group()
        self.wait()


def _environment(folder: Path, options: str) -> Mapping[str, str]:
    return {
        "SPARK_HOME": str(spark_home()),
        # Settings of the machine's own Spark, if it has one, are for its own cluster.
        "SPARK_CONF_DIR": str(folder / "conf"),
        # Where executors listen, too, and what they are known by.
        "SPARK_LOCAL_IP": _HOST,
        # What executors spill would be left in /tmp by a kill.
        "SPARK_LOCAL_DIRS": str(folder / "spill"),
        "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_DAEMON_JAVA_OPTS": options,
    }
