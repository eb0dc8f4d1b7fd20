"""A secured broker: each role can do its own work, and nobody can do another's."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC
from datetime import datetime
import itertools
from pathlib import Path
import subprocess
import sys
import threading
from typing import Any

from confluent_kafka import Consumer
from confluent_kafka import ConsumerGroupTopicPartitions
from confluent_kafka import KafkaError
from confluent_kafka import KafkaException
from confluent_kafka import Message
from confluent_kafka import Producer
from confluent_kafka import TopicPartition
import orjson
import pyarrow as pa
import pytest

from fraudstream.inference.scoring import OUTGOING
from fraudstream.inference.sink import Sink
from fraudstream.kafka import topics as topics_module
from fraudstream.kafka.acls import NoAccessControl
from fraudstream.kafka.acls import give
from fraudstream.kafka.acls import grants
from fraudstream.kafka.acls import principals
from fraudstream.kafka.reading import read
from fraudstream.kafka.reading import spans
from fraudstream.kafka.topics import AccessRefused
from fraudstream.kafka.topics import BrokerUnreachable
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.stack.certificates import issue
from fraudstream.stack.kafka import KafkaBroker
from fraudstream.stack.secrets import Secrets
from integration import apps
from integration.settling import await_settled

TOPICS = Topics()
ROLES = ("producer", "trainer", "inference")
#: What the README promises, told here once more by hand.
MAY_WRITE = {
    "producer": {"transactions", "labels", "dead_letters"},
    "trainer": set(),
    "inference": {"scores", "predicted", "dead_letters"},
}
MAY_READ = {
    "producer": set(),
    "trainer": {"transactions", "labels", "scores"},
    "inference": {"transactions", "labels"},
}
NAMES = ("transactions", "labels", "predicted", "scores", "dead_letters")
_EVERY_TOPIC = list(itertools.product(ROLES, NAMES))
# Everything that a file of properties, JAAS or a list of users could trip over.
_AWKWARD = """it"s a \\ p=[w], #ü;' """
_START = "--start=2026-01-05T00:00:00Z"
_DEADLINE_S = 60.0
_SPARK_S = 300.0


class Onlooker(threading.Thread):
    """Another user of the machine, who looks at the arguments of every program while it runs."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[bytes] = set()
        self._over = threading.Event()

    def run(self) -> None:
        while not self._over.wait(0.02):
            self.look()

    def look(self) -> None:
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                self.seen.add(process.read_bytes())
            except OSError:
                # It has ended in the meantime.
                continue

    def stop(self) -> None:
        self._over.set()
        self.join()


@dataclass
class Secured:
    """A secured broker with its topics, and how they and their access list came to be."""

    broker: KafkaBroker
    folder: Path
    secrets: Secrets
    seen: set[bytes]
    tried: dict[str, Any]
    made: dict[str, Any]
    made_again: dict[str, Any]

    @property
    def passwords(self) -> list[bytes]:
        return [file.read_bytes() for file in self.secrets.folder.glob("kafka-*-password")]

    def properties(self, role: str) -> Path:
        return self.secrets.folder / f"kafka-{role}.properties"


def producer(
    broker: KafkaBroker, config: Path | None, *arguments: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the producer's command line to its end."""
    command = [sys.executable, "-m", "fraudstream.producer.main", *arguments]
    command += ["--bootstrap-servers", broker.bootstrap_servers]
    if config is not None:
        command += ["--kafka-config", str(config)]
    return subprocess.run(
        command, capture_output=True, timeout=120, check=False, env=apps.environment()
    )


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    secrets = Secrets(folder / "secrets")
    secrets.write("kafka-trainer-password", f"{_AWKWARD}\n")
    broker = KafkaBroker(folder / "kafka", apps.cache(), secrets=secrets)
    onlooker = Onlooker()
    onlooker.start()

    def topics(*arguments: str) -> dict[str, Any]:
        config = secrets.folder / "kafka-admin.properties"
        done = producer(broker, config, "topics", "--acls", "--json", *arguments)
        assert done.returncode == 0, done.stderr.decode()
        return orjson.loads(done.stdout)

    with broker:
        tried = topics("--dry-run")
        made = topics()
        made_again = topics()
        onlooker.stop()
        yield Secured(broker, folder, secrets, onlooker.seen, tried, made, made_again)


def write(cluster: Cluster, topic: str, **more: str) -> KafkaError | None:
    """Try to write one record, and return why that was refused."""
    outcome: list[KafkaError | None] = []
    client = Producer(cluster.config(message_timeout_ms=int(_DEADLINE_S * 1000), **more))

    def told(error: KafkaError | None, _: Message) -> None:
        outcome.append(error)

    try:
        client.produce(topic, b"a record", on_delivery=told)
    except KafkaException as error:
        return error.args[0]
    assert client.flush(_DEADLINE_S) == 0
    return outcome[0]


# --- Topics and rights ----------------------------------------------------------------------


def test_one_command_creates_the_topics_and_grants_the_rights(secured: Secured) -> None:
    assert secured.made["created"] == list(TOPICS.names())
    assert len(secured.made["acls"]) == len(grants(TOPICS))
    assert all(right["is_new"] for right in secured.made["acls"])


def test_a_dry_run_tells_the_same_and_does_nothing(secured: Secured) -> None:
    assert {**secured.tried, "dry_run": False} == secured.made


def test_a_second_time_there_is_nothing_left_to_do(secured: Secured) -> None:
    assert secured.made_again["created"] == []
    assert not any(right["is_new"] for right in secured.made_again["acls"])


@pytest.mark.parametrize("role", ROLES)
def test_no_role_can_create_a_topic_or_grant_a_right(secured: Secured, role: str) -> None:
    config = secured.properties(role)
    done = producer(secured.broker, config, "topics", "--labels-topic=more")
    assert done.returncode == 1
    assert f"{role} may not create topic" in done.stderr.decode().splitlines()[-1]
    with pytest.raises(AccessRefused, match="for super users of the broker"):
        give(secured.broker.cluster(role), grants(Topics(labels="more")), principals())


def test_a_broker_without_an_access_list_says_so(tmp_path: Path) -> None:
    with (
        KafkaBroker(tmp_path, apps.cache()) as broker,
        pytest.raises(NoAccessControl, match=r"expected one with an authorizer"),
    ):
        give(broker.cluster(), grants(TOPICS), principals())


# --- Each role's own work -------------------------------------------------------------------


def test_the_producer_simulates(secured: Secured) -> None:
    world = ("--cards=50", _START, "--days=9", "--malformed=0.05")
    done = producer(secured.broker, secured.properties("producer"), "simulate", *world, "--json")
    assert done.returncode == 0, done.stderr.decode()
    written = {TOPICS.transactions, TOPICS.labels, TOPICS.dead_letters}
    assert set(orjson.loads(done.stdout)["acknowledged"]) == written


def test_the_stream_writes_in_transactions_and_marks_how_far_it_has_come(secured: Secured) -> None:
    rows = pa.record_batch([[TOPICS.scores], [b"card"], [b"scored"]], schema=OUTGOING)
    cluster = secured.broker.cluster("inference")
    for is_new in (True, False):
        shard = Sink(cluster, "secured", TOPICS.transactions).open(0, 0)
        assert shard.write([rows]) == is_new
    reader = secured.broker.cluster("trainer")
    await_settled(reader, [TOPICS.scores])
    parts = read(reader, TOPICS.scores, spans(reader, TOPICS.scores))
    assert [value for part in parts for value in part.values].count(b"scored") == 1


# --- Everything else ------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "name"), _EVERY_TOPIC)
def test_a_role_writes_its_own_topics_and_no_other(secured: Secured, role: str, name: str) -> None:
    refusal = write(secured.broker.cluster(role), getattr(TOPICS, name))
    if name in MAY_WRITE[role]:
        assert refusal is None
    else:
        assert refusal is not None
        assert refusal.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED


@pytest.mark.parametrize(("role", "name"), _EVERY_TOPIC)
def test_a_role_reads_its_own_topics_and_no_other(secured: Secured, role: str, name: str) -> None:
    topic = getattr(TOPICS, name)
    assert write(secured.broker.cluster(), topic) is None
    assert can_read(secured.broker.cluster(role), topic, role) == (name in MAY_READ[role])


def can_read(cluster: Cluster, topic: str, role: str) -> bool:
    """Return whether a role is given a record of a topic that holds some."""
    try:
        cluster.require_topics([topic])
    except AccessRefused:
        return False
    # A group that the role may look up, so that all depends on the topic.
    group = {"inference": "inference", "trainer": "fraudstream-read"}.get(role, "none")
    client = Consumer(cluster.config(group_id=group, auto_offset_reset="earliest"))
    with closing(client):
        client.assign([TopicPartition(topic, partition, 0) for partition in range(4)])
        failure = first(client).error()
    assert failure is None or failure.code() in (
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
    )
    return failure is None


def first(client: Consumer) -> Message:
    """Return the first record or failure that a reader is given."""
    found = client.poll(_DEADLINE_S)
    assert found is not None, f"nothing came within {_DEADLINE_S:.0f} s"
    return found


@pytest.mark.parametrize("role", ["producer", "trainer"])
def test_no_other_role_can_take_over_a_transaction_of_the_stream(
    secured: Secured, role: str
) -> None:
    client = Producer(secured.broker.cluster(role).config(transactional_id="inference.x.0"))
    with pytest.raises(KafkaException) as refusal:
        client.init_transactions(20)
    assert refusal.value.args[0].code() == KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED


@pytest.mark.parametrize("role", ["producer", "trainer"])
def test_no_other_role_can_move_the_mark_of_the_stream(secured: Secured, role: str) -> None:
    place = TopicPartition(TOPICS.transactions, 0, 7)
    client = secured.broker.cluster(role).admin()
    moved = client.alter_consumer_group_offsets(
        [ConsumerGroupTopicPartitions("inference.x.0", [place])]
    )
    with pytest.raises(KafkaException) as refusal:
        moved["inference.x.0"].result()
    assert refusal.value.args[0].code() == KafkaError.GROUP_AUTHORIZATION_FAILED


def test_the_trainer_cannot_join_the_group_that_it_looks_up(secured: Secured) -> None:
    client = Consumer(secured.broker.cluster("trainer").config(group_id="fraudstream-read"))
    with closing(client):
        client.subscribe([TOPICS.transactions])
        failure = first(client).error()
    assert failure is not None
    assert failure.code() == KafkaError.GROUP_AUTHORIZATION_FAILED


def test_a_topic_that_is_hidden_from_a_role_is_not_told_to_be_absent(secured: Secured) -> None:
    cluster = secured.broker.cluster("trainer")
    with pytest.raises(AccessRefused, match=r"gives trainer no right to topic predicted; grant "):
        cluster.require_topics([TOPICS.transactions, TOPICS.predicted])


def test_a_producer_without_the_right_is_told_how_it_is_granted(secured: Secured) -> None:
    done = producer(secured.broker, secured.properties("inference"), "simulate", _START, "--days=1")
    assert done.returncode == 1
    error = done.stderr.decode().splitlines()[-1]
    assert error.startswith("error: ")
    assert "Topic authorization failed; grant the right with `producer.pex topics --acls`" in error


# --- Who is not let in ----------------------------------------------------------------------


def changed(secured: Secured, **properties: str | None) -> Cluster:
    """Return the cluster for a client of the producer with some properties changed."""
    cluster = secured.broker.cluster("producer")
    named = {name.replace("_", "."): value for name, value in properties.items()}
    merged = {**cluster.properties, **named}
    kept = {name: value for name, value in merged.items() if value is not None}
    return Cluster(cluster.bootstrap_servers, kept)


@pytest.mark.parametrize(
    "properties",
    [
        {"sasl_password": "another"},
        {"sasl_username": "nobody"},
        {"sasl_username": "admin"},
        {"sasl_mechanism": "PLAIN"},
    ],
    ids=["password", "user", "the password of another", "mechanism"],
)
def test_who_does_not_prove_who_it_is_stays_outside(
    secured: Secured, properties: dict[str, str]
) -> None:
    name = properties.get("sasl_username", "producer")
    with pytest.raises(AccessRefused, match=f"does not let {name} in: .*check sasl.username"):
        changed(secured, **properties).existing_topics()


@pytest.mark.parametrize("protocol", ["plaintext", "sasl_plaintext", "ssl"])
def test_whoever_leaves_out_encryption_or_password_stays_outside(
    secured: Secured, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics_module, "_TIMEOUT_S", 4.0)
    with pytest.raises(BrokerUnreachable, match=f"hangs up: .*not one for {protocol}; check secur"):
        changed(secured, security_protocol=protocol).existing_topics()


def test_a_client_that_trusts_another_authority_refuses_the_broker(secured: Secured) -> None:
    other = issue("kafka", ["127.0.0.1"], datetime.now(UTC)).authority
    with pytest.raises(AccessRefused, match=r"no TLS with .*certificate verify failed.*authority"):
        changed(secured, ssl_ca_pem=other).existing_topics()


def test_a_client_refuses_a_broker_whose_certificate_is_for_another_name(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets")
    issued = issue("kafka", ["127.0.0.1"], datetime.now(UTC))
    secrets.write("kafka-ca.crt", issued.authority)
    secrets.write("kafka-broker.pem", issued.server)
    with KafkaBroker(tmp_path / "kafka", apps.cache(), secrets=secrets) as broker:
        by_name = broker.bootstrap_servers.replace("127.0.0.1", "localhost")
        with pytest.raises(AccessRefused, match=r"no TLS with .*certificate verify failed"):
            Cluster(by_name, broker.cluster().properties).existing_topics()


def test_the_error_of_a_wrong_password_is_one_line_of_the_program(
    secured: Secured, tmp_path: Path
) -> None:
    config = tmp_path / "client.properties"
    text = secured.properties("producer").read_text()
    for name in ("kafka-producer-password", "kafka-ca.crt"):
        text = text.replace(f"={name}", f"={secured.secrets.folder / name}")
    config.write_text(f"{text}sasl.password=another\n")
    done = producer(secured.broker, config, "simulate", _START, "--days=1")
    assert done.returncode == 1
    error = done.stderr.decode().splitlines()[-1]
    assert error.startswith("error: the broker at 127.0.0.1:")
    assert "does not let producer in" in error
    assert "Traceback" not in done.stderr.decode()


# --- Java's client, as Spark has it ---------------------------------------------------------


@dataclass
class Java:
    """What Java's client was given, or told, as each role; and all that was said of it."""

    held: int
    outcome: dict[str, str]
    topics: list[str]
    said: bytes


@pytest.fixture(scope="module")
def java(secured: Secured, tmp_path_factory: pytest.TempPathFactory) -> Java:
    admin = secured.broker.cluster()
    assert write(admin, TOPICS.labels) is None
    held = sum(span.high for span in spans(admin, TOPICS.labels))
    options = {
        "servers": secured.broker.bootstrap_servers,
        "topic": TOPICS.labels,
        "tools": secured.secrets.folder / "kafka-tools.properties",
        "cache": apps.cache(),
        "folder": tmp_path_factory.mktemp("java"),
    }
    done = subprocess.run(
        [
            *(sys.executable, str(Path(__file__).with_name("spark_reader.py"))),
            *(f"--{name}={value}" for name, value in options.items()),
            *(str(secured.properties(role)) for role in ROLES),
        ],
        capture_output=True,
        timeout=_SPARK_S,
        check=False,
        env=apps.environment(),
    )
    assert done.returncode == 0, done.stderr.decode()
    *outcome, topics = done.stdout.decode().splitlines()
    told = dict(zip(ROLES, outcome, strict=True))
    return Java(held, told, topics.split(), done.stdout + done.stderr)


@pytest.mark.parametrize("role", ["inference", "trainer"])
def test_spark_reads_with_the_same_file_of_properties(java: Java, role: str) -> None:
    assert java.outcome[role] == str(java.held)


def test_spark_is_refused_what_its_role_may_not_read(java: Java) -> None:
    assert f"Not authorized to access topics: [{TOPICS.labels}]" in java.outcome["producer"]


def test_kafkas_own_tools_are_let_in_as_admin(java: Java) -> None:
    assert java.topics == sorted(TOPICS.names())


def test_spark_does_not_say_what_its_client_has_for_a_password(
    java: Java, secured: Secured
) -> None:
    # It did say a lot.
    assert b"sasl.jaas.config = [hidden]" in java.said
    assert not [password for password in secured.passwords if password.strip() in java.said]


# --- Secrets stay secret --------------------------------------------------------------------


def test_no_argument_of_any_program_holds_a_password(secured: Secured) -> None:
    assert [each for each in secured.seen if b"kafka.tools.StorageTool" in each]
    assert [each for each in secured.seen if b"fraudstream.producer.main" in each]
    for password in secured.passwords:
        assert not [each for each in secured.seen if password.strip() in each]


def test_no_file_of_the_broker_holds_a_password(secured: Secured) -> None:
    files = [file for file in (secured.folder / "kafka").rglob("*") if file.is_file()]
    assert {"server.properties", "kafka.log"} <= {file.name for file in files}
    for password in secured.passwords:
        assert not [file for file in files if password.strip() in file.read_bytes()]


def test_secrets_are_for_their_owner_only(secured: Secured) -> None:
    assert secured.secrets.folder.stat().st_mode & 0o077 == 0
    for file in secured.secrets.folder.iterdir():
        assert file.stat().st_mode & 0o077 == 0


def test_the_broker_says_who_was_refused_what(secured: Secured) -> None:
    assert write(secured.broker.cluster("trainer"), TOPICS.scores) is not None
    log = (secured.folder / "kafka" / "kafka.log").read_text()
    assert "Principal = User:trainer is Denied operation = WRITE" in log


def test_a_broker_goes_on_with_its_users_and_with_no_other_secrets(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets")
    with KafkaBroker(tmp_path / "kafka", apps.cache(), secrets=secrets) as first:
        first.cluster().create_topics(TOPICS, partitions=1)
    with KafkaBroker(tmp_path / "kafka", apps.cache(), secrets=secrets) as second:
        assert set(second.cluster().existing_topics()) >= set(TOPICS.names())
    others = KafkaBroker(tmp_path / "kafka", apps.cache(), secrets=Secrets(tmp_path / "others"))
    with pytest.raises(AccessRefused, match="does not let admin in"), others:
        pass
    assert not others.running
