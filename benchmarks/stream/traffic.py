"""What all contenders are given: simulated transactions in a topic, and a model for them."""

from collections.abc import Callable
from collections.abc import Iterator
from datetime import UTC
from datetime import datetime
from datetime import timedelta
from itertools import islice
import math
from pathlib import Path
import threading
import time
from typing import Any

from mlflow import MlflowClient
import numpy as np
import orjson
import torch

from fraudstream.features.sets import DEFAULT
from fraudstream.features.windows import replay
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.model.bundle import BUNDLE_ARTIFACTS
from fraudstream.model.bundle import CHAMPION
from fraudstream.model.bundle import Manifest
from fraudstream.model.bundle import distributions
from fraudstream.model.bundle import write_bundle
from fraudstream.model.network import Encoding
from fraudstream.model.network import Network
from fraudstream.model.network import Shape
from fraudstream.model.network import predict
from fraudstream.model.reasons import usual_values
from fraudstream.model.served import export
from fraudstream.producer.delivery import Delivery
from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_transactions
from fraudstream.simulator.stream import Simulation
from fraudstream.simulator.world import WorldSpec

START = datetime(2025, 1, 1, tzinfo=UTC)
MODEL = "fraud-detector"

#: The share of transactions that the model flags; each has its reasons computed.
_ALERTS = 0.003
_AT_ONCE = 10_000
#: What falls due within it is sent together.
_TICK_S = 0.01
_MODEL_CARDS, _MODEL_ROWS = 500, 20_000


class NotSent(ValueError):
    """The broker did not take every record."""


class Traffic:
    """The transactions of a simulated world, one after the other, to be sent when they are wanted.

    Parameters
    ----------
    cards
        How many cards make them.
    """

    def __init__(self, cards: int) -> None:
        self._documents = _documents(cards)

    def send(
        self,
        cluster: Cluster,
        topics: Topics,
        count: int,
        advance: Callable[[float], None],
        rate: float = math.inf,
    ) -> None:
        """Send the next `count` transactions.

        Parameters
        ----------
        cluster, topics
            Where to.
        count
            How many.
        advance
            Is called with how many were sent since the last call.
        rate
            How many a second, evenly; by default as many as the broker takes.

        Raises
        ------
        NotSent
            If one was not acknowledged.
        """
        delivery = Delivery(cluster, topics, lambda: datetime.now(UTC), threading.Event())
        at_once = int(min(_AT_ONCE, max(rate * _TICK_S, 1)))
        begun = time.monotonic()
        for begin in range(0, count, at_once):
            some = list(islice(self._documents, min(at_once, count - begin)))
            time.sleep(max(begun + begin / rate - time.monotonic(), 0))
            delivery.deliver(some, [False] * len(some))
            advance(len(some))
        account = delivery.close()
        if account.acknowledged.get(topics.transactions, 0) != count:
            raise NotSent(f"expected {count:,} transactions acknowledged, got {account}")


def _documents(cards: int) -> Iterator[dict[str, Any]]:
    for day in Simulation(WorldSpec(cards=cards), START).days():
        for begin in range(0, len(day), _AT_ONCE):
            yield from day[begin : begin + _AT_ONCE].transactions()


def make_model(folder: Path) -> Path:
    """Write a model of the usual size, for the default features, and return its bundle's folder.

    It has learnt nothing: what it costs to ask it does not depend on that.
    """
    values = [orjson.dumps(each) for each in islice(_documents(_MODEL_CARDS), _MODEL_ROWS)]
    decoded = decode_transactions(values, np.full(len(values), 2**42)).columns
    for name in ("partition", "offset"):
        decoded = decoded.append_column(name, [np.arange(len(decoded)) * (name == "offset")])
    labels = decode_labels([], np.zeros(0, dtype=np.int64)).columns
    for name in ("partition", "offset"):
        labels = labels.append_column(name, [np.zeros(0, dtype=np.int64)])
    features = replay(DEFAULT, decoded, labels)
    torch.manual_seed(0)
    network = Network(Encoding(features), Shape()).eval()
    scores = predict(network, features)
    manifest = Manifest(
        name=MODEL,
        run="none",
        feature_set=DEFAULT.identity,
        feature_hash=DEFAULT.hash,
        feature_names=DEFAULT.names,
        threshold=float(np.quantile(scores, 1 - _ALERTS)),
        threshold_policy=f"{_ALERTS:.1%} are flagged",
        threshold_figures={},
        label_delay=timedelta(days=7),
        metrics={"average_precision": 0.5},
        training={},
        usual_values=tuple(usual_values(features, np.zeros(len(features), bool)).tolist()),
    )
    bundle = folder / "bundle"
    figures = distributions(DEFAULT.names, features, scores)
    write_bundle(bundle, manifest, export(network), figures, features[:8], scores[:8])
    return bundle


def register(bundle: Path, folder: Path) -> str:
    """Make a bundle the champion of a registry in a file, and return the registry's address."""
    registry = f"sqlite:///{folder / 'registry.db'}"
    client = MlflowClient(registry, registry)
    experiment = client.create_experiment("benchmark", f"file://{folder / 'artifacts'}")
    run = client.create_run(experiment).info.run_id
    client.log_artifacts(run, str(bundle), BUNDLE_ARTIFACTS)
    client.create_registered_model(MODEL)
    version = client.create_model_version(MODEL, str(bundle), run).version
    client.set_registered_model_alias(MODEL, CHAMPION, version)
    return registry
