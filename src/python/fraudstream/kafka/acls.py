"""Who may do what: one role for each app, with what its program needs and nothing more.

A broker with an authorizer refuses whatever no entry of its access list allows, so what is not
here is forbidden. Whoever creates topics and grants rights is a super user of the broker and has no
entry.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError
from confluent_kafka import KafkaException
from confluent_kafka.admin import AclBinding  # type: ignore[attr-defined]
from confluent_kafka.admin import AclBindingFilter  # type: ignore[attr-defined]
from confluent_kafka.admin import AclOperation  # type: ignore[attr-defined]
from confluent_kafka.admin import AclPermissionType  # type: ignore[attr-defined]
from confluent_kafka.admin import ResourcePatternType  # type: ignore[attr-defined]
from confluent_kafka.admin import ResourceType  # type: ignore[attr-defined]

from fraudstream.kafka.topics import AccessRefused
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics

_TIMEOUT_S = 10.0

_READ = AclOperation.READ
_WRITE = AclOperation.WRITE

# Topics by their names in `Topics`. Who may read or write a topic may also see that it exists.
_ON_TOPICS: dict[str, dict[AclOperation, tuple[str, ...]]] = {
    "producer": {_WRITE: ("transactions", "labels", "dead_letters")},
    "trainer": {_READ: ("transactions", "labels", "scores")},
    "inference": {
        _READ: ("transactions", "labels"),
        _WRITE: ("scores", "predicted", "dead_letters"),
    },
}

# What else, by prefix. A bounded read (`fraudstream.kafka.reading`) joins no group, but its client
# asks who would coordinate the one that it has to name. The stream writes in Kafka transactions,
# and marks in groups how far it has come.
_ON_PREFIXES: dict[str, tuple[tuple[ResourceType, str, AclOperation], ...]] = {
    "trainer": ((ResourceType.GROUP, "fraudstream-", AclOperation.DESCRIBE),),
    "inference": (
        (ResourceType.GROUP, "inference", _READ),
        # State that is lost is built again by such a read.
        (ResourceType.GROUP, "fraudstream-", AclOperation.DESCRIBE),
        (ResourceType.TRANSACTIONAL_ID, "inference", _WRITE),
    ),
}

#: The roles, each named for its app. The trainer's also reads scores, to judge them.
ROLES = tuple(_ON_TOPICS)


class NoAccessControl(ValueError):
    """The broker keeps no access list."""


class BadPrincipal(ValueError):
    """A principal of a role that does not exist, or not in Kafka's form."""


@dataclass(frozen=True)
class Grant:
    """A right of a role.

    Attributes
    ----------
    role
        One of `ROLES`.
    operation
        What may be done.
    kind
        Of the resource: topics, consumer groups or transactional ids.
    name
        The resource's name.
    is_prefix
        Whether it is any resource whose name begins with `name`.

    Examples
    --------
    >>> print(*grants(Topics())[:1])
    producer may write topic VishwaSimulatedTransactions
    """

    role: str
    operation: AclOperation
    kind: ResourceType
    name: str
    is_prefix: bool = False

    def __str__(self) -> str:
        kind = self.kind.name.lower().replace("_", " ")
        star = "*" if self.is_prefix else ""
        return f"{self.role} may {self.operation.name.lower()} {kind} {self.name}{star}"

    def document(self) -> dict[str, str | bool]:
        """Return it as plain values, for machines."""
        return {
            "role": self.role,
            "operation": self.operation.name,
            "kind": self.kind.name,
            "name": self.name,
            "is_prefix": self.is_prefix,
        }


def grants(topics: Topics) -> list[Grant]:
    """Return the rights of all roles, for topics of these names.

    Examples
    --------
    >>> for grant in grants(Topics(transactions="t", labels="l")):
    ...     print(grant)
    producer may write topic t
    producer may write topic l
    producer may write topic dead-letters
    trainer may read topic t
    trainer may read topic l
    trainer may read topic scores
    trainer may describe group fraudstream-*
    inference may read topic t
    inference may read topic l
    inference may write topic scores
    inference may write topic predicted
    inference may write topic dead-letters
    inference may read group inference*
    inference may describe group fraudstream-*
    inference may write transactional id inference*
    """
    found = []
    for role in ROLES:
        for operation, names in _ON_TOPICS[role].items():
            for name in names:
                found.append(Grant(role, operation, ResourceType.TOPIC, getattr(topics, name)))
        for kind, prefix, operation in _ON_PREFIXES.get(role, ()):
            found.append(Grant(role, operation, kind, prefix, is_prefix=True))
    return found


def principals(chosen: Iterable[tuple[str, str]] = ()) -> dict[str, str]:
    """Return the principal of each role: ``User:`` and its name, unless another was `chosen`.

    Parameters
    ----------
    chosen
        Pairs of a role and a principal as Kafka writes it, such as ``User:alice``.

    Raises
    ------
    BadPrincipal
        If there is no such role, or the principal has no type.

    Examples
    --------
    >>> principals([("trainer", "User:CN=trainer,O=Bank")])["trainer"]
    'User:CN=trainer,O=Bank'
    """
    found = {role: f"User:{role}" for role in ROLES}
    for role, principal in chosen:
        if role not in found:
            raise BadPrincipal(f"expected a role of {', '.join(ROLES)}, got {role}")
        kind, colon, name = principal.partition(":")
        if not (kind and colon and name):
            raise BadPrincipal(f"{role}: expected a principal such as User:{role}, got {principal}")
        found[role] = principal
    return found


def give(
    cluster: Cluster,
    wanted: Iterable[Grant],
    principals: Mapping[str, str],
    *,
    dry_run: bool = False,
) -> list[Grant]:
    """Give rights to the principals of their roles; nobody loses one.

    Parameters
    ----------
    cluster
        As a super user of the broker reaches it.
    wanted
        The rights.
    principals
        Of every role in `wanted`; see `principals`.
    dry_run
        Nothing is given.

    Returns
    -------
    list
        Those of `wanted` that their principals did not have.

    Raises
    ------
    NoAccessControl
        If the broker has no authorizer.
    AccessRefused
        If we may not see or change the access list.
    BadProperty
        If the client does not take one of the cluster's properties.
    """
    client = cluster.admin()
    bindings = {grant: _binding(grant, principals) for grant in wanted}
    held = set()
    for principal in {binding.principal for binding in bindings.values()}:
        future = client.describe_acls(_all_of(principal), request_timeout=_TIMEOUT_S)
        held |= set(_answer(future))
    new = [grant for grant, binding in bindings.items() if binding not in held]
    if new and not dry_run:
        futures = client.create_acls([bindings[grant] for grant in new], request_timeout=_TIMEOUT_S)
        for future in futures.values():
            _answer(future)
    return new


def _binding(grant: Grant, principals: Mapping[str, str]) -> AclBinding:
    pattern = ResourcePatternType.PREFIXED if grant.is_prefix else ResourcePatternType.LITERAL
    return AclBinding(
        grant.kind,
        grant.name,
        pattern,
        principals[grant.role],
        "*",
        grant.operation,
        AclPermissionType.ALLOW,
    )


def _all_of(principal: str) -> AclBindingFilter:
    return AclBindingFilter(
        ResourceType.ANY,
        None,  # type: ignore[arg-type]
        ResourcePatternType.ANY,
        principal,
        None,  # type: ignore[arg-type]
        AclOperation.ANY,
        AclPermissionType.ANY,
    )


def _answer(future: "Future[Any]") -> Any:
    try:
        return future.result()
    except KafkaException as error:
        raise _refusal(error.args[0]) from error


def _refusal(error: KafkaError) -> Exception:
    if error.code() == KafkaError.SECURITY_DISABLED:
        return NoAccessControl(
            "the broker has no access list: expected one with an authorizer "
            "(authorizer.class.name), or leave out --acls"
        )
    if error.code() == KafkaError.CLUSTER_AUTHORIZATION_FAILED:
        return AccessRefused(
            "the access list is for super users of the broker: "
            "expected the properties of one in the file of --kafka-config"
        )
    return AccessRefused(f"the access list could not be used: {error.str()}")
