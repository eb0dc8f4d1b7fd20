"""The topics, and how to reach them."""

from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields

from confluent_kafka import KafkaError
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

_TIMEOUT_S = 10.0


class BrokerUnreachable(ConnectionError):
    """No broker answered at the address."""


class UnknownTopic(LookupError):
    """The broker answers, but does not have the topic."""


class BadProperty(ValueError):
    """The Kafka client does not know a property, or cannot use its value."""


@dataclass(frozen=True)
class Topics:
    """Names of the topics, each settable."""

    transactions: str = "VishwaSimulatedTransactions"
    labels: str = "fraud-labels"
    predicted: str = "predicted"
    scores: str = "scores"
    dead_letters: str = "dead-letters"

    def names(self) -> tuple[str, ...]:
        """Return all names.

        Examples
        --------
        >>> Topics(scores="s").names()
        ('VishwaSimulatedTransactions', 'fraud-labels', 'predicted', 's', 'dead-letters')
        """
        return tuple(getattr(self, each.name) for each in fields(self))


@dataclass(frozen=True)
class Cluster:
    """A Kafka cluster: where it is, and the client properties (security and the like) to use.

    Parameters
    ----------
    bootstrap_servers
        ``host:port``, several separated by commas.
    properties
        Further librdkafka properties, such as ``security.protocol``.
    """

    bootstrap_servers: str
    properties: Mapping[str, str] = field(default_factory=dict)

    def config(self, **more: str | int | float | bool) -> dict[str, str | int | float | bool]:
        """Return a client configuration; keyword names use ``_`` for ``.``.

        Examples
        --------
        >>> Cluster("localhost:9092").config(group_id="g")["group.id"]
        'g'
        """
        return {
            "bootstrap.servers": self.bootstrap_servers,
            # Connection trouble is raised where it matters; librdkafka's own log lines would
            # print it a second time, unstructured.
            "log_level": 0,
            **self.properties,
            **{name.replace("_", "."): value for name, value in more.items()},
        }

    def existing_topics(self) -> dict[str, int]:
        """Return each topic's number of partitions.

        Raises
        ------
        BrokerUnreachable
            If no broker answers within ten seconds.
        BadProperty
            If the client does not take one of `properties`.
        """
        try:
            client = AdminClient(self.config())
        except KafkaException as error:
            raise BadProperty(f"the Kafka client refuses: {error.args[0].str()}") from error
        try:
            metadata = client.list_topics(timeout=_TIMEOUT_S)
        except KafkaException as error:
            raise BrokerUnreachable(
                f"no Kafka broker answers at {self.bootstrap_servers}: "
                "start it, or give its address with --bootstrap-servers"
            ) from error
        return {name: len(topic.partitions) for name, topic in metadata.topics.items()}

    def require_topics(self, names: Iterable[str]) -> dict[str, int]:
        """Return the number of partitions of each of `names`.

        Raises
        ------
        UnknownTopic
            If one does not exist.
        BrokerUnreachable
            If no broker answers.
        """
        existing = self.existing_topics()
        names = list(names)
        missing = [name for name in names if name not in existing]
        if missing:
            raise UnknownTopic(
                f"the broker at {self.bootstrap_servers} has no topic {', '.join(missing)}: "
                "create it with `producer.pex topics`, or name another"
            )
        return {name: existing[name] for name in names}

    def create_topics(self, topics: Topics, partitions: int, replication: int = 1) -> list[str]:
        """Create those of `topics` that do not exist; return their names.

        All keep their records for ever, and carry the broker's append time, by which latency is
        measured and impossible event times are told. Topics of results are cut to `partitions`
        too: a result stays beside its transaction's partition.

        Raises
        ------
        BrokerUnreachable
            If no broker answers.
        """
        existing = self.existing_topics()
        settings = {
            "message.timestamp.type": "LogAppendTime",
            "retention.ms": "-1",
            "cleanup.policy": "delete",
        }
        missing = [name for name in topics.names() if name not in existing]
        if not missing:
            return []
        # The client is kept in a name: were it collected, it would end before the topics exist.
        client = AdminClient(self.config())
        created = client.create_topics(
            [NewTopic(name, partitions, replication, config=settings) for name in missing],
            operation_timeout=_TIMEOUT_S,
        )
        for name, future in created.items():
            try:
                future.result()
            except KafkaException as error:
                # Another app may have been first: that is as good.
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise ValueError(f"topic {name} was refused: {error.args[0].str()}") from error
        return missing
