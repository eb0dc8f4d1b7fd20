"""Versions are decided on one after another, and who died in between is given up."""

from dataclasses import dataclass
from dataclasses import field
from datetime import timedelta

from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS
import pytest

from fraudstream.trainer.registry import Registry
from fraudstream.trainer.registry import RegistryRefused
from fraudstream.trainer.registry import await_turn

TURN = timedelta(seconds=10)


@dataclass
class FakeRegistry:
    """Some versions and what was decided on them, and a clock that others' decisions hang on."""

    decisions: dict[int, str]
    #: When somebody decides on a version, in seconds.
    due: dict[int, float] = field(default_factory=dict)
    now: float = 0.0

    def first_undecided(self, before: str) -> str | None:
        for version, at in self.due.items():
            if at <= self.now:
                self.decisions[version] = "decided"
        waiting = [v for v, text in self.decisions.items() if v < int(before) and not text]
        return str(min(waiting)) if waiting else None

    def note(self, version: str, decision: str) -> None:
        self.decisions[int(version)] = decision

    def wait(self, version: str) -> list[str]:
        """Wait for a turn; return what people were told."""
        told: list[str] = []
        await_turn(self, version, told.append, TURN, lambda: self.now, self._pass)
        return told

    def _pass(self, seconds: float) -> None:
        self.now += seconds


def test_without_an_earlier_undecided_version_the_turn_has_come() -> None:
    registry = FakeRegistry({1: "champion: x", 2: "not champion: y", 3: "", 4: ""})
    assert registry.wait("3") == []
    assert registry.now == 0


def test_earlier_versions_are_waited_for_one_after_another() -> None:
    registry = FakeRegistry({1: "", 2: "", 3: ""}, due={1: 3.0, 2: 8.0})
    told = registry.wait("3")
    assert told == [f"waiting until version {version} has been decided on" for version in (1, 2)]
    assert 8 <= registry.now < 9
    assert registry.decisions[1] == registry.decisions[2] == "decided"


def test_a_version_whose_training_died_is_given_up_after_its_turn() -> None:
    registry = FakeRegistry({1: "", 2: "", 3: ""}, due={2: 15.0})
    registry.wait("3")
    assert registry.decisions[1].startswith("given up: ")
    # The second was not first in the queue before, so its own turn began then.
    assert registry.decisions[2] == "decided"
    assert 15 <= registry.now < 16


class RefusingClient:
    """Stands in for MLflow's client: every question gets the same error."""

    def __init__(self, error: MlflowException) -> None:
        self._error = error

    def get_model_version_by_alias(self, name: str, alias: str) -> None:
        raise self._error


def refusing(error: MlflowException) -> Registry:
    registry = Registry("http://127.0.0.1:9", "fraud-detector")
    registry._client = RefusingClient(error)  # type: ignore[assignment]
    return registry


def test_no_alias_means_no_champion() -> None:
    error = MlflowException("no alias", error_code=INVALID_PARAMETER_VALUE)
    assert refusing(error).champion() is None


def test_a_refusal_does_not_pass_for_a_registry_without_a_champion() -> None:
    error = MlflowException("not yours", error_code=PERMISSION_DENIED)
    with pytest.raises(RegistryRefused, match="not yours"):
        refusing(error).champion()


class RacingClient:
    """Stands in for MLflow's client: somebody else makes the experiment just before us."""

    def __init__(self) -> None:
        self.made = False

    def get_experiment_by_name(self, name: str) -> object:
        return type("Experiment", (), {"experiment_id": "7"}) if self.made else None

    def create_experiment(self, name: str) -> str:
        self.made = True
        raise MlflowException("exists", error_code=RESOURCE_ALREADY_EXISTS)


def test_an_experiment_that_another_training_has_just_made_is_used() -> None:
    registry = Registry("http://127.0.0.1:9", "fraud-detector")
    registry._client = RacingClient()  # type: ignore[assignment]
    assert registry._experiment("fraudstream") == "7"
