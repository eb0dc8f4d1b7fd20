"""The tasks that run on Spark's workers: Arrow batches in, rows out, whatever the cut."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest

from fraudstream.features.definitions import DAY
from fraudstream.features.definitions import VISIBILITY_LAG
from fraudstream.features.definitions import Feature
from fraudstream.features.definitions import FeatureSet
from fraudstream.inference.embedded import EmbeddedState
from fraudstream.inference.embedded import EmbeddedStore
from fraudstream.inference.embedded import Machine
from fraudstream.inference.embedded import StateElsewhere
from fraudstream.inference.scoring import OUTGOING
from fraudstream.inference.scoring import Destinations
from fraudstream.inference.scoring import Results
from fraudstream.inference.scoring import results
from fraudstream.inference.sink import NotWritten
from fraudstream.inference.steps import LABELLED
from fraudstream.inference.steps import REJECTED
from fraudstream.inference.steps import TRANSACTION
from fraudstream.inference.steps import key_step
from fraudstream.inference.store import OlderBatch
from fraudstream.inference.tally import Tally
from fraudstream.inference.tasks import SecondsByStage
from fraudstream.inference.tasks import Settings
from fraudstream.inference.tasks import Shipped
from fraudstream.inference.tasks import first_task
from fraudstream.inference.tasks import key_task
from fraudstream.inference.tasks import scoring_task
from fraudstream.inference.tasks import writing_task
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.model.bundle import BundleRefused
from fraudstream.model.bundle import load_bundle
from fraudstream.schema.validation import PREDICTION
from fraudstream.schema.validation import validator
from unit.model.example_bundles import TINY
from unit.model.example_bundles import tiny_manifest
from unit.model.example_bundles import write_tiny

TOPICS = Topics()
RECORDS = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.int32()),
        ("offset", pa.int64()),
        ("appended_ms", pa.int64()),
        ("value", pa.binary()),
    ]
)


@pytest.fixture
def settings(tmp_path):
    return settings_in(tmp_path, TINY)


def settings_in(folder, feature_set):
    state = EmbeddedState(folder / "state")
    state.create(-1)
    return Settings(Cluster("kafka:9092"), TOPICS, folder, feature_set, 1_000, 1.0, state)


def stores_of(settings):
    return [entry.name for entry in settings.state.folder.iterdir() if entry.is_dir()]


class Broadcast:
    """A model's files, as Spark's broadcast gives them."""

    def __init__(self, folder: Path) -> None:
        self.value = {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file()}


@pytest.fixture
def model(tmp_path):
    write_tiny(tmp_path / "bundle")
    return Broadcast(tmp_path / "bundle")


def transaction(number: int, card: str = "c1", merchant: str = "m1") -> bytes:
    return orjson.dumps(
        {
            "transaction_id": f"t{number}",
            "event_time": f"2026-01-01T00:{number:02}:00Z",
            "card_id": card,
            "merchant_id": merchant,
            "amount": 10.0 + number,
        }
    )


def label(number: int) -> bytes:
    return orjson.dumps(
        {
            "transaction_id": f"t{number}",
            "card_id": "c1",
            "merchant_id": "m1",
            "event_time": f"2026-01-01T00:{number:02}:00Z",
            "is_fraud": True,
            "labelled_at": "2026-01-02T00:00:00Z",
            "source": "chargeback",
        }
    )


def records(values, topic=TOPICS.transactions, first=0, partition=2):
    count = len(values)
    return pa.record_batch(
        [
            pa.array([topic] * count, pa.string()),
            pa.array([partition] * count, pa.int32()),
            pa.array(range(first, first + count), pa.int64()),
            pa.array([1_800_000_000_000] * count, pa.int64()),
            pa.array(values, pa.binary()),
        ],
        schema=RECORDS,
    )


class Spent:
    """Remembers on what tasks have spent their time."""

    def __init__(self):
        self.stages = []

    def add(self, seconds):
        self.stages += seconds


SPENT = Spent()


def rows(task, *batches):
    return [row for batch in task(batches) for row in batch.to_pylist()]


def test_a_partition_without_records_gives_no_rows(settings):
    assert rows(first_task(settings, 0, SPENT)) == []
    assert rows(first_task(settings, 0, SPENT), records([])) == []
    assert stores_of(settings) == []


def test_how_arrow_cuts_a_partition_does_not_matter(settings, tmp_path):
    values = [transaction(n) for n in range(5)] + [b"?", None]
    whole = rows(first_task(settings, 0, SPENT), records(values))
    other = settings_in(tmp_path / "other", TINY)
    parts = [records(values[at : at + 3], first=at) for at in range(0, len(values), 3)]
    np.testing.assert_equal(rows(first_task(other, 0, SPENT), records([]), *parts), whole)
    assert [row["kind"] for row in whole] == [TRANSACTION] * 5 + [REJECTED] * 2
    assert [row["offset"] for row in whole] == list(range(7))
    # TINY: the amount, the card's count in an hour and in a day, whether the device is new.
    assert [row["features"][1] for row in whole[:5]] == [0, 1, 2, 3, 4]


def test_the_next_batch_goes_on_from_what_the_last_one_left(settings):
    rows(first_task(settings, 0, SPENT), records([transaction(0), transaction(1)]))
    after = rows(first_task(settings, 1, SPENT), records([transaction(1), transaction(2)], first=2))
    assert [(row["transaction_id"], row["features"][1]) for row in after] == [("t2", 2)]


def test_one_task_takes_partitions_one_after_the_other_however_arrow_cuts_them(settings):
    parts = [
        records([transaction(0), transaction(1)]),
        records([transaction(2)], first=2),
        records([transaction(3, "c2"), b"?"], partition=3, first=9),
        records([b"?"], TOPICS.labels, first=5),
    ]
    whole = pa.Table.from_batches(parts).combine_chunks().to_batches()
    assert len(whole) == 1
    cut_so = rows(first_task(settings, 0, SPENT), *parts)
    np.testing.assert_equal(rows(first_task(settings, 0, SPENT), *whole), cut_so)
    places = [(row["topic"], row["partition"], row["offset"]) for row in cut_so]
    assert places == [
        *((TOPICS.transactions, 2, offset) for offset in range(3)),
        *((TOPICS.transactions, 3, offset) for offset in (9, 10)),
        (TOPICS.labels, 2, 5),
    ]
    assert [row["features"][1] for row in cut_so[:4]] == [0, 1, 2, 0]


OF_LABELS = FeatureSet(
    "of-labels",
    1,
    (
        Feature("device", None, "count", DAY, VISIBILITY_LAG),
        Feature("merchant", "is_fraud", "rate", DAY, VISIBILITY_LAG),
    ),
)


def test_labels_are_handed_on_to_their_merchant(settings):
    asking = replace(settings, feature_set=OF_LABELS)
    labels = records([label(0), transaction(0)], TOPICS.labels)
    told = rows(first_task(asking, 0, SPENT), labels)
    assert [row["kind"] for row in told] == [LABELLED, REJECTED]
    [sold] = rows(first_task(asking, 0, SPENT), records([transaction(0)]))
    assert told[0]["bucket"] == sold["bucket"]


def test_labels_go_no_further_than_they_are_asked_for(settings):
    asking = replace(settings, feature_set=OF_LABELS)
    handed = first_task(asking, 0, SPENT)([records([label(0), b"?"], TOPICS.labels)])
    after = rows(key_task(asking, 0, "merchant", SPENT), *handed)
    assert [row["kind"] for row in after] == [REJECTED]
    labels = records([label(0), b"?"], TOPICS.labels, first=2)
    assert [row["kind"] for row in rows(first_task(settings, 1, SPENT), labels)] == [REJECTED]


def test_a_task_that_was_given_up_reads_no_more_than_its_first_records(settings):
    rows(first_task(settings, 1, SPENT), records([transaction(0)]))
    read = []

    def coming():
        for number in range(3):
            read.append(number)
            yield records([transaction(number)], first=number)

    with pytest.raises(OlderBatch, match="expected batch 1 or a later one, got 0"):
        list(first_task(settings, 0, SPENT)(coming()))
    assert read == [0]


def test_on_another_machine_than_the_state_a_task_fails(settings):
    there = replace(settings.state, machine=Machine("driver", "another-run"))
    elsewhere = replace(settings, state=there)
    with pytest.raises(StateElsewhere, match="use workers on driver only"):
        rows(first_task(elsewhere, 0, SPENT), records([transaction(0)]))
    assert stores_of(settings) == []


def test_merchants_without_rows_need_no_model(settings):
    task = scoring_task(
        settings, 0, Shipped("1", "0" * 64, Broadcast(settings.checkpoint)), None, SPENT
    )
    assert list(task([])) == []


def test_scores_and_dead_letters_go_out_to_their_topics(settings, model, tmp_path):
    bundle = load_bundle(tmp_path / "bundle", TINY, "3")
    values = [transaction(0, merchant="m1"), transaction(1, "c2", "m2"), b"?"]
    handed = list(first_task(settings, 0, SPENT)([records(values)]))
    [out] = scoring_task(settings, 0, Shipped("3", bundle.digest, model), None, SPENT)(handed)
    by_topic = {}
    for row in out.outgoing.to_pylist():
        by_topic.setdefault(row["topic"], []).append(orjson.loads(row["value"]))
    scores = {score["transaction_id"]: score for score in by_topic[TOPICS.scores]}
    assert scores.keys() == {"t0", "t1"}
    assert {score["model_version"] for score in scores.values()} == {"3"}
    assert [letter["offset"] for letter in by_topic[TOPICS.dead_letters]] == [2]
    alerts = [score for score in by_topic[TOPICS.scores] if score["is_alert"]]
    assert by_topic.get(TOPICS.predicted, []) == alerts
    assert (out.tally.scores, out.tally.alerts) == (2, len(alerts))
    assert out.tally.dead_letters == {"not_json": 1}
    assert np.concatenate(out.tally.appended_ms).tolist() == [1_800_000_000_000] * 2


def test_no_card_number_is_handed_on(settings):
    values = [
        transaction(0, "pan:4111111111111111"),
        transaction(1).replace(b'"amount":11.0', b'"amount":4111111111111111'),
        b"\xff 4111 1111 1111 1111 {",
        None,
        transaction(2),
    ]
    handed = [*rows(first_task(settings, 0, SPENT), records(values))]
    handed += rows(first_task(settings, 0, SPENT), records(values, TOPICS.labels))
    refused = [row for row in handed if row["kind"] == REJECTED]
    assert [row["offset"] for row in refused] == [0, 1, 2, 3, 0, 1, 2, 3, 4]
    assert "card_id: expected no card number" in refused[0]["reason"]
    assert "amount: expected no card number" in refused[1]["reason"]
    assert refused[2]["original"] == b"\xff **** **** **** 1111 {"
    assert refused[3]["original"] is None
    assert b"411111" not in b"".join(row["original"] or b"" for row in handed)


def test_a_merchant_cannot_be_named_into_the_labels_of_another(tmp_path):
    store = EmbeddedStore(tmp_path)
    names = ["m1", "label:m1", "m1:labels", "m1.labels", "m1-labels", "m1_labels"]
    handed = [
        *first_task_rows(tmp_path, records([label(0)], TOPICS.labels)),
        *first_task_rows(
            tmp_path, records([transaction(n, merchant=name) for n, name in enumerate(names)])
        ),
    ]
    # All in one store, as chance could have it.
    out = key_step(OF_LABELS, "merchant", pa.Table.from_batches(handed), 0, store)
    assert [row["merchant_id"] for row in out.to_pylist()] == names


def first_task_rows(folder, batch):
    settings = settings_in(folder, OF_LABELS)
    return first_task(settings, 0, SPENT)([batch])


def test_a_model_that_reaches_a_worker_damaged_is_refused(settings, model):
    model.value["model.onnx"] = b"damaged"
    handed = list(first_task(settings, 0, SPENT)([records([transaction(0)])]))
    with pytest.raises(BundleRefused):
        list(scoring_task(settings, 0, Shipped("1", "1" * 64, model), None, SPENT)(handed))


def scored(settings, champion, challenger, values):
    handed = list(first_task(settings, 0, SPENT)([records(values)]))
    [out] = scoring_task(settings, 0, champion, challenger, SPENT)(handed)
    told = [(row["topic"], orjson.loads(row["value"])) for row in out.outgoing.to_pylist()]
    return out.tally, told


def test_a_challenger_scores_the_same_and_raises_no_alert(settings, model, tmp_path):
    bundle = load_bundle(tmp_path / "bundle", TINY, "3")
    # To it, all are alerts.
    eager = replace(tiny_manifest(), threshold=0.0)
    digest = write_tiny(tmp_path / "other", eager, seed=1)
    other = load_bundle(tmp_path / "other", TINY, "4")
    champion = Shipped("3", bundle.digest, model)
    challenger = Shipped("4", digest, Broadcast(tmp_path / "other"))
    values = [transaction(n, f"c{n}") for n in range(4)]
    alone, without = scored(settings, champion, None, values)
    tally, told = scored(settings, champion, challenger, values)
    in_shadow = [(topic, score) for topic, score in told if score["role"] == "challenger"]
    assert [each for each in told if each not in in_shadow] == without
    assert {topic for topic, _ in in_shadow} == {TOPICS.scores}
    assert [score["transaction_id"] for _, score in in_shadow] == ["t0", "t1", "t2", "t3"]
    features = [list(s["features"].values()) for t, s in without if t == TOPICS.scores]
    expected = other.score(np.array(features, dtype=np.float64))
    np.testing.assert_allclose([score["score"] for _, score in in_shadow], expected)
    for _, score in in_shadow:
        assert (score["model_version"], score["model_digest"]) == ("4", digest)
        assert (score["is_alert"], score["reasons"], score["features"]) == (True, [], None)
        assert validator(PREDICTION).explain(score) is None
    assert (tally.scores, tally.alerts) == (alone.scores, alone.alerts)
    assert (tally.shadow_scores, tally.shadow_alerts) == (4, 4)


def test_a_challenger_that_reaches_a_worker_damaged_changes_nothing(settings, model, tmp_path):
    bundle = load_bundle(tmp_path / "bundle", TINY, "3")
    champion = Shipped("3", bundle.digest, model)
    damaged = Broadcast(tmp_path / "bundle")
    damaged.value["model.onnx"] = b"damaged"
    _, without = scored(settings, champion, None, [transaction(0)])
    tally, told = scored(settings, champion, Shipped("4", "4" * 64, damaged), [transaction(0)])
    assert told == without
    assert (tally.scores, tally.shadow_scores) == (1, 0)


@pytest.mark.parametrize("fault", [RuntimeError("no such operator"), np.nan])
def test_a_challenger_that_cannot_score_changes_nothing(settings, model, tmp_path, fault):
    bundle = load_bundle(tmp_path / "bundle", TINY, "3")
    write_tiny(tmp_path / "other", seed=1)

    class Session:
        """A model that runs no more."""

        def get_inputs(self):
            return [Input]

        def run(self, _, inputs):
            if isinstance(fault, Exception):
                raise fault
            return [np.full(len(inputs[Input.name]), fault)]

    class Input:
        name = "features"

    faulty = replace(load_bundle(tmp_path / "other", TINY, "4"), _session=Session())
    handed = list(first_task(settings, 0, SPENT)([records([transaction(0)])]))
    store = EmbeddedStore(tmp_path / "store")
    featured = key_step(TINY, "card", pa.Table.from_batches(handed), 0, store)
    to = Destinations(TOPICS.scores, TOPICS.predicted, TOPICS.dead_letters)
    alone = results(TINY, bundle, featured, to, 1.0)
    beside = results(TINY, bundle, featured, to, 1.0, faulty)
    assert beside.outgoing.to_pylist() == alone.outgoing.to_pylist()
    assert beside.tally.shadow_scores == 0


class Paper:
    """A sink that remembers; what is in `there` was written before."""

    def __init__(self, *there):
        self.there = set(there)
        self.rows = {}

    def open(self, shard, batch):
        self.place = (shard, batch)
        return self

    def write(self, rows):
        if self.place in self.there:
            return False
        self.rows[self.place] = [row for some in rows for row in some.to_pylist()]
        return True


def yields(count):
    """Return a task that hands on the first `count` rows of what it gets, in two parts."""

    def task(batches):
        out = pa.Table.from_batches(batches)
        for part in (out[: min(count, 1)], out[1:count]):
            yield Results(
                part, Tally(scores=len(part), appended_ms=[np.zeros(len(part), np.int64)])
            )

    return task


OUT = pa.record_batch([["scores"] * 3, [b"c"] * 3, [b"1", b"2", b"3"]], schema=OUTGOING)


def test_what_a_task_yields_is_written_as_a_shard_of_the_batch():
    paper = Paper()
    told = rows(writing_task(yields(3), paper, 7, SPENT, lambda: 1), OUT)
    assert [(row["shard"], row["rows"], row["was_there"]) for row in told] == [(1, 3, False)]
    assert told[0]["scores"] == sum(told[0]["latencies"]) == 3
    assert paper.rows == {(1, 7): OUT.to_pylist()}


def test_a_shard_that_was_there_is_told_as_such():
    told = rows(writing_task(yields(3), Paper((1, 7)), 7, SPENT, lambda: 1), OUT)
    assert [(row["shard"], row["rows"], row["was_there"]) for row in told] == [(1, 3, True)]
    # When it was committed is not known.
    assert (told[0]["scores"], sum(told[0]["latencies"])) == (3, 0)


def test_where_nothing_comes_out_nothing_is_written():
    paper = Paper()
    assert rows(writing_task(yields(0), paper, 7, SPENT, lambda: 1), OUT) == []
    assert paper.rows == {}


def test_a_sink_out_of_reach_fails_the_task():
    class Far(Paper):
        def open(self, shard, batch):
            raise NotWritten("no broker")

    with pytest.raises(NotWritten, match="no broker"):
        rows(writing_task(yields(3), Far(), 7, SPENT, lambda: 1), OUT)


def test_tasks_tell_on_what_they_have_spent_their_time(settings, model, tmp_path):
    bundle = load_bundle(tmp_path / "bundle", TINY, "3")
    spent = Spent()
    handed = first_task(settings, 0, spent)([records([transaction(0)])])
    scoring = scoring_task(settings, 0, Shipped("3", bundle.digest, model), None, spent)
    assert len(rows(writing_task(scoring, Paper(), 0, spent, lambda: 1), *handed)) == 1
    assert set(spent.stages) == {"reading", "features", "exchange", "scoring", "writing"}


def test_seconds_by_stage_are_added_up_as_spark_adds_them():
    seconds = SecondsByStage()
    assert seconds.addInPlace(seconds.zero({"reading": 1.0}), {"reading": 2.0}) == {"reading": 2.0}
