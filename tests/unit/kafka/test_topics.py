"""How a cluster is described, and what is said when it cannot be used."""

import pytest

from fraudstream.kafka import topics as room
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
