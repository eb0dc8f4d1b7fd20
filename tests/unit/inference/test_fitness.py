"""A model is judged by the latest traffic, beside the one that serves."""

from dataclasses import replace

import numpy as np
import pytest

from fraudstream.inference.fitness import Bounds
from fraudstream.inference.fitness import Recent
from fraudstream.inference.fitness import objection
from fraudstream.model.bundle import Bundle
from unit.model.example_bundles import tiny_manifest

BOUNDS = Bounds(most_share=0.2, most_times=4.0)
ROWS = np.linspace(0, 1, 1001).reshape(-1, 1)


class Session:
    """A model of one feature, as a bundle runs it."""

    def __init__(self, scores):
        self.scores = scores

    def get_inputs(self):
        return [self]

    name = "features"

    def run(self, _, inputs):
        return [self.scores(inputs["features"][:, 0].astype(np.float64))]


def model(scores=lambda x: x, threshold=0.95):
    manifest = replace(tiny_manifest(), feature_names=("x",), threshold=threshold)
    return Bundle(manifest, "1", "0" * 64, None, Session(scores))


@pytest.mark.parametrize(
    ("candidate", "check", "told"),
    [
        (model(lambda x: np.where(x > 0.5, np.nan, x)), "finite", "500 of 1,001"),
        (model(lambda x: x + 0.5), "finite", "of 1,001 recent rows get no score in"),
        (model(lambda x: np.full_like(x, 0.3)), "constant", "recent rows score 0.300000"),
        (
            model(threshold=0.7),
            "alert rate",
            "300 alerts in 1,001 recent rows, and 50 by version 1",
        ),
        (model(threshold=1.0 + 1e-9), "alert rate", "0 alerts in 1,001 recent rows, and 50"),
    ],
)
def test_what_is_wrong_with_a_model_is_told(candidate, check, told):
    found = objection(candidate, model(), ROWS, BOUNDS)
    assert found is not None
    assert found[0] == check
    assert told in found[1]


@pytest.mark.parametrize("threshold", [0.82, 0.95, 0.985, 0.999])
def test_a_model_within_bounds_may_serve(threshold):
    assert objection(model(threshold=threshold), model(), ROWS, BOUNDS) is None


def test_many_more_alerts_than_the_serving_model_has_are_refused_within_the_share():
    serving = model(threshold=0.985)
    assert objection(model(threshold=0.95), serving, ROWS, BOUNDS) is None
    found = objection(model(threshold=0.9), serving, ROWS, BOUNDS)
    assert found is not None
    assert found[0] == "alert rate"
    assert "at most 4 times as many" in found[1]


def test_a_serving_model_that_is_all_but_silent_keeps_out_no_better_one():
    serving = model(threshold=0.9995)
    assert objection(model(threshold=0.965), serving, ROWS, BOUNDS) is None
    assert objection(model(threshold=0.95), serving, ROWS, BOUNDS) is not None


def test_where_the_serving_model_has_few_alerts_none_is_no_fault():
    assert objection(model(threshold=1.0 + 1e-9), model(), ROWS[:955], BOUNDS) is None
    assert objection(model(threshold=1.0 + 1e-9), model(), ROWS[:965], BOUNDS) is not None


def test_of_traffic_no_more_than_the_latest_rows_are_remembered():
    recent = Recent(most=10)
    for start in range(0, 100, 7):
        recent.add(np.arange(start, start + 7.0).reshape(-1, 1))
        recent.add(np.zeros((0, 1)))
    assert recent.rows.ravel().tolist() == list(range(95, 105))
