"""Served features against replayed ones, over whole topics and for every row."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from fraudstream.features.definitions import FeatureSet
from fraudstream.features.windows import replay
from fraudstream.kafka.reading import Span
from fraudstream.kafka.reading import read
from fraudstream.kafka.reading import spans
from fraudstream.kafka.tables import Decode
from fraudstream.kafka.tables import read_topic
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_transactions

#: How far a served feature may be from the replayed one.
SAME_FEATURE = 1e-9

_Float64 = npt.NDArray[np.float64]


@dataclass(frozen=True)
class History:
    """What the topics of transactions and labels hold, decoded, and the features of a replay.

    Attributes
    ----------
    transactions, labels
        As `fraudstream.features.windows.replay` takes them.
    features
        One row a transaction.
    """

    transactions: pa.Table
    labels: pa.Table
    features: _Float64


class Parity:
    """Compares what was served with a replay, some rows at a time.

    Parameters
    ----------
    feature_set
        Which features.
    transaction_ids
        Of the replayed rows; no two are alike.
    features
        The replayed rows.

    Attributes
    ----------
    max_abs_difference
        The largest there is; infinite where a value is absent on one side only.
    rows_differing
        Served rows with a feature that is further away than `SAME_FEATURE`.
    by_feature
        In how many rows each feature is.

    Examples
    --------
    >>> from fraudstream.features.definitions import Feature
    >>> amount = FeatureSet("amounts", 1, (Feature(None, "amount", "value", group="amount"),))
    >>> parity = Parity(amount, ["a", "b"], np.array([[1.0], [np.nan]]))
    >>> parity.add([{"transaction_id": "b", "features": {"amount": None}}])
    >>> parity.add([{"transaction_id": "a", "features": {"amount": 1.5}}])
    >>> parity.rows_compared, parity.rows_differing, parity.max_abs_difference
    (2, 1, 0.5)
    """

    def __init__(
        self, feature_set: FeatureSet, transaction_ids: list[str], features: _Float64
    ) -> None:
        self._names = feature_set.names
        self._row = {name: row for row, name in enumerate(transaction_ids)}
        self._features = features
        self._is_compared = np.zeros(len(features), dtype=bool)
        self.max_abs_difference = 0.0
        self.rows_differing = 0
        self.by_feature: Counter[str] = Counter()

    @property
    def rows_compared(self) -> int:
        """How many of the replayed rows were served."""
        return int(self._is_compared.sum())

    def add(self, scores: list[dict[str, Any]]) -> None:
        """Compare some scores; those of no replayed row are the audit's business."""
        known = [score for score in scores if score["transaction_id"] in self._row]
        if not known:
            return
        rows = np.array([self._row[score["transaction_id"]] for score in known])
        # None, which stands for an absent value, becomes NaN.
        served = np.array(
            [[score["features"][name] for name in self._names] for score in known], dtype=np.float64
        )
        apart = differences(served, self._features[rows])
        differs = apart > SAME_FEATURE
        self._is_compared[rows] = True
        self.max_abs_difference = max(self.max_abs_difference, float(apart.max()))
        self.rows_differing += int(differs.any(axis=1).sum())
        counts = zip(self._names, differs.sum(axis=0).tolist(), strict=True)
        self.by_feature += Counter(dict(counts))


def differences(served: _Float64, replayed: _Float64) -> _Float64:
    """Return how far values are apart: 0 if both are absent, infinity if one is.

    Examples
    --------
    >>> differences(np.array([1.0, np.nan, np.nan]), np.array([3.0, np.nan, 0.0])).tolist()
    [2.0, 0.0, inf]
    """
    absent = np.isnan(served), np.isnan(replayed)
    apart = np.where(absent[0] & absent[1], 0.0, np.abs(served - replayed))
    apart[absent[0] != absent[1]] = np.inf
    return apart


def history(cluster: Cluster, topics: Topics, feature_set: FeatureSet) -> History:
    """Read the topics of transactions and labels to their ends, and replay them."""

    def whole(topic: str, decode: Decode) -> pa.Table:
        return read_topic(cluster, topic, spans(cluster, topic), decode, _told_nobody).columns

    transactions = whole(topics.transactions, decode_transactions)
    labels = whole(topics.labels, decode_labels)
    return History(transactions, labels, replay(feature_set, transactions, labels))


def compare(cluster: Cluster, topics: Topics, feature_set: FeatureSet, replayed: History) -> Parity:
    """Hold every score, read as it comes, against a replay.

    All scores at once would fill gigabytes.
    """
    ids = replayed.transactions["transaction_id"].to_pylist()
    parity = Parity(feature_set, ids, replayed.features)
    within: list[Span] = spans(cluster, topics.scores)
    for records in read(cluster, topics.scores, within):
        parity.add([orjson.loads(value or b"") for value in records.values])
    return parity


def _told_nobody(count: float) -> None:
    """Show no progress."""
