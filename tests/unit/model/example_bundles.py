"""A small real bundle, for tests that need a model and do not care which."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import torch

from fraudstream.features.definitions import Feature
from fraudstream.features.definitions import FeatureSet
from fraudstream.model.bundle import Manifest
from fraudstream.model.bundle import distributions
from fraudstream.model.bundle import write_bundle
from fraudstream.model.network import Encoding
from fraudstream.model.network import Network
from fraudstream.model.network import Shape
from fraudstream.model.network import predict
from fraudstream.model.served import export

TINY = FeatureSet(
    "tiny",
    1,
    (
        Feature(None, "amount", "value", group="amount"),
        Feature("card", None, "count", timedelta(hours=1), group="card activity"),
        Feature("card", None, "count", timedelta(days=1), group="card activity"),
        Feature("card", "device", "is_new", timedelta(days=30), group="new to the card"),
    ),
)


def tiny_rows(rows: int = 400, seed: int = 0) -> np.ndarray:
    """Features of `TINY`, some absent."""
    draw = np.random.default_rng(seed)
    features = np.column_stack(
        [
            np.exp(draw.normal(3, 1, rows)),
            draw.poisson(1, rows),
            draw.poisson(3, rows),
            np.where(draw.random(rows) < 0.3, np.nan, draw.integers(0, 2, rows)),
        ]
    )
    return features.astype(np.float64)


def tiny_network(seed: int = 0) -> Network:
    """An untrained network on `TINY`, with weights large enough to tell rows apart."""
    torch.manual_seed(seed)
    network = Network(Encoding(tiny_rows()), Shape(members=4, first=16, second=8))
    with torch.no_grad():
        network.head.mul_(10)
    network.calibrate(2.0, 0.5)
    return network.eval()


def tiny_manifest() -> Manifest:
    """The manifest of a model on `TINY`."""
    return Manifest(
        name="tiny-detector",
        run="0123456789abcdef",
        feature_set=TINY.identity,
        feature_hash=TINY.hash,
        feature_names=TINY.names,
        threshold=0.5,
        threshold_policy="by hand",
        threshold_figures={"alerts_per_day": 40.0, "precision": 0.5},
        label_delay=timedelta(days=7),
        metrics={"average_precision": 0.5},
        training={"offsets": {"transactions": [[0, 0, 400]]}},
        usual_values=(20.0, 1.0, 3.0, np.nan),
    )


def write_tiny(folder: Path, manifest: Manifest | None = None, seed: int = 0) -> str:
    """Write a bundle that passes every check; return its digest."""
    network = tiny_network(seed)
    features = tiny_rows()
    scores = predict(network, features)
    return write_bundle(
        folder,
        manifest or tiny_manifest(),
        export(network),
        distributions(TINY.names, features, scores),
        features[:8],
        scores[:8],
    )
