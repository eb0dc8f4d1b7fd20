"""Champions: untrained networks that pass every check, and ones that must never serve."""

from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
import itertools
from pathlib import Path
import shutil
import tempfile
import threading

from faults.load import Load
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from fraudstream.features.sets import DEFAULT
from fraudstream.features.sets import HANDBOOK
from fraudstream.features.windows import replay
from fraudstream.model.bundle import MODEL
from fraudstream.model.bundle import Bundle
from fraudstream.model.bundle import Manifest
from fraudstream.model.bundle import distributions
from fraudstream.model.bundle import load_bundle
from fraudstream.model.bundle import write_bundle
from fraudstream.model.network import Encoding
from fraudstream.model.network import Network
from fraudstream.model.network import Shape
from fraudstream.model.network import predict
from fraudstream.model.served import export
from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_transactions
from fraudstream.trainer.registry import Registry

#: What may be wrong with a champion.
DEFECTS = ("golden rows", "constant", "nan", "feature set", "digest")

_SAMPLE = 3_000
_HISTORY = 50_000
_TICK = 50
_HOUR_US = 3_600_000_000
_ALERTS = 0.02
#: Shape (n, features).
FeatureRows = npt.NDArray[np.float64]


def sample(seed: int, cards: int, rate: float, now_us: int) -> FeatureRows:
    """Return features such as the stream will see; for models to be made on.

    They are of an hour of the load, of fewer cards, each of which pays as often: a network that was
    made on cards without a past takes almost every one with a past for a fraud.

    Parameters
    ----------
    seed, cards, rate
        Of the load.
    now_us
        When the hour ends.

    Returns
    -------
    float64, shape (n, features)
        In the order of time.
    """
    load = Load(seed, max(round(cards * _HISTORY / (rate * 3600)), 10), "sample")
    ticks_us = range(now_us - _HOUR_US, now_us, _HOUR_US * _TICK // _HISTORY)
    drawn = [
        (message.value, at_us // 1000)
        for at_us in ticks_us
        for message in load.draw(_TICK, at_us)
        if message.kind in ("transactions", "late")
    ]
    values, appended_ms = zip(*drawn, strict=True)
    none = np.zeros(0, np.int64)
    features = replay(
        DEFAULT,
        _placed(decode_transactions(values, np.array(appended_ms)).columns),
        _placed(decode_labels([], none).columns),
    )
    some = np.random.default_rng(seed).choice(len(features), _SAMPLE, replace=False)
    return features[np.sort(some)]


def _placed(columns: pa.Table) -> pa.Table:
    offsets = pa.array(np.arange(len(columns)))
    zeros = pa.array(np.zeros(len(columns), np.int64))
    return columns.append_column("partition", zeros).append_column("offset", offsets)


def write_model(folder: Path, features: FeatureRows, seed: int, defect: str = "") -> None:
    """Write the bundle of an untrained network, in which something may be wrong.

    Parameters
    ----------
    folder
        Takes the bundle.
    features
        See `sample`; one in fifty of them is an alert.
    seed
        Of the network's weights.
    defect
        One of `DEFECTS`; empty: nothing is wrong.
    """
    torch.manual_seed(seed)
    network = Network(Encoding(features), Shape(members=4, first=16, second=8))
    with torch.no_grad():
        network.head.mul_({"constant": 0.0, "nan": float("nan")}.get(defect, 10.0))
    network.calibrate(2.0, -2.0)
    scores = predict(network.eval(), features)
    expected = np.nan_to_num(scores[:8], nan=0.5)
    # No label is in a sample: of what is always absent, zero is as good as anything.
    usual = np.nanmedian([*features, np.zeros(len(DEFAULT.names))], axis=0)
    manifest = Manifest(
        name="fraud-detector",
        run="none",
        feature_set=DEFAULT.identity,
        feature_hash=DEFAULT.hash,
        feature_names=DEFAULT.names,
        threshold=float(np.nan_to_num(np.quantile(scores, 1 - _ALERTS), nan=0.5)),
        threshold_policy="one in fifty",
        threshold_figures={},
        label_delay=timedelta(days=7),
        metrics={"average_precision": 0.5},
        training={},
        usual_values=tuple(usual.tolist()),
    )
    if defect == "feature set":
        manifest = replace(manifest, feature_set=HANDBOOK.identity, feature_hash=HANDBOOK.hash)
    if defect == "golden rows":
        expected = 1 - expected
    write_bundle(
        folder,
        manifest,
        export(network),
        distributions(DEFAULT.names, features, np.nan_to_num(scores, nan=0.5)),
        features[:8],
        expected,
    )
    if defect == "digest":
        (folder / MODEL).write_bytes((folder / MODEL).read_bytes() + b"\0")


class Champions:
    """Makes one champion after another, for threads that ask for them.

    Parameters
    ----------
    registry
        Where they are registered and promoted.
    features
        Gives what the next one is made on: see `sample`.
    seed
        Of the first network.

    Attributes
    ----------
    bad
        By version, what is wrong with the bad ones.
    good
        Versions of the good ones.
    """

    def __init__(self, registry: Registry, features: Callable[[], FeatureRows], seed: int) -> None:
        self._registry = registry
        self._features = features
        self._seeds = itertools.count(seed)
        # One is made at a time, whoever asks for it.
        self._lock = threading.Lock()
        self._defects: Iterator[str] = itertools.cycle(DEFECTS)
        self.bad: dict[str, str] = {}
        self.good: list[str] = []

    def publish_good(self) -> str:
        """Make a champion that may serve, and return its version."""
        version = self._publish("")
        self.good.append(version)
        return version

    def publish_bad(self) -> str:
        """Make a champion that must not serve, each time with the next defect; see `bad`."""
        return self._publish(next(self._defects))

    def _publish(self, defect: str) -> str:
        with self._lock, tempfile.TemporaryDirectory(prefix="fraudstream-") as scratch:
            seed, features = next(self._seeds), self._features()
            good, logged = Path(scratch) / "good", Path(scratch) / "logged"
            pictures = Path(scratch) / "pictures"
            pictures.mkdir()
            write_model(good, features, seed)
            if defect:
                write_model(logged, features, seed, defect)
            else:
                shutil.copytree(good, logged)
            bundle: Bundle = load_bundle(good)
            with self._registry.run("faults", {"seed": seed, "defect": defect}) as run:
                self._registry.log(run, {}, {}, pictures, logged)
            version = self._registry.register(run, bundle)
            if defect:
                # Before it is champion: from then on it must not serve.
                self.bad[version] = defect
            self._registry.promote(version, defect or "the next one")
        return version
