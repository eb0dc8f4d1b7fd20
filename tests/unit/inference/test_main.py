"""The app finds its Spark, or says in one line what is missing; so when the stream ends."""

import os
from pathlib import Path
import sys

import click
from click.testing import CliRunner
import pytest

from fraudstream.inference import main
from fraudstream.inference.main import JavaMissing
from fraudstream.inference.main import SparkMissing
from fraudstream.inference.main import inference


@pytest.fixture(autouse=True)
def as_it_was(monkeypatch):
    """Undo what the app sets for its own process."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("PYSPARK_PYTHON", "SPARK_HOME", "PEX", "JAVA_HOME"):
        # Set first, so that what the app sets anew is removed again.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def a_spark(folder: Path) -> Path:
    library = folder / "python" / "lib"
    library.mkdir(parents=True)
    (library / "py4j-0.10-src.zip").touch()
    return folder


def test_a_spark_of_the_machine_goes_before_the_one_in_the_pex(tmp_path):
    main._find_spark(str(a_spark(tmp_path)), "local[2]")
    library = tmp_path / "python" / "lib"
    assert sys.path[:2] == [str(library / "pyspark.zip"), str(library / "py4j-0.10-src.zip")]
    assert os.environ["SPARK_HOME"] == str(tmp_path)


def test_a_folder_that_is_no_spark_is_told(tmp_path):
    with pytest.raises(SparkMissing, match=r"expected a Spark at .*: it has no python/lib/py4j"):
        main._find_spark(str(tmp_path), "local[2]")


def test_no_spark_at_all_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyspark", None)
    with pytest.raises(SparkMissing, match=r"set SPARK_HOME or --spark-home to a Spark 4\.2"):
        main._find_spark(None, "local[2]")


@pytest.mark.parametrize(
    ("master", "pex", "python"),
    [
        ("local[*]", None, sys.executable),
        ("local[*]", "/somewhere/inference.pex", sys.executable),
        ("spark://host:7077", None, sys.executable),
        ("spark://host:7077", "/somewhere/inference.pex", "./inference.pex"),
    ],
)
def test_workers_run_our_python_and_on_a_cluster_the_pex_that_was_sent(
    monkeypatch, master, pex, python
):
    if pex is not None:
        monkeypatch.setenv("PEX", pex)
    main._find_spark(None, master)
    assert os.environ["PYSPARK_PYTHON"] == python


def test_a_python_that_was_chosen_for_workers_is_kept(monkeypatch):
    monkeypatch.setenv("PYSPARK_PYTHON", "python3.11")
    main._find_spark(None, "local[2]")
    assert os.environ["PYSPARK_PYTHON"] == "python3.11"


def test_no_java_is_told_with_the_place_that_was_searched(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JavaMissing, match="no java on PATH, and JAVA_HOME is not set: install"):
        main._require_java()
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(JavaMissing, match=r"no java in JAVA_HOME \(.*\): install Java 17 or 21"):
        main._require_java()
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "java").touch(mode=0o755)
    main._require_java()


OF_A_WORKER = """\
An exception was raised by the Python Proxy. Return Message: Traceback (most recent call last):
  File "job.py", line 91, in process
    self._jwrite.save()
pyspark.errors.exceptions.captured.PythonException: An exception was thrown from the worker:
Traceback (most recent call last):
  File "tasks.py", line 9, in task
    raise ValueError("bad rows") from error
ValueError: bad rows

=== Streaming Query ===
Identifier: [id = 1]
"""
OF_THE_SINK = """\
An exception was raised by the Python Proxy. Return Message: Traceback (most recent call last):
py4j.protocol.Py4JJavaError: An error occurred while calling o180.save.
: org.apache.spark.SparkException: Job aborted due to stage failure: Task 0 failed 1 times
\tat org.apache.spark.scheduler.DAGScheduler.abortStage(DAGScheduler.scala:2)
Caused by: org.apache.kafka.common.errors.TimeoutException: Topic scores not present
"""
OF_THE_REGISTRY = """\
Traceback (most recent call last):
ConnectionError: refused

The above exception was the direct cause of the following exception:

fraudstream.inference.champion.RegistryUnreachable: no MLflow server answers
"""


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (OF_A_WORKER, "ValueError: bad rows"),
        (OF_THE_SINK, "TimeoutException: Topic scores not present"),
        (OF_THE_REGISTRY, "RegistryUnreachable: no MLflow server answers"),
        ("\nsomething else\n", "something else"),
        ("", "Spark does not say why"),
    ],
)
def test_why_the_stream_ended_is_told_in_one_line_by_its_innermost_error(message, what):
    assert main._cause(message, debug=False) == f"the stream ended: {what} (--debug shows all)"
    assert main._cause(message, debug=True) == message


def test_the_help_tells_what_the_app_does_and_what_can_be_set():
    runner = CliRunner()
    told = runner.invoke(inference, ["--help"]).output
    assert "Score card transactions as they happen" in told
    told = runner.invoke(inference, ["run", "--help"]).output
    for flag in ("--checkpoint", "--master", "--tracking-uri", "--scores-topic", "--debug"):
        assert flag in told
    assert "FRAUDSTREAM_CHECKPOINT" in told


def test_a_checkpoint_has_to_be_given():
    with pytest.raises(click.MissingParameter, match="checkpoint"):
        inference.main(["run"], standalone_mode=False)


def test_client_properties_are_refused_rather_than_left_unused(tmp_path):
    properties = tmp_path / "client.properties"
    properties.write_text("security.protocol=SSL\n")
    told = ["run", f"--checkpoint={tmp_path}", f"--kafka-config={properties}"]
    with pytest.raises(main.UnsupportedProperties, match="leave the option out"):
        inference.main(told, standalone_mode=False)
