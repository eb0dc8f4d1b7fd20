"""From features to results: scores, alerts with their reasons, and dead letters, as documents."""

import base64
from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from datetime import UTC
from datetime import datetime

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc

from fraudstream.features.definitions import FeatureSet
from fraudstream.features.history import Float64
from fraudstream.features.history import Int64
from fraudstream.inference.steps import REJECTED
from fraudstream.inference.steps import TRANSACTION
from fraudstream.inference.steps import matrix_of
from fraudstream.inference.steps import of_kind
from fraudstream.inference.tally import Tally
from fraudstream.inference.tally import reason_class
from fraudstream.inference.tally import sample
from fraudstream.model.bundle import CHALLENGER
from fraudstream.model.bundle import CHAMPION
from fraudstream.model.bundle import Bundle
from fraudstream.model.reasons import strongest

#: The most bytes of a rejected record that its dead letter holds: in base64 they stay below what a
#: broker takes by default. A record that is larger still must not stop the stream.
_MOST_ORIGINAL = 600_000

#: What goes out: rows as Spark's Kafka sink takes them.
OUTGOING = pa.schema([("topic", pa.string()), ("key", pa.binary()), ("value", pa.binary())])


@dataclass(frozen=True)
class Destinations:
    """Names of the topics that results go to."""

    scores: str
    predicted: str
    dead_letters: str


@dataclass(frozen=True)
class Results:
    """What goes out, and what of it there is.

    Attributes
    ----------
    outgoing
        `OUTGOING`.
    tally
        Its counts.
    """

    outgoing: pa.Table
    tally: Tally


def results(
    feature_set: FeatureSet,
    champion: Bundle,
    rows: pa.Table,
    to: Destinations,
    share_of_features: float,
    challenger: Bundle | None = None,
) -> Results:
    """Score transactions and write all documents that go out.

    Parameters
    ----------
    feature_set, champion
        Which features, and the model whose scores count.
    rows
        `fraudstream.inference.steps.HANDED_ON`, with the features of all steps.
    to
        Where results go.
    share_of_features
        The share of transactions whose features go out with the score.
    challenger
        A model that scores the same in the champion's shadow: its scores go where the champion's
        go, and nowhere else. If it fails, they are not there, and nothing else changes.
    """
    transactions, rejected = of_kind(rows, TRANSACTION), of_kind(rows, REJECTED)
    matrix = matrix_of(feature_set, transactions)
    scores = champion.score(matrix)
    is_alert = scores >= champion.threshold
    tally = Tally(
        scores=len(scores),
        alerts=int(np.count_nonzero(is_alert)),
        dead_letters=Counter(map(reason_class, rejected["reason"].to_pylist())),
        appended_ms=[transactions["appended_ms"].to_numpy()],
        recent=sample(matrix),
    )
    alerts = np.flatnonzero(is_alert)
    reasons = strongest(champion, feature_set, matrix[alerts])
    shown = _sampled(transactions["transaction_identity"].to_numpy(), share_of_features)
    every = _predictions(
        transactions,
        CHAMPION,
        champion,
        scores,
        to.scores,
        {
            row: [asdict(each) for each in why]
            for row, why in zip(alerts.tolist(), reasons, strict=True)
        },
        # NaN is written as null, which is what an absent feature is.
        {
            row: dict(zip(feature_set.names, matrix[row].tolist(), strict=True))
            for row in np.flatnonzero(shown).tolist()
        },
    )
    flagged = every.take(pa.array(alerts)).set_column(
        0, OUTGOING.field("topic"), pa.array([to.predicted] * len(alerts), pa.string())
    )
    outgoing = [every, flagged, dead_letters(rejected, to)]
    if challenger is not None:
        in_shadow, scores = _scored_in_shadow(challenger, transactions, matrix)
        outgoing.append(_predictions(in_shadow, CHALLENGER, challenger, scores, to.scores))
        tally.shadow_scores = len(scores)
        tally.shadow_alerts = int(np.count_nonzero(scores >= challenger.threshold))
    return Results(pa.concat_tables(outgoing), tally)


def _scored_in_shadow(
    challenger: Bundle, transactions: pa.Table, matrix: Float64
) -> tuple[pa.Table, Float64]:
    """Return the transactions that a challenger can score, and their scores."""
    try:
        scores = challenger.score(matrix)
    # The errors of onnxruntime have no base class of their own.
    except Exception:  # noqa: BLE001 - nothing depends on a challenger
        scores = np.full(len(matrix), np.nan)
    is_score = (scores >= 0) & (scores <= 1)
    return transactions.filter(pa.array(is_score)), scores[is_score]


def dead_letters(rejected: pa.Table, to: Destinations) -> pa.Table:
    """Return, as `OUTGOING`, the dead letters of rejected records.

    Parameters
    ----------
    rejected
        The rejected among `fraudstream.inference.steps.HANDED_ON`.
    to
        Where results go.
    """
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    documents = [
        orjson.dumps(
            {
                "stage": "inference",
                "reason": row["reason"] + _cut(row["original"] or b""),
                "original": base64.b64encode((row["original"] or b"")[:_MOST_ORIGINAL]).decode(),
                "topic": row["topic"],
                "partition": row["partition"],
                "offset": row["offset"],
                "failed_at": now,
            }
        )
        for row in rejected.select(
            ["reason", "original", "topic", "partition", "offset"]
        ).to_pylist()
    ]
    keys = [None] * len(documents)
    return pa.table([[to.dead_letters] * len(documents), keys, documents], schema=OUTGOING)


# --- documents -----------------------------------------------------------------------------------


def _predictions(
    transactions: pa.Table,
    role: str,
    bundle: Bundle,
    scores: Float64,
    topic: str,
    reasons: Mapping[int, Sequence[Mapping[str, object]]] | None = None,
    features: Mapping[int, Mapping[str, float]] | None = None,
) -> pa.Table:
    """Return, as `OUTGOING`, a model's predictions; reasons and features by row, where told."""
    reasons, features = reasons or {}, features or {}
    documents = _documents(transactions, role, bundle, scores)
    further = sorted(reasons.keys() | features.keys())
    whole = [
        {
            **orjson.loads(documents[row].as_py()),
            "reasons": reasons.get(row, ()),
            "features": features.get(row),
        }
        for row in further
    ]
    is_further = np.zeros(len(transactions), dtype=bool)
    is_further[further] = True
    documents = pc.replace_with_mask(
        documents, pa.array(is_further), pa.array(map(orjson.dumps, whole), pa.binary())
    )
    keys = transactions["card_id"].cast(pa.binary())
    return pa.table([[topic] * len(keys), keys, documents], schema=OUTGOING)


def _documents(
    transactions: pa.Table, role: str, bundle: Bundle, scores: Float64
) -> pa.BinaryArray:
    """Return the predictions, each without reasons and features.

    Most are just that. They are put together column by column: to write them one after the other
    takes longer than to score them.
    """
    fixed = orjson.dumps(
        {
            "role": role,
            "threshold": bundle.threshold,
            "model_name": bundle.name,
            "model_version": bundle.version,
            "model_digest": bundle.digest,
            "feature_set": bundle.feature_set,
            "reasons": [],
            "features": None,
        }
    ).decode()
    # The schema has let no character into an id that JSON would have to escape.
    texts = {
        "transaction_id": transactions["transaction_id"],
        "event_time": times_as_text(transactions["event_time_us"]),
        "card_id": transactions["card_id"],
        "merchant_id": transactions["merchant_id"],
    }
    # Arrow writes the shortest number that is read as the same one, like orjson.
    bare = {
        "amount": transactions["amount"],
        "score": pa.array(scores),
        "is_alert": pa.array(scores >= bundle.threshold),
        "is_late": transactions["is_late"],
    }
    parts = ["{"]
    for name, column in texts.items():
        parts += [f'"{name}":"', column, '",']
    for name, column in bare.items():
        parts += [f'"{name}":', column.cast(pa.string()), ","]
    parts.append(fixed.removeprefix("{"))
    return pa.chunked_array(pc.binary_join_element_wise(*parts, "")).cast(pa.binary())


def times_as_text(us: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return times as `fraudstream.schema.timestamps.format_us` does, in a quarter of the time.

    Examples
    --------
    >>> times_as_text(pa.chunked_array([[1_500_000]])).to_pylist()
    ['1970-01-01T00:00:01.500000Z']
    """
    # Arrow writes them with a blank in the middle, and nothing behind.
    text = us.cast(pa.timestamp("us")).cast(pa.string())
    return pc.binary_join_element_wise(pc.binary_replace_slice(text, 10, 11, "T"), "Z", "")


def _cut(original: bytes) -> str:
    if len(original) <= _MOST_ORIGINAL:
        return ""
    return f" (the first {_MOST_ORIGINAL:,} of {len(original):,} bytes are kept)"


def _sampled(transaction: Int64, share: float) -> npt.NDArray[np.bool_]:
    # The hash decides, so that a repeated batch shows the same rows.
    return transaction.view(np.uint64) < np.uint64(min(share, 1.0) * (2**64 - 2**11))
