"""A real Kafka broker on this machine, without Docker."""

from datetime import UTC
from datetime import datetime
from pathlib import Path
import uuid

from fraudstream.kafka.options import read_properties
from fraudstream.kafka.topics import BrokerUnreachable
from fraudstream.kafka.topics import Cluster
from fraudstream.stack.jars import FAST_COMPILER
from fraudstream.stack.jars import java
from fraudstream.stack.jars import resolve_jars
from fraudstream.stack.kafka_secrets import ADMIN
from fraudstream.stack.kafka_secrets import USERS
from fraudstream.stack.kafka_secrets import client_properties
from fraudstream.stack.kafka_secrets import provide
from fraudstream.stack.process import Process
from fraudstream.stack.process import free_port
from fraudstream.stack.process import listens
from fraudstream.stack.process import run_to_end
from fraudstream.stack.secrets import Secrets

KAFKA_VERSION = "4.3.1"

_MODULES = [
    f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
    # Kafka's own artifact depends on no logger, and a broker that cannot say why it ends is no
    # use. Its log4j is 2.25.4 and its slf4j 1.7, for which this is the bridge.
    "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4",
]

_SERVER_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller_port}
controller.listener.names=CONTROLLER
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

_OPEN = """\
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
inter.broker.listener.name=PLAINTEXT
"""

_SECURED = """\
listeners=CLIENTS://127.0.0.1:{port},INTERNAL://127.0.0.1:{internal_port},\\
CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners=CLIENTS://127.0.0.1:{port},INTERNAL://127.0.0.1:{internal_port}
inter.broker.listener.name=INTERNAL
listener.security.protocol.map=CLIENTS:SASL_SSL,INTERNAL:SSL,CONTROLLER:SSL
ssl.keystore.type=PEM
ssl.keystore.location={secrets}/kafka-broker.pem
ssl.truststore.type=PEM
ssl.truststore.location={secrets}/kafka-ca.crt
# Clients say who they are by password.
sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.clients.scram-sha-512.sasl.jaas.config=\\
org.apache.kafka.common.security.scram.ScramLoginModule required;
# The broker says so to itself and to the controller by its certificate, the only one that its
# authority has ever signed: no password of its own has to stand here.
listener.name.internal.ssl.client.auth=required
listener.name.controller.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
# What no entry of the access list allows is refused.
allow.everyone.if.no.acl.found=false
super.users=User:admin;User:CN=kafka
"""

_LOGGING = """\
rootLogger.level=warn
rootLogger.appenderRef.stdout.ref=stdout
appender.stdout.type=Console
appender.stdout.name=stdout
appender.stdout.layout.type=PatternLayout
appender.stdout.layout.pattern=%d %p %m (%c)%n
# Who was refused what.
logger.authorizer.name=kafka.authorizer.logger
logger.authorizer.level=info
"""

# Half a gigabyte of heap is ample for one demo's partitions; the records themselves live in the
# page cache. With a heap of that size the serial collector pauses no longer than G1 and starts on
# an eighth less processor time.
_JVM = ["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC", FAST_COMPILER]


class KafkaBroker(Process):
    """A real Apache Kafka in KRaft mode: one node that is broker and controller.

    It listens on 127.0.0.1 only, and creates no topic that nobody asked for.

    Parameters
    ----------
    folder
        Takes its data, its configuration and its log; made if absent. One that an earlier broker
        has used goes on with that broker's topics.
    cache
        Keeps Kafka's jars, between runs and between brokers.
    port
        Where to listen; 0 takes a free one.
    secrets
        Given, the broker is secured: clients speak TLS with it and say by password which role
        they are, and only admin may do what the access list does not allow. The secrets of
        `fraudstream.stack.kafka_secrets` are made there if absent, and a folder of data belongs to
        them. Without, it lets anybody in.

    Attributes
    ----------
    bootstrap_servers
        ``host:port`` for clients.
    """

    def __init__(
        self, folder: Path, cache: Path, port: int = 0, secrets: Secrets | None = None
    ) -> None:
        super().__init__("Kafka", [], folder / "kafka.log")
        self._folder = folder
        self._data = folder / "data"
        self._cache = cache
        self._port = port or free_port()
        self._secrets = secrets
        self.bootstrap_servers = f"127.0.0.1:{self._port}"

    def cluster(self, role: str = ADMIN) -> Cluster:
        """Return how a role's clients reach the broker; to one without secrets all are alike."""
        if self._secrets is None:
            return Cluster(self.bootstrap_servers)
        file = self._secrets.folder / client_properties(role)
        return Cluster(self.bootstrap_servers, read_properties(file))

    def start(self) -> None:
        """Resolve the jars if need be, format the data folder if it is new, and start the broker.

        Raises
        ------
        ProcessFailed
            If a step fails; the end of its log is told.
        """
        classpath = f"{resolve_jars(self._cache, f'kafka-{KAFKA_VERSION}', _MODULES)}/*"
        self._folder.mkdir(parents=True, exist_ok=True)
        if self._secrets is not None:
            provide(self._secrets, ("localhost", "127.0.0.1"), datetime.now(UTC))
        properties = self._folder / "server.properties"
        properties.write_text(self.properties())
        logging = self._folder / "log4j2.properties"
        logging.write_text(_LOGGING)
        self._command = [java(), *_JVM, "-cp", classpath]
        self._command += [f"-Dlog4j2.configurationFile={logging}"]
        if not (self._data / "meta.properties").is_file():
            run_to_end(
                "formatting Kafka's data folder",
                [
                    *self._command,
                    *("kafka.tools.StorageTool", "format", "--config", str(properties)),
                    *("--cluster-id", uuid.uuid4().hex[:22]),
                    # Read from the file: arguments can be seen by every user of the machine.
                    *([] if self._secrets is None else [f"@{self._secrets.folder / USERS}"]),
                ],
                log := self._folder / "format.log",
            )
            # It quotes what the broker keeps of each password.
            log.unlink()
        self._command += ["kafka.Kafka", str(properties)]
        super().start()

    def properties(self) -> str:
        """Return the broker's configuration; each time with other free ports for itself."""
        ports = {"port": self._port, "controller_port": free_port()}
        common = _SERVER_PROPERTIES.format(data=self._data, **ports)
        if self._secrets is None:
            return common + _OPEN.format(**ports)
        folder = self._secrets.folder.resolve()
        return common + _SECURED.format(internal_port=free_port(), secrets=folder, **ports)

    def is_ready(self) -> bool:
        """Return whether the broker answers a client."""
        if not listens(self._port):
            return False
        try:
            self.cluster().existing_topics()
        except BrokerUnreachable:
            return False
        return True
