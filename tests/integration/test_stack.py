"""The embedded stack is real: a broker that keeps records, a registry that keeps runs."""

from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
import socket
from typing import Any

from confluent_kafka import Producer
import orjson
import pytest

from fraudstream.kafka import topics as topics_module
from fraudstream.kafka.reading import read
from fraudstream.kafka.reading import spans
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.kafka.topics import UnknownTopic
from fraudstream.stack.kafka import KafkaBroker
from fraudstream.stack.mlflow import MlflowServer
from fraudstream.stack.process import ProcessFailed
from fraudstream.stack.process import free_port
from integration import apps

_TOPICS = Topics()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with KafkaBroker(tmp_path_factory.mktemp("kafka"), apps.cache()) as running:
        yield running


@pytest.fixture(scope="module")
def cluster(broker: KafkaBroker) -> Cluster:
    return Cluster(broker.bootstrap_servers)


def send(cluster: Cluster, topic: str, *values: bytes) -> None:
    producer = Producer(cluster.config())
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(20) == 0


def values(cluster: Cluster, topic: str) -> list[bytes]:
    parts = read(cluster, topic, spans(cluster, topic))
    return sorted(value for part in parts for value in part.values if value is not None)


def test_what_is_written_to_the_broker_can_be_read(cluster: Cluster) -> None:
    cluster.create_topics(_TOPICS, partitions=4)
    send(cluster, _TOPICS.transactions, b"a", b"b", b"c")
    assert values(cluster, _TOPICS.transactions) == [b"a", b"b", b"c"]


def test_a_transaction_of_kafka_is_read_only_once_it_is_committed(cluster: Cluster) -> None:
    cluster.create_topics(_TOPICS, partitions=4)
    producer = Producer(cluster.config(transactional_id="test"))
    producer.init_transactions(20)
    for value, end in ((b"committed", "commit"), (b"aborted", "abort")):
        producer.begin_transaction()
        producer.produce(_TOPICS.scores, value)
        producer.flush(20)
        getattr(producer, f"{end}_transaction")(20)
    assert values(cluster, _TOPICS.scores) == [b"committed"]


def test_nobody_creates_a_topic_by_naming_it(cluster: Cluster) -> None:
    producer = Producer(cluster.config(message_timeout_ms=2_000))
    producer.produce("mistyped", b"a")
    producer.flush(20)
    with pytest.raises(UnknownTopic, match="mistyped"):
        cluster.require_topics(["mistyped"])


def test_the_broker_is_not_reachable_from_other_machines(broker: KafkaBroker) -> None:
    port = int(broker.bootstrap_servers.split(":")[1])
    with socket.socket() as server:
        # The wildcard address without 127.0.0.1 cannot be asked for, but another address of the
        # loopback network stands for any other: nothing listens there.
        assert server.connect_ex(("127.0.0.2", port)) != 0


def test_a_broker_goes_on_with_what_its_folder_holds(tmp_path: Path) -> None:
    with KafkaBroker(tmp_path, apps.cache()) as first:
        cluster = Cluster(first.bootstrap_servers)
        cluster.create_topics(_TOPICS, partitions=1)
        send(cluster, _TOPICS.labels, b"kept")
    with KafkaBroker(tmp_path, apps.cache()) as second:
        assert values(Cluster(second.bootstrap_servers), _TOPICS.labels) == [b"kept"]


def test_a_broker_whose_port_is_taken_says_so(tmp_path: Path) -> None:
    with socket.socket() as taken:
        port = free_port()
        taken.bind(("127.0.0.1", port))
        broker = KafkaBroker(tmp_path, apps.cache(), port)
        with pytest.raises(ProcessFailed, match="Address already in use"), broker:
            pass


def test_a_listener_that_does_not_speak_kafka_is_no_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics_module, "_TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", free_port())) as other:
        assert not KafkaBroker(tmp_path, apps.cache(), other.getsockname()[1]).is_ready()


def test_a_broker_whose_folder_cannot_be_formatted_tells_why(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("not a folder")
    with pytest.raises(ProcessFailed, match="formatting Kafka's data folder failed"):
        KafkaBroker(tmp_path, apps.cache()).start()


def ask(server: MlflowServer, path: str, body: dict[str, Any]) -> dict[str, Any]:
    connection = HTTPConnection(server.uri.removeprefix("http://"), timeout=20)
    try:
        headers = {"Content-Type": "application/json"}
        connection.request("POST", f"/api/2.0/mlflow/{path}", orjson.dumps(body), headers)
        answer: dict[str, Any] = orjson.loads(connection.getresponse().read())
        return answer
    finally:
        connection.close()


def test_the_registry_keeps_what_it_is_given(tmp_path: Path) -> None:
    server = MlflowServer(apps.mlflow(), tmp_path / "mlflow")
    assert not server.is_ready()
    with server:
        made = ask(server, "experiments/create", {"name": "tried"})
        run = ask(server, "runs/create", {"experiment_id": made["experiment_id"]})
        assert run["run"]["info"]["artifact_uri"].startswith("mlflow-artifacts:/")
        model = ask(server, "registered-models/create", {"name": "m"})
        assert model["registered_model"]["name"] == "m"
    assert (tmp_path / "mlflow" / "mlflow.db").stat().st_size > 0
