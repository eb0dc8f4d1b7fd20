"""The documents that go out: whole, exact, and what the schema promises."""

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import orjson
import pyarrow as pa
import pytest

from fraudstream.inference.scoring import Destinations
from fraudstream.inference.scoring import results
from fraudstream.inference.scoring import times_as_text
from fraudstream.inference.steps import HANDED_ON
from fraudstream.inference.steps import TRANSACTION
from fraudstream.model.bundle import load_bundle
from fraudstream.schema.timestamps import format_us
from fraudstream.schema.validation import PREDICTION
from fraudstream.schema.validation import load_schema
from fraudstream.schema.validation import validator
from unit.model.example_bundles import TINY
from unit.model.example_bundles import write_tiny

TO = Destinations("scores", "predicted", "dead-letters")
_ID = st.from_regex(load_schema(PREDICTION)["properties"]["card_id"]["pattern"], fullmatch=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    write_tiny(folder)
    return load_bundle(folder, TINY, "3")


def handed(ids, amounts, late=False):
    """Return transactions of a second each, as the last step has them, with features of `TINY`."""
    return pa.Table.from_pylist(
        [
            {
                "kind": TRANSACTION,
                "transaction_id": name,
                "transaction_identity": number,
                "card_id": name,
                "merchant_id": name,
                "event_time_us": 1_700_000_000_000_001 + number * 1_000_000,
                "amount": amount,
                "is_late": late,
                "features": [amount, 1.0, float(number), np.nan],
            }
            for number, (name, amount) in enumerate(zip(ids, amounts, strict=True))
        ],
        HANDED_ON,
    )


def scores_of(bundle, rows, share=0.0):
    out = results(TINY, bundle, rows, TO, share).outgoing.to_pylist()
    return [(row["key"], row["value"]) for row in out if row["topic"] == "scores"]


@settings(deadline=None)
@given(st.lists(st.tuples(_ID, st.floats(0, allow_infinity=False)), min_size=1, max_size=20))
def test_each_document_says_exactly_what_came_and_keeps_to_the_schema(bundle, drawn):
    ids, amounts = zip(*drawn, strict=True)
    check = validator(PREDICTION)
    found = scores_of(bundle, handed(ids, amounts))
    matrix = np.array([[a, 1.0, n, np.nan] for n, a in enumerate(amounts)])
    for name, amount, score, (key, value) in zip(
        ids, amounts, bundle.score(matrix).tolist(), found, strict=True
    ):
        document = check.parse(value)
        assert key == name.encode()
        assert {document[f"{of}_id"] for of in ("transaction", "card", "merchant")} == {name}
        assert (document["amount"], document["score"]) == (amount, score)


def test_those_that_show_features_or_reasons_differ_in_nothing_else(bundle):
    rows = handed([f"c{n}" for n in range(200)], np.linspace(1, 500, 200).tolist(), late=True)
    bare = [orjson.loads(value) for _, value in scores_of(bundle, rows)]
    shown = [orjson.loads(value) for _, value in scores_of(bundle, rows, share=1.0)]
    assert any(document["is_alert"] for document in bare)
    for without, with_features in zip(bare, shown, strict=True):
        assert list(without) == list(with_features)
        assert without == {**with_features, "features": None}
        assert list(with_features["features"]) == list(TINY.names)
        assert bool(without["reasons"]) <= without["is_alert"]
        assert without["is_late"] is True


def test_of_nothing_comes_nothing(bundle):
    assert results(TINY, bundle, HANDED_ON.empty_table(), TO, 1.0).outgoing.to_pylist() == []


def test_times_are_written_as_they_are_elsewhere():
    us = np.random.default_rng(0).integers(0, 4_102_444_800_000_000, 1_000)
    us[:3] = 0, 1_000_000, 1_500_000
    assert times_as_text(pa.chunked_array([us])).to_pylist() == format_us(us)
