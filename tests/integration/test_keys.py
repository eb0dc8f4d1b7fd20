"""Features of any key through a real Spark: a task for each key serves what a replay computes."""

from collections.abc import Iterator
import os
from pathlib import Path
import shutil
import sys

import numpy as np
from pyspark.sql.streaming.query import StreamingQuery
import pytest

from contract.dirty_topics import PARTITIONS
from contract.dirty_topics import dirty_topics
from contract.dirty_topics import replayed
from contract.every_key import EVERY_KEY
from fraudstream.inference.champion import Models
from fraudstream.inference.embedded import EmbeddedState
from fraudstream.inference.job import claim
from fraudstream.inference.job import start
from fraudstream.inference.kept import Kept
from fraudstream.inference.metrics import Metrics
from fraudstream.inference.registry import Registered
from fraudstream.inference.registry import Registry
from fraudstream.inference.session import session
from fraudstream.inference.sink import Sink
from fraudstream.inference.tasks import Settings
from fraudstream.stack.jars import spark_home
from fraudstream.stack.kafka import KafkaBroker
from integration import apps
from integration.streams import DEADLINE_S
from integration.streams import TOPICS
from integration.streams import Traffic
from integration.streams import features_of
from integration.streams import holds
from integration.streams import split
from integration.streams import write_model


@pytest.fixture(scope="module")
def traffic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Traffic]:
    with KafkaBroker(tmp_path_factory.mktemp("kafka"), apps.cache()) as broker:
        traffic = Traffic(broker)
        traffic.cluster.create_topics(TOPICS, PARTITIONS)
        yield traffic


class Shelf(Registry):
    """A registry of one model, which lies in a folder."""

    def bearing(self, *aliases: str) -> dict[str, Registered]:
        return {"champion": Registered("1", "run", 0, None)}

    def fetch(self, version: str, folder: Path) -> Path:
        return Path(shutil.copytree(self.tracking_uri, folder / "bundle"))


def await_scores(traffic: Traffic, query: StreamingQuery, count: int) -> None:
    rounds = 0
    while not holds(lambda: traffic.count(TOPICS.scores) >= count):
        assert query.exception() is None, query.exception()
        query.awaitTermination(1)
        rounds += 1
        assert rounds < DEADLINE_S, f"{traffic.count(TOPICS.scores)} of {count} scores came"


def test_features_of_any_key_are_served_as_a_replay_computes_them(
    traffic: Traffic, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = dirty_topics(days=10, cards=30, seed=4)
    expected = replayed(EVERY_KEY, records)
    write_model(tmp_path / "model", EVERY_KEY, np.array(list(expected.values())), seed=1)
    checkpoint = tmp_path / "checkpoint"
    state = EmbeddedState(checkpoint / "state" / "first")
    stream = claim(checkpoint, TOPICS)
    state.create(-1)
    settings = Settings(traffic.cluster, TOPICS, checkpoint, EVERY_KEY, 10**6, 1.0, state)
    metrics = Metrics(state, lambda places: {})
    models = Models(
        Shelf(str(tmp_path / "model"), "m"), Kept(tmp_path / "models", EVERY_KEY), metrics
    )
    models.look()
    # What the session sets for its own process must not outlive the test.
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setenv("SPARK_HOME", str(spark_home()))
    spark = session("local[2]", apps.cache(), 2, 300, {})
    try:
        sink = Sink(traffic.cluster, stream, TOPICS.transactions)
        query, batches = start(spark, settings, models, sink, metrics)
        seen: set[str] = set()
        for part in split(records, 3):
            traffic.send(part)
            seen |= {r.id for r in part if r.topic == TOPICS.transactions and r.id}
            await_scores(traffic, query, len(seen))
        batches.finish(query)
    finally:
        spark.stop()
    scores = {s["transaction_id"]: features_of(s, EVERY_KEY) for s in traffic.values(TOPICS.scores)}
    replay = replayed(EVERY_KEY, traffic.records())
    assert scores.keys() == replay.keys() == seen
    np.testing.assert_allclose(
        [scores[i] for i in replay], list(replay.values()), rtol=0, atol=1e-9
    )
