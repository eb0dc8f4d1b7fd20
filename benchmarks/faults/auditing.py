"""The audit of what the stream has done, and the proof that it sees what it is to see."""

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import replace
import os
import sys
from typing import Any

from confluent_kafka import Producer
from faults.services import MODEL
from faults.services import PARTITIONS
from faults.services import TOPICS
from faults.services import Stack
from faults.services import own_path
import orjson

from fraudstream.cli.tracking import read_credentials
from fraudstream.kafka.reading import read
from fraudstream.kafka.reading import spans
from fraudstream.kafka.topics import Cluster
from fraudstream.stack.process import Process
from fraudstream.stack.process import ProcessFailed
from fraudstream.trainer.registry import Registry

_FLUSH_S = 60.0

#: A score as it was read: its partition, and its document.
Score = tuple[int, dict[str, Any]]


class AuditBlind(ValueError):
    """The audit did not name what was put into the topics, or named something else."""


def audit(stack: Stack, name: str, scores: str = TOPICS.scores) -> dict[str, Any]:
    """Audit the topics, of a stream that is to come to nothing more, with a replay.

    Parameters
    ----------
    stack
        Whose topics.
    name
        Of the files that take what the audit says.
    scores
        The topic of scores, where it is another.

    Returns
    -------
    dict
        As ``inference audit --json`` prints it.

    Raises
    ------
    ProcessFailed
        If it says nothing.
    """
    output = stack.folder / "audit" / f"{name}.json"
    process = Process(
        "the audit",
        [
            *(sys.executable, "-m", "fraudstream.inference.main", "audit"),
            *("--replay", "--ended", "--json", "--scores-topic", scores),
            *("--bootstrap-servers", stack.cluster.bootstrap_servers),
            *("--tracking-uri", stack.tracking_uri, "--model-name", MODEL),
            *("--tracking-credentials", str(stack.credentials("inference"))),
        ],
        stack.folder / "audit" / f"{name}.log",
        {"PYTHONPATH": own_path()},
        output,
    )
    process.start()
    try:
        process.wait()
        told = output.read_bytes()
        if not told:
            raise ProcessFailed(process.failure("said nothing"))
        found: dict[str, Any] = orjson.loads(told)
        return found
    finally:
        process.stop()


def removed(scores: list[Score]) -> list[Score]:
    """Return scores without one of them."""
    return scores[1:]


def doubled(scores: list[Score]) -> list[Score]:
    """Return scores with one of them twice."""
    return [*scores, scores[0]]


def contradicted(scores: list[Score]) -> list[Score]:
    """Return scores with a second one, another, for one transaction."""
    partition, first = scores[0]
    return [*scores, (partition, {**first, "score": first["score"] / 2})]


def changed(scores: list[Score]) -> list[Score]:
    """Return scores of which one is another than it was."""
    return [*contradicted(scores)[1:]]


def made_up(scores: list[Score]) -> list[Score]:
    """Return scores with one more, of a transaction that there is not."""
    partition, first = scores[0]
    return [*scores, (partition, {**first, "transaction_id": "nobody"})]


#: By the finding that it must lead to, and to no other, how the scores are spoiled. A second score
#: that contradicts the first is no score that a replay gives, either.
CORRUPTIONS: Mapping[str, tuple[Callable[[list[Score]], list[Score]], frozenset[str]]] = {
    "missing": (removed, frozenset({"missing"})),
    "duplicate": (doubled, frozenset({"duplicate"})),
    "conflicting": (contradicted, frozenset({"conflicting", "differing"})),
    "differing": (changed, frozenset({"differing"})),
    "foreign": (made_up, frozenset({"foreign"})),
}


def prove(stack: Stack, tell: Callable[[str], None]) -> None:
    """See that the audit passes what the stream has written, and fails on copies that are spoiled.

    Raises
    ------
    AuditBlind
        If not.
    """
    cluster = stack.cluster
    _require("as it is", audit(stack, "as-it-is"), frozenset())
    parts = read(cluster, TOPICS.scores, spans(cluster, TOPICS.scores))
    scores = [
        (partition, orjson.loads(value or b""))
        for part in parts
        for partition, value in zip(part.partition.tolist(), part.values, strict=True)
    ]
    # What is said of an alert would have to be spoiled in two topics.
    scores.sort(key=lambda score: bool(score[1]["is_alert"]))
    for kind, (spoil, expected) in CORRUPTIONS.items():
        tell(kind)
        topic = f"{TOPICS.scores}-{kind}"
        cluster.create_topics(replace(TOPICS, scores=topic), PARTITIONS)
        _write(cluster, topic, spoil(scores))
        _require(kind, audit(stack, kind, topic), expected)


def _write(cluster: Cluster, topic: str, scores: list[Score]) -> None:
    producer = Producer(cluster.config(enable_idempotence=True, compression_type="lz4"))
    for partition, score in scores:
        producer.produce(topic, orjson.dumps(score), score["card_id"].encode(), partition)
    if producer.flush(_FLUSH_S):
        raise TimeoutError(f"{topic} could not be written within {_FLUSH_S:.0f} s")


def _require(what: str, told: Mapping[str, Any], expected: frozenset[str]) -> None:
    kinds = ("missing", "duplicate", "conflicting", "foreign", "differing")
    found = {kind for kind in kinds if told[kind]}
    if found != expected or told["not_compared"] > ("foreign" in expected):
        raise AuditBlind(
            f"{what}: expected the findings {sorted(expected)}, got {sorted(found)} and "
            f"{told['not_compared']} not compared; the first: {told['findings'][:3]}"
        )


def bad_models_served(cluster: Cluster, bad: Mapping[str, str]) -> int:
    """Return how many scores are of a model that was not to serve; `bad` holds their versions."""
    served = 0
    for part in read(cluster, TOPICS.scores, spans(cluster, TOPICS.scores)):
        versions = [orjson.loads(value or b"")["model_version"] for value in part.values]
        served += sum(version in bad for version in versions)
    return served


def log_in(stack: Stack) -> None:
    """Let this process into MLflow as the trainer."""
    # The only way in that MLflow's client has.
    for name, value in read_credentials(stack.credentials("trainer")).items():
        os.environ[f"MLFLOW_TRACKING_{name.upper()}"] = value
    # Who is told that there is no answer tries again itself, when there may be one.
    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "20"
    os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "1"
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"


def registry(stack: Stack) -> Registry:
    """Return the registry as the trainer sees it, after `log_in`."""
    return Registry(stack.tracking_uri, MODEL)
