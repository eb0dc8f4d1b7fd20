"""What the registry refuses is told as it is."""

from mlflow.exceptions import MlflowException
from mlflow.exceptions import RestException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.protos.databricks_pb2 import PERMISSION_DENIED
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS
import pytest

from fraudstream.trainer.registry import Registry
from fraudstream.trainer.registry import RegistryRefused
from fraudstream.trainer.registry import RegistryUnreachable


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


def test_nobody_there_is_told_apart_from_a_server_that_fails() -> None:
    # So the client tells of both: the same code, and only one of them is what a server has said.
    nobody = MlflowException("API request failed with exception: connection refused")
    with pytest.raises(RegistryUnreachable, match="no MLflow server answers"):
        refusing(nobody).champion()
    failing = RestException({"error_code": "INTERNAL_ERROR", "message": "no space left"})
    with pytest.raises(RegistryRefused, match="no space left"):
        refusing(failing).champion()


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
