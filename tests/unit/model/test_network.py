"""The network takes what features come, and its export scores as it does."""

import numpy as np
import onnxruntime
import pytest
import torch

from fraudstream.model.network import Encoding
from fraudstream.model.network import Network
from fraudstream.model.network import predict
from fraudstream.model.served import export
from unit.model.example_bundles import tiny_network
from unit.model.example_bundles import tiny_rows


def encode(encoding: Encoding, *values: float) -> torch.Tensor:
    return encoding(torch.tensor([[value] for value in values]))


def test_an_encoding_passes_its_pieces_one_after_another() -> None:
    column = np.arange(1000, dtype=np.float64).reshape(-1, 1)
    encoding = Encoding(column)
    encoded = encode(encoding, -5.0, 0.0, 500.0, 999.0, 5e9)
    np.testing.assert_allclose(encoded[0], 0)
    np.testing.assert_allclose(encoded[1], 0)
    np.testing.assert_allclose(encoded[3], 1)
    np.testing.assert_allclose(encoded[4], 1)
    steps = np.diff(encoded[2].numpy())
    assert (steps <= 0).all(), "a piece is entered only when the one before it is passed"


def test_an_encoding_keeps_the_order_of_values_in_its_range() -> None:
    column = np.exp(np.random.default_rng(0).normal(size=(2000, 1)) * 3)
    sums = Encoding(column)(torch.from_numpy(np.sort(column, axis=0).astype(np.float32))).sum(dim=1)
    assert (np.diff(sums.numpy()) >= -1e-4).all()


def test_an_encoding_is_fine_among_the_frauds_however_few_they_are() -> None:
    legitimate = np.linspace(0, 100, 100_000)
    frauds = np.linspace(220, 320, 20)
    column = np.concatenate([legitimate, frauds]).reshape(-1, 1)
    is_fraud = np.arange(len(column)) >= len(legitimate)
    encoded = encode(Encoding(column, is_fraud), 100.0, 220.0, 240.0, 300.0)
    reached = encoded.sum(dim=1)
    assert reached[1] - reached[0] == pytest.approx(1), "the step between the classes is one piece"
    assert reached[2] - reached[1] > 2
    assert reached[3] - reached[2] > 5


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_an_encoding_of_one_class_alone_is_cut_by_its_values(share: float) -> None:
    column = np.arange(100.0).reshape(-1, 1)
    classes = np.full(100, bool(share))
    torch.testing.assert_close(
        encode(Encoding(column, classes), 3.0, 77.0), encode(Encoding(column), 3.0, 77.0)
    )


def test_a_constant_feature_has_no_pieces() -> None:
    assert Encoding(np.array([[1.0, 7.0], [2.0, 7.0]])).width == 1


def test_a_flag_has_a_single_piece() -> None:
    assert Encoding(np.array([[0.0], [1.0], [1.0]])).width == 1


def test_a_feature_that_was_never_absent_counts_as_its_median_when_it_is() -> None:
    encoding = Encoding(np.array([[1.0], [5.0], [9.0]]))
    torch.testing.assert_close(encode(encoding, float("nan")), encode(encoding, 5.0))


def test_absent_differs_from_the_smallest_value() -> None:
    encoding = Encoding(np.array([[1.0], [5.0], [np.nan]]))
    assert not torch.equal(encode(encoding, float("nan")), encode(encoding, 1.0))


def test_features_that_are_all_constant_are_an_error() -> None:
    with pytest.raises(ValueError, match="every one is constant"):
        Encoding(np.ones((5, 2)))


def test_values_of_any_size_keep_pieces_that_float32_tells_apart() -> None:
    draw = np.random.default_rng(0)
    columns = np.column_stack([1e12 + draw.normal(size=500), draw.normal(size=500) * 1e-30])
    rows = columns.astype(np.float32)
    encoded = Encoding(columns)(torch.from_numpy(rows))
    assert torch.isfinite(encoded).all()


def test_training_sees_the_members_apart() -> None:
    network = tiny_network()
    logits = network.logits(network.encoding(torch.from_numpy(tiny_rows(5).astype(np.float32))))
    assert logits.shape == (5, 4)
    assert (logits.std(dim=1) > 0).all()


def test_calibration_leaves_the_ranking_as_it_is() -> None:
    network = tiny_network()
    rows = tiny_rows(200)
    before = predict(network, rows)
    network.calibrate(0.3, -2.0)
    after = predict(network, rows)
    np.testing.assert_array_equal(np.argsort(before), np.argsort(after))
    assert not np.allclose(before, after)


@pytest.mark.parametrize("gain", [0.0, -1.0, float("nan")])
def test_a_calibration_that_would_turn_the_ranking_round_is_an_error(gain: float) -> None:
    with pytest.raises(ValueError, match="expected a gain above 0"):
        tiny_network().calibrate(gain, 0.0)


@pytest.mark.parametrize("rows", [1, 2, 777])
def test_the_export_scores_any_number_of_rows_as_the_network_does(rows: int) -> None:
    network = tiny_network()
    features = tiny_rows(rows, seed=3)
    session = onnxruntime.InferenceSession(export(network), providers=["CPUExecutionProvider"])
    (scores,) = session.run(["score"], {"features": features.astype(np.float32)})
    assert scores.shape == (rows,)
    np.testing.assert_allclose(scores, predict(network, features), atol=1e-5, rtol=0)


def test_features_that_are_never_absent_export_too() -> None:
    rows = tiny_rows()[:, :3]
    network = Network(Encoding(rows))
    session = onnxruntime.InferenceSession(export(network), providers=["CPUExecutionProvider"])
    (scores,) = session.run(None, {"features": rows.astype(np.float32)})
    np.testing.assert_allclose(scores, predict(network, rows), atol=1e-5, rtol=0)


def test_no_rows_have_no_predictions() -> None:
    assert predict(tiny_network(), np.empty((0, 4))).shape == (0,)
