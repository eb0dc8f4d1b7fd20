"""The app finds its Spark, its Java and its master, or says in one line what is missing."""

import os
from pathlib import Path
import socket
import sys

import pytest

from fraudstream.inference.cluster import BadMaster
from fraudstream.inference.cluster import JavaMissing
from fraudstream.inference.cluster import MasterUnreachable
from fraudstream.inference.cluster import SparkMissing
from fraudstream.inference.cluster import find_spark
from fraudstream.inference.cluster import for_executors
from fraudstream.inference.cluster import require_java
from fraudstream.inference.cluster import require_master

PEX = "/somewhere/inference.pex"


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    """Undo what finding a Spark sets for its own process."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    # Set first, so that what is set anew is removed again.
    monkeypatch.setenv("SPARK_HOME", "")
    monkeypatch.delenv("SPARK_HOME")


def a_spark(folder: Path) -> Path:
    library = folder / "python" / "lib"
    library.mkdir(parents=True)
    (library / "py4j-0.10-src.zip").touch()
    return folder


def test_a_spark_of_the_machine_goes_before_the_one_in_the_pex(tmp_path):
    find_spark(str(a_spark(tmp_path)))
    library = tmp_path / "python" / "lib"
    assert sys.path[:2] == [str(library / "pyspark.zip"), str(library / "py4j-0.10-src.zip")]
    assert os.environ["SPARK_HOME"] == str(tmp_path)


def test_a_folder_that_is_no_spark_is_told(tmp_path):
    with pytest.raises(SparkMissing, match=r"expected a Spark at .*: it has no python/lib/py4j"):
        find_spark(str(tmp_path))


def test_no_spark_at_all_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(SparkMissing, match=r"set SPARK_HOME or --spark-home to a Spark 4\.2"):
        find_spark(None)


def test_no_java_is_told_with_the_place_that_was_searched(tmp_path):
    with pytest.raises(JavaMissing, match="no java on PATH, and JAVA_HOME is not set: install"):
        require_java({"PATH": str(tmp_path)})
    with pytest.raises(JavaMissing, match=r"no java in JAVA_HOME \(.*\): install Java 17 or 21"):
        require_java({"JAVA_HOME": str(tmp_path), "PATH": os.environ["PATH"]})
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch(mode=0o755)
    require_java({"JAVA_HOME": str(tmp_path)})


@pytest.mark.parametrize(
    "master",
    ["spark://somewhere", "spark:somewhere:7077", "spark://a:1/b", "spark://a:1,b", "spark://"],
)
def test_the_address_of_a_master_that_spark_would_not_take_is_refused(master):
    with pytest.raises(BadMaster, match=f"expected spark://HOST:PORT, got {master}"):
        require_master(master)


@pytest.fixture
def nobody():
    """Return an address at which nothing listens, as long as the test runs."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{taken.getsockname()[1]}"


@pytest.mark.parametrize("address", ["no.such.host.invalid:7077", "127.0.0.1:70000"])
def test_an_address_that_cannot_be_is_no_master(address):
    with pytest.raises(MasterUnreachable, match=f"no Spark master answers at spark://{address}"):
        require_master(f"spark://{address}")


def test_a_master_that_does_not_answer_is_told(nobody):
    with pytest.raises(MasterUnreachable, match="start it, or name another with --master"):
        require_master(f"spark://{nobody}")


def test_of_several_masters_one_has_to_answer(nobody):
    with socket.create_server(("127.0.0.1", 0)) as standby:
        require_master(f"spark://{nobody},127.0.0.1:{standby.getsockname()[1]}")


@pytest.mark.parametrize("master", ["local[*]", "yarn", "k8s://https://host:6443"])
def test_other_masters_are_left_to_spark(master):
    require_master(master)


@pytest.mark.parametrize("master", ["local[*]", "spark://host:7077"])
def test_workers_of_sources_run_the_python_that_runs_here(master):
    assert for_executors(master, {}) == (sys.executable, {})


def test_workers_of_a_pex_on_this_machine_run_the_python_in_it():
    assert for_executors("local[*]", {"PEX": PEX}) == (sys.executable, {})


@pytest.mark.parametrize("master", ["spark://host:7077", "yarn", "k8s://https://host:6443"])
def test_on_a_cluster_the_pex_is_sent_and_is_the_python(master):
    python, settings = for_executors(master, {"PEX": PEX})
    assert python == "./inference.pex"
    assert settings == {"spark.files": PEX, "spark.executorEnv.PEX_INTERPRETER": "1"}


def test_a_python_that_was_chosen_for_workers_is_kept_and_nothing_is_sent():
    chosen = {"PEX": PEX, "PYSPARK_PYTHON": "/opt/inference/bin/python"}
    python, settings = for_executors("spark://host:7077", chosen)
    assert python == "/opt/inference/bin/python"
    assert "spark.files" not in settings


def test_a_pex_that_was_started_by_a_link_is_sent_under_its_own_name(tmp_path):
    pex = tmp_path / "inference.pex"
    pex.touch()
    link = tmp_path / "inference.py"
    link.symlink_to(pex)
    python, settings = for_executors("yarn", {"PEX": str(link)})
    assert (python, settings["spark.files"]) == ("./inference.pex", str(pex.resolve()))
