"""A bundle that is sound loads; one that is not is refused, with the check that failed."""

from collections.abc import Callable
from dataclasses import replace
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from fraudstream.features.definitions import Feature
from fraudstream.features.definitions import FeatureSet
from fraudstream.model.bundle import MANIFEST
from fraudstream.model.bundle import MODEL
from fraudstream.model.bundle import REFERENCE
from fraudstream.model.bundle import BundleRefused
from fraudstream.model.bundle import distributions
from fraudstream.model.bundle import load_bundle
from fraudstream.model.bundle import write_bundle
from fraudstream.model.network import predict
from unit.model.example_bundles import TINY
from unit.model.example_bundles import tiny_manifest
from unit.model.example_bundles import tiny_network
from unit.model.example_bundles import tiny_rows
from unit.model.example_bundles import write_tiny


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    write_tiny(folder)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    for file in sound.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    return tmp_path


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest, as someone who can write to the folder could."""
    document = orjson.loads((folder / MANIFEST).read_bytes())
    change(document)
    (folder / MANIFEST).write_bytes(orjson.dumps(document))


def refusal(folder: Path, feature_set: FeatureSet = TINY) -> BundleRefused:
    with pytest.raises(BundleRefused) as caught:
        load_bundle(folder, feature_set)
    assert str(folder) in str(caught.value)
    return caught.value


def test_a_bundle_gives_back_what_was_written(sound: Path) -> None:
    bundle = load_bundle(sound, TINY, version="7")
    written = tiny_manifest()
    assert replace(bundle.manifest, usual_values=()) == replace(written, usual_values=())
    np.testing.assert_array_equal(bundle.usual_values, written.usual_values)
    assert (bundle.name, bundle.version) == ("tiny-detector", "7")
    assert bundle.threshold == 0.5
    assert bundle.manifest.threshold_figures == {"alerts_per_day": 40.0, "precision": 0.5}
    assert bundle.feature_set == TINY.identity
    assert bundle.feature_names == TINY.names
    assert bundle.reference.column_names == ["name", "lower", "upper", "count"]


def test_the_digest_is_that_of_the_manifest(folder: Path) -> None:
    digest = write_tiny(folder)
    assert digest == hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()
    assert load_bundle(folder).digest == digest


def test_the_same_network_makes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    assert write_tiny(folder) == write_tiny(tmp_path / "again")


def test_a_bundle_scores_as_the_network_does(sound: Path) -> None:
    rows = tiny_rows(3000, seed=1)
    scores = load_bundle(sound, TINY).score(rows)
    assert scores.dtype == np.float64
    np.testing.assert_allclose(scores, predict(tiny_network(), rows), atol=1e-5, rtol=0)


def test_a_score_does_not_depend_on_the_rows_beside_it(sound: Path) -> None:
    bundle = load_bundle(sound, TINY)
    rows = tiny_rows(600, seed=2)
    together = bundle.score(rows)
    for start, size in [(0, 1), (3, 2), (5, 7), (100, 256), (17, 257), (599, 1)]:
        np.testing.assert_array_equal(
            bundle.score(rows[start : start + size]), together[start : start + size]
        )


def test_no_rows_have_no_scores(sound: Path) -> None:
    assert load_bundle(sound).score(np.empty((0, 4))).shape == (0,)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300, -1e300, 3.5e38, 5e-324])
def test_no_value_makes_a_score_that_is_no_probability(sound: Path, value: float) -> None:
    scores = load_bundle(sound).score(np.full((1, 4), value))
    assert 0 <= scores[0] <= 1


@pytest.mark.parametrize("shape", [(4,), (2, 3), (2, 5), (1, 2, 4)])
def test_a_matrix_of_another_width_is_an_error(sound: Path, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected a matrix of 4 features"):
        load_bundle(sound).score(np.zeros(shape))


@pytest.mark.parametrize("name", [MODEL, REFERENCE])
def test_one_flipped_bit_in_a_file_is_refused(folder: Path, name: str) -> None:
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert refusal(folder).check == "digest"
    assert name in str(refusal(folder))


@pytest.mark.parametrize(
    ("name", "check"), [(MANIFEST, "manifest"), (MODEL, "digest"), (REFERENCE, "digest")]
)
def test_a_missing_file_is_refused(folder: Path, name: str, check: str) -> None:
    (folder / name).unlink()
    assert refusal(folder).check == check


def test_an_absent_folder_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere").check == "manifest"


@pytest.mark.parametrize(
    "damage",
    [
        lambda document: document.pop("threshold"),
        lambda document: document.update(format="something.else"),
        lambda document: document["threshold"].pop("figures"),
        lambda document: document["threshold"].update(value=1.5),
        lambda document: document["threshold"].update(value=None),
        lambda document: document["feature_set"]["usual_values"].pop(),
        lambda document: document["golden"].update(rows="none"),
        lambda document: document["files"].pop(MODEL),
        lambda document: document.update(feature_set=None),
    ],
)
def test_a_manifest_of_another_layout_is_refused(
    folder: Path, damage: Callable[[dict[str, Any]], object]
) -> None:
    rewrite(folder, damage)
    assert refusal(folder).check == "manifest"


@pytest.mark.parametrize("content", [b"", b"\x80\x04.", b"{", b"[]", b"null", b"\xff\xfe"])
def test_a_manifest_that_is_no_json_document_is_refused(folder: Path, content: bytes) -> None:
    (folder / MANIFEST).write_bytes(content)
    assert refusal(folder).check == "manifest"


def test_a_model_of_other_features_is_refused_and_both_are_named(folder: Path) -> None:
    other = FeatureSet("tiny", 2, (Feature(None, "amount", "value"),))
    refused = refusal(folder, other)
    assert refused.check == "feature set"
    assert TINY.identity in str(refused)
    assert other.identity in str(refused)


def test_whoever_only_looks_need_not_serve_the_features(folder: Path) -> None:
    assert load_bundle(folder).feature_set == TINY.identity


def test_a_golden_row_with_another_score_is_refused(folder: Path) -> None:
    def nudge(document: dict[str, Any]) -> None:
        document["golden"]["scores"][3] += 3e-5

    rewrite(folder, nudge)
    assert refusal(folder).check == "golden rows"
    assert "row 3" in str(refusal(folder))


def test_a_bundle_without_golden_rows_is_refused(folder: Path) -> None:
    rewrite(folder, lambda document: document["golden"].update(rows=[[1, 1, 1, 1]], scores=[0.5]))
    assert refusal(folder).check == "golden rows"


def test_golden_rows_of_another_width_are_refused(folder: Path) -> None:
    rewrite(folder, lambda document: document["golden"].update(rows=[[1], [2]], scores=[0, 1]))
    assert refusal(folder).check == "model"


def test_a_golden_score_that_is_no_number_is_refused(folder: Path) -> None:
    rewrite(folder, lambda document: document["golden"]["scores"].__setitem__(0, None))
    assert refusal(folder).check == "golden rows"


def _write(folder: Path, model: bytes, reference: bytes | None = None) -> None:
    rows = tiny_rows()
    scores = np.linspace(0, 1, 8)
    write_bundle(
        folder,
        tiny_manifest(),
        model,
        distributions(TINY.names, rows, rows[:, 0]),
        rows[:8],
        scores,
    )
    if reference is not None:
        (folder / REFERENCE).write_bytes(reference)
        digest = hashlib.sha256(reference).hexdigest()
        rewrite(folder, lambda document: document["files"].update({REFERENCE: digest}))


def _onnx(operator: str, *constants: float) -> bytes:
    """A model that is not ours: one reduction of the row, then one operator."""
    import onnx
    from onnx import TensorProto
    from onnx import helper

    more = [
        helper.make_tensor(f"c{i}", TensorProto.FLOAT, [], [c]) for i, c in enumerate(constants)
    ]
    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["features", "axes"], ["sum"], keepdims=0),
            helper.make_node(operator, ["sum", *(each.name for each in more)], ["score"]),
        ],
        "foreign",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1]), *more],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("model", "check"), [(b"no model at all", "model"), (_onnx("Mul", 1.0), "finite")]
)
def test_a_model_that_does_not_run_or_cannot_take_absent_values_is_refused(
    tmp_path: Path, model: bytes, check: str
) -> None:
    _write(tmp_path, model)
    assert refusal(tmp_path).check == check


def test_a_model_that_scores_everything_alike_is_refused(tmp_path: Path) -> None:
    rows = np.ones((8, 4))
    reference = distributions(TINY.names, rows, rows[:, 0])
    model = _onnx("Clip", 0.25, 0.25)
    write_bundle(tmp_path, tiny_manifest(), model, reference, rows, np.full(8, 0.25))
    assert refusal(tmp_path).check == "constant"


def test_a_model_that_scores_outside_zero_to_one_is_refused(tmp_path: Path) -> None:
    rows = np.arange(32.0).reshape(8, 4)
    reference = distributions(TINY.names, rows, rows[:, 0])
    write_bundle(tmp_path, tiny_manifest(), _onnx("Mul", 1.0), reference, rows, rows.sum(axis=1))
    assert refusal(tmp_path).check == "finite"


def test_a_reference_that_is_no_parquet_file_is_refused(tmp_path: Path) -> None:
    _write(tmp_path, _onnx("Mul", 1.0), reference=b"PAR1")
    assert refusal(tmp_path).check == "reference"


def test_distributions_count_every_row_once() -> None:
    rows = tiny_rows(500)
    table = distributions(TINY.names, rows, rows[:, 0]).to_pylist()
    for name in (*TINY.names, "score"):
        assert sum(row["count"] for row in table if row["name"] == name) == 500
    (absent,) = [r for r in table if r["name"] == TINY.names[3] and np.isnan(r["lower"])]
    assert absent["count"] == np.isnan(rows[:, 3]).sum()


def test_a_feature_that_is_always_absent_has_a_distribution_all_the_same() -> None:
    table = distributions(["x"], np.full((3, 1), np.nan), np.ones(3)).to_pylist()
    assert [row["count"] for row in table if row["name"] == "x"] == [0, 3]
