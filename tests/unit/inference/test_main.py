"""The app says in one line why the stream ended, and teaches with --help."""

from types import SimpleNamespace

import click
from click.testing import CliRunner
from py4j.protocol import Py4JError  # pants: no-infer-dep (it comes with Spark)
from py4j.protocol import Py4JJavaError  # pants: no-infer-dep
from py4j.protocol import Py4JNetworkError  # pants: no-infer-dep
import pytest

from fraudstream.inference import main
from fraudstream.inference.main import StreamFailed
from fraudstream.inference.main import inference
from fraudstream.kafka.security import Untranslatable
from fraudstream.kafka.topics import BrokerUnreachable

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

fraudstream.inference.registry.RegistryUnreachable: no MLflow server answers
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


def test_client_properties_that_spark_cannot_be_told_are_refused_before_anything_starts(tmp_path):
    properties = tmp_path / "client.properties"
    properties.write_text("ssl.engine.location=engine.so\n")
    told = ["run", f"--checkpoint={tmp_path}", f"--kafka-config={properties}"]
    with pytest.raises(Untranslatable, match=r"ssl\.engine\.location cannot be told to Spark"):
        inference.main(told, standalone_mode=False)


class Spark:
    """A session, of which stopping it is all that is asked."""

    def __init__(self, failure=None):
        self.failure = failure
        self.stops = 0

    def stop(self):
        self.stops += 1
        if self.failure is not None:
            raise self.failure


def use(spark, failure):
    with main._stopped_after(spark):
        if failure is not None:
            raise failure


@pytest.mark.parametrize(
    ("asking", "stopping"),
    [
        (Py4JError("An error occurred while calling o54.isActive"), ConnectionRefusedError(111)),
        (Py4JNetworkError("Answer from Java side is empty"), None),
        (ConnectionResetError(104), None),
        (None, ConnectionRefusedError(111)),
    ],
)
def test_a_jvm_that_is_gone_is_told_in_one_line(asking, stopping):
    spark = Spark(stopping)
    with pytest.raises(StreamFailed, match="Spark's JVM is gone; was it killed"):
        use(spark, asking)
    assert spark.stops == 1


@pytest.mark.parametrize(
    "failure",
    [
        StreamFailed("bad rows"),
        Py4JJavaError("told by Java", SimpleNamespace(_target_id="o7")),
        BrokerUnreachable("away"),
    ],
)
def test_what_has_another_reason_is_told_as_it_is(failure):
    spark = Spark()
    with pytest.raises(type(failure)) as told:
        use(spark, failure)
    assert told.value is failure
    assert spark.stops == 1
