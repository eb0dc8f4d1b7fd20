"""From a real topic to a real registry: one run, one version, and the better one serves."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC
from datetime import datetime
from datetime import timedelta
import json
from pathlib import Path
from typing import Any

from confluent_kafka import Producer
from mlflow import MlflowClient
import numpy as np
import orjson
import pytest

from fraudstream.cli.console import run
from fraudstream.features.sets import DEFAULT
from fraudstream.kafka.reading import TopicChanged
from fraudstream.kafka.reading import spans
from fraudstream.kafka.tables import read_topic
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.model.bundle import load_bundle
from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.timestamps import to_us
from fraudstream.simulator.stream import Simulation
from fraudstream.simulator.world import WorldSpec
from fraudstream.stack.kafka import KafkaBroker
from fraudstream.stack.mlflow import MlflowServer
from fraudstream.trainer.challenge import Rows
from fraudstream.trainer.challenge import settle
from fraudstream.trainer.main import trainer
from fraudstream.trainer.registry import Registry
from fraudstream.trainer.registry import UnknownVersion
from integration import apps
from unit.model.example_bundles import TINY
from unit.model.example_bundles import tiny_manifest
from unit.model.example_bundles import tiny_rows
from unit.model.example_bundles import write_tiny

DAYS = 28
DUPLICATES = 3
MODEL = "fraud-detector"
TOPICS = Topics()


class Stack:
    """A broker with a month of transactions, and a registry."""

    def __init__(self, broker: KafkaBroker, mlflow: MlflowServer) -> None:
        self.cluster = Cluster(broker.bootstrap_servers)
        self.uri = mlflow.uri
        self.kafka = ("--bootstrap-servers", broker.bootstrap_servers)
        self.mlflow = ("--tracking-uri", mlflow.uri)
        self.transactions = self._fill()

    def _fill(self) -> int:
        self.cluster.create_topics(TOPICS, partitions=3)
        start = datetime(2026, 1, 1, tzinfo=UTC)
        end_us = to_us(start + timedelta(days=DAYS))
        simulation = Simulation(WorldSpec(cards=600, seed=3), start)
        transactions: list[dict[str, Any]] = []
        labels: list[tuple[int, dict[str, Any]]] = []
        for day in range(DAYS):
            batch = simulation.day(day)
            transactions += batch.transactions()
            labels += zip(batch.labelled_at_us.tolist(), batch.labels(), strict=True)
        known = [
            label for at_us, label in sorted(labels, key=lambda pair: pair[0]) if at_us < end_us
        ]
        send(self.cluster, TOPICS.transactions, transactions + transactions[:DUPLICATES])
        send(self.cluster, TOPICS.labels, known)
        produce(self.cluster, TOPICS.labels, [(b"card-0", b"not a label")])
        return len(transactions)


def send(cluster: Cluster, topic: str, documents: list[dict[str, Any]]) -> None:
    produce(cluster, topic, [(each["card_id"].encode(), orjson.dumps(each)) for each in documents])


def produce(cluster: Cluster, topic: str, records: list[tuple[bytes, bytes]]) -> None:
    producer = Producer(cluster.config(queue_buffering_max_messages=1_000_000))
    for key, value in records:
        producer.produce(topic, value, key)
    assert producer.flush(60) == 0


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with (
        KafkaBroker(tmp_path_factory.mktemp("kafka"), apps.cache()) as broker,
        MlflowServer(apps.mlflow(), tmp_path_factory.mktemp("mlflow")) as mlflow,
    ):
        yield Stack(broker, mlflow)


def command(*arguments: str) -> int:
    """Run the app in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        run(trainer, list(arguments))
    return int(str(ended.value.code))


def train(stack: Stack, *more: str) -> int:
    # A month of few cards: enough for a model that is better than chance, not for a good one.
    return command(
        *("train", *stack.kafka, *stack.mlflow, "--json", "--epochs", "3"),
        *("--warm-up", "3d", "--validation", "6d", *more),
    )


@pytest.fixture(scope="module")
def first(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the first training says; the folder that it worked in is under ``"folder"``."""
    folder = tmp_path_factory.mktemp("work")
    code = train(stack, "--work-dir", str(folder))
    assert code == 0
    [version] = Registry(stack.uri, MODEL).versions()
    manifest = load_bundle(folder / "bundle", DEFAULT).manifest
    return {"folder": folder, "version": version, "manifest": manifest}


def test_the_first_version_becomes_champion(first: dict[str, Any]) -> None:
    assert first["version"].number == "1"
    assert first["version"].is_champion
    assert first["version"].decision == "champion: there was no champion"
    assert first["version"].average_precision > 0.1


def test_the_manifest_tells_what_was_read(stack: Stack, first: dict[str, Any]) -> None:
    training = first["manifest"].training
    read = training["offsets"][TOPICS.transactions]
    assert sum(each["end"] - each["first"] for each in read) == stack.transactions + DUPLICATES
    assert training["duplicates"] == DUPLICATES
    assert training["rejected"] == {TOPICS.transactions: 0, TOPICS.labels: 1}
    assert first["manifest"].run == first["version"].run


def test_the_registered_bundle_is_the_one_that_was_checked(
    stack: Stack, first: dict[str, Any], tmp_path: Path
) -> None:
    fetched = load_bundle(Registry(stack.uri, MODEL).fetch("1", tmp_path), DEFAULT, "1")
    assert fetched.digest == load_bundle(first["folder"] / "bundle").digest
    assert fetched.version == "1"


def test_a_run_holds_parameters_figures_curves_and_pictures_and_nothing_pickled(
    stack: Stack, first: dict[str, Any], tmp_path: Path
) -> None:
    client = MlflowClient(stack.uri, stack.uri)
    found = client.get_run(first["version"].run)
    assert found.info.status == "FINISHED"
    assert found.data.params["feature_set"] == DEFAULT.identity
    assert found.data.metrics["average_precision"] == pytest.approx(
        first["version"].average_precision
    )
    assert {"roc_auc", "card_precision_100", "money_saved"} <= set(found.data.metrics)
    manifest = first["manifest"]
    assert found.data.params["threshold_policy"] == "PrecisionFloor(minimum=0.9)"
    assert found.data.params["threshold"] == str(manifest.threshold)
    assert found.data.tags["threshold_policy"] == manifest.threshold_policy
    for name, value in manifest.threshold_figures.items():
        assert found.data.metrics[f"threshold.{name}"] == pytest.approx(value)
    assert found.data.params["champion_before"] == "none"
    assert found.data.tags["decision"] == "there was no champion"
    losses = client.get_metric_history(first["version"].run, "epoch.loss")
    assert [each.step for each in losses] == [0, 1, 2]
    client.download_artifacts(first["version"].run, "", str(tmp_path))
    files = [
        file.relative_to(tmp_path).as_posix() for file in tmp_path.rglob("*") if file.is_file()
    ]
    assert sorted(files) == [
        "bundle/manifest.json",
        "bundle/model.onnx",
        "bundle/reference.parquet",
        "pictures/calibration.png",
        "pictures/precision_recall.png",
        "pictures/roc.png",
        "pictures/threshold.png",
    ]


def test_the_same_training_again_is_no_better_and_leaves_the_champion(
    stack: Stack, first: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(stack, "--alerts-per-day", "20", "--confidence", "0.9") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["is_champion"] is False
    assert result["decision"].startswith("not better beyond noise than version 1: ")
    assert "90% interval from +0.0000 to +0.0000" in result["decision"]
    assert Registry(stack.uri, MODEL).champion() == "1"
    assert result["rows"]["transactions"] == stack.transactions

    client = MlflowClient(stack.uri, stack.uri)
    run_of_it = client.get_run(result["run"])
    assert run_of_it.data.tags["decision"] == result["decision"]
    assert run_of_it.data.params["champion_before"] == "1"
    assert run_of_it.data.metrics["challenge.difference"] == 0
    tags = client.get_model_version(MODEL, result["version"]).tags
    assert tags["decision"] == f"not champion: {result['decision']}"
    assert tags["threshold_policy"] == "largest recall within 20 alerts a day"
    assert 0 < float(tags["threshold.alerts_per_day"]) <= 20


def test_a_choice_by_hand_is_noted_beside_the_first_and_undone_by_one_command(
    stack: Stack, first: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(stack) == 0
    second = json.loads(capsys.readouterr().out)["version"]
    assert command("promote", *stack.mlflow, "--version", second) == 0
    assert command("models", *stack.mlflow, "--json") == 0
    newest, *others = json.loads(capsys.readouterr().out)
    assert (newest["number"], newest["is_champion"]) == (second, True)
    assert not any(version["is_champion"] for version in others)
    assert newest["decision"] == "champion: by hand, after version 1"
    assert newest["threshold_policy"] == first["manifest"].threshold_policy
    before, now = newest["decisions"].values()
    assert before.startswith("not champion: not better beyond noise than version 1")
    assert now == newest["decision"]

    registry = Registry(stack.uri, MODEL)
    # What served before serves again; and so, by the same command, does what was undone.
    for expected in ("1", second, "1"):
        assert command("promote", *stack.mlflow, "--previous") == 0
        assert registry.champion() == expected
    # To choose what serves already changes nothing of what it replaced.
    assert command("promote", *stack.mlflow, "--version", "1") == 0
    assert registry.replaced("1") == second
    assert command("models", *stack.mlflow) == 0
    assert "1, champion" in capsys.readouterr().out


def with_foreign_version(stack: Stack, name: str, folder: Path) -> Registry:
    """Return the registry of a model whose only version has features that are not served."""
    registry = Registry(stack.uri, name)
    write_tiny(folder / "bundle")
    (folder / "pictures").mkdir()
    with registry.run("tiny", {}) as run_id:
        registry.log(run_id, {}, {}, folder / "pictures", folder / "bundle")
    registry.register(run_id, load_bundle(folder / "bundle"))
    return registry


def test_a_version_is_put_into_the_champions_shadow_and_taken_out_of_it_by_hand(
    stack: Stack, first: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    registry = Registry(stack.uri, "shadowed")
    for _ in range(2):
        registry.register(first["version"].run, load_bundle(first["folder"] / "bundle"))
    registry.promote("1", "by hand")
    shadowed = [*stack.mlflow, "--model-name", "shadowed"]

    assert command("shadow", *shadowed, "--version", "2") == 0
    assert (registry.champion(), registry.challenger()) == ("1", "2")
    assert command("models", *shadowed) == 0
    told = capsys.readouterr().out
    assert "1, champion" in told
    assert "2, challenger" in told
    # Whoever becomes champion is in nobody's shadow.
    registry.promote("2", "by hand")
    assert [version.role for version in registry.versions()] == ["champion", None]

    assert command("shadow", *shadowed, "--end") == 0
    assert registry.challenger() is None
    capsys.readouterr()
    assert command("shadow", *shadowed, "--end") == 1
    assert "has no challenger" in capsys.readouterr().err


def test_only_a_version_that_could_serve_and_does_not_is_put_into_shadow(
    stack: Stack, first: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("shadow", *stack.mlflow) == 2
    assert "either --version N or --end" in capsys.readouterr().err
    champion = Registry(stack.uri, MODEL).champion()
    assert command("shadow", *stack.mlflow, "--version", champion) == 2
    assert "expected another version than the champion" in capsys.readouterr().err

    registry = with_foreign_version(stack, "foreign-shadow", tmp_path)
    foreign = [*stack.mlflow, "--model-name", "foreign-shadow"]
    assert command("shadow", *foreign, "--version", "1") == 1
    assert "feature set" in capsys.readouterr().err
    assert registry.challenger() is None
    assert command("shadow", *foreign, "--version", "7") == 1


def test_nothing_is_undone_where_nothing_served_before(
    stack: Stack, first: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("promote", *stack.mlflow, "--model-name", "none", "--previous") == 1
    assert "none has no champion" in capsys.readouterr().err
    assert command("promote", *stack.mlflow) == 2
    assert "either --version N or --previous" in capsys.readouterr().err
    registry = Registry(stack.uri, "lonely")
    run = first["version"].run
    version = registry.register(run, load_bundle(first["folder"] / "bundle"))
    registry.promote(version, "by hand")
    with pytest.raises(UnknownVersion, match="no version of lonely served before version 1"):
        registry.replaced(version)


def test_two_ways_to_choose_the_threshold_are_refused_before_anything_is_read(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(stack, "--alerts-per-day", "20", "--least-cost") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: expected one way to choose the threshold, got ")
    assert "--alerts-per-day and --least-cost" in error
    assert "reading" not in error


def test_a_champion_whose_features_are_not_served_is_replaced(stack: Stack, tmp_path: Path) -> None:
    registry = Registry(stack.uri, "tiny")
    client = MlflowClient(stack.uri, stack.uri)
    rows = tiny_rows(100, seed=9)
    is_fraud = rows[:, 0] > np.median(rows[:, 0])
    compared = Rows(rows, is_fraud, np.arange(100), datetime(2026, 1, 1, tzinfo=UTC))
    versions = []
    for name, manifest in (
        ("served", tiny_manifest()),
        ("other", replace(tiny_manifest(), feature_hash="0" * 64)),
    ):
        folder = tmp_path / name
        write_tiny(folder, manifest)
        (tmp_path / "pictures").mkdir(exist_ok=True)
        with registry.run("tiny", {"seed": 0}) as run_id:
            registry.log(run_id, {}, {"average_precision": 0.5}, tmp_path / "pictures", folder)
        versions.append(registry.register(run_id, load_bundle(folder)))
    served, other = versions
    bundle = load_bundle(tmp_path / "served")

    registry.promote(other, "by hand")
    decision = settle(registry, bundle, served, TINY, compared)
    assert decision.is_promoted
    assert "cannot be served" in decision.reason
    assert registry.champion() == served

    # One whose files are gone cannot be served either.
    registry.promote(other, "by hand")
    client.delete_run(str(client.get_model_version("tiny", other).run_id))
    assert settle(registry, bundle, served, TINY, compared).is_promoted


def test_a_version_that_would_be_refused_is_not_promoted_by_hand(
    stack: Stack, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    registry = with_foreign_version(stack, "foreign", tmp_path)
    code = command("promote", *stack.mlflow, "--model-name", "foreign", "--version", "1")
    assert code == 1
    assert "feature set" in capsys.readouterr().err
    assert registry.champion() is None


def test_a_run_that_ends_in_an_error_is_marked_as_failed(stack: Stack) -> None:
    with pytest.raises(ZeroDivisionError), Registry(stack.uri, MODEL).run("tiny", {}) as run_id:
        raise ZeroDivisionError
    assert MlflowClient(stack.uri, stack.uri).get_run(run_id).info.status == "FAILED"


def test_an_unknown_version_cannot_be_promoted(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("promote", *stack.mlflow, "--model-name", "none", "--version", "7") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    with pytest.raises(UnknownVersion):
        Registry(stack.uri, "none").promote("7", "by hand")


def test_no_registered_version_is_told_in_one_line(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command("models", *stack.mlflow, "--model-name", "none") == 1
    assert capsys.readouterr().err == (
        f"error: {stack.uri} has no version of none: train one with `trainer.pex train`\n"
    )


def test_missing_labels_are_told_in_one_line(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    # The topic of predictions exists and is empty, as a topic of labels is on the first day.
    assert train(stack, "--labels-topic", TOPICS.predicted) == 1
    assert "error: labels missing: no transaction has one" in capsys.readouterr().err


def test_an_unknown_topic_is_told_in_one_line(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(stack, "--transactions-topic", "nowhere") == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "has no topic nowhere" in error


def test_a_topic_that_holds_less_than_its_offsets_promise_is_an_error(stack: Stack) -> None:
    # The marker that ends a transaction of Kafka takes an offset, and is no record.
    settings = stack.cluster.config(transactional_id="test-trainer")
    producer = Producer(settings)
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(TOPICS.scores, b"{}")
    producer.commit_transaction(30)
    # The marker is written after the commit is answered. Who takes over the id waits for it.
    Producer(settings).init_transactions(30)
    within = spans(stack.cluster, TOPICS.scores)
    with pytest.raises(TopicChanged, match=r"expected 2 records .*, got 1"):
        read_topic(stack.cluster, TOPICS.scores, within, decode_labels, lambda records: None)
