"""Champions: untrained networks that pass every check, and ones that must never serve."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
import itertools
from pathlib import Path
import shutil
import tempfile

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
from fraudstream.model.network import export
from fraudstream.model.network import predict
from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_transactions
from fraudstream.trainer.registry import Registry

#: What may be wrong with a champion.
DEFECTS = ("golden rows", "constant", "nan", "feature set", "digest")

_SAMPLE = 3_000
_ALERTS = 0.02
_FeatureRows = npt.NDArray[np.float64]


def sample(seed: int, cards: int, now_us: int) -> _FeatureRows:
    """Return features of a load such as the stream will see; for models to be made on."""
    load = Load(seed, cards, "sample")
    values = [m.value for m in load.draw(_SAMPLE, now_us) if m.kind in ("transactions", "late")]
    decoded = decode_transactions([*values], np.full(len(values), now_us // 1000)).columns
    none = np.zeros(0, np.int64)
    return replay(
        DEFAULT,
        _placed(decoded),
        _placed(decode_labels([], none).columns),
    )


def _placed(columns: pa.Table) -> pa.Table:
    offsets = pa.array(np.arange(len(columns)))
    zeros = pa.array(np.zeros(len(columns), np.int64))
    return columns.append_column("partition", zeros).append_column("offset", offsets)


def write_model(folder: Path, features: _FeatureRows, seed: int, defect: str = "") -> None:
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
    """Makes one champion after another.

    Parameters
    ----------
    registry
        Where they are registered and promoted.
    features
        See `sample`.
    seed
        Of the first network.

    Attributes
    ----------
    bad
        By version, what is wrong with the bad ones.
    good
        Versions of the good ones.
    """

    def __init__(self, registry: Registry, features: _FeatureRows, seed: int) -> None:
        self._registry = registry
        self._features = features
        self._seeds = itertools.count(seed)
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
        seed = next(self._seeds)
        with tempfile.TemporaryDirectory(prefix="fraudstream-") as scratch:
            good, logged = Path(scratch) / "good", Path(scratch) / "logged"
            pictures = Path(scratch) / "pictures"
            pictures.mkdir()
            write_model(good, self._features, seed)
            if defect:
                write_model(logged, self._features, seed, defect)
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
