"""The topics, and how to reach them."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
import re
import time
from typing import Any

from confluent_kafka import KafkaError
from confluent_kafka import KafkaException
from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin import NewTopic  # type: ignore[attr-defined]

_TIMEOUT_S = 10.0
# How long one broker of several may refuse, as it does while it starts, before that is told.
_PATIENCE_S = 1.0

# What librdkafka adds to a reason: who said so before it, and in which of its states behind it.
_AROUND = re.compile(r"^\S+://\S+: | \((?:after .* in state|\d+ identical error).*$")

_GRANT = "grant the right with `producer.pex topics --acls`"


class BrokerUnreachable(ConnectionError):
    """No broker answered at the address."""


class AccessRefused(ConnectionError):
    """A broker answers, and refuses us: who we say we are, or what we ask for."""


class UnknownTopic(LookupError):
    """The broker answers, but does not have the topic."""


class BadProperty(ValueError):
    """The Kafka client does not know a property, or cannot use its value."""


_NO_RIGHT = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
}


def lacks_right(error: KafkaError) -> bool:
    """Return whether something failed because we have no right to it."""
    return error.code() in _NO_RIGHT


def reason(error: KafkaError) -> str:
    """Return why something failed; where a right is missing, also how it is granted.

    Examples
    --------
    >>> reason(KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED))
    'Broker: Topic authorization failed; grant the right with `producer.pex topics --acls`'
    >>> reason(KafkaError(KafkaError._SSL, "ssl://k:1/1: no handshake (after 1ms in state X)"))
    'no handshake'
    """
    text = _AROUND.sub("", error.str()).rstrip(".")
    return f"{text}; {_GRANT}" if lacks_right(error) else text


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
    # Not shown: a password is one of them.
    properties: Mapping[str, str] = field(default_factory=dict, repr=False)

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

    @property
    def user(self) -> str:
        """Who we say we are, for errors."""
        return self.properties.get("sasl.username", "this client")

    def admin(self, on_error: Callable[[KafkaError], None] | None = None) -> AdminClient:
        """Return a client that looks at the cluster and changes it.

        Parameters
        ----------
        on_error
            Is called with what goes wrong in connections, by the client's ``poll``.

        Raises
        ------
        BadProperty
            If the client does not take one of `properties`.
        """
        config: dict[str, Any] = dict(self.config())
        if on_error is not None:
            config["error_cb"] = on_error
        try:
            return AdminClient(config)
        except KafkaException as error:
            raise BadProperty(f"the Kafka client refuses: {error.args[0].str()}") from error

    def existing_topics(self) -> dict[str, int]:
        """Return each topic's number of partitions; topics that we may not see are left out.

        Raises
        ------
        BrokerUnreachable
            If no broker answers within ten seconds.
        AccessRefused
            If a broker does, and lets us not in.
        BadProperty
            If the client does not take one of `properties`.
        """
        told: list[KafkaError] = []
        client = self.admin(told.append)
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            try:
                metadata = client.list_topics(timeout=min(_PATIENCE_S, _TIMEOUT_S))
            except KafkaException as error:
                # Only now the client tells what went wrong in the meantime.
                client.poll(0)
                self._raise_refusal(told)
                if time.monotonic() > deadline:
                    raise BrokerUnreachable(self._silence(told)) from error
            else:
                return {name: len(topic.partitions) for name, topic in metadata.topics.items()}

    def _raise_refusal(self, told: Iterable[KafkaError]) -> None:
        for error in told:
            why = reason(error)
            if error.code() == KafkaError._AUTHENTICATION:
                raise AccessRefused(
                    f"the broker at {self.bootstrap_servers} does not let {self.user} in: "
                    f"{why}; check sasl.username, sasl.password and sasl.mechanism in the file "
                    "of --kafka-config"
                )
            if error.code() == KafkaError._SSL:
                raise AccessRefused(
                    f"no TLS with the broker at {self.bootstrap_servers}: {why}; check "
                    "security.protocol, and the authority's certificate (ssl.ca.location or "
                    "ssl.ca.pem.file), in the file of --kafka-config"
                )

    def _silence(self, told: Collection[KafkaError]) -> str:
        # Who hangs up is not reported by itself: all that is left is that no broker is up.
        if told and all(error.code() == KafkaError._ALL_BROKERS_DOWN for error in told):
            protocol = self.properties.get("security.protocol", "plaintext")
            return (
                f"what listens at {self.bootstrap_servers} hangs up: it is no Kafka broker, or not "
                f"one for {protocol}; check security.protocol in the file of --kafka-config"
            )
        return (
            f"no Kafka broker answers at {self.bootstrap_servers}: "
            "start it, or give its address with --bootstrap-servers"
        )

    def require_topics(self, names: Iterable[str]) -> dict[str, int]:
        """Return the number of partitions of each of `names`.

        Raises
        ------
        UnknownTopic
            If one does not exist.
        AccessRefused
            If we may not know whether it does.
        BrokerUnreachable, BadProperty
            See `existing_topics`.
        """
        existing = self.existing_topics()
        names = list(names)
        missing = [name for name in names if name not in existing]
        if missing:
            self._require_sight(missing)
            raise UnknownTopic(
                f"the broker at {self.bootstrap_servers} has no topic {', '.join(missing)}: "
                "create it with `producer.pex topics`, or name another"
            )
        return {name: existing[name] for name in names}

    def _require_sight(self, names: list[str]) -> None:
        """See whether these topics are absent or hidden from us; a broker lists both as absent."""
        client = self.admin()
        hidden = []
        described = client.describe_topics(TopicCollection(names), request_timeout=_TIMEOUT_S)
        for name, future in described.items():
            try:
                future.result()
            except KafkaException as error:
                if error.args[0].code() == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    hidden.append(name)
        if hidden:
            raise AccessRefused(
                f"the broker at {self.bootstrap_servers} gives {self.user} no right to topic "
                f"{', '.join(hidden)}; {_GRANT}"
            )

    def create_topics(
        self,
        topics: Topics,
        partitions: int,
        replication: int = 1,
        *,
        dry_run: bool = False,
    ) -> list[str]:
        """Create those of `topics` that do not exist; return their names.

        All keep their records for ever, and carry the broker's append time, by which latency is
        measured and impossible event times are told. Topics of results are cut to `partitions`
        too: a result stays beside its transaction's partition.

        Parameters
        ----------
        topics, partitions, replication
            What to create.
        dry_run
            The broker only says whether it would.

        Raises
        ------
        AccessRefused
            If we may not create topics.
        BrokerUnreachable, BadProperty
            See `existing_topics`.
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
        client = self.admin()
        created = client.create_topics(
            [NewTopic(name, partitions, replication, config=settings) for name in missing],
            operation_timeout=_TIMEOUT_S,
            validate_only=dry_run,
        )
        for name, future in created.items():
            try:
                future.result()
            except KafkaException as error:
                code = error.args[0].code()
                if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
                    raise AccessRefused(
                        f"{self.user} may not create topic {name}: expected the properties of a "
                        "super user in the file of --kafka-config"
                    ) from error
                # Another app may have been first: that is as good.
                if code != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise ValueError(f"topic {name} was refused: {error.args[0].str()}") from error
        return missing
