"""What the tests of the stream share: real parts around it, and ways to feed and read it."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
import os
from pathlib import Path
import sys
import time
from typing import Any

from confluent_kafka import Producer
from mlflow import MlflowClient
import numpy as np
import orjson
import pytest
import torch

from contract.dirty_topics import PARTITIONS
from contract.dirty_topics import Record
from fraudstream.cli.console import run
from fraudstream.features.definitions import VISIBILITY_LAG
from fraudstream.features.definitions import FeatureSet
from fraudstream.features.sets import DEFAULT
from fraudstream.inference.losses import next_offsets
from fraudstream.inference.main import inference
from fraudstream.kafka.reading import read
from fraudstream.kafka.reading import spans
from fraudstream.kafka.topics import BrokerUnreachable
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.model.bundle import CHAMPION
from fraudstream.model.bundle import Bundle
from fraudstream.model.bundle import Manifest
from fraudstream.model.bundle import distributions
from fraudstream.model.bundle import load_bundle
from fraudstream.model.bundle import write_bundle
from fraudstream.model.network import Encoding
from fraudstream.model.network import Network
from fraudstream.model.network import Shape
from fraudstream.model.network import predict
from fraudstream.model.served import export
from fraudstream.stack.jars import spark_home
from fraudstream.stack.kafka import KafkaBroker
from fraudstream.stack.mlflow import MlflowServer
from fraudstream.stack.process import Process
from fraudstream.trainer.registry import Registry
from integration import apps

TOPICS = Topics("transactions", "labels", "predicted", "scores", "dead-letters")
MODEL = "fraud-detector"
DEADLINE_S = 90.0
_POLL_S = 0.1
_LAG_MS = VISIBILITY_LAG // timedelta(milliseconds=1)


def await_that(condition: Callable[[], bool], app: Process, within_s: float = DEADLINE_S) -> None:
    """Wait until something is so, as long as the app runs and a deadline has not passed."""
    deadline = time.monotonic() + within_s
    while not holds(condition):
        assert time.monotonic() < deadline, app.failure("was too slow")
        assert app.wait(_POLL_S) is None, app.failure("ended early")


def holds(condition: Callable[[], bool]) -> bool:
    """Tell whether something is so; what a broker does not tell in time is not so yet."""
    try:
        return condition()
    except BrokerUnreachable:
        # A busy machine's broker can be late to answer: it is asked again, until the deadline.
        return False


def serves(log: Path, role: str, version: str) -> bool:
    """Tell whether an app has said that a model serves from its next batch on."""
    *lines, _ = log.read_text().split("\n")
    said = [orjson.loads(line) for line in lines if line.startswith("{")]
    wanted = {"event": "model serves", "role": role, "version": version}
    return any(wanted.items() <= each.items() for each in said)


@dataclass
class Traffic:
    """A broker, and ways to feed and read it."""

    broker: KafkaBroker

    @property
    def cluster(self) -> Cluster:
        return Cluster(self.broker.bootstrap_servers)

    def send(self, records: Iterable[Record]) -> None:
        """Append records as life does: what lies further apart than the lag, one after the other.

        Partitions are appended to at different moments, and a batch may begin between any two. So
        records are acknowledged before others come that could be expected to see them.
        """
        producer = Producer(self.cluster.config(linger_ms=0))
        since = None
        for record in records:
            if since is not None and record.appended_ms - since >= _LAG_MS // 2:
                assert producer.flush(30) == 0
                since = None
            since = record.appended_ms if since is None else since
            producer.produce(record.topic, record.value, partition=record.partition)
        assert producer.flush(30) == 0

    def ends(self) -> dict[str, dict[int, int]]:
        """Return where the partitions of the topics of input end."""
        return {
            topic: {span.partition: span.high for span in spans(self.cluster, topic)}
            for topic in (TOPICS.transactions, TOPICS.labels)
        }

    def values(self, topic: str) -> list[Any]:
        """Return the documents that a topic holds."""
        parts = read(self.cluster, topic, spans(self.cluster, topic))
        return [orjson.loads(value or b"") for part in parts for value in part.values]

    def scored(self) -> int:
        """Return how many scores of champions there are."""
        return sum(score["role"] == CHAMPION for score in self.values(TOPICS.scores))

    def count(self, topic: str) -> int:
        """Return how many committed records a topic holds."""
        return sum(len(part) for part in read(self.cluster, topic, spans(self.cluster, topic)))

    def records(self) -> list[Record]:
        """Return what the topics of input really hold, as a replay reads it."""
        return [
            Record(topic, partition, offset, appended_ms, value or b"", None)
            for topic in (TOPICS.transactions, TOPICS.labels)
            for part in read(self.cluster, topic, spans(self.cluster, topic))
            for partition, offset, appended_ms, value in zip(
                part.partition.tolist(),
                part.offset.tolist(),
                part.appended_ms.tolist(),
                part.values,
                strict=True,
            )
        ]


@dataclass
class Stack(Traffic):
    """A broker, a registry, and how to reach them."""

    mlflow: MlflowServer

    def flags(self, checkpoint: Path, **changed: str) -> list[str]:
        """Return the app's command line; `changed` names flags with ``_`` for ``-``."""
        given = {
            "bootstrap_servers": self.broker.bootstrap_servers,
            "tracking_uri": self.mlflow.uri,
            "transactions_topic": TOPICS.transactions,
            "labels_topic": TOPICS.labels,
            "checkpoint": str(checkpoint),
            "cache": str(apps.cache()),
            "master": "local[2]",
            "share_of_features": "1.0",
            **changed,
        }
        return ["run", *(f"--{name.replace('_', '-')}={value}" for name, value in given.items())]

    def app(self, checkpoint: Path, log: Path, *more: str) -> Process:
        """Return the app, not started yet; `more` goes on its command line."""
        environment = {
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            "SPARK_HOME": str(spark_home()),
        }
        program = [sys.executable, "-m", "fraudstream.inference.main"]
        return Process("inference", [*program, *self.flags(checkpoint), *more], log, environment)

    def register(
        self, folder: Path, features: np.ndarray, seed: int, alias: str = CHAMPION
    ) -> Bundle:
        """Give an untrained network an alias; a tenth of `features` are alerts to it."""
        write_model(folder / "bundle", DEFAULT, features, seed)
        (folder / "pictures").mkdir()
        registry = Registry(self.mlflow.uri, MODEL)
        with registry.run(MODEL, {"seed": seed}) as run_id:
            registry.log(run_id, {}, {}, folder / "pictures", folder / "bundle")
        version = registry.register(run_id, load_bundle(folder / "bundle"))
        if alias == CHAMPION:
            registry.promote(version, "by hand")
        else:
            client = MlflowClient(self.mlflow.uri, self.mlflow.uri)
            client.set_registered_model_alias(MODEL, alias, version)
        return load_bundle(folder / "bundle", DEFAULT, version)


def write_model(folder: Path, feature_set: FeatureSet, features: np.ndarray, seed: int) -> None:
    """Write the bundle of an untrained network; a tenth of `features` are alerts to it."""
    torch.manual_seed(seed)
    network = Network(Encoding(features), Shape(members=4, first=16, second=8))
    with torch.no_grad():
        network.head.mul_(10)
    network.calibrate(2.0, -2.0)
    scores = predict(network.eval(), features)
    manifest = Manifest(
        name=MODEL,
        run="none",
        feature_set=feature_set.identity,
        feature_hash=feature_set.hash,
        feature_names=feature_set.names,
        threshold=float(np.quantile(scores, 0.9)),
        threshold_policy="a tenth",
        threshold_figures={},
        label_delay=timedelta(days=7),
        metrics={"average_precision": 0.5},
        training={},
        usual_values=tuple(np.nanmedian(features, axis=0).tolist()),
    )
    figures = distributions(feature_set.names, features, scores)
    write_bundle(folder, manifest, export(network), figures, features[:8], scores[:8])


@contextmanager
def running(folder: Path) -> Iterator[Stack]:
    """Start a broker with our topics, and a registry; both keep their data in `folder`."""
    broker = KafkaBroker(folder / "kafka", apps.cache())
    mlflow = MlflowServer(apps.mlflow(), folder / "mlflow")
    try:
        broker.start()
        mlflow.start()
        broker.wait_ready()
        mlflow.wait_ready()
        stack = Stack(broker, mlflow)
        stack.cluster.create_topics(TOPICS, PARTITIONS)
        yield stack
    finally:
        mlflow.stop()
        broker.stop()


class Telling:
    """Sends records and waits until the app has dealt with them."""

    def __init__(self, stack: Stack, sent: list[Record]) -> None:
        self._stack = stack
        self._sent = sent

    def send(self, records: list[Record]) -> None:
        self._stack.send(records)
        self._sent += records

    def await_done(self, app: Process, checkpoint: Path) -> None:
        """Wait until no batch is at work: the results of one are there before its end is noted."""
        await_that(lambda: next_offsets(checkpoint / "progress") == self._stack.ends(), app)

    def await_results(self, app: Process, within_s: float = DEADLINE_S) -> None:
        sent = self._sent
        scores = len({r.id for r in sent if r.topic == TOPICS.transactions and r.id})
        letters = sum(r.id is None for r in sent)
        await_that(
            lambda: (
                self._stack.scored() >= scores and self._stack.count(TOPICS.dead_letters) >= letters
            ),
            app,
            within_s,
        )


def split(records: list[Record], parts: int) -> list[list[Record]]:
    cuts = np.linspace(0, len(records), parts + 1).astype(int)
    return [records[start:stop] for start, stop in pairwise(cuts)]


def features_of(score: dict[str, Any], feature_set: FeatureSet = DEFAULT) -> list[float]:
    row = [score["features"][name] for name in feature_set.names]
    return [np.nan if value is None else value for value in row]


def refused(
    flags: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> str:
    """Run the app, which has to end with one line; return that line."""
    # What the app sets for its own process must not outlive the test.
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(SystemExit) as ended:
        run(inference, flags)
    assert ended.value.code == 1
    *told, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ")
    assert not [line for line in told if "Traceback" in line]
    return error
