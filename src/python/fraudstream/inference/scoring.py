"""From features to results: scores, alerts with their reasons, and dead letters, as documents."""

import base64
from collections import Counter
from dataclasses import asdict
from dataclasses import dataclass
from datetime import UTC
from datetime import datetime

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from fraudstream.features.definitions import FeatureSet
from fraudstream.features.history import Float64
from fraudstream.features.history import Int64
from fraudstream.features.history import identity
from fraudstream.inference.steps import REJECTED
from fraudstream.inference.steps import TRANSACTION
from fraudstream.inference.steps import matrix_of
from fraudstream.inference.steps import of_kind
from fraudstream.inference.tally import Tally
from fraudstream.inference.tally import reason_class
from fraudstream.model.bundle import Bundle
from fraudstream.model.reasons import strongest
from fraudstream.schema.timestamps import format_us

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
    bundle: Bundle,
    rows: pa.Table,
    to: Destinations,
    share_of_features: float,
) -> Results:
    """Score transactions and write all documents that go out.

    Parameters
    ----------
    feature_set, bundle
        Which features, and the model.
    rows
        `fraudstream.inference.steps.HANDED_ON`, with the features of all steps.
    to
        Where results go.
    share_of_features
        The share of transactions whose features go out with the score.
    """
    transactions, rejected = of_kind(rows, TRANSACTION), of_kind(rows, REJECTED)
    matrix = matrix_of(feature_set, transactions)
    scores = bundle.score(matrix)
    outgoing = [
        _predictions(feature_set, bundle, transactions, matrix, scores, to, share_of_features),
        dead_letters(rejected, to),
    ]
    tally = Tally(
        scores=len(scores),
        alerts=int(np.count_nonzero(scores >= bundle.threshold)),
        dead_letters=Counter(map(reason_class, rejected["reason"].to_pylist())),
        appended_ms=[transactions["appended_ms"].to_numpy()],
    )
    return Results(pa.concat_tables(outgoing), tally)


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
    feature_set: FeatureSet,
    bundle: Bundle,
    transactions: pa.Table,
    matrix: Float64,
    scores: Float64,
    to: Destinations,
    share_of_features: float,
) -> pa.Table:
    is_alert = scores >= bundle.threshold
    alerts = np.flatnonzero(is_alert)
    reasons = dict(
        zip(alerts.tolist(), strongest(bundle, feature_set, matrix[alerts]), strict=True)
    )
    transaction_ids = transactions["transaction_id"].to_pylist()
    cards = transactions["card_id"].to_pylist()
    shown = _sampled(identity(transactions["transaction_id"]), share_of_features)
    fixed = {
        "threshold": bundle.threshold,
        "model_name": bundle.name,
        "model_version": bundle.version,
        "model_digest": bundle.digest,
        "feature_set": bundle.feature_set,
    }
    documents = [
        orjson.dumps(
            {
                "transaction_id": transaction_id,
                "event_time": event_time,
                "card_id": card,
                "merchant_id": merchant,
                "amount": amount,
                "score": score,
                "is_alert": alert,
                "is_late": late,
                **fixed,
                "reasons": [asdict(reason) for reason in reasons.get(row, ())],
                # NaN is written as null, which is what an absent feature is.
                "features": dict(zip(feature_set.names, matrix[row].tolist(), strict=True))
                if shown[row]
                else None,
            }
        )
        for row, (transaction_id, event_time, card, merchant, amount, score, alert, late) in (
            enumerate(
                zip(
                    transaction_ids,
                    format_us(transactions["event_time_us"].to_numpy()),
                    cards,
                    transactions["merchant_id"].to_pylist(),
                    transactions["amount"].to_pylist(),
                    scores.tolist(),
                    is_alert.tolist(),
                    transactions["is_late"].to_pylist(),
                    strict=True,
                )
            )
        )
    ]
    keys = [card.encode() for card in cards]
    every = pa.table([[to.scores] * len(keys), keys, documents], schema=OUTGOING)
    flagged = every.take(pa.array(alerts))
    flagged = flagged.set_column(
        0, OUTGOING.field("topic"), pa.array([to.predicted] * len(alerts), pa.string())
    )
    return pa.concat_tables([every, flagged])


def _cut(original: bytes) -> str:
    if len(original) <= _MOST_ORIGINAL:
        return ""
    return f" (the first {_MOST_ORIGINAL:,} of {len(original):,} bytes are kept)"


def _sampled(transaction: Int64, share: float) -> npt.NDArray[np.bool_]:
    # The hash decides, so that a repeated batch shows the same rows.
    return transaction.view(np.uint64) < np.uint64(min(share, 1.0) * (2**64 - 2**11))
