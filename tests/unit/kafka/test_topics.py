"""How a cluster is described, and what is said when it cannot be used."""

from collections.abc import Callable

from confluent_kafka import KafkaError
from confluent_kafka import KafkaException
import pytest

from fraudstream.kafka import topics as room
from fraudstream.kafka.topics import AccessRefused
from fraudstream.kafka.topics import BadProperty
from fraudstream.kafka.topics import BrokerUnreachable
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.kafka.topics import UnknownTopic


def test_the_topics_have_the_published_names() -> None:
    assert Topics().names() == (
        "VishwaSimulatedTransactions",
        "fraud-labels",
        "predicted",
        "scores",
        "dead-letters",
    )


def test_what_the_code_needs_wins_over_what_the_user_sets() -> None:
    cluster = Cluster("a:1", {"enable.idempotence": "false", "security.protocol": "SSL"})
    config = cluster.config(enable_idempotence=True)
    assert config["enable.idempotence"] is True
    assert config["security.protocol"] == "SSL"
    assert config["bootstrap.servers"] == "a:1"


def test_an_address_where_nobody_answers_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_TIMEOUT_S", 0.2)
    with pytest.raises(BrokerUnreachable, match=r"no Kafka broker answers at 127\.0\.0\.1:1"):
        Cluster("127.0.0.1:1").existing_topics()


@pytest.mark.parametrize(
    "properties",
    [{"no.such.property": "1"}, {"security.protocol": "pigeon"}],
    ids=["name", "value"],
)
def test_a_property_that_the_client_refuses_is_named(properties: dict[str, str]) -> None:
    (name,) = properties
    with pytest.raises(BadProperty, match=name):
        Cluster("127.0.0.1:1", properties).existing_topics()


def test_all_missing_topics_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "_TIMEOUT_S", 0.2)
    monkeypatch.setattr(Cluster, "existing_topics", lambda cluster: {"a": 4})
    assert Cluster("x:1").require_topics(["a"]) == {"a": 4}
    with pytest.raises(UnknownTopic, match=r"has no topic b, c: .*producer\.pex topics"):
        Cluster("x:1").require_topics(["a", "b", "c"])


def test_where_every_topic_exists_nothing_is_asked_of_the_broker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = dict.fromkeys(Topics().names(), 4)
    monkeypatch.setattr(Cluster, "existing_topics", lambda cluster: names)
    assert Cluster("x:1").create_topics(Topics(), partitions=4) == []


def test_a_password_is_not_shown_with_the_cluster() -> None:
    assert "secret" not in repr(Cluster("a:1", {"sasl.password": "secret"}))


class _Refusing:
    """A client that gets no answer, and tells these errors when it is polled."""

    def __init__(self, on_error: Callable[[KafkaError], None], told: list[KafkaError]) -> None:
        self._on_error = on_error
        self._told = told

    def list_topics(self, **_: object) -> None:
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    def poll(self, _: float) -> None:
        for error in self._told:
            self._on_error(error)


def refused(monkeypatch: pytest.MonkeyPatch, *told: KafkaError, **properties: str) -> str:
    """Return what is said of a broker about which the client tells these errors."""
    monkeypatch.setattr(room, "_TIMEOUT_S", 0.0)
    monkeypatch.setattr(Cluster, "admin", lambda _, on_error: _Refusing(on_error, list(told)))
    named = {name.replace("_", "."): value for name, value in properties.items()}
    with pytest.raises((AccessRefused, BrokerUnreachable)) as refusal:
        Cluster("k:1", named).existing_topics()
    return str(refusal.value)


def test_a_refused_password_is_not_told_as_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    down = KafkaError(KafkaError._ALL_BROKERS_DOWN)
    error = KafkaError(
        KafkaError._AUTHENTICATION, "sasl_ssl://k:1/boot: bad credentials (after 2ms in state AUTH)"
    )
    told = refused(monkeypatch, down, error, sasl_username="trainer")
    assert told.startswith("the broker at k:1 does not let trainer in: bad credentials; check sasl")


def test_a_failed_handshake_is_not_told_as_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    error = KafkaError(KafkaError._SSL, "ssl://k:1/boot: handshake failed (after 2ms in state SSL)")
    told = refused(monkeypatch, error)
    assert told.startswith("no TLS with the broker at k:1: handshake failed; check security.proto")


def test_one_that_hangs_up_may_expect_another_protocol(monkeypatch: pytest.MonkeyPatch) -> None:
    down = KafkaError(KafkaError._ALL_BROKERS_DOWN)
    assert "hangs up: it is no Kafka broker, or not one for plaintext" in refused(monkeypatch, down)
    nobody = KafkaError(KafkaError._TRANSPORT, "Connection refused")
    assert "no Kafka broker answers at k:1" in refused(monkeypatch, down, nobody)
