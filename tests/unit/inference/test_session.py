"""Spark's reader of Kafka is fetched where Spark has none; its sockets are nobody else's."""

from pathlib import Path
import stat
from tempfile import TemporaryDirectory

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


def test_sockets_lie_where_nobody_else_can_reach_them():
    # Not below pytest's own, whose names are long.
    with TemporaryDirectory(dir="/tmp") as parent:
        settings = session._sockets(Path(parent))
        [folder] = Path(parent).iterdir()
        assert settings["spark.python.unix.domain.socket.dir"] == str(folder)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_with_too_long_a_name_has_no_sockets(tmp_path):
    folder = tmp_path / ("n" * 100)
    folder.mkdir()
    assert session._sockets(folder) == {}
