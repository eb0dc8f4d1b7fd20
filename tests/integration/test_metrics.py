"""What a real run tells Prometheus is what its topics hold, and its log tells of no transaction."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

import numpy as np
import orjson
from prometheus_client.parser import text_string_to_metric_families
import pytest

from contract.dirty_topics import Record
from contract.dirty_topics import dirty_topics
from contract.dirty_topics import replayed
from fraudstream.features.sets import DEFAULT
from fraudstream.inference.tally import reason_class
from fraudstream.stack.process import free_port
from integration.streams import DEADLINE_S
from integration.streams import TOPICS
from integration.streams import Stack
from integration.streams import Telling
from integration.streams import await_that
from integration.streams import running
from integration.streams import split

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("stack")) as stack:
        yield stack


def scraped(port: int) -> Samples:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    return {
        (sample.name.removeprefix("fraudstream_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def value(samples: Samples, name: str, **labels: str) -> float | None:
    return samples.get((name, frozenset(labels.items())))


def by(samples: Samples, name: str, label: str) -> dict[str, float]:
    """Return the values of a metric by one of its labels."""
    return {dict(labels)[label]: count for (what, labels), count in samples.items() if what == name}


@dataclass
class Run:
    """What was sent, what was told in the end, and what the topics held."""

    sent: list[Record]
    told: Samples
    log: str
    scores: list[Any]
    predicted: list[Any]
    dead_letters: list[Any]


@pytest.fixture(scope="module")
def run(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("run")
    records = dirty_topics(days=28, cards=30, seed=19)
    (folder / "model").mkdir()
    features = np.array(list(replayed(DEFAULT, records).values()))
    stack.register(folder / "model", features, seed=1)
    port = free_port()
    sent: list[Record] = []
    tell = Telling(stack, sent)
    told: Samples = {}

    def is_all_read() -> bool:
        told.clear()
        told.update(scraped(port))
        # Spark tells of a batch a moment after its results are there.
        return sum(by(told, "records_total", "topic").values()) == len(sent)

    with stack.app(folder / "checkpoint", folder / "log", f"--metrics-port={port}") as app:
        for part in split(records, 3):
            tell.send(part)
            tell.await_results(app)
        await_that(is_all_read, app)
        assert app.stop(DEADLINE_S) == 0
    return Run(
        sent,
        told,
        (folder / "log").read_text(),
        stack.values(TOPICS.scores),
        stack.values(TOPICS.predicted),
        stack.values(TOPICS.dead_letters),
    )


def test_counts_are_those_of_the_topics(run: Run) -> None:
    champion = {"role": "champion", "version": "1"}
    assert value(run.told, "scores_total", **champion) == len(run.scores) > 0
    assert value(run.told, "alerts_total", **champion) == len(run.predicted) > 0
    letters = Counter(reason_class(letter["reason"]) for letter in run.dead_letters)
    assert by(run.told, "dead_letters_total", "reason") == letters != {}
    assert by(run.told, "records_total", "topic") == Counter(r.topic for r in run.sent)
    assert value(run.told, "latency_seconds_count") == len(run.scores)
    assert value(run.told, "batches_repeated_total") == 0


def test_nothing_is_behind_when_all_is_read(run: Run, stack: Stack) -> None:
    lag = {labels: n for (name, labels), n in run.told.items() if name == "lag_records"}
    assert len(lag) == 2 * len({r.partition for r in run.sent})
    assert set(lag.values()) == {0}


def test_time_is_told_by_stage_and_adds_up_to_no_more_than_two_tasks_had(run: Run) -> None:
    stages = by(run.told, "stage_seconds_total", "stage")
    assert stages.keys() == {"reading", "features", "exchange", "scoring", "writing"}
    assert all(seconds > 0 for seconds in stages.values())
    batches = value(run.told, "batch_seconds_total")
    assert batches is not None
    assert 0.2 * batches < sum(stages.values()) < 2 * batches


def test_the_state_has_a_size(run: Run) -> None:
    size = value(run.told, "state_bytes")
    assert size is not None
    assert size > 10_000


def test_no_line_of_the_log_holds_what_a_transaction_holds(run: Run) -> None:
    ids = {score[name] for score in run.scores for name in ("transaction_id", "card_id")}
    ids |= {score["merchant_id"] for score in run.scores}
    assert len(run.log.splitlines()) > 2
    assert [line for line in run.log.splitlines() if any(each in line for each in ids)] == []
    for line in run.log.splitlines():
        assert orjson.loads(line)["level"] in {"info", "warning"}
