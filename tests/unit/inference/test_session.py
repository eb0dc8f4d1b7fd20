"""Spark's reader of Kafka is fetched where Spark has none, and only there."""

import pytest

from fraudstream.inference import session
from fraudstream.inference.session import CONNECTOR


@pytest.fixture
def jars(tmp_path, monkeypatch):
    folder = tmp_path / "spark" / "jars"
    folder.mkdir(parents=True)
    monkeypatch.setenv("SPARK_HOME", str(folder.parent))
    return folder


def test_a_spark_without_the_connector_fetches_it_into_the_cache(jars, tmp_path):
    settings = session._connector(tmp_path / "cache")
    assert settings["spark.jars.packages"] == CONNECTOR
    assert settings["spark.jars.ivy"] == str(tmp_path / "cache" / "ivy")


def test_a_spark_that_has_the_connector_fetches_nothing(jars, tmp_path):
    _, module, version = CONNECTOR.split(":")
    (jars / f"{module}-{version}.jar").touch()
    assert session._connector(tmp_path) == {}


def test_a_connector_of_another_version_does_not_count(jars, tmp_path):
    _, module, _ = CONNECTOR.split(":")
    (jars / f"{module}-4.0.0.jar").touch()
    assert session._connector(tmp_path)
