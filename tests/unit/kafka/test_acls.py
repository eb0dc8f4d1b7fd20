"""Each role has the rights of the table, and a broker's refusal says what was expected."""

from concurrent.futures import Future
from typing import Any

from confluent_kafka import KafkaError
from confluent_kafka import KafkaException
import pytest

from fraudstream.kafka.acls import ROLES
from fraudstream.kafka.acls import BadPrincipal
from fraudstream.kafka.acls import NoAccessControl
from fraudstream.kafka.acls import give
from fraudstream.kafka.acls import grants
from fraudstream.kafka.acls import principals
from fraudstream.kafka.topics import AccessRefused
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics

_WANTED = grants(Topics())
_WHO = principals()


class _Admin:
    """An admin client whose access list is what was created through it; or one that refuses."""

    def __init__(self, refusal: int | None = None) -> None:
        self.held: set[Any] = set()
        self._refusal = refusal

    def _answer(self, content: Any) -> "Future[Any]":
        future: Future[Any] = Future()
        if self._refusal is None:
            future.set_result(content)
        else:
            future.set_exception(KafkaException(KafkaError(self._refusal)))
        return future

    def describe_acls(self, these: Any, **_: Any) -> "Future[Any]":
        return self._answer([each for each in self.held if each.principal == these.principal])

    def create_acls(self, bindings: list[Any], **_: Any) -> dict[Any, "Future[Any]"]:
        self.held |= set(bindings)
        return {binding: self._answer(None) for binding in bindings}


@pytest.fixture
def admin(monkeypatch: pytest.MonkeyPatch) -> _Admin:
    made = _Admin()
    monkeypatch.setattr(Cluster, "admin", lambda cluster: made)
    return made


def test_no_role_may_both_write_and_read_the_same_topic() -> None:
    rights = [(grant.role, grant.kind, grant.name) for grant in _WANTED]
    assert len(set(rights)) == len(rights)


def test_dead_letters_which_can_hold_a_card_number_are_read_by_no_role() -> None:
    [*operations] = {g.operation.name for g in _WANTED if g.name == Topics().dead_letters}
    assert operations == ["WRITE"]


def test_a_role_is_the_user_of_its_name_unless_told_otherwise() -> None:
    assert principals() == {role: f"User:{role}" for role in ROLES}
    assert principals([("trainer", "User:alice")])["trainer"] == "User:alice"


@pytest.mark.parametrize("principal", ["alice", "User:", ":alice", ""])
def test_a_principal_in_another_form_is_refused(principal: str) -> None:
    with pytest.raises(BadPrincipal, match="trainer: expected a principal such as User:trainer"):
        principals([("trainer", principal)])


def test_a_principal_of_no_role_is_refused() -> None:
    with pytest.raises(BadPrincipal, match="expected a role of producer, trainer, inference, got"):
        principals([("treasurer", "User:alice")])


def test_only_rights_that_are_missing_are_given(admin: _Admin) -> None:
    first, *others = _WANTED
    assert give(Cluster("a:1"), [first], _WHO) == [first]
    assert give(Cluster("a:1"), _WANTED, _WHO) == others
    assert give(Cluster("a:1"), _WANTED, _WHO) == []
    assert len(admin.held) == len(_WANTED)


def test_a_dry_run_gives_nothing(admin: _Admin) -> None:
    assert give(Cluster("a:1"), _WANTED, _WHO, dry_run=True) == _WANTED
    assert admin.held == set()


@pytest.mark.parametrize(
    ("code", "error", "told"),
    [
        (KafkaError.SECURITY_DISABLED, NoAccessControl, "authorizer.class.name"),
        (KafkaError.CLUSTER_AUTHORIZATION_FAILED, AccessRefused, "for super users of the broker"),
        (KafkaError.REQUEST_TIMED_OUT, AccessRefused, "could not be used: Broker: Request timed"),
    ],
)
def test_a_refusal_says_what_was_expected(
    code: int, error: type[Exception], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Cluster, "admin", lambda cluster: _Admin(code))
    with pytest.raises(error, match=told):
        give(Cluster("a:1"), _WANTED, _WHO)
