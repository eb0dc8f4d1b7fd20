"""Results on a real broker: each shard of a batch once, whoever writes it and however often."""

from collections.abc import Iterator

import pyarrow as pa
import pytest

from fraudstream.inference import sink as module
from fraudstream.inference.scoring import OUTGOING
from fraudstream.inference.sink import NotWritten
from fraudstream.inference.sink import Sink
from fraudstream.inference.store import OlderBatch
from fraudstream.kafka.reading import read
from fraudstream.kafka.reading import spans
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.stack.kafka import KafkaBroker
from fraudstream.stack.process import free_port
from integration import apps
from integration.settling import await_settled

TOPICS = Topics()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with KafkaBroker(tmp_path_factory.mktemp("kafka"), apps.cache()) as broker:
        cluster = Cluster(broker.bootstrap_servers)
        cluster.create_topics(TOPICS, 2)
        yield cluster


def results(*values: bytes, topic: str = TOPICS.scores) -> pa.RecordBatch:
    count = len(values)
    return pa.record_batch([[topic] * count, [b"card"] * count, list(values)], schema=OUTGOING)


def committed(cluster: Cluster, topic: str = TOPICS.scores) -> list[bytes]:
    await_settled(cluster, [topic])
    parts = read(cluster, topic, spans(cluster, topic))
    return sorted(value for part in parts for value in part.values if value is not None)


def test_a_batch_is_there_once_however_often_it_is_written(cluster: Cluster) -> None:
    sink = Sink(cluster, "repeated", TOPICS.scores)
    wrote = []
    for batch in (0, 0, 1, 1):
        rows = [results(b"a%d" % batch), results(b"b%d" % batch, topic=TOPICS.predicted)]
        wrote.append(sink.open(0, batch).write(rows))
    assert wrote == [True, False, True, False]
    assert [v for v in committed(cluster) if v in (b"a0", b"a1")] == [b"a0", b"a1"]
    assert committed(cluster, TOPICS.predicted) == [b"b0", b"b1"]


def test_a_batch_before_the_last_one_is_refused(cluster: Cluster) -> None:
    # It may be of other records than the one of its number that was written: a checkpoint that is
    # an older copy would lose them.
    sink = Sink(cluster, "set-back", TOPICS.scores)
    for batch in (0, 1, 2):
        sink.open(0, batch).write([results(b"set back %d" % batch)])
    with pytest.raises(OlderBatch, match=r"set-back\.0: expected batch 2 or a later one, got 1"):
        sink.open(0, 1).write([results(b"set back, other records")])
    assert not [value for value in committed(cluster) if b"other records" in value]


def test_shards_and_streams_keep_marks_of_their_own(cluster: Cluster) -> None:
    for stream, shard in (("one", 0), ("one", 1), ("other", 0)):
        opened = Sink(cluster, stream, TOPICS.scores).open(shard, 5)
        assert opened.write([results(f"{stream}{shard}".encode())])
    assert {b"one0", b"one1", b"other0"} <= set(committed(cluster))


def test_who_opened_a_shard_first_is_fenced_by_who_opened_it_last(cluster: Cluster) -> None:
    sink = Sink(cluster, "fenced", TOPICS.scores)
    zombie = sink.open(0, 3)

    def rows() -> Iterator[pa.RecordBatch]:
        yield results(b"zombie")
        # The zombie's transaction is open when the batch is repeated elsewhere.
        assert sink.open(0, 3).write([results(b"repeated")])
        yield results(b"zombie still")

    with pytest.raises(NotWritten, match=r"batch 3 of inference\.fenced\.0 could not be written"):
        zombie.write(rows())
    there = committed(cluster)
    assert b"repeated" in there
    assert not [value for value in there if b"zombie" in value]


@pytest.mark.parametrize("late", [3, 2])
def test_who_comes_late_with_a_batch_that_is_there_fences_nobody(
    cluster: Cluster, late: int
) -> None:
    sink = Sink(cluster, f"late-{late}", TOPICS.scores)
    for batch in (2, 3):
        assert sink.open(0, batch).write([results(b"there")])
    at_work = sink.open(0, 4)

    def rows() -> Iterator[pa.RecordBatch]:
        yield results(b"at work %d" % late)
        sink.open(0, late)

    assert at_work.write(rows())
    assert b"at work %d" % late in committed(cluster)


def test_a_full_queue_is_waited_for(cluster: Cluster) -> None:
    small = Cluster(cluster.bootstrap_servers, {"queue.buffering.max.messages": "10"})
    values = [b"full %03d" % n for n in range(100)]
    assert Sink(small, "full", TOPICS.scores).open(0, 0).write([results(*values)])
    assert [v for v in committed(cluster) if v.startswith(b"full")] == values


def test_results_lie_beside_the_transactions_of_their_card(cluster: Cluster) -> None:
    shard = Sink(cluster, "beside", TOPICS.scores).open(0, 0)
    shard.write([results(b"x"), results(b"y", topic=TOPICS.predicted)])
    await_settled(cluster, [TOPICS.scores, TOPICS.predicted])
    places = {
        part.partition[part.values.index(value)]
        for topic, value in ((TOPICS.scores, b"x"), (TOPICS.predicted, b"y"))
        for part in read(cluster, topic, spans(cluster, topic))
        if value in part.values
    }
    assert len(places) == 1


def test_a_broker_out_of_reach_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_TIMEOUT_S", 1.0)
    nowhere = Cluster(f"127.0.0.1:{free_port()}")
    with pytest.raises(NotWritten, match=r"shard 0 could not be opened on 127\.0\.0\.1"):
        Sink(nowhere, "far", TOPICS.scores).open(0, 0)
