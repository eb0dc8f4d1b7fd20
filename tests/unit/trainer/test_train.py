"""The loop learns what is there, the same way each time, and says when there is nothing."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from fraudstream.model.network import Network
from fraudstream.model.network import Shape
from fraudstream.model.network import predict
from fraudstream.trainer.train import NothingLearned
from fraudstream.trainer.train import Settings
from fraudstream.trainer.train import Trained
from fraudstream.trainer.train import fit as fit_alone
from fraudstream.trainer.train import platt
from fraudstream.trainer.train import train

SMALL = Settings(epochs=6, batch=256, shape=Shape(members=4, first=32, second=16))


def rows(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Frauds by a rule of two features that no single one shows, and a tenth of it by chance."""
    random = np.random.default_rng(seed)
    features = random.normal(size=(count, 5))
    likely = (features[:, 0] > 1) & (features[:, 1] < -0.5)
    is_fraud = random.random(count) < np.where(likely, 0.6, 0.003)
    features[random.random((count, 5)) < 0.05] = np.nan
    return features, is_fraud


def fit(settings: Settings = SMALL) -> tuple[Trained, list[float]]:
    features, is_fraud = rows(12_000, 0)
    selection, selection_is_fraud = rows(6_000, 1)
    steps: list[float] = []
    trained = train(
        features, is_fraud, selection, selection_is_fraud, settings, steps.append, threads=1
    )
    return trained, steps


@pytest.fixture(scope="module")
def trained() -> Trained:
    return fit()[0]


def test_an_interaction_is_learned(trained: Trained) -> None:
    features, is_fraud = rows(6_000, 2)
    scores = predict(trained.network, features)
    # Who knows the rule reaches about 0.5; chance is the share of frauds, 0.03.
    assert average_precision_score(is_fraud, scores) > 0.4


def test_probabilities_are_calibrated_although_negatives_were_thinned_out(trained: Trained) -> None:
    features, is_fraud = rows(20_000, 3)
    scores = predict(trained.network, features)
    assert scores.mean() == pytest.approx(is_fraud.mean(), rel=0.15)
    high = scores > 0.3
    assert scores[high].mean() == pytest.approx(is_fraud[high].mean(), abs=0.15)


def test_without_calibration_probabilities_are_nearly_right_since_drawn_rows_weigh_more() -> None:
    features, is_fraud = rows(12_000, 0)
    network = fit_alone(features, is_fraud, replace(SMALL, negatives_per_fraud=5.0), threads=1)
    others, is_fraud_of_others = rows(20_000, 3)
    scores = predict(network, others)
    assert scores.mean() == pytest.approx(is_fraud_of_others.mean(), rel=0.3)


def test_few_rows_teach_as_much_as_all_where_the_hard_ones_are_among_them() -> None:
    features, is_fraud = rows(40_000, 0)
    others, is_fraud_of_others = rows(20_000, 3)

    def precision(**choice: float) -> float:
        network = fit_alone(features, is_fraud, replace(SMALL, **choice), threads=1)
        return float(average_precision_score(is_fraud_of_others, predict(network, others)))

    everything = precision(negatives_per_fraud=1e6)
    assert precision(negatives_per_fraud=3.0, hard_share=0.5) > everything - 0.03


def test_a_watch_sees_every_epoch_and_may_end_the_training() -> None:
    features, is_fraud = rows(3_000, 0)
    losses: list[float] = []

    def watch(network: Network, loss: float) -> bool:
        losses.append(loss)
        return len(losses) == 2

    fit_alone(features, is_fraud, SMALL, watch, threads=1)
    assert len(losses) == 2


def test_the_same_seed_gives_the_same_network(trained: Trained) -> None:
    features, _ = rows(500, 4)
    again, _ = fit()
    np.testing.assert_array_equal(
        predict(trained.network, features), predict(again.network, features)
    )
    assert again.epochs == trained.epochs


def test_another_seed_gives_another_network(trained: Trained) -> None:
    other, _ = fit(Settings(seed=1, epochs=1, shape=SMALL.shape))
    features, _ = rows(50, 4)
    assert not np.allclose(predict(trained.network, features), predict(other.network, features))


def test_the_best_epoch_is_kept(trained: Trained) -> None:
    selection, selection_is_fraud = rows(6_000, 1)
    scores = predict(trained.network, selection)
    best = max(epoch.average_precision for epoch in trained.epochs)
    assert average_precision_score(selection_is_fraud, scores) == pytest.approx(best, abs=1e-6)


def test_training_stops_when_it_no_longer_gets_better_and_progress_ends_whole() -> None:
    patient, steps = fit(Settings(epochs=40, patience=2, batch=256, shape=SMALL.shape))
    assert len(patient.epochs) < 40
    assert sum(steps) == 40


def test_a_ranking_that_is_upside_down_is_an_error_and_no_model() -> None:
    features, is_fraud = rows(12_000, 0)
    selection, selection_is_fraud = rows(6_000, 1)
    with pytest.raises(NothingLearned, match="learned nothing"):
        train(features, is_fraud, selection, ~selection_is_fraud, SMALL, lambda epochs: None, 1)


def test_calibration_is_finite_where_the_classes_do_not_overlap() -> None:
    logits = np.concatenate([np.full(90, -5.0), np.full(10, 5.0)])
    gain, offset = platt(logits, logits > 0)
    assert np.isfinite([gain, offset]).all()
    assert gain > 0


def test_calibration_finds_what_made_the_labels() -> None:
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, 200_000)
    is_fraud = random.random(200_000) < 1 / (1 + np.exp(-(0.7 * logits - 1.5)))
    gain, offset = platt(logits, is_fraud)
    assert gain == pytest.approx(0.7, abs=0.03)
    assert offset == pytest.approx(-1.5, abs=0.03)
