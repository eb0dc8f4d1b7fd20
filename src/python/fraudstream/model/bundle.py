"""The folder that a model ships in, written by the trainer and checked before it serves.

``model.onnx``
    Raw features in, probability of fraud out; preprocessing and calibration are inside.
``reference.parquet``
    How features and scores were distributed when the model was chosen, to tell drift by.
``manifest.json``
    All else: features, threshold, metrics, where the training data came from, golden rows with
    the scores that they must get, and the SHA-256 of the other two files.

A bundle is loaded by reading bytes. Nothing is unpickled, and nothing that came with it is
imported or run, save the operators of ONNX.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnxruntime
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from fraudstream.features.definitions import FeatureSet

MANIFEST = "manifest.json"
MODEL = "model.onnx"
REFERENCE = "reference.parquet"

#: Where a run's artifacts hold its bundle; the alias of the version that serves, and of the one
#: that scores in its shadow.
BUNDLE_ARTIFACTS = "bundle"
CHAMPION = "champion"
CHALLENGER = "challenger"

#: Written into every manifest. A bundle of another layout is refused, not guessed at.
FORMAT = "fraudstream.bundle.v1"

#: How far a golden row's score may lie from the expected one: builds of onnxruntime and kinds of
#: processor add up float32 products in different orders.
GOLDEN_TOLERANCE = 1e-5

#: The version of a bundle that no registry has numbered.
UNREGISTERED = "0"

#: Rows of one pass through the network: large enough to hide the cost of a call, small enough for
#: the intermediate values to stay in the processor's cache.
_ROWS_PER_PASS = 256

_FLOAT32_MAX = float(np.finfo(np.float32).max)


class BundleRefused(ValueError):
    """A bundle failed a check and must not serve.

    Attributes
    ----------
    check
        The name of the check: ``"manifest"``, ``"digest"``, ``"feature set"``, ``"model"``,
        ``"reference"``, ``"golden rows"``, ``"finite"``, ``"constant"`` or, of a stream,
        ``"alert rate"``.
    """

    def __init__(self, folder: Path, check: str, reason: str) -> None:
        super().__init__(f"model bundle {folder} refused by the check of its {check}: {reason}")
        self.check = check


@dataclass(frozen=True)
class Manifest:
    """What is known of a model besides its weights.

    Attributes
    ----------
    name
        Of the model, such as ``"fraud-detector"``.
    run
        The training run that made it, as the tracking server calls it.
    feature_set, feature_hash
        The feature set's identity, ``"default.v1@abcdef…"``, and its full hash.
    feature_names
        The columns that the model expects, in their order.
    threshold
        A score at or over it is an alert; in [0, 1].
    threshold_policy
        How the threshold was chosen, in words.
    threshold_figures
        What it rests on: what it gave on the rows on which it was chosen, such as
        ``alerts_per_day`` and ``precision``.
    label_delay
        How long after its transaction a label may be used, at the earliest, in training.
    metrics
        Measured on rows on which nothing was chosen.
    training
        Where the training data came from: topics with their offsets, times, counts. JSON values.
    usual_values
        A value of each feature that is usual for a legitimate transaction; NaN where the feature
        is usually absent.
    """

    name: str
    run: str
    feature_set: str
    feature_hash: str
    feature_names: tuple[str, ...]
    threshold: float
    threshold_policy: str
    threshold_figures: Mapping[str, float]
    label_delay: timedelta
    metrics: Mapping[str, float]
    training: Mapping[str, Any]
    usual_values: tuple[float, ...]


@dataclass(frozen=True)
class Bundle:
    """A model that has passed every check.

    Attributes
    ----------
    manifest
        See `Manifest`.
    version
        The registry's number of it, or ``"0"`` for a bundle from a folder.
    digest
        SHA-256 of ``manifest.json``, which in turn holds those of the other files: two bundles
        of one digest are the same model.
    reference
        See `distributions`.
    """

    manifest: Manifest
    version: str
    digest: str
    reference: pa.Table
    _session: onnxruntime.InferenceSession

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def threshold(self) -> float:
        """A score at or over it is an alert."""
        return self.manifest.threshold

    @property
    def feature_set(self) -> str:
        """Identity of the feature set, as a prediction carries it."""
        return self.manifest.feature_set

    @property
    def feature_names(self) -> tuple[str, ...]:
        """The columns that `score` expects."""
        return self.manifest.feature_names

    @property
    def usual_values(self) -> npt.NDArray[np.float64]:
        """Usual values of the features, shape (k,); see `Manifest`."""
        return np.array(self.manifest.usual_values, dtype=np.float64)

    def score(self, features: npt.NDArray[np.floating]) -> npt.NDArray[np.float64]:
        """Return the probability of fraud of each row.

        Parameters
        ----------
        features
            Shape (n, k), in the order of `feature_names`; NaN where a feature is absent.
            Infinities, and values beyond the range of float32, count as the largest float32.

        Returns
        -------
        numpy.ndarray
            ``float64``, shape (n,), in [0, 1].

        Raises
        ------
        ValueError
            If `features` is not a matrix of k columns.
        """
        return _score(self._session, features, len(self.feature_names))


def write_bundle(
    folder: Path,
    manifest: Manifest,
    model: bytes,
    reference: pa.Table,
    golden_rows: npt.NDArray[np.floating],
    golden_scores: npt.NDArray[np.floating],
) -> str:
    """Write a bundle and return its digest.

    The manifest is written last: a folder without one is unfinished, and is refused.

    Parameters
    ----------
    folder
        Created if it does not exist.
    manifest
        See `Manifest`.
    model
        The ONNX file: one input of ``float32`` and shape (n, k), one output of shape (n,).
    reference
        See `distributions`.
    golden_rows, golden_scores
        Rows of features, shape (m, k), and what the network itself scores them, shape (m,), so
        that a fault of the export shows too.
    """
    folder.mkdir(parents=True, exist_ok=True)
    packed = io.BytesIO()
    pq.write_table(reference, packed, compression="zstd")
    files = {MODEL: model, REFERENCE: packed.getvalue()}
    for name, content in files.items():
        (folder / name).write_bytes(content)
    document = {
        "format": FORMAT,
        "name": manifest.name,
        "run": manifest.run,
        "feature_set": {
            "identity": manifest.feature_set,
            "hash": manifest.feature_hash,
            "names": list(manifest.feature_names),
            "usual_values": list(manifest.usual_values),
        },
        "threshold": {
            "value": manifest.threshold,
            "policy": manifest.threshold_policy,
            "figures": dict(manifest.threshold_figures),
        },
        "label_delay_s": manifest.label_delay.total_seconds(),
        "metrics": dict(manifest.metrics),
        "training": dict(manifest.training),
        "golden": {
            "rows": np.asarray(golden_rows, dtype=np.float64).tolist(),
            "scores": np.asarray(golden_scores, dtype=np.float64).tolist(),
        },
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    # JSON has no NaN: orjson writes null, which is what an absent value should be.
    content = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    (folder / MANIFEST).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def load_bundle(
    folder: Path, feature_set: FeatureSet | None = None, version: str = UNREGISTERED
) -> Bundle:
    """Read a bundle and check it.

    Checked are the manifest's layout, the digest of each file, that the features are those of
    `feature_set`, that the model runs, and that it gives the golden rows the scores that it had
    when it was trained: finite, not all the same, and equal to `GOLDEN_TOLERANCE`.

    Parameters
    ----------
    folder
        Where the bundle lies.
    feature_set
        The features that will be served; ``None`` leaves that check out, for a caller that only
        looks.
    version
        The registry's number of this bundle.

    Raises
    ------
    BundleRefused
        If a check fails; nothing of the bundle may then be used.
    """
    content = _read(folder, MANIFEST)
    try:
        document = orjson.loads(content)
        manifest = _manifest(document)
        golden_rows = np.array(document["golden"]["rows"], dtype=np.float64)
        golden_scores = np.array(document["golden"]["scores"], dtype=np.float64)
        digests = {name: str(document["files"][name]) for name in (MODEL, REFERENCE)}
    except (ValueError, LookupError, TypeError) as error:
        raise BundleRefused(folder, "manifest", f"it cannot be read: {error!r}") from error

    files = {name: _read(folder, name) for name in digests}
    for name, content_of_file in files.items():
        found = hashlib.sha256(content_of_file).hexdigest()
        if found != digests[name]:
            raise BundleRefused(
                folder, "digest", f"expected {name} with SHA-256 {digests[name]}, got {found}"
            )
    if feature_set is not None and manifest.feature_hash != feature_set.hash:
        raise BundleRefused(
            folder,
            "feature set",
            f"expected {feature_set.identity}, which is served, got {manifest.feature_set}; "
            "train again",
        )
    try:
        # By this thread, and from memory of Arrow's own: threads of Arrow's would ask for the lock
        # of Python's interpreter, and a process that ends meanwhile would wait for them for ever.
        packed = pq.ParquetFile(pa.BufferReader(files[REFERENCE]))
        reference = packed.read(use_threads=False)
    except (pa.ArrowInvalid, OSError) as error:
        raise BundleRefused(folder, "reference", f"no Parquet file: {error}") from error
    try:
        session = _session(files[MODEL])
        scores = _score(session, golden_rows, len(manifest.feature_names))
    # The errors of onnxruntime have no base class of their own.
    except Exception as error:
        raise BundleRefused(folder, "model", f"it does not run: {error}") from error
    _check_golden(folder, golden_scores, scores)
    return Bundle(manifest, version, hashlib.sha256(content).hexdigest(), reference, session)


def distributions(
    names: Sequence[str],
    features: npt.NDArray[np.floating],
    scores: npt.NDArray[np.floating],
    bins: int = 20,
) -> pa.Table:
    """Return how each feature and the score are distributed, in bins of about equal counts.

    Returns
    -------
    pyarrow.Table
        Columns ``name`` (a feature's, or ``"score"``), ``lower`` and ``upper`` (a bin holds the
        values v with lower < v <= upper; the outermost bounds are infinite; both are NaN in the
        one row of a name that counts absent values) and ``count``.

    Examples
    --------
    >>> matrix = np.array([[1.0], [2.0], [np.nan]])
    >>> table = distributions(["x"], matrix, np.array([0.1, 0.1, 0.1]), bins=2)
    >>> for row in table.to_pylist():
    ...     print(*row.values())
    x -inf 1.5 1
    x 1.5 inf 1
    x nan nan 1
    score -inf 0.1 3
    score 0.1 inf 0
    score nan nan 0
    """
    columns = [*names, "score"]
    rows: list[tuple[str, float, float, int]] = []
    for name, column in zip(columns, [*np.transpose(features), scores], strict=True):
        present = np.sort(column[~np.isnan(column)].astype(np.float64))
        inner = np.quantile(present, np.arange(1, bins) / bins) if len(present) else np.array([])
        edges = np.concatenate([[-np.inf], np.unique(inner), [np.inf]])
        below = np.searchsorted(present, edges, side="right")
        rows += zip(
            [name] * (len(edges) - 1),
            edges[:-1].tolist(),
            edges[1:].tolist(),
            np.diff(below).tolist(),
            strict=True,
        )
        rows.append((name, np.nan, np.nan, len(column) - len(present)))
    return pa.table(
        dict(
            zip(
                ("name", "lower", "upper", "count"), map(list, zip(*rows, strict=True)), strict=True
            )
        )
    )


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as error:
        raise BundleRefused(
            folder, "manifest" if name == MANIFEST else "digest", f"expected a file {name}: {error}"
        ) from error


def _manifest(document: Mapping[str, Any]) -> Manifest:
    if document["format"] != FORMAT:
        raise ValueError(f"expected the format {FORMAT}, got {document['format']!r}")
    features = document["feature_set"]
    names = tuple(map(str, features["names"]))
    usual = tuple(np.nan if value is None else float(value) for value in features["usual_values"])
    if len(usual) != len(names):
        raise ValueError(f"{len(names)} features, but {len(usual)} usual values")
    threshold = float(document["threshold"]["value"])
    if not 0 <= threshold <= 1:
        raise ValueError(f"expected a threshold in [0, 1], got {threshold}")
    return Manifest(
        name=str(document["name"]),
        run=str(document["run"]),
        feature_set=str(features["identity"]),
        feature_hash=str(features["hash"]),
        feature_names=names,
        threshold=threshold,
        threshold_policy=str(document["threshold"]["policy"]),
        threshold_figures=dict(document["threshold"]["figures"]),
        label_delay=timedelta(seconds=document["label_delay_s"]),
        metrics=dict(document["metrics"]),
        training=dict(document["training"]),
        usual_values=usual,
    )


def _check_golden(
    folder: Path, expected: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]
) -> None:
    # NaN is neither at least 0 nor at most 1.
    wrong = np.flatnonzero(~((scores >= 0) & (scores <= 1)))
    if len(wrong):
        raise BundleRefused(
            folder,
            "finite",
            f"expected scores in [0, 1], got {scores[wrong[0]]} for row {wrong[0]}",
        )
    if expected.shape != scores.shape or len(scores) < 2:
        raise BundleRefused(
            folder, "golden rows", f"expected two or more, got {len(scores)} and {expected.shape}"
        )
    if np.ptp(scores) <= GOLDEN_TOLERANCE:
        raise BundleRefused(folder, "constant", f"all golden rows score {scores[0]:.6f}")
    worst = int(np.argmax(np.abs(scores - expected)))
    if not abs(scores[worst] - expected[worst]) <= GOLDEN_TOLERANCE:
        raise BundleRefused(
            folder,
            "golden rows",
            f"expected row {worst} to score {expected[worst]:.6f}, got {scores[worst]:.6f}",
        )


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    # The caller is one of many workers and has one core: threads of our own would only wait for
    # one another, and by default they wait by spinning.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _score(
    session: onnxruntime.InferenceSession, features: npt.NDArray[np.floating], width: int
) -> npt.NDArray[np.float64]:
    if features.ndim != 2 or features.shape[1] != width:
        raise ValueError(f"expected a matrix of {width} features, got the shape {features.shape}")
    scores = np.empty(len(features), dtype=np.float64)
    name = session.get_inputs()[0].name
    # Each pass has as many rows, the last one with some that nobody asks for. How a product of
    # matrices is rounded depends on their size, and a score must not depend on who is beside it.
    rows = np.zeros((_ROWS_PER_PASS, width), dtype=np.float32)
    for start in range(0, len(features), _ROWS_PER_PASS):
        some = features[start : start + _ROWS_PER_PASS]
        rows[: len(some)] = np.clip(some, -_FLOAT32_MAX, _FLOAT32_MAX)
        (found,) = session.run(None, {name: rows})
        scores[start : start + len(some)] = found[: len(some)]
    return scores
