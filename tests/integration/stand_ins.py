"""Small programs that stand in for the shipped apps, so that the demo is tested by itself.

They keep the apps' command lines and use the real broker. ``STAND_IN_FAULT`` in the environment
makes one of them fail in a chosen way.
"""

import base64
from http.server import BaseHTTPRequestHandler
from http.server import HTTPServer
import os
from pathlib import Path
import signal
import sys
import threading
import time
from typing import Any

import click
from confluent_kafka import Consumer
from confluent_kafka import Producer
import orjson

from fraudstream.kafka.options import kafka_options
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics

FAULT = os.environ.get("STAND_IN_FAULT", "")
HISTORY = 400
_IGNORED = {"ignore_unknown_options": True, "allow_extra_args": True}


def app(name: str, folder: Path, fault: str = "") -> Path:
    """Write an executable for a stand-in into `folder` and return it."""
    program = folder / f"{name}.stand-in"
    path = os.pathsep.join(sys.path)
    program.write_text(
        "#!/bin/sh\n"
        f"PYTHONPATH='{path}' STAND_IN_FAULT='{fault}' "
        f"exec '{sys.executable}' '{Path(__file__).resolve()}' {name} \"$@\"\n"
    )
    program.chmod(0o755)
    return program


@click.group()
def stand_in() -> None:
    """Run one of the stand-ins."""


@stand_in.group()
def producer() -> None:
    """Stand in for ``producer.pex``."""


@producer.command("topics")
@kafka_options()
def create(cluster: Cluster, topics: Topics) -> None:
    cluster.create_topics(topics, partitions=2)


@producer.command(context_settings=_IGNORED)
@kafka_options()
@click.option("--live", is_flag=True)
@click.option("--rate", type=float)
@click.option("--seconds", type=float, default=float("inf"))
@click.option("--truth", type=click.Path(path_type=Path))
def simulate(
    *,
    cluster: Cluster,
    topics: Topics,
    live: bool,
    rate: float,
    seconds: float,
    truth: Path | None,
) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    if FAULT == "history" and not live:
        sys.exit("the history is gone")
    if FAULT == "slow-history" and not live:
        stop.wait()
        return
    client = Producer(cluster.config())
    if truth is None:
        for number in range(HISTORY):
            client.produce(topics.transactions, transaction(f"h-{number}"))
    else:
        deadline = time.monotonic() + seconds
        with truth.open("wb") as told:
            number = 0
            while time.monotonic() < deadline and not stop.wait(1 / rate):
                key = f"l-{number}"
                client.produce(topics.transactions, transaction(key))
                told.write(orjson.dumps({"transaction_id": key, "is_fraud": is_fraud(key)}))
                told.write(b"\n")
                told.flush()
                number += 1
        client.produce(topics.transactions, b"?")
    client.flush()
    if FAULT == "live" and live:
        sys.exit("the traffic broke down")


@stand_in.group()
def trainer() -> None:
    """Stand in for ``trainer.pex``."""


@trainer.command(context_settings=_IGNORED)
def train() -> None:
    if FAULT == "train":
        sys.exit("labels are missing")
    click.echo(orjson.dumps({"metrics": {"average_precision": 0.875}}))


@stand_in.group()
def inference() -> None:
    """Stand in for ``inference.pex``."""


@inference.command("run", context_settings=_IGNORED)
@kafka_options()
def score(cluster: Cluster, topics: Topics) -> None:
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: stop.set())
    reader = Consumer(cluster.config(group_id="stand-in", auto_offset_reset="earliest"))
    reader.subscribe([topics.transactions])
    writer = Producer(cluster.config())
    while not stop.is_set():
        for message in reader.consume(1_000, timeout=0.1):
            for topic, value in results(topics, message):
                writer.produce(topic, value)
        writer.flush()
        if FAULT == "inference":
            sys.exit("the job broke down")
    reader.close()
    if FAULT == "stop":
        sys.exit("the job could not stop")


def results(topics: Topics, message: Any) -> list[tuple[str, bytes]]:
    try:
        document = orjson.loads(message.value())
    except orjson.JSONDecodeError:
        letter = {
            "original": base64.b64encode(message.value()).decode(),
            "topic": message.topic(),
            "partition": message.partition(),
            "offset": message.offset(),
        }
        return [(topics.dead_letters, orjson.dumps(letter))]
    key = document["transaction_id"]
    if FAULT == "loss" and key == "l-7":
        return []
    prediction = {
        **document,
        "score": 0.9,
        "model_name": "stand-in",
        "model_version": "4",
        "reasons": [],
    }
    scored = [(topics.scores, orjson.dumps(prediction))]
    if FAULT == "repetition" and key == "h-7":
        scored *= 2
    if is_fraud(key):
        scored.append((topics.predicted, orjson.dumps(prediction)))
    return scored


def transaction(key: str) -> bytes:
    return orjson.dumps(
        {
            "transaction_id": key,
            "event_time": "2026-01-01T00:00:00Z",
            "card_id": "card-1",
            "merchant_id": "merchant-1",
            "amount": 10.0,
        }
    )


def is_fraud(key: str) -> bool:
    """Return what the stand-ins agree on: every tenth transaction is a fraud."""
    return key.endswith("0")


class _Health(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()


@stand_in.group()
def mlflow() -> None:
    """Stand in for MLflow's command line."""


@mlflow.command(context_settings=_IGNORED)
@click.option("--host")
@click.option("--port", type=int)
def server(host: str, port: int) -> None:
    if FAULT == "mlflow":
        sys.exit("the database is locked")
    HTTPServer((host, port), _Health).serve_forever()


if __name__ == "__main__":
    stand_in()
