"""The registry: what it is asked, and how often."""

from collections import Counter

from mlflow.entities.model_registry import ModelVersion
from mlflow.entities.model_registry import RegisteredModel
import pytest

from fraudstream.inference.registry import Registry
from fraudstream.inference.registry import RegistryUnreachable


def test_no_server_at_the_address_is_told_as_such(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = Registry("http://127.0.0.1:9", "fraud-detector")
    with pytest.raises(RegistryUnreachable, match="no MLflow server answers at"):
        registry.bearing("champion")
    with pytest.raises(RegistryUnreachable, match="could not be downloaded"):
        registry.fetch("1", tmp_path)


class Counted(Registry):
    """A registry over a server in memory, of which each question is counted."""

    def __init__(self) -> None:
        super().__init__("http://counted", "tiny-detector")
        vars(self).update(model=RegisteredModel("tiny-detector", 1, 2), asked=Counter())

    model: RegisteredModel
    asked: Counter[str]

    def _client(self):
        return self

    def get_registered_model(self, name):
        self.asked["model"] += 1
        return self.model

    def get_model_version(self, name, number):
        self.asked[number] += 1
        return ModelVersion(name, number, 1_000, run_id=f"run-{self.asked[number]}")


def test_a_version_is_asked_for_once_until_something_is_registered():
    registry, roles = Counted(), ("champion", "challenger")
    assert registry.bearing(*roles) == {}
    registry.model._aliases = {"champion": "1", "challenger": "2", "of somebody else": "3"}
    first = registry.bearing(*roles)
    assert registry.bearing(*roles) == first
    assert {alias: each.version for alias, each in first.items()} == {
        "champion": "1",
        "challenger": "2",
    }
    assert registry.asked == {"model": 3, "1": 1, "2": 1}
    registry.model._aliases = {"champion": "2"}
    assert registry.bearing(*roles) == {"champion": first["challenger"]}
    # It was put back as it had been, and has another version 2 since.
    registry.model._last_updated_timestamp = 3
    assert registry.bearing(*roles)["champion"].run == "run-2"
