"""The stream on real parts: Spark between a broker and a registry, stopped, started again, refused.

One story is told to the app by the fixture `story`, since Spark takes its time to start; each test
looks at one side of what came of it.
"""

import base64
from collections import Counter
from collections.abc import Iterable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from dataclasses import replace
import os
from pathlib import Path
import signal
from typing import Any

from click.testing import CliRunner
from click.testing import Result
from confluent_kafka import Producer
import numpy as np
import orjson
import pytest

from contract.dirty_topics import Record
from contract.dirty_topics import dirty_topics
from contract.dirty_topics import replayed
from fraudstream.features.sets import DEFAULT
from fraudstream.inference.main import NotClean
from fraudstream.inference.main import inference
from fraudstream.model.bundle import Bundle
from fraudstream.schema.validation import DEAD_LETTER
from fraudstream.schema.validation import PREDICTION
from fraudstream.schema.validation import validator
from fraudstream.stack.process import free_port
from integration.processes import workers_of
from integration.settling import await_settled
from integration.streams import DEADLINE_S
from integration.streams import TOPICS
from integration.streams import Stack
from integration.streams import Telling
from integration.streams import await_that
from integration.streams import features_of
from integration.streams import refused
from integration.streams import running
from integration.streams import serves
from integration.streams import split

_AHEAD = "2099-12-31T23:59:59.999999Z"

#: More than a dead letter can hold of it, and no more than the broker takes.
_HUGE = b'{"transaction_id": "' + b"x" * 900_000


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


@dataclass
class Story:
    """What the app was told, and what it made of it."""

    checkpoint: Path
    sent: list[Record] = field(default_factory=list)
    models: dict[str, Bundle] = field(default_factory=dict)
    exit_codes: list[int | None] = field(default_factory=list)
    logs: list[str] = field(default_factory=list)
    #: Workers that were stopped in the midst of it, and those that there were when their work was
    #: done all the same.
    killed_workers: set[int] = field(default_factory=set)
    workers_after: set[int] = field(default_factory=set)
    #: Ids scored when the first run had ended, and when the second model had been seen to serve.
    scored_before: set[str] = field(default_factory=set)
    served_after_swap: set[str] = field(default_factory=set)
    features: dict[str, np.ndarray] = field(default_factory=dict)
    scores: list[Any] = field(default_factory=list)
    predicted: list[Any] = field(default_factory=list)
    dead_letters: list[Any] = field(default_factory=list)


def huge_record(partition: int, appended_ms: int) -> Record:
    return Record(TOPICS.transactions, partition, 0, appended_ms, _HUGE, None)


def ahead_of_time(records: list[Record]) -> list[Record]:
    """Return each of some records again as a new one that is dated decades ahead of its time."""
    ahead = []
    for record in [r for r in records if r.id or r.topic == TOPICS.labels][::5]:
        try:
            document = orjson.loads(record.value)
        except orjson.JSONDecodeError:
            continue
        document["transaction_id"] += "-ahead"
        document["labelled_at" if "labelled_at" in document else "event_time"] = _AHEAD
        value = orjson.dumps(document)
        ahead.append(replace(record, appended_ms=records[-1].appended_ms, value=value, id=None))
    assert {record.topic for record in ahead} == {TOPICS.transactions, TOPICS.labels}
    return ahead


def send_and_abort(stack: Stack, records: Iterable[Record]) -> None:
    producer = Producer(stack.cluster.config(transactional_id="aborted"))
    producer.init_transactions(30)
    producer.begin_transaction()
    for record in records:
        producer.produce(record.topic, record.value, partition=record.partition)
    producer.flush(30)
    producer.abort_transaction(30)
    # The broker ends it in each partition when it comes to it. What lies behind it is held back
    # meanwhile in one partition and not in another: for longer than the lag of this traffic.
    await_settled(stack.cluster, (TOPICS.transactions, TOPICS.labels))


@pytest.fixture(scope="module")
def story(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("story")
    records = dirty_topics(days=28, cards=30, seed=13)
    # Labels go on for weeks after the last transaction; nothing would be seen of those.
    ends = max(i for i, record in enumerate(records) if record.topic == TOPICS.transactions)
    parts = split(records[: ends + 1], 17)
    first, second, third, orphaned, *small, in_flight, meanwhile, last = parts
    story = Story(folder / "checkpoint")
    tell = Telling(stack, story.sent)
    features = np.array(list(replayed(DEFAULT, records).values()))
    for seed in (1, 2):
        (folder / str(seed)).mkdir()

    story.models["1"] = stack.register(folder / "1", features, seed=1)
    tell.send(first)
    with stack.app(story.checkpoint, folder / "first.log") as app:
        tell.await_results(app)
        tell.send([*second, huge_record(0, second[-1].appended_ms), *ahead_of_time(second)])
        tell.await_results(app)
        # The same transactions come in earnest later: were these seen, those would be copies.
        send_and_abort(stack, last)
        tell.send(third)
        tell.await_results(app)

        story.killed_workers = workers_of(story.checkpoint)
        for worker in story.killed_workers:
            os.kill(worker, signal.SIGKILL)
        tell.send(orphaned)
        tell.await_results(app)
        story.workers_after = workers_of(story.checkpoint)

        story.models["2"] = stack.register(folder / "2", features, seed=2)
        await_that(lambda: serves(folder / "first.log", "champion", "2"), app)
        before = {score["transaction_id"] for score in stack.values(TOPICS.scores)}
        tell.send([record for part in small for record in part])
        tell.await_results(app)
        after = {score["transaction_id"] for score in stack.values(TOPICS.scores)}
        story.served_after_swap = after - before

        tell.send(in_flight)
        story.exit_codes.append(app.stop(DEADLINE_S))
    story.logs.append((folder / "first.log").read_text())
    story.scored_before = {score["transaction_id"] for score in stack.values(TOPICS.scores)}

    tell.send(meanwhile)
    with stack.app(story.checkpoint, folder / "second.log") as app:
        tell.await_results(app)
        tell.send(last)
        tell.await_results(app)
        story.exit_codes.append(app.stop(DEADLINE_S))
    story.logs.append((folder / "second.log").read_text())

    story.features = replayed(DEFAULT, stack.records())
    story.scores = stack.values(TOPICS.scores)
    story.predicted = stack.values(TOPICS.predicted)
    story.dead_letters = stack.values(TOPICS.dead_letters)
    return story


def test_the_features_served_equal_a_replay_of_what_the_topics_hold(story: Story) -> None:
    served = {score["transaction_id"]: features_of(score) for score in story.scores}
    assert served.keys() == story.features.keys()
    ids = list(served)
    np.testing.assert_allclose(
        [served[i] for i in ids], [story.features[i] for i in ids], rtol=0, atol=1e-9
    )


def test_what_comes_after_a_restart_still_sees_what_came_before_it(story: Story) -> None:
    activity = DEFAULT.names.index("count_by_card_30d")
    after = [s for s in story.scores if s["transaction_id"] not in story.scored_before]
    assert len(after) > 20
    assert np.mean([features_of(score)[activity] for score in after]) > 2


def test_each_transaction_is_scored_once_however_often_it_was_sent(story: Story) -> None:
    sent = Counter(r.id for r in story.sent if r.topic == TOPICS.transactions and r.id)
    assert max(sent.values()) > 1
    assert Counter(score["transaction_id"] for score in story.scores) == dict.fromkeys(sent, 1)
    assert any(score["is_late"] for score in story.scores)


def test_each_broken_record_is_set_aside_once_with_its_reason(story: Story, stack: Stack) -> None:
    places = Counter((x["topic"], x["partition"], x["offset"]) for x in story.dead_letters)
    broken = [r for r in story.sent if r.id is None]
    assert {record.topic for record in broken} == {TOPICS.transactions, TOPICS.labels}
    assert len(places) == len(story.dead_letters) == len(broken)
    for letter in story.dead_letters:
        assert validator(DEAD_LETTER).explain(letter) is None


def test_times_in_the_far_future_are_set_aside_and_leave_all_features_as_they_were(
    story: Story, stack: Stack
) -> None:
    ahead = [letter for letter in story.dead_letters if "after the append time" in letter["reason"]]
    originals = [orjson.loads(base64.b64decode(letter["original"])) for letter in ahead]
    assert {letter["topic"] for letter in ahead} == {TOPICS.transactions, TOPICS.labels}
    assert all(_AHEAD in original.values() for original in originals)
    without = replayed(DEFAULT, [r for r in stack.records() if _AHEAD.encode() not in r.value])
    served = {score["transaction_id"]: features_of(score) for score in story.scores}
    assert served.keys() == without.keys()
    ids = list(served)
    np.testing.assert_allclose(
        [served[i] for i in ids], [without[i] for i in ids], rtol=0, atol=1e-9
    )


def test_the_work_of_workers_that_were_killed_is_done_by_others(story: Story) -> None:
    # That each transaction was scored once all the same, other tests see.
    assert story.killed_workers
    assert story.workers_after
    assert not story.killed_workers & story.workers_after


def test_a_record_too_large_for_a_dead_letter_is_cut_and_stops_nothing(story: Story) -> None:
    [letter] = [x for x in story.dead_letters if "bytes are kept" in x["reason"]]
    assert f"the first 600,000 of {len(_HUGE):,} bytes are kept" in letter["reason"]


def test_the_alerts_are_the_scores_at_or_over_the_threshold(story: Story) -> None:
    for score in story.scores:
        assert validator(PREDICTION).explain(score) is None
        assert score["is_alert"] == (score["score"] >= score["threshold"])
    alerts = {s["transaction_id"]: s for s in story.scores if s["is_alert"]}
    assert {p["transaction_id"]: p for p in story.predicted} == alerts
    assert len(story.predicted) == len(alerts) > 0
    assert all(alert["reasons"] for alert in story.predicted)


def test_scores_are_those_of_the_model_that_they_name(story: Story) -> None:
    for version, bundle in story.models.items():
        mine = [score for score in story.scores if score["model_version"] == version]
        assert {score["model_digest"] for score in mine} == {bundle.digest}
        expected = bundle.score(np.array([features_of(score) for score in mine]))
        np.testing.assert_allclose([score["score"] for score in mine], expected, atol=1e-6)


def test_a_new_champion_serves_from_a_later_batch_on_without_a_restart(story: Story) -> None:
    versions = {score["transaction_id"]: score["model_version"] for score in story.scores}
    assert {versions[i] for i in story.scored_before} == {"1", "2"}
    assert {versions[i] for i in story.served_after_swap} == {"2"}
    assert {versions[i] for i in versions.keys() - story.scored_before} == {"2"}


def test_a_request_to_stop_ends_the_app_with_success_and_without_a_stack_trace(
    story: Story,
) -> None:
    assert story.exit_codes == [0, 0]
    for log in story.logs:
        assert "stream stopped" in log
        assert "Traceback" not in log
        assert "Exception" not in log


def test_no_broker_is_told_in_one_line(
    stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("fraudstream.kafka.topics._TIMEOUT_S", 1.0)
    flags = stack.flags(tmp_path, bootstrap_servers=f"127.0.0.1:{free_port()}")
    assert "no Kafka broker answers at 127.0.0.1" in refused(flags, monkeypatch, capsys)


def test_an_unknown_topic_is_told_in_one_line(
    stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = stack.flags(tmp_path, transactions_topic="nowhere")
    assert "has no topic nowhere" in refused(flags, monkeypatch, capsys)


def test_a_spark_that_is_not_there_is_told_in_one_line(
    stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = stack.flags(tmp_path, spark_home=str(tmp_path / "empty"))
    assert "expected a Spark at" in refused(flags, monkeypatch, capsys)


def test_a_registry_out_of_reach_is_told_in_one_line(
    stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = stack.flags(tmp_path, tracking_uri=f"http://127.0.0.1:{free_port()}")
    assert "no MLflow server answers at" in refused(flags, monkeypatch, capsys)


def test_a_model_without_a_champion_is_told_in_one_line(
    stack: Stack,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = stack.flags(tmp_path, model_name="nobody")
    assert "has no champion of nobody" in refused(flags, monkeypatch, capsys)


def test_a_checkpoint_of_another_topic_is_told_in_one_line(
    stack: Stack,
    story: Story,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = stack.flags(story.checkpoint, transactions_topic=TOPICS.labels)
    error = refused(flags, monkeypatch, capsys)
    assert "belongs to transactions transactions, not labels" in error
    assert "give another --checkpoint" in error


def audited(stack: Stack, *flags: str) -> Result:
    flags = (
        f"--bootstrap-servers={stack.broker.bootstrap_servers}",
        f"--tracking-uri={stack.mlflow.uri}",
        *(f"--{name.replace('_', '-')}-topic={value}" for name, value in vars(TOPICS).items()),
        *flags,
    )
    return CliRunner().invoke(inference, ["audit", *flags])


def test_the_audit_of_what_the_stream_has_done_is_clean_and_a_replay_gives_every_score(
    stack: Stack, story: Story
) -> None:
    done = audited(stack, "--replay", "--ended", "--json")
    assert done.exit_code == 0, done.output
    found = orjson.loads(done.stdout)
    assert found["scores"] == found["transactions"] == len(story.scores)
    assert found["dead_letters"] == found["refused"] == len(story.dead_letters)
    assert found["alerts"] == len(story.predicted)
    assert found["copies"] > 0
    assert found["not_compared"] == 0


def test_the_audit_names_what_is_wrong_in_the_topics(stack: Stack, story: Story) -> None:
    # This comes last: it spoils the topics.
    one = story.scores[0]
    spoiled = {**one, "score": one["score"] / 2}
    foreign = {**one, "transaction_id": "nobody"}
    producer = Producer(stack.cluster.config())
    for document in (orjson.dumps(spoiled), orjson.dumps(foreign), b"?"):
        producer.produce(TOPICS.scores, document)
    assert producer.flush(30) == 0
    done = audited(stack, "--replay")
    assert isinstance(done.exception, NotClean)
    name = f"{one['card_id']}/{one['transaction_id']}"
    for said in (
        f"conflicting in {TOPICS.scores}: {name}",
        f"differing in {TOPICS.scores}: {name}",
        f"foreign in {TOPICS.scores}: {one['card_id']}/nobody",
        f"foreign in {TOPICS.scores}: {TOPICS.scores}[",
    ):
        assert said in done.stdout
