"""Champion and challenger on real parts: what their topics hold, and what Prometheus is told of it.

One story is told by the fixture `run`: a champion, a challenger beside it, which becomes champion.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.request import urlopen

from click.testing import CliRunner
import numpy as np
import orjson
from prometheus_client.parser import text_string_to_metric_families
import pytest

from contract.dirty_topics import Record
from contract.dirty_topics import dirty_topics
from contract.dirty_topics import replayed
from fraudstream.features.sets import DEFAULT
from fraudstream.inference.main import inference
from fraudstream.inference.tally import reason_class
from fraudstream.schema.validation import PREDICTION
from fraudstream.schema.validation import validator
from fraudstream.stack.process import free_port
from fraudstream.trainer.registry import Registry
from integration.streams import DEADLINE_S
from integration.streams import MODEL
from integration.streams import TOPICS
from integration.streams import Stack
from integration.streams import Telling
from integration.streams import await_that
from integration.streams import running
from integration.streams import serves
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
    features = np.array(list(replayed(DEFAULT, records).values()))
    for seed in (1, 2):
        (folder / str(seed)).mkdir()
    stack.register(folder / "1", features, seed=1)
    port = free_port()
    sent: list[Record] = []
    tell = Telling(stack, sent)
    told: Samples = {}
    # A model is tried on some hundred transactions before it serves beside another.
    first, second, in_shadow, last = split(records, 4)

    def is_all_read() -> bool:
        told.clear()
        told.update(scraped(port))
        # Spark tells of a batch a moment after its results are there; and of what is behind, when
        # Kafka has told it in time.
        is_lag_told = any(name == "lag_records" for name, _ in told)
        return is_lag_told and sum(by(told, "records_total", "topic").values()) == len(sent)

    with stack.app(folder / "checkpoint", folder / "log", f"--metrics-port={port}") as app:
        for part in (first, second):
            tell.send(part)
            tell.await_results(app)
        stack.register(folder / "2", features, seed=2, alias="challenger")
        await_that(lambda: serves(folder / "log", "challenger", "2"), app)
        tell.send(in_shadow)
        tell.await_results(app)
        Registry(stack.mlflow.uri, MODEL).promote("2", "by hand")
        await_that(lambda: serves(folder / "log", "champion", "2"), app)
        tell.send(last)
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


def of(documents: list[Any], role: str, version: str | None = None) -> list[Any]:
    return [
        each
        for each in documents
        if each["role"] == role and version in (None, each["model_version"])
    ]


def test_each_transaction_has_one_score_of_a_champion_and_at_most_one_of_a_challenger(
    run: Run,
) -> None:
    ids = {record.id for record in run.sent if record.topic == TOPICS.transactions and record.id}
    champions = Counter(score["transaction_id"] for score in of(run.scores, "champion"))
    assert champions == dict.fromkeys(ids, 1)
    in_shadow = Counter(score["transaction_id"] for score in of(run.scores, "challenger"))
    assert set(in_shadow.values()) == {1}
    assert in_shadow.keys() < ids


def test_the_challenger_scores_beside_the_champion_and_then_takes_its_place(run: Run) -> None:
    assert {score["model_version"] for score in of(run.scores, "challenger")} == {"2"}
    assert of(run.scores, "challenger", "2")
    champion_of = {s["transaction_id"]: s["model_version"] for s in of(run.scores, "champion")}
    assert {champion_of[s["transaction_id"]] for s in of(run.scores, "challenger")} == {"1"}
    # Its topic holds a card's scores in the order of the batches.
    for versions in by_card(of(run.scores, "champion")).values():
        assert versions == sorted(versions)
    assert set(champion_of.values()) == {"1", "2"}


def by_card(scores: list[Any]) -> dict[str, list[str]]:
    """Return the versions that scored a card's transactions, one after another."""
    found: dict[str, list[str]] = {}
    for score in scores:
        found.setdefault(score["card_id"], []).append(score["model_version"])
    return found


def test_a_challenger_raises_no_alert(run: Run) -> None:
    assert any(score["is_alert"] for score in of(run.scores, "challenger"))
    assert {alert["role"] for alert in run.predicted} == {"champion"}
    alerts = {s["transaction_id"] for s in of(run.scores, "champion") if s["is_alert"]}
    assert {alert["transaction_id"] for alert in run.predicted} == alerts
    for score in of(run.scores, "challenger"):
        assert validator(PREDICTION).explain(score) is None


def test_the_audit_counts_the_challenger_apart_and_a_replay_gives_its_scores_too(
    run: Run, stack: Stack
) -> None:
    flags = (
        f"--bootstrap-servers={stack.broker.bootstrap_servers}",
        f"--tracking-uri={stack.mlflow.uri}",
        *(f"--{name.replace('_', '-')}-topic={value}" for name, value in vars(TOPICS).items()),
    )
    done = CliRunner().invoke(inference, ["audit", *flags, "--replay", "--ended", "--json"])
    assert done.exit_code == 0, done.output
    found = orjson.loads(done.stdout)
    assert found["scores"] == found["transactions"] == len(of(run.scores, "champion"))
    assert found["shadow_scores"] == len(of(run.scores, "challenger"))
    assert found["not_compared"] == 0


def test_counts_are_those_of_the_topics(run: Run) -> None:
    for role, version in (("champion", "1"), ("champion", "2"), ("challenger", "2")):
        scores = of(run.scores, role, version)
        alerts = [score for score in scores if score["is_alert"]]
        model = {"role": role, "version": version}
        assert value(run.told, "scores_total", **model) == len(scores) > 0
        assert value(run.told, "alerts_total", **model) == len(alerts)
    letters = Counter(reason_class(letter["reason"]) for letter in run.dead_letters)
    assert by(run.told, "dead_letters_total", "reason") == letters != {}
    assert by(run.told, "records_total", "topic") == Counter(r.topic for r in run.sent)
    assert value(run.told, "latency_seconds_count") == len(of(run.scores, "champion"))
    assert value(run.told, "batches_repeated_total") == 0
    assert by(run.told, "model_info", "role") == {"champion": 1}


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
    lines = run.log.splitlines()
    assert [line for line in lines if any(each in line for each in ids)] == []
    started = next(at for at, line in enumerate(lines) if "stream started" in line)
    # What starts Spark says a few words of its own before.
    assert [line for line in lines[started:] if not line.startswith("{")] == []
    told = [orjson.loads(line) for line in lines[started:]]
    assert {"model serves", "stream stopped"} <= {line["event"] for line in told}
