"""What is gone of a topic is told from a query's checkpoint and from what the topic holds."""

from pathlib import Path

import pytest

from fraudstream.inference import losses
from fraudstream.inference.losses import Loss
from fraudstream.inference.losses import RecordsLost
from fraudstream.inference.losses import find_losses
from fraudstream.inference.losses import missing
from fraudstream.inference.losses import next_offsets
from fraudstream.kafka.reading import Span
from fraudstream.kafka.topics import Cluster

# As Spark 4.2 writes them.
_BATCH = (
    'v1\n{"batchWatermarkMs":0,"batchTimestampMs":1,"conf":{"spark.sql.shuffle.partitions":"2"}}\n'
    '{"transactions":{"1":%d,"0":7}}\n{"labels":{"0":3}}'
)
_BEGINNING = '\0v1\n{"transactions":{"0":2,"1":4}}'
CLUSTER = Cluster("kafka:9092")


def write(progress: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = progress / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return progress


def test_a_query_goes_on_from_where_its_last_finished_batch_ended(tmp_path):
    files = {f"offsets/{n}": _BATCH % (100 + n) for n in (8, 9, 10, 11)}
    finished = {f"commits/{n}": "v1\n{}" for n in (8, 9, 10)} | {"commits/.10.crc": ""}
    progress = write(tmp_path, {**files, **finished, "sources/0/0": _BEGINNING})
    assert next_offsets(progress) == {"transactions": {0: 7, 1: 110}, "labels": {0: 3}}


def test_before_a_batch_is_finished_it_goes_on_from_where_the_first_one_began(tmp_path):
    progress = write(tmp_path, {"offsets/0": _BATCH % 100, "sources/0/0": _BEGINNING})
    assert next_offsets(progress) == {"transactions": {0: 2, 1: 4}}


def test_without_a_checkpoint_nothing_was_read(tmp_path):
    assert next_offsets(tmp_path / "progress") == {}


def test_what_lies_between_the_next_offset_and_the_first_one_there_is_missing():
    due = {"t": {0: 5, 1: 5, 2: 5}}
    there = {
        "t": [Span(0, 5, 9), Span(1, 8, 9), Span(2, 9, 9), Span(3, 4, 9)],
        "u": [Span(0, 9, 9)],
    }
    assert missing(due, there) == [Loss("t", 1, 5, 7), Loss("t", 2, 5, 8)]


def test_a_topic_that_was_made_anew_is_no_loss_that_can_be_skipped():
    with pytest.raises(RecordsLost, match=r"t, partition 0, ends at offset 3, .* read up to 5: "):
        missing({"t": {0: 5}}, {"t": [Span(0, 0, 3)]})


def test_a_loss_is_refused_in_one_line_with_the_way_on_and_returned_where_it_may_be(
    tmp_path, monkeypatch
):
    progress = write(tmp_path, {"offsets/0": _BATCH % 100, "commits/0": "v1\n{}"})
    held = {"transactions": [Span(0, 9, 9), Span(1, 102, 200)], "labels": [Span(0, 3, 3)]}
    monkeypatch.setattr(losses, "spans", lambda cluster, topic: held[topic])
    with pytest.raises(RecordsLost) as refusal:
        find_losses(progress, CLUSTER, held)
    assert str(refusal.value) == (
        "transactions, partition 0, offsets 7 to 8; transactions, partition 1, offsets 100 to 101: "
        "gone before they were read, by the topic's retention or by hand; to go on behind them, "
        "start once with --skip-lost"
    )
    found = find_losses(progress, CLUSTER, held, skip_lost=True)
    assert found == [Loss("transactions", 0, 7, 8), Loss("transactions", 1, 100, 101)]
    assert find_losses(progress, CLUSTER, ["labels"]) == []
