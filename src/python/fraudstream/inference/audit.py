"""Whether each transaction has exactly one committed score: told from the topics alone.

Pure functions of what the topics hold. A record of the topic of transactions is either valid, and
then has one score (a copy of a transaction has that of the first), or it is not, and then has one
dead letter. What is wrong is named, one `Finding` each:

``missing``
    A transaction without a score, an alert that is not among the alerts, or a record that was
    refused and is in no dead letter.
``duplicate``
    The same result more than once.
``conflicting``
    Two results for one transaction that do not agree, in the score or in the model.
``foreign``
    A result without its transaction, a dead letter without its record.
``differing``
    A score that an offline replay of the topics does not give.

The one score is the champion's. What a challenger says of a transaction is held apart: it may be
missing, and need only be there once, be of a transaction, and be no alert.

A stream that runs has records before it that it has not come to: those that lie, in their
partition, behind the last one that has a result. They are `pending`, and no fault; of a stream
that has stopped for good at the end of its topics they are, and `Audit.ended` tells them so.
"""

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from fraudstream.model.bundle import CHALLENGER
from fraudstream.model.bundle import CHAMPION

#: How far a score that is computed again may be from the one that was served: what is left of
#: 32-bit arithmetic in another order of rows.
SAME_SCORE = 1e-6

_NAMED = ["card_id", "transaction_id"]
_KEY = ["number"]
_PLACE = ["topic", "partition", "offset"]


@dataclass(frozen=True)
class Finding:
    """Something that is wrong.

    Attributes
    ----------
    kind
        See the module.
    topic
        The topic that is wrong.
    what
        Whose result it is: ``card/transaction``, or ``topic[partition]@offset``.
    detail
        What was found there.
    """

    kind: str
    topic: str
    what: str
    detail: str


@dataclass(frozen=True)
class Audit:
    """What came of an audit.

    Attributes
    ----------
    transactions, scores, alerts, refused, dead_letters
        How many distinct ones there are: valid transactions, results of each kind, and records
        that are not valid. Scores are the champion's.
    shadow_scores
        How many distinct transactions a challenger has scored.
    copies
        Valid records that repeat a transaction.
    pending
        What the stream has not come to, as findings that do not count; see the module.
    findings
        What is wrong. None: the audit is clean.
    """

    transactions: int
    copies: int
    scores: int
    alerts: int
    refused: int
    dead_letters: int
    pending: tuple[Finding, ...]
    findings: tuple[Finding, ...]
    shadow_scores: int = 0

    @property
    def is_clean(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings

    def counts(self) -> dict[str, int]:
        """Return how many findings of each kind there are."""
        kinds = ("missing", "duplicate", "conflicting", "foreign", "differing")
        told = [finding.kind for finding in self.findings]
        return {kind: told.count(kind) for kind in kinds}

    def plus(self, findings: Iterable[Finding]) -> "Audit":
        """Return the audit with more findings."""
        return replace(self, findings=(*self.findings, *findings))

    def ended(self) -> "Audit":
        """Return the audit of a stream that is to come to nothing more: what is pending is missing.

        Examples
        --------
        >>> late = Finding("missing", "scores", "c1/t1", "no score")
        >>> Audit(1, 0, 0, 0, 0, 0, (late,), ()).ended().counts()["missing"]
        1
        """
        return replace(self.plus(self.pending), pending=())


@dataclass(frozen=True)
class Results:
    """Names of the topics that results go to, and what they hold.

    Attributes
    ----------
    scores, alerts
        Decoded predictions (`fraudstream.schema.decoding.decode_predictions`), all of them.
    dead_letters
        ``topic``, ``partition`` and ``offset`` of the records that dead letters are about. Those
        of a record that was refused before it was in a topic are left out.
    topics
        Names of the three, in this order, for findings.
    """

    scores: pa.Table
    alerts: pa.Table
    dead_letters: pa.Table
    topics: tuple[str, str, str] = ("scores", "predicted", "dead-letters")


class Keys:
    """Numbers transactions, by card and id, alike in several tables.

    Names of millions of transactions would be as many objects of Python, several times over.

    Parameters
    ----------
    tables
        With ``card_id`` and ``transaction_id``.

    Attributes
    ----------
    numbers
        One array a table, ``int64``: equal where both are equal, and only there.

    Examples
    --------
    >>> some = pa.table({"card_id": ["c", "c"], "transaction_id": ["t", "u"]})
    >>> keys = Keys(some, some[1:])
    >>> [numbers.tolist() for numbers in keys.numbers], keys.name(1)
    ([[0, 1], [1]], 'c/u')
    """

    def __init__(self, *tables: pa.Table) -> None:
        encoded = [
            pa.chunked_array(
                [chunk for table in tables for chunk in table[name].cast(pa.string()).chunks],
                pa.string(),
            )
            .dictionary_encode()
            .combine_chunks()
            for name in _NAMED
        ]
        self._cards, self._transactions = (column.dictionary for column in encoded)
        cards, transactions = (column.indices.to_numpy().astype(np.int64) for column in encoded)
        numbers = cards * len(self._transactions) + transactions
        self.numbers = np.split(numbers, np.cumsum([len(table) for table in tables])[:-1])

    def name(self, number: int) -> str:
        """Return ``card/transaction``."""
        card, transaction = divmod(int(number), len(self._transactions))
        return f"{self._cards[card]}/{self._transactions[transaction]}"


def audit(topic: str, transactions: pa.Table, refused: pa.Table, results: Results) -> Audit:
    """Hold results against what they are results of.

    Parameters
    ----------
    topic
        Name of the topic of transactions.
    transactions
        Its valid records: ``card_id``, ``transaction_id``, ``partition``, ``offset``.
    refused
        ``topic``, ``partition`` and ``offset`` of the records that are not valid, of any topic.
    results
        What the stream has written.

    Examples
    --------
    >>> one = {"card_id": ["c"], "transaction_id": ["t"], "partition": [0], "offset": [0]}
    >>> none = pa.table({name: pa.array([], "i8") for name in ("topic", "partition", "offset")})
    >>> predictions = pa.table({"card_id": ["c"], "transaction_id": ["u"], "score": [0.1],
    ...                         "model_digest": ["d"], "is_alert": [False],
    ...                         "role": ["champion"]})
    >>> found = audit("tx", pa.table(one), none, Results(predictions, predictions[:0], none))
    >>> [(f.kind, f.what) for f in found.findings], len(found.pending)
    ([('foreign', 'c/u')], 1)
    """
    scores_topic, alerts_topic, letters_topic = results.topics
    keys = Keys(transactions, results.scores, results.alerts)
    numbers, of_scores, of_alerts = keys.numbers
    records = transactions.select(["partition", "offset"]).to_pandas().assign(number=numbers)
    records = records.sort_values(["partition", "offset"], kind="stable")
    first = records.drop_duplicates(_KEY)
    every = _told(results.scores, of_scores)
    scored, in_shadow = (every[every["role"] == role] for role in (CHAMPION, CHALLENGER))
    every_alert = _told(results.alerts, of_alerts)
    flagged = every_alert[every_alert["role"] == CHAMPION]
    should_be_flagged = scored[scored["is_alert"].astype(bool)]
    letters = results.dead_letters.select(_PLACE).to_pandas()
    bad = refused.select(_PLACE).to_pandas()

    findings = [
        *_repeated(keys, scored, scores_topic),
        *_repeated(keys, flagged, alerts_topic),
        *_repeated(keys, in_shadow, scores_topic, "by a challenger, "),
        *_foreign(keys, in_shadow, first, scores_topic, "no such transaction, by a challenger"),
        *[
            Finding("foreign", alerts_topic, keys.name(row.number), "by a challenger")
            for row in every_alert[every_alert["role"] != CHAMPION].itertuples()
        ],
        *_foreign(keys, scored, first, scores_topic, "no such transaction"),
        *_foreign(
            keys, flagged, should_be_flagged, alerts_topic, "no score says that it is an alert"
        ),
        *_unlike(keys, flagged, should_be_flagged, alerts_topic),
        *[
            Finding(
                "missing", alerts_topic, keys.name(row.number), "its score says that it is an alert"
            )
            for row in _without(should_be_flagged.drop_duplicates(_KEY), flagged)
        ],
        *[
            Finding("duplicate", letters_topic, _place(row), f"{row.count} dead letters")
            for row in _counted(letters, _PLACE)
        ],
        *[
            Finding("foreign", letters_topic, _place(row), "the record there is valid, or absent")
            for row in _lacking(letters.drop_duplicates(_PLACE), bad, _PLACE)
        ],
    ]

    answered = first.merge(scored[_KEY].drop_duplicates(), on=_KEY)
    reached = _reached(answered.assign(topic=topic), letters)
    pending: list[Finding] = []
    open_ones = [
        *(
            (
                topic,
                row,
                Finding("missing", scores_topic, keys.name(row.number), f"offset {row.offset}"),
            )
            for row in _without(first, scored)
        ),
        *(
            (row.topic, row, Finding("missing", letters_topic, _place(row), "it is not valid"))
            for row in _lacking(bad.drop_duplicates(_PLACE), letters, _PLACE)
        ),
    ]
    for of, row, finding in open_ones:
        is_behind = row.offset <= reached.get((of, row.partition), -1)
        (findings if is_behind else pending).append(finding)
    return Audit(
        transactions=len(first),
        copies=len(records) - len(first),
        scores=len(scored.drop_duplicates(_KEY)),
        alerts=len(flagged.drop_duplicates(_KEY)),
        refused=len(bad.drop_duplicates(_PLACE)),
        dead_letters=len(letters.drop_duplicates(_PLACE)),
        pending=tuple(pending),
        findings=tuple(findings),
        shadow_scores=len(in_shadow.drop_duplicates(_KEY)),
    )


def differing(
    topic: str, scores: pa.Table, replayed: npt.NDArray[np.float64], tolerance: float = SAME_SCORE
) -> list[Finding]:
    """Name each score that a replay does not give.

    Parameters
    ----------
    topic
        Where the scores were read.
    scores
        As in `Results`.
    replayed
        ``float64``, one a row: what the row's model gives for the replayed features. NaN where
        there is nothing to compare with.
    """
    served = scores["score"].to_numpy()
    rows = np.flatnonzero(np.abs(served - replayed) > tolerance)
    some = scores.select(_NAMED).take(pa.array(rows)).to_pandas()
    return [
        Finding(
            "differing",
            topic,
            f"{row.card_id}/{row.transaction_id}",
            f"served {served[at]!r}, a replay {replayed[at]!r}",
        )
        for row, at in zip(some.itertuples(), rows.tolist(), strict=True)
    ]


def _told(predictions: pa.Table, numbers: npt.NDArray[np.int64]) -> pd.DataFrame:
    told = predictions.select(["score", "model_digest", "is_alert", "role"]).to_pandas()
    # Whether they came as categories or as strings: those of two topics are to be compared.
    return told.astype({"model_digest": object, "role": object}).assign(number=numbers)


def _repeated(keys: Keys, told: pd.DataFrame, topic: str, whose: str = "") -> list[Finding]:
    again = told[told.duplicated(_KEY, keep=False)]
    found = []
    for number, rows in again.groupby("number", sort=False):
        versions = rows.drop_duplicates(["score", "model_digest"])
        scores = " and ".join(
            f"{row.score!r} by {row.model_digest[:12]}" for row in versions.itertuples()
        )
        kind = "duplicate" if len(versions) == 1 else "conflicting"
        detail = f"{whose}{len(rows)} times: {scores}"
        found.append(Finding(kind, topic, keys.name(number), detail))
    return found


def _foreign(
    keys: Keys, told: pd.DataFrame, known: pd.DataFrame, topic: str, why: str
) -> list[Finding]:
    return [
        Finding("foreign", topic, keys.name(row.number), why)
        for row in _without(told.drop_duplicates(_KEY), known)
    ]


def _unlike(keys: Keys, flagged: pd.DataFrame, scored: pd.DataFrame, topic: str) -> list[Finding]:
    """Name the alerts that do not say what the score says."""
    both = flagged.drop_duplicates(_KEY).merge(
        scored.drop_duplicates(_KEY), on=_KEY, suffixes=("", "_of_score")
    )
    unlike = both[
        (both["score"] != both["score_of_score"])
        | (both["model_digest"] != both["model_digest_of_score"])
    ]
    return [
        Finding(
            "conflicting",
            topic,
            keys.name(row.number),
            f"{row.score!r} by {row.model_digest[:12]}, its score says {row.score_of_score!r} "
            f"by {row.model_digest_of_score[:12]}",
        )
        for row in unlike.itertuples()
    ]


def _reached(answered: pd.DataFrame, letters: pd.DataFrame) -> dict[tuple[str, int], int]:
    """Return, by topic and partition, the last offset that has a result."""
    places = pd.concat([answered[_PLACE], letters])
    last = places.groupby(["topic", "partition"])["offset"].max()
    return {(str(topic), int(number)): int(offset) for (topic, number), offset in last.items()}


def _without(rows: pd.DataFrame, others: pd.DataFrame) -> list[Any]:
    return _lacking(rows, others, _KEY)


def _lacking(rows: pd.DataFrame, others: pd.DataFrame, by: Sequence[str]) -> list[Any]:
    """Return the rows that have no counterpart in `others`."""
    keys = others[list(by)].drop_duplicates()
    joined = rows.merge(keys, on=list(by), how="left", indicator="found")
    return list(joined[joined["found"] == "left_only"].itertuples())


def _counted(rows: pd.DataFrame, by: Sequence[str]) -> Iterable[Any]:
    """Return what occurs more than once, with its `count`."""
    counts = rows.groupby(list(by), sort=False).size().reset_index(name="count")
    return counts[counts["count"] > 1].itertuples()


def _place(row: Any) -> str:
    return f"{row.topic}[{row.partition}]@{row.offset}"
