"""Scores are computed again by the model that each was served by."""

from collections.abc import Callable
from typing import Any
from typing import cast

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pytest

from fraudstream.features.definitions import Feature
from fraudstream.features.definitions import FeatureSet
from fraudstream.inference import evidence as module
from fraudstream.inference.audit import differing
from fraudstream.inference.evidence import Evidence
from fraudstream.inference.evidence import scored_again
from fraudstream.kafka.tables import Topic
from fraudstream.kafka.topics import Topics
from fraudstream.model.bundle import Bundle
from fraudstream.schema.decoding import Decoded
from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_transactions
from unit.schema.documents import prediction
from unit.schema.documents import transaction

AMOUNTS = FeatureSet("amounts", 1, (Feature(None, "amount", "value", group="amount"),))
DIGESTS = {"1": "a" * 64, "2": "b" * 64}

Decode = Callable[[list[bytes | None], npt.NDArray[np.int64]], Decoded]


class Times:
    """A model: so many times the amount."""

    def __init__(self, version: str) -> None:
        self.times = float(version)

    def score(self, features: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return features[:, 0] * self.times


def model(version: str, digest: str) -> Bundle | None:
    assert digest == DIGESTS[version]
    return cast(Bundle, Times(version))


def topic(decode: Decode, *parts: list[dict[str, Any]]) -> Topic:
    """Return what was read of a partition in some parts."""
    tables, begin = [], 0
    none = pa.table({name: pa.array([], pa.int64()) for name in ("partition", "offset")})
    for part in parts:
        values = [orjson.dumps(document) for document in part]
        columns = decode(list(values), np.full(len(values), 2**42)).columns
        columns = columns.append_column("offset", pa.array(np.arange(len(columns)) + begin))
        columns = columns.append_column("partition", pa.array(np.zeros(len(columns), np.int64)))
        tables.append(columns)
        begin += len(columns)
    return Topic(pa.concat_tables(tables), [], none)


def paid(number: int, amount: float) -> dict[str, Any]:
    return transaction(transaction_id=f"t{number}", card_id="c", amount=amount)


def served(number: int, score: float, version: str, **changed: Any) -> dict[str, Any]:
    named = {"model_version": version, "model_digest": DIGESTS[version]}
    own = {"transaction_id": f"t{number}", "card_id": "c", "score": score}
    return prediction(**own, **named, **{"feature_set": AMOUNTS.identity, **changed})


def evidence(*scores: list[dict[str, Any]]) -> Evidence:
    none: list[dict[str, Any]] = []
    places = pa.array([], pa.int64())
    letters = pa.table({"topic": pa.array([], pa.string()), "partition": places, "offset": places})
    return Evidence(
        Topics(),
        # The third is sent again, by who has forgotten what it was.
        topic(decode_transactions, [paid(n, 0.1 * n) for n in range(4)], [paid(3, 9.0)]),
        topic(decode_labels, none),
        topic(module._decode_results, *scores),
        topic(module._decode_results, none),
        letters,
    )


def test_each_score_is_computed_by_its_own_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 1)
    found = evidence(
        [served(3, 0.3, "1"), served(0, 0.0, "1")], [served(2, 0.4, "2"), served(1, 0.2, "2")]
    )
    again = scored_again(found, AMOUNTS, model)
    np.testing.assert_allclose(again, [0.3, 0.0, 0.4, 0.2])
    assert differing("scores", found.scores.columns, again) == []
    assert found.audit().is_clean
    assert found.audit().copies == 1


def test_what_cannot_be_computed_again_is_not_a_number() -> None:
    found = evidence(
        [served(7, 0.3, "1"), served(0, 0.0, "1", feature_set="others.v1@0123456789abcdef")],
        [served(2, 0.4, "2"), served(1, 0.1, "1")],
    )
    again = scored_again(found, AMOUNTS, lambda version, digest: None)
    assert np.isnan(again).all()
    again = scored_again(found, AMOUNTS, model)
    np.testing.assert_allclose(again, [np.nan, np.nan, 0.4, 0.1])
