"""The producer against a real broker: what it says it has sent is what the topics hold."""

import base64
from collections import Counter
from collections.abc import Iterator
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any
from uuid import uuid4

from confluent_kafka import Producer as Client
import orjson
import pytest

from fraudstream.kafka.reading import read
from fraudstream.kafka.reading import spans
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.schema.validation import DEAD_LETTER
from fraudstream.schema.validation import LABEL
from fraudstream.schema.validation import TRANSACTION
from fraudstream.schema.validation import validator
from fraudstream.stack.kafka import KafkaBroker
from integration import apps

_START = "--start=2026-01-05T00:00:00Z"
_WORLD = ("--cards=200", "--seed=7", _START)
_DEADLINE_S = 60.0
_HANDBOOK = "handbook-2018-04-01-to-09-14.parquet"


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    with KafkaBroker(tmp_path_factory.mktemp("kafka"), apps.cache()) as running:
        yield running


class Producer:
    """The producer's command line, on topics of one test's own."""

    def __init__(self, broker: KafkaBroker, prefix: str) -> None:
        names = ("transactions", "labels", "predicted", "scores", "dead_letters")
        self.cluster = Cluster(broker.bootstrap_servers)
        self.topics = Topics(*(f"{prefix}-{name}" for name in names))
        self._servers = f"--bootstrap-servers={broker.bootstrap_servers}"

    def command(self, name: str, *arguments: str) -> list[str]:
        used = ["transactions", "labels", "dead_letters"]
        if name == "topics":
            used += ["predicted", "scores"]
        flags = [f"--{each.replace('_', '-')}-topic={getattr(self.topics, each)}" for each in used]
        program = [sys.executable, "-m", "fraudstream.producer.main", name]
        return [*program, self._servers, *flags, *arguments]

    def run(self, name: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.command(name, *arguments),
            capture_output=True,
            timeout=120,
            check=False,
            env=apps.environment(),
        )

    def report(self, name: str, *arguments: str) -> dict[str, Any]:
        done = self.run(name, *arguments, "--json")
        assert done.returncode == 0, done.stderr.decode()
        return orjson.loads(done.stdout)

    def documents(self, topic: str) -> list[dict[str, Any]]:
        """Return what a topic holds, partition after partition."""
        found: dict[tuple[int, int], bytes | None] = {}
        for part in read(self.cluster, topic, spans(self.cluster, topic)):
            places = zip(part.partition.tolist(), part.offset.tolist(), strict=True)
            found.update(zip(places, part.values, strict=True))
        return [orjson.loads(found[place] or b"") for place in sorted(found)]


def has_content(file: Path) -> bool:
    return file.exists() and file.stat().st_size > 0


@pytest.fixture
def producer(broker: KafkaBroker) -> Producer:
    made = Producer(broker, uuid4().hex)
    assert made.run("topics", "--partitions=3").returncode == 0
    return made


def ids(documents: list[dict[str, Any]]) -> list[str]:
    return sorted(document["transaction_id"] for document in documents)


def test_topics_are_created_once(broker: KafkaBroker) -> None:
    made = Producer(broker, "created-once")
    assert made.report("topics", "--partitions=3")["created"] == list(made.topics.names())
    assert made.report("topics", "--partitions=3")["created"] == []
    assert made.cluster.existing_topics()[made.topics.scores] == 3


def test_a_history_is_in_the_topics_as_reported(producer: Producer) -> None:
    report = producer.report("simulate", *_WORLD, "--days=9")
    topics = producer.topics
    transactions, labels = map(producer.documents, (topics.transactions, topics.labels))
    assert report["acknowledged"] == {
        topics.transactions: len(transactions),
        topics.labels: len(labels),
    }
    assert report["events"] == len(transactions) == len(set(ids(transactions)))
    assert all(validator(TRANSACTION).is_valid(each) for each in transactions)
    assert all(validator(LABEL).is_valid(each) for each in labels)
    # What became known after the end is not told before it is.
    assert max(each["labelled_at"] for each in labels) < "2026-01-14T00:00:00Z"


def test_the_records_of_a_card_keep_their_order_in_one_partition(producer: Producer) -> None:
    producer.report("simulate", *_WORLD, "--days=2")
    latest: dict[str, str] = {}
    for each in producer.documents(producer.topics.transactions):
        assert latest.get(each["card_id"], "") <= each["event_time"]
        latest[each["card_id"]] = each["event_time"]
    assert len(latest) > 100


def test_live_traffic_goes_on_where_the_history_has_ended(
    producer: Producer, broker: KafkaBroker, tmp_path: Path
) -> None:
    topics = producer.topics
    producer.report("simulate", *_WORLD, "--days=8")
    truth = tmp_path / "truth.jsonl"
    live = ("--live", "--after-days=8", "--rate=5000", "--events=450", f"--truth={truth}")
    report = producer.report("simulate", *_WORLD, *live)
    assert report["events"] == 450

    whole = Producer(broker, f"{topics.transactions}-whole")
    assert whole.run("topics").returncode == 0
    whole.report("simulate", *_WORLD, "--days=10")
    until = report["until"]
    for name, time_field in (("transactions", "event_time"), ("labels", "labelled_at")):
        expected = [
            each
            for each in whole.documents(getattr(whole.topics, name))
            if each[time_field] <= until.replace("+00:00", "Z")
        ]
        assert ids(producer.documents(getattr(topics, name))) == ids(expected)

    told = [orjson.loads(line) for line in truth.read_bytes().splitlines()]
    assert len(told) == 450
    assert {each["transaction_id"] for each in told} <= set(
        ids(producer.documents(topics.transactions))
    )


def test_live_traffic_is_no_faster_than_its_rate(producer: Producer) -> None:
    report = producer.report("simulate", *_WORLD, "--live", "--rate=100", "--events=300")
    assert report["events"] == 300
    # How much longer is the machine's affair.
    assert report["seconds"] >= 299 / 100
    assert report["acknowledged"][producer.topics.transactions] == report["events"]


def test_live_traffic_ends_after_its_seconds(producer: Producer) -> None:
    report = producer.report("simulate", *_WORLD, "--live", "--rate=100", "--seconds=2")
    assert 0 < report["events"] <= 201
    assert report["acknowledged"][producer.topics.transactions] == report["events"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_told_to_stop_it_flushes_and_reports(
    producer: Producer, number: signal.Signals, tmp_path: Path
) -> None:
    truth = tmp_path / "truth.jsonl"
    command = producer.command("simulate", *_WORLD, "--live", f"--truth={truth}", "--json")
    running = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=apps.environment()
    )
    try:
        apps.await_that(lambda: has_content(truth), running, _DEADLINE_S)
        running.send_signal(number)
        output, talk = running.communicate(timeout=30)
    finally:
        running.kill()
        running.wait()
    assert running.returncode == 0, talk.decode()
    report = orjson.loads(output)
    assert report["failed"] == {}
    held = producer.documents(producer.topics.transactions)
    assert report["events"] == len(held) == len(truth.read_bytes().splitlines())


def test_dirt_arrives_as_it_was_asked_for(producer: Producer) -> None:
    dirt = ("--duplicates=0.1", "--late=0.1", "--malformed=0.05")
    report = producer.report("simulate", *_WORLD, "--days=3", *dirt)
    topics = producer.topics
    sent = Counter(each["transaction_id"] for each in producer.documents(topics.transactions))
    assert set(sent.values()) == {1, 2}
    letters = producer.documents(topics.dead_letters)
    assert len(letters) == report["refused"][topics.transactions] > 0
    assert all(validator(DEAD_LETTER).is_valid(each) for each in letters)
    for letter in letters:
        original = orjson.loads(base64.b64decode(letter["original"]))
        assert not validator(TRANSACTION).is_valid(original)
        assert (letter["stage"], letter["topic"]) == ("producer", topics.transactions)


def test_dead_letters_that_are_valid_by_now_are_sent_and_the_others_left(
    producer: Producer,
) -> None:
    producer.report("simulate", *_WORLD, "--days=1", "--malformed=0.05")
    topics = producer.topics
    refused = len(producer.documents(topics.dead_letters))
    mended = {**producer.documents(topics.transactions)[0], "transaction_id": "mended"}
    letter = {
        "stage": "inference",
        "reason": "expected what it has by now",
        "original": base64.b64encode(orjson.dumps(mended)).decode(),
        "topic": topics.transactions,
        "partition": 0,
        "offset": 7,
        "failed_at": "2026-01-05T00:00:00Z",
    }
    beside = Client(producer.cluster.config())
    beside.produce(topics.dead_letters, orjson.dumps(letter))
    assert beside.flush(_DEADLINE_S) == 0

    shown = producer.run("dead-letters", "--json")
    assert shown.returncode == 0, shown.stderr.decode()
    told = [orjson.loads(line) for line in shown.stdout.splitlines()]
    assert len(told) == refused + 1
    assert [each["reason"] for each in told if each["still_wrong"] is None] == [letter["reason"]]
    assert not any(each["is_sent"] for each in told)

    before = producer.documents(topics.transactions)
    sent = producer.run("dead-letters", "--resend")
    assert sent.returncode == 0, sent.stderr.decode()
    assert b"would be taken" in sent.stdout
    added = [each for each in producer.documents(topics.transactions) if each not in before]
    assert added == [mended]
    assert len(producer.documents(topics.dead_letters)) == refused + 1


def test_a_recorded_file_is_replayed_with_its_labels(producer: Producer, tmp_path: Path) -> None:
    file = tmp_path / "payments.csv"
    file.write_text(
        "id,paid_at,card,shop,amount,fraud\n"
        "1,2020-01-01T00:00:00Z,c1,s1,9.5,1\n"
        "2,2020-01-01T00:00:30Z,c2,s1,much,0\n"
        "3,2020-01-01T00:01:00Z,c1,s2,1.5,0\n"
    )
    names = {"transaction_id": "id", "event_time": "paid_at", "card_id": "card"}
    names |= {"merchant_id": "shop"}
    maps = [f"--map={field}={column}" for field, column in names.items()]
    began = time.monotonic()
    report = producer.report(
        "replay", str(file), *maps, "--set=currency=EUR", "--label=fraud", "--label-delay=0d",
        "--speed=60x",
    )  # fmt: skip
    assert time.monotonic() - began >= 1
    topics = producer.topics
    assert ids(producer.documents(topics.transactions)) == ["1", "3"]
    assert [each["is_fraud"] for each in producer.documents(topics.labels)].count(True) == 1
    assert report["refused"] == {topics.transactions: 1}
    assert report["refusal"] == "amount: 'much' is not of type 'number'"
    assert len(producer.documents(topics.dead_letters)) == 1


def test_the_reference_data_is_replayed_whole(producer: Producer) -> None:
    folder = os.environ.get("FRAUDSTREAM_REFERENCE_DATA")
    root = Path(__file__).resolve().parents[2]
    file = (Path(folder) if folder else root.parent / "shared" / "data") / _HANDBOOK
    if not file.exists():
        pytest.skip(f"{file} is not there: set FRAUDSTREAM_REFERENCE_DATA to its folder")
    arguments = ("--map=card_id=customer_id", "--map=merchant_id=terminal_id", "--label=is_fraud")
    report = producer.report("replay", str(file), *arguments)
    assert report["refused"] == {}
    for topic in (producer.topics.transactions, producer.topics.labels):
        held = sum(span.high - span.low for span in spans(producer.cluster, topic))
        assert report["acknowledged"][topic] == held > 1_500_000


@pytest.mark.parametrize("arguments", [["simulate", "--days=1"], ["topics", "--replication=2"]])
def test_what_the_broker_does_not_allow_is_one_line(
    broker: KafkaBroker, arguments: list[str]
) -> None:
    done = Producer(broker, "never-created").run(*arguments)
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1].startswith("error: ")
    assert b"never-created-transactions" in done.stderr
    assert b"Traceback" not in done.stderr


def test_a_broker_that_goes_away_is_a_failure_and_not_a_loss_without_a_word(
    tmp_path: Path,
) -> None:
    truth = tmp_path / "truth.jsonl"
    with KafkaBroker(tmp_path / "kafka", apps.cache()) as mortal:
        made = Producer(mortal, "mortal")
        assert made.run("topics").returncode == 0
        command = made.command(
            "simulate", *_WORLD, "--live", "--delivery-timeout=3", f"--truth={truth}"
        )
        running = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=apps.environment()
        )
        try:
            apps.await_that(
                lambda: truth.exists() and truth.stat().st_size > 0, running, _DEADLINE_S
            )
            mortal.stop()
            _, talk = running.communicate(timeout=100)
        finally:
            running.kill()
            running.wait()
    assert running.returncode == 1
    assert "records were not acknowledged" in talk.decode().splitlines()[-1]
