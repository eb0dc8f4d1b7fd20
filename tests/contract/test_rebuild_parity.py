"""State that is built again from the topics serves what the lost one would have served."""

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from contract.dirty_topics import PARTITIONS
from contract.dirty_topics import Record
from contract.dirty_topics import dirty_topics
from contract.dirty_topics import replayed
from contract.every_key import EVERY_KEY
from contract.every_store import KINDS
from contract.every_store import redis_in
from contract.steps_alone import Stream
from contract.steps_alone import served
from fraudstream.features.definitions import FeatureSet
from fraudstream.features.sets import DEFAULT
from fraudstream.inference import rebuild
from fraudstream.inference.generations import Generations
from fraudstream.inference.rebuild import Done
from fraudstream.inference.rebuild import rebuilt
from fraudstream.inference.shared import RedisServer
from fraudstream.inference.tasks import Settings
from fraudstream.kafka.reading import Records
from fraudstream.kafka.reading import Span
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics

TOPICS = Topics("transactions", "labels")


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return dirty_topics(days=12, cards=60, seed=5)


@pytest.fixture(scope="module", params=KINDS)
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RedisServer | None]:
    if request.param == "embedded":
        yield None
    else:
        with redis_in(tmp_path_factory.mktemp("redis")) as (server, _):
            yield server


@contextmanager
def silent(what: str, total: float) -> Iterator[Callable[[float], None]]:
    yield lambda amount: None


class Broker:
    """The topics as they are read."""

    def __init__(self, records: list[Record]) -> None:
        self.records = records

    def spans(self, cluster: Cluster, topic: str) -> list[Span]:
        ends = [
            sum((r.topic, r.partition) == (topic, partition) for r in self.records)
            for partition in range(PARTITIONS)
        ]
        return [Span(partition, 0, end) for partition, end in enumerate(ends)]

    def read(self, cluster: Cluster, topic: str, within: list[Span]) -> Iterator[Records]:
        bounds = {span.partition: (span.low, span.high) for span in within}
        found = [
            r
            for r in self.records
            if r.topic == topic and bounds[r.partition][0] <= r.offset < bounds[r.partition][1]
        ]
        # Partitions come mixed, and in several parts.
        for some in (found[: len(found) // 2], found[len(found) // 2 :]):
            yield Records(
                np.array([r.partition for r in some]),
                np.array([r.offset for r in some]),
                np.array([r.appended_ms for r in some]),
                [r.value for r in some],
            )


def offsets_of(records: list[Record]) -> dict[str, dict[int, int]]:
    found: dict[str, dict[int, int]] = {"transactions": {}, "labels": {}}
    for record in records:
        found[record.topic][record.partition] = record.offset + 1
    return found


def settings(folder: Path, feature_set: FeatureSet, generations: Generations) -> Settings:
    return Settings(Cluster("none:1"), TOPICS, folder, feature_set, 0, 0.0, generations.new())


@pytest.mark.parametrize(
    ("feature_set", "batch", "at_once"),
    [(DEFAULT, 6, 10**9), (DEFAULT, 0, 400), (EVERY_KEY, 40, 700)],
    ids=["in one part", "in more parts than batches", "of every key"],
)
def test_after_a_rebuild_features_are_served_as_replayed(
    server: RedisServer | None,
    records: list[Record],
    feature_set: FeatureSet,
    batch: int,
    at_once: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = len(records) // 2
    monkeypatch.setattr(rebuild, "read", Broker(records).read)
    monkeypatch.setattr(rebuild, "spans", Broker(records).spans)
    monkeypatch.setattr(rebuild, "_AT_ONCE", at_once)
    generations = Generations(tmp_path, f"stream-{feature_set.name}", feature_set.identity, server)
    so_far = Done(batch, offsets_of(records[:done]))
    found = rebuilt(
        settings(tmp_path, feature_set, generations),
        generations,
        so_far,
        silent,
        generations.current(),
    )
    assert found.state.flaw(batch) is None
    stream = Stream(found.state, feature_set)
    out = []
    for number, begin in enumerate(range(done, len(records), 300), batch + 1):
        out += stream.process(records[begin : begin + 300], number)
    features = served(out, feature_set)
    assert len(features) > 200
    # A copy of what was scored before is not scored again.
    before = {r.id for r in records[:done] if r.topic == "transactions"}
    expected = replayed(feature_set, records)
    assert features.keys() == expected.keys() - before
    np.testing.assert_allclose(
        list(features.values()), [expected[i] for i in features], rtol=0, atol=1e-9
    )


def test_past_the_bound_of_a_key_a_rebuild_is_still_exact(
    records: list[Record], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = replace(DEFAULT, most_events=20)
    done = len(records) // 2
    monkeypatch.setattr(rebuild, "read", Broker(records).read)
    monkeypatch.setattr(rebuild, "spans", Broker(records).spans)
    generations = Generations(tmp_path, "stream", few.identity, None)
    so_far = Done(3, offsets_of(records[:done]))
    found = rebuilt(
        settings(tmp_path, few, generations), generations, so_far, silent, generations.current()
    )
    features = served(Stream(found.state, few).process(records[done:], 4), few)
    expected = replayed(few, records)
    np.testing.assert_allclose(
        list(features.values()), [expected[i] for i in features], rtol=0, atol=1e-9
    )
