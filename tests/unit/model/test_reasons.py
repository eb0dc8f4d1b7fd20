"""A reason names what the served model itself reacts to."""

import os
from pathlib import Path
import subprocess
import sys
from unittest import mock

import numpy as np
import pytest

from fraudstream.model.bundle import Bundle
from fraudstream.model.bundle import load_bundle
from fraudstream.model.reasons import strongest
from fraudstream.model.reasons import usual_values
from unit.model.example_bundles import TINY
from unit.model.example_bundles import tiny_rows
from unit.model.example_bundles import write_tiny


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder: Path = tmp_path_factory.mktemp("bundle")
    write_tiny(folder)
    return load_bundle(folder, TINY)


def test_each_contribution_is_what_the_score_loses_without_the_group(bundle: Bundle) -> None:
    rows = tiny_rows(50, seed=1)
    scores = bundle.score(rows)
    for row, score, reasons in zip(rows, scores, strongest(bundle, TINY, rows), strict=True):
        for reason in reasons:
            without = row.copy()
            columns = TINY.groups[reason.group]
            without[columns] = bundle.usual_values[columns]
            lost = score - bundle.score(without[np.newaxis])[0]
            assert reason.contribution == pytest.approx(lost, abs=1e-7)


def test_no_group_that_was_left_out_had_contributed_more(bundle: Bundle) -> None:
    rows = tiny_rows(50, seed=2)
    every = strongest(bundle, TINY, rows, limit=4)
    for few, all_of_them in zip(strongest(bundle, TINY, rows, limit=2), every, strict=True):
        assert few == all_of_them[:2]
        contributions = [reason.contribution for reason in all_of_them]
        assert contributions == sorted(contributions, reverse=True)
        assert all(contribution > 0 for contribution in contributions)


def test_the_feature_is_the_one_of_its_group_that_lowers_the_score_most(bundle: Bundle) -> None:
    rows = tiny_rows(80, seed=3)
    scores = bundle.score(rows)
    seen = 0
    for row, score, reasons in zip(rows, scores, strongest(bundle, TINY, rows), strict=True):
        for reason in reasons:
            losses = {}
            for column in TINY.groups[reason.group]:
                without = row.copy()
                without[column] = bundle.usual_values[column]
                losses[TINY.names[column]] = score - bundle.score(without[np.newaxis])[0]
            assert losses[reason.feature] == pytest.approx(max(losses.values()), abs=1e-7)
            seen += len(losses) > 1
    assert seen > 10, "groups of several features must be among those that were checked"


def test_a_value_is_that_of_the_transaction_and_none_where_it_is_absent(bundle: Bundle) -> None:
    rows = tiny_rows(200, seed=4)
    absent = 0
    for row, reasons in zip(rows, strongest(bundle, TINY, rows), strict=True):
        for reason in reasons:
            value = row[TINY.names.index(reason.feature)]
            assert reason.value == (None if np.isnan(value) else value)
            absent += reason.value is None
    # The usual value of the last feature is absence itself, so an absent one is never a reason.
    assert absent == 0


def test_usual_values_are_no_reason(bundle: Bundle) -> None:
    assert strongest(bundle, TINY, bundle.usual_values[np.newaxis]) == [[]]


def test_no_rows_have_no_reasons(bundle: Bundle) -> None:
    assert strongest(bundle, TINY, np.empty((0, 4))) == []


def test_many_rows_are_explained_as_each_alone(bundle: Bundle) -> None:
    rows = tiny_rows(1500, seed=5)
    together = strongest(bundle, TINY, rows)
    for row in (0, 1023, 1024, 1499):
        assert strongest(bundle, TINY, rows[row : row + 1]) == [together[row]]


def test_the_model_is_asked_three_times_for_a_thousand_rows(bundle: Bundle) -> None:
    with mock.patch.object(Bundle, "score", autospec=True, side_effect=Bundle.score) as score:
        strongest(bundle, TINY, tiny_rows(1000))
    asked = [len(call.args[1]) for call in score.call_args_list]
    assert len(asked) == 3
    assert asked[:2] == [1000, 1000 * len(TINY.groups)]


def test_frauds_do_not_move_what_is_usual() -> None:
    rows = np.array([[1.0], [2.0], [3.0], [1e6], [1e6], [1e6], [1e6]])
    assert usual_values(rows, rows[:, 0] > 100).tolist() == [2.0]


def test_without_a_legitimate_transaction_nothing_is_usual() -> None:
    with pytest.raises(ValueError, match="expected a legitimate transaction"):
        usual_values(np.ones((2, 1)), np.array([True, True]))


def test_what_serves_imports_neither_torch_nor_mlflow() -> None:
    program = (
        "import sys, fraudstream.model.bundle, fraudstream.model.reasons;"
        "print([n for n in ('torch', 'mlflow', 'onnx', 'sklearn') if n in sys.modules])"
    )
    # Where our sources lie is known to this process, and not always to its interpreter.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert done.stdout.strip() == "[]"
