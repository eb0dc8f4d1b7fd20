"""The embedded stack: a real Kafka broker and a real MLflow server, without Docker."""

from collections.abc import Sequence
import fcntl
from http import HTTPStatus
from http.client import HTTPConnection
from importlib.util import find_spec
import os
from pathlib import Path
import shutil
import socket
import tempfile
import uuid

from fraudstream.demo.process import Process
from fraudstream.demo.process import ProcessFailed
from fraudstream.demo.process import free_port
from fraudstream.kafka.topics import BrokerUnreachable
from fraudstream.kafka.topics import Cluster

KAFKA_VERSION = "4.3.1"

# Kafka's own artifact depends on no logger, and a broker that cannot say why it ends is no use.
# Its log4j is 2.25.4 and its slf4j 1.7, for which this is the bridge.
_IVY_FILE = f"""\
<ivy-module version="2.0">
  <info organisation="fraudstream" module="kafka-broker"/>
  <dependencies>
    <dependency org="org.apache.kafka" name="kafka_2.13" rev="{KAFKA_VERSION}"
      conf="default"/>
    <dependency org="org.apache.logging.log4j" name="log4j-slf4j-impl" rev="2.25.4"
      conf="default"/>
  </dependencies>
</ivy-module>
"""

_SERVER_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAINTEXT
log.dirs={data}
# A topic that nobody created is a typing error, and has to look like one.
auto.create.topics.enable=false
num.partitions=4
# One broker can hold one copy.
default.replication.factor=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# Fifty partitions each, the default, are for clusters; here they would only slow the start.
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
# The first reader need not wait for others to join its group.
group.initial.rebalance.delay.ms=0
# Training reads a topic from its first record, so nothing expires.
log.retention.hours=-1
"""

_LOGGING = """\
rootLogger.level=warn
rootLogger.appenderRef.stdout.ref=stdout
appender.stdout.type=Console
appender.stdout.name=stdout
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=%d %p %m (%c)%n
"""

# Half a gigabyte of heap is ample for one demo's partitions; the records themselves live in the
# page cache. With a heap of that size the serial collector pauses no longer than G1 and starts on
# an eighth less processor time.
_JVM = ["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC"]


def spark_home() -> Path:
    """Return the folder of the installed ``pyspark`` package, which is a whole Spark.

    Raises
    ------
    ProcessFailed
        If pyspark is not installed.
    """
    found = find_spec("pyspark")
    if found is None or not found.submodule_search_locations:
        raise ProcessFailed("pyspark is not installed: it carries Spark, and Ivy to resolve jars")
    return Path(next(iter(found.submodule_search_locations)))


def java() -> str:
    """Return the Java launcher: that of ``JAVA_HOME`` if set, else the one on ``PATH``.

    Raises
    ------
    ProcessFailed
        If there is none.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home) / "bin") if home else None)
    if found is None:
        where = f"in JAVA_HOME ({home})" if home else "on PATH, and JAVA_HOME is not set"
        raise ProcessFailed(
            f"no java {where}: install Java 17 or 21 "
            "(Debian: apt-get install openjdk-17-jdk-headless)"
        )
    return found


def resolve_kafka(cache: Path) -> Path:
    """Return the folder of Kafka's jars, resolved once a version into the folder `cache`.

    The jars come from Ivy's default resolver, through the Ivy that Spark ships. Callers in other
    processes wait for the first; what was interrupted leaves nothing that looks whole.

    Raises
    ------
    ProcessFailed
        If Ivy fails; the end of what it said is told.
    """
    jars = cache / f"kafka-{KAFKA_VERSION}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"kafka-{KAFKA_VERSION}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if jars.is_dir():
            return jars
        with tempfile.TemporaryDirectory(prefix="kafka-resolving-", dir=cache) as scratch_name:
            scratch = Path(scratch_name)
            ivy = next(iter((spark_home() / "jars").glob("ivy-*.jar")), None)
            if ivy is None:
                raise ProcessFailed(f"there is no ivy-*.jar in {spark_home() / 'jars'}")
            (scratch / "ivy.xml").write_text(_IVY_FILE)
            _run(
                "resolving Kafka's jars",
                [
                    *(java(), "-jar", str(ivy), "-cache", str(scratch / "ivy")),
                    *("-ivy", str(scratch / "ivy.xml"), "-confs", "default"),
                    *("-retrieve", str(scratch / "jars" / "[artifact]-[revision].[ext]")),
                ],
                scratch / "log",
            )
            (scratch / "jars").rename(jars)
    return jars


def _run(what: str, command: Sequence[str], log: Path) -> None:
    process = Process(what, command, log)
    process.start()
    try:
        code = process.wait()
        if code != 0:
            raise ProcessFailed(process.failure(f"failed with exit code {code}"))
    finally:
        process.stop()


class KafkaBroker(Process):
    """A real Apache Kafka in KRaft mode: one node that is broker and controller.

    It listens on 127.0.0.1 only, and creates no topic that nobody asked for.

    Parameters
    ----------
    folder
        Takes its data, its configuration and its log; made if absent. One that an earlier broker
        has used goes on with that broker's topics.
    cache
        Keeps Kafka's jars, between runs and between brokers; see `resolve_kafka`.
    port
        Where to listen; 0 takes a free one.

    Attributes
    ----------
    bootstrap_servers
        ``host:port`` for clients.
    """

    def __init__(self, folder: Path, cache: Path, port: int = 0) -> None:
        super().__init__("Kafka", [], folder / "kafka.log")
        self._folder = folder
        self._cache = cache
        self._port = port or free_port()
        self.bootstrap_servers = f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Resolve the jars if need be, format the data folder if it is new, and start the broker.

        Raises
        ------
        ProcessFailed
            If a step fails; the end of its log is told.
        """
        classpath = f"{resolve_kafka(self._cache)}/*"
        self._folder.mkdir(parents=True, exist_ok=True)
        properties = self._folder / "server.properties"
        data = self._folder / "data"
        properties.write_text(
            _SERVER_PROPERTIES.format(port=self._port, controller_port=free_port(), data=data)
        )
        logging = self._folder / "log4j2.properties"
        logging.write_text(_LOGGING)
        self._command = [java(), *_JVM, "-cp", classpath]
        self._command += [f"-Dlog4j2.configurationFile={logging}"]
        if not (data / "meta.properties").is_file():
            _run(
                "formatting Kafka's data folder",
                [
                    *self._command,
                    *("kafka.tools.StorageTool", "format", "--config", str(properties)),
                    *("--cluster-id", uuid.uuid4().hex[:22]),
                ],
                self._folder / "format.log",
            )
        self._command += ["kafka.Kafka", str(properties)]
        super().start()

    def is_ready(self) -> bool:
        """Return whether the broker answers a client."""
        if not _listens(self._port):
            return False
        try:
            Cluster(self.bootstrap_servers).existing_topics()
        except BrokerUnreachable:
            return False
        return True


class MlflowServer(Process):
    """A real MLflow server on SQLite that keeps artifacts in a local folder and hands them out.

    Parameters
    ----------
    executable
        The MLflow command line, such as ``["./mlflow-server.pex"]``.
    folder
        Takes its database, its artifacts and its log; made if absent. One that an earlier server
        has used goes on with that server's runs and models.
    port
        Where to listen on 127.0.0.1; 0 takes a free one.

    Attributes
    ----------
    uri
        The tracking URI for clients.
    """

    def __init__(self, executable: Sequence[str], folder: Path, port: int = 0) -> None:
        self._port = port or free_port()
        self.uri = f"http://127.0.0.1:{self._port}"
        super().__init__(
            "MLflow",
            [
                *(*executable, "server", "--host", "127.0.0.1", "--port", str(self._port)),
                # Each worker imports all of MLflow anew; one serves three apps.
                *("--workers", "1", "--serve-artifacts"),
                *("--backend-store-uri", f"sqlite:///{folder / 'mlflow.db'}"),
                *("--artifacts-destination", str(folder / "artifacts")),
            ],
            folder / "mlflow.log",
            {
                # Nothing of ours runs jobs in the server, and their runners are more processes.
                "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
                "MLFLOW_DISABLE_TELEMETRY": "true",
            },
        )

    def is_ready(self) -> bool:
        """Return whether the server says that it is healthy."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == HTTPStatus.OK
        except OSError:
            return False
        finally:
            connection.close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
