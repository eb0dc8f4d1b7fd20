"""What an audit holds against each other: the topics as they are, and scores computed again."""

from collections.abc import Callable
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from fraudstream.features.definitions import FeatureSet
from fraudstream.features.windows import replayed
from fraudstream.inference.audit import Audit
from fraudstream.inference.audit import Finding
from fraudstream.inference.audit import Keys
from fraudstream.inference.audit import Results
from fraudstream.inference.audit import audit
from fraudstream.kafka.reading import Span
from fraudstream.kafka.reading import read
from fraudstream.kafka.reading import spans
from fraudstream.kafka.tables import Decode
from fraudstream.kafka.tables import Topic
from fraudstream.kafka.tables import read_topic
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.model.bundle import Bundle
from fraudstream.schema.decoding import Decoded
from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_predictions
from fraudstream.schema.decoding import decode_transactions
from fraudstream.schema.validation import DEAD_LETTER
from fraudstream.schema.validation import validator

#: Given what is read and how much there is of it, shows how far it is.
Progress = Callable[[str, float], AbstractContextManager[Callable[[float], None]]]

# Of a score or an alert: the rest of it fills memory. What is the same in many is kept once.
_OWN = ["card_id", "transaction_id", "score", "is_alert"]
_SHARED = ["role", "feature_set", "model_version", "model_digest"]
_ROWS_AT_ONCE = 1 << 18


@dataclass(frozen=True)
class Evidence:
    """The five topics, as they were at one moment; `dead_letters` as `Results` has them."""

    topics: Topics
    transactions: Topic
    labels: Topic
    scores: Topic
    predicted: Topic
    dead_letters: pa.Table

    def audit(self) -> Audit:
        """Hold the results against the records; see `fraudstream.inference.audit.audit`."""
        names = self.topics
        found = audit(
            names.transactions,
            self.transactions.columns,
            pa.concat_tables(
                [
                    _of(names.transactions, self.transactions.refused),
                    _of(names.labels, self.labels.refused),
                ]
            ),
            Results(
                self.scores.columns,
                self.predicted.columns,
                self.dead_letters,
                (names.scores, names.predicted, names.dead_letters),
            ),
        )
        return found.plus(
            Finding("foreign", name, f"{name}[{place['partition']}]@{place['offset']}", "no score")
            for name, topic in ((names.scores, self.scores), (names.predicted, self.predicted))
            for place in topic.refused.to_pylist()
        )


def gather(cluster: Cluster, topics: Topics, progress: Progress) -> Evidence:
    """Read all topics to where they end now.

    Parameters
    ----------
    cluster, topics
        Where to read.
    progress
        Shows how far it is.

    Raises
    ------
    UnknownTopic, BrokerUnreachable, TopicChanged
        See `fraudstream.kafka`.
    InvalidDocument
        If a record of the topic of dead letters is none.
    """
    # Results first: a record that comes meanwhile is then pending, and no result is foreign.
    names = [topics.scores, topics.predicted, topics.dead_letters]
    within = {name: spans(cluster, name) for name in [*names, topics.transactions, topics.labels]}

    def whole(name: str, decode: Decode, every_offset: bool = True) -> Topic:
        with progress(f"reading {name}", _count(within[name])) as advance:
            return read_topic(cluster, name, within[name], decode, advance, every_offset)

    return Evidence(
        topics=topics,
        transactions=whole(topics.transactions, decode_transactions, every_offset=False),
        labels=whole(topics.labels, decode_labels, every_offset=False),
        scores=whole(topics.scores, _decode_results, every_offset=False),
        predicted=whole(topics.predicted, _decode_results, every_offset=False),
        dead_letters=_dead_letters(cluster, topics.dead_letters, within[topics.dead_letters]),
    )


def scored_again(
    evidence: Evidence,
    feature_set: FeatureSet,
    model: Callable[[str, str], Bundle | None],
) -> npt.NDArray[np.float64]:
    """Compute the features of the topics anew and score them with the models that had served.

    Parameters
    ----------
    evidence
        The topics.
    feature_set
        Which features.
    model
        Gives the bundle of a version with a digest; ``None`` where it cannot be had.

    Returns
    -------
    float64
        One for each row of `evidence.scores`; NaN where it is foreign, of other features, or of a
        model that cannot be had.
    """
    records, served = evidence.transactions.columns, evidence.scores.columns
    found = replayed(feature_set, records, evidence.labels.columns)
    of_records, of_served = Keys(records, served).numbers
    row = pd.Series(np.arange(len(records)), index=of_records)
    row = row[~row.index.duplicated()].reindex(of_served).to_numpy(dtype=np.float64)
    told = served.select(_SHARED).to_pandas()
    again = np.full(len(told), np.nan)
    comparable = ~np.isnan(row) & (told["feature_set"] == feature_set.identity).to_numpy()
    of_model = told[comparable].groupby(["model_version", "model_digest"], observed=True)
    for (version, digest), rows in of_model.indices.items():
        bundle = model(str(version), str(digest))
        if bundle is not None:
            places = np.flatnonzero(comparable)[rows]
            for some in np.split(places, range(_ROWS_AT_ONCE, len(places), _ROWS_AT_ONCE)):
                again[some] = bundle.score(found.rows(row[some].astype(np.int64)))
    return again


def _decode_results(values: Sequence[bytes | None], appended_ms: npt.NDArray[np.int64]) -> Decoded:
    decoded = decode_predictions(values, appended_ms)
    columns = decoded.columns.select(_OWN)
    for name in _SHARED:
        columns = columns.append_column(name, decoded.columns[name].dictionary_encode())
    return replace(decoded, columns=columns)


def _dead_letters(cluster: Cluster, topic: str, within: list[Span]) -> pa.Table:
    check = validator(DEAD_LETTER)
    letters = [
        check.parse(value) for records in read(cluster, topic, within) for value in records.values
    ]
    # What was refused before it was in a topic has no place there.
    placed = [letter for letter in letters if letter["offset"] is not None]
    return pa.table(
        {
            "topic": pa.array([letter["topic"] for letter in placed], pa.string()),
            "partition": pa.array([letter["partition"] for letter in placed], pa.int64()),
            "offset": pa.array([letter["offset"] for letter in placed], pa.int64()),
        }
    )


def _of(topic: str, places: pa.Table) -> pa.Table:
    return places.append_column("topic", pa.array([topic] * len(places), pa.string()))


def _count(within: list[Span]) -> float:
    return sum(span.high - span.low for span in within)
