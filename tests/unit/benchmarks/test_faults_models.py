"""Models that are unfit are refused by the check that they were made for, and the others pass."""

from datetime import UTC
from datetime import datetime
from pathlib import Path

from faults.models import DEFECTS
from faults.models import sample
from faults.models import write_model
import numpy as np
import pytest

from fraudstream.features.sets import DEFAULT
from fraudstream.model.bundle import BundleRefused
from fraudstream.model.bundle import load_bundle
from fraudstream.schema.timestamps import to_us


@pytest.fixture(scope="module")
def features() -> np.ndarray:
    return sample(1, 5_000, 100.0, to_us(datetime(2026, 3, 1, tzinfo=UTC)))


def test_models_of_different_seeds_pass_and_differ(tmp_path: Path, features: np.ndarray) -> None:
    scores = []
    for seed in (1, 2):
        write_model(tmp_path / str(seed), features, seed)
        scores.append(load_bundle(tmp_path / str(seed), DEFAULT).score(features))
    assert np.abs(scores[0] - scores[1]).max() > 0.01


def test_a_sample_is_of_cards_with_a_past(features: np.ndarray) -> None:
    within_a_day = features[:, DEFAULT.names.index("count_by_card_1d")]
    assert np.median(within_a_day) > 10
    assert within_a_day.min() <= 1


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_model_with_a_defect_is_refused_for_it(
    tmp_path: Path, features: np.ndarray, defect: str
) -> None:
    write_model(tmp_path, features, 1, defect)
    with pytest.raises(BundleRefused) as refused:
        load_bundle(tmp_path, DEFAULT)
    assert refused.value.check == {"nan": "finite"}.get(defect, defect)
