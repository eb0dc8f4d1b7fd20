"""Kafka's transactions: a broker says that one is over before each partition has noted its end."""

from collections.abc import Iterable

from confluent_kafka import IsolationLevel
from confluent_kafka import TopicPartition
from confluent_kafka.admin import OffsetSpec  # type: ignore[attr-defined]

from fraudstream.kafka.topics import Cluster
from unit.awaiting import await_that

_TIMEOUT_S = 30.0


def await_settled(cluster: Cluster, topics: Iterable[str]) -> None:
    """Wait until all records of topics can be read: none is behind a transaction without an end.

    Whoever reads committed records earlier may miss some of one partition and none of another.
    """
    places = [
        TopicPartition(topic, partition)
        for topic, partitions in cluster.require_topics(list(topics)).items()
        for partition in range(partitions)
    ]
    every, committed = IsolationLevel.READ_UNCOMMITTED, IsolationLevel.READ_COMMITTED
    await_that(lambda: _ends(cluster, places, committed) == _ends(cluster, places, every))


def _ends(
    cluster: Cluster, places: list[TopicPartition], level: IsolationLevel
) -> dict[TopicPartition, int]:
    # Without its client, nobody would answer.
    client = cluster.admin()
    asked = dict.fromkeys(places, OffsetSpec.latest())
    told = client.list_offsets(asked, isolation_level=level, request_timeout=_TIMEOUT_S)
    return {place: end.result().offset for place, end in told.items()}
