"""From records to scores: the two steps of a batch, as functions of columns and a store.

A batch passes through two tasks. The first works on one partition of a topic, in which a card's
records lie in order: it decodes, sets aside what is invalid, and computes what the card's history
tells. The second works on buckets of merchants, brought together from all partitions: it computes
what the merchant's history tells, scores, and writes the documents that go out. Spark sees only
that columns go in and columns come out.
"""

import base64
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from datetime import UTC
from datetime import datetime
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa

from fraudstream.features.definitions import IDENTITIES
from fraudstream.features.definitions import LABEL
from fraudstream.features.definitions import Feature
from fraudstream.features.definitions import FeatureSet
from fraudstream.features.history import Events
from fraudstream.features.history import Float64
from fraudstream.features.history import Int64
from fraudstream.features.history import Moments
from fraudstream.features.history import first_copies
from fraudstream.features.history import identity
from fraudstream.features.history import label_values
from fraudstream.features.history import running_maximum
from fraudstream.features.history import transaction_values
from fraudstream.features.windows import assemble
from fraudstream.features.windows import features_at
from fraudstream.inference.store import Layout
from fraudstream.inference.store import Records
from fraudstream.inference.store import Store
from fraudstream.model.bundle import Bundle
from fraudstream.model.reasons import strongest
from fraudstream.schema.decoding import Decoded
from fraudstream.schema.timestamps import duration_us
from fraudstream.schema.timestamps import format_us

TRANSACTION, LABELLED, REJECTED = 0, 1, 2

#: History is kept this much longer than any window reaches, so that a transaction that is late, or
#: repeated after later ones were stored, still finds all that it saw.
SLACK = timedelta(days=2)

#: How many buckets merchants are spread over: the most tasks that can share the second step.
BUCKETS = 16

_NONE = np.zeros(0, dtype=np.int64)
_NO_EVENTS = Events(_NONE, _NONE, _NONE, {LABEL: np.zeros(0)})
_LABEL_LAYOUT = Layout(numbers=(LABEL,), identities=())

#: The most bytes of a rejected record that its dead letter holds: in base64 they stay below what a
#: broker takes by default. A record that is larger still must not stop the stream.
_MOST_ORIGINAL = 600_000

#: What the first step hands to the second, one row a record. Columns of another kind are null.
HANDED_ON = pa.schema(
    [
        ("kind", pa.int8()),
        ("bucket", pa.int32()),
        ("topic", pa.string()),
        ("partition", pa.int64()),
        ("offset", pa.int64()),
        # Transactions and labels.
        ("transaction_id", pa.string()),
        ("card_id", pa.string()),
        ("merchant_id", pa.string()),
        ("event_time_us", pa.int64()),
        ("clock_us", pa.int64()),
        # Transactions.
        ("amount", pa.float64()),
        ("channel", pa.string()),
        ("device_id", pa.string()),
        ("country", pa.string()),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
        ("is_late", pa.bool_()),
        ("card_features", pa.list_(pa.float64())),
        # Labels.
        ("is_fraud", pa.bool_()),
        # Rejected records.
        ("original", pa.binary()),
        ("reason", pa.string()),
    ]
)

#: What goes out: rows as Spark's Kafka sink takes them.
OUTGOING = pa.schema([("topic", pa.string()), ("key", pa.binary()), ("value", pa.binary())])


@dataclass(frozen=True)
class Destinations:
    """Names of the topics that results go to."""

    scores: str
    predicted: str
    dead_letters: str


def layout_of(feature_set: FeatureSet, key: str) -> Layout:
    """Return what must be kept of a key's transactions for the features of a set.

    Examples
    --------
    >>> layout_of(FeatureSet("x", 1, (Feature("card", "amount", "mean", timedelta(1)),)), "card")
    Layout(numbers=('amount',), identities=())
    """
    values = {f.value for f in feature_set.over(key) if f.value and not f.is_of_labels}
    numbers = values - IDENTITIES
    if any(f.statistic.endswith(("_km", "_kmh")) for f in feature_set.over(key)):
        numbers |= {"latitude", "longitude"}
    return Layout(tuple(sorted(numbers)), tuple(sorted(values & IDENTITIES)))


def card_step(
    feature_set: FeatureSet,
    decoded: Decoded,
    values: Sequence[bytes | None],
    place: tuple[str, int],
    offsets: Int64,
    batch: int,
    store: Store,
) -> pa.Table:
    """Compute what the cards' histories tell of one partition's transactions, and remember them.

    Parameters
    ----------
    feature_set
        Which features.
    decoded, values, offsets
        The records, as they were decoded and as they came, with their offsets.
    place
        Topic and partition.
    batch
        Number of the micro-batch.
    store
        Of this partition.

    Returns
    -------
    pyarrow.Table
        `HANDED_ON`: a row for each transaction that is not a copy of an earlier one, and for each
        rejected record.
    """
    columns = decoded.columns
    known = transaction_values(columns)
    time_us = columns["event_time_us"].to_numpy()
    own_offsets = offsets[decoded.rows]
    clock_us = _advance_clock(store, batch, time_us)

    layout = layout_of(feature_set, "card")
    card, transaction = _int64(known["card"]), _int64(known["transaction"])
    names = _names(card, columns["card_id"])
    records = _merged(
        store.read(list(names.values()), layout),
        layout.pack(card, time_us, own_offsets, known),
    )
    # A transaction is the first of its kind if what the state holds under its id came from its
    # own offset: so a repeated batch is not mistaken for a batch of copies.
    rows = np.flatnonzero(_is_own(records, card, transaction, own_offsets))
    history = layout.events(records)
    moments = Moments(
        card[rows],
        time_us[rows],
        own_offsets[rows],
        clock_us[rows],
        {name: column[rows] for name, column in known.items()},
    )
    features = features_at(_of_card_step(feature_set), history, _NO_EVENTS, moments)
    if len(columns):
        oldest = int(clock_us[-1]) - duration_us(feature_set.retention() + SLACK)
        store.append(names, records, oldest)

    kept = columns.take(pa.array(rows))
    handed = {
        "kind": np.full(len(rows), TRANSACTION),
        "bucket": _int64(known["merchant"])[rows] % BUCKETS,
        "topic": [place[0]] * len(rows),
        "partition": np.full(len(rows), place[1]),
        "offset": own_offsets[rows],
        "clock_us": clock_us[rows],
        "is_late": _is_late(history, moments),
        "card_features": _lists(np.column_stack([features[n] for n in features]), len(rows)),
    }
    transactions = _table(kept, handed)
    return pa.concat_tables([transactions, _rejected(decoded, values, place, offsets)])


def label_step(
    decoded: Decoded,
    values: Sequence[bytes | None],
    place: tuple[str, int],
    offsets: Int64,
    batch: int,
    store: Store,
) -> pa.Table:
    """Hand on one partition's labels, with the partition clock; see `card_step`."""
    columns = decoded.columns
    known_us = columns["labelled_at_us"].to_numpy()
    clock_us = _advance_clock(store, batch, known_us)
    handed = {
        "kind": np.full(len(columns), LABELLED),
        "bucket": identity(columns["merchant_id"]) % BUCKETS,
        "topic": [place[0]] * len(columns),
        "partition": np.full(len(columns), place[1]),
        "offset": offsets[decoded.rows],
        "event_time_us": known_us,
        "clock_us": clock_us,
    }
    return pa.concat_tables([_table(columns, handed), _rejected(decoded, values, place, offsets)])


def merchant_step(
    feature_set: FeatureSet,
    bundle: Bundle,
    rows: pa.Table,
    store: Store,
    to: Destinations,
    share_of_features: float,
) -> pa.Table:
    """Score one bucket's transactions and write all documents that go out.

    Parameters
    ----------
    feature_set, bundle
        Which features, and the model.
    rows
        `HANDED_ON`, of one bucket.
    store
        Of this bucket.
    to
        Where results go.
    share_of_features
        The share of transactions whose features go out with the score.

    Returns
    -------
    pyarrow.Table
        `OUTGOING`.
    """
    transactions = rows.filter(pa.compute.equal(rows["kind"], TRANSACTION))
    labels = rows.filter(pa.compute.equal(rows["kind"], LABELLED))
    rejected = rows.filter(pa.compute.equal(rows["kind"], REJECTED))

    known = transaction_values(transactions)
    told = label_values(labels)
    merchant = _int64(known["merchant"])
    names = _names(merchant, transactions["merchant_id"])
    names |= _names(_int64(told["merchant"]), labels["merchant_id"])
    layout = layout_of(feature_set, "merchant")
    time_us = transactions["event_time_us"].to_numpy()
    clock_us = transactions["clock_us"].to_numpy()
    records = _merged(
        store.read(list(names.values()), layout), layout.pack(merchant, time_us, clock_us, known)
    )
    # No merchant is named like this: the schema allows no slash in an id.
    label_names = {key: f"{name}/labels" for key, name in names.items()}
    label_records = _merged(
        store.read(list(label_names.values()), _LABEL_LAYOUT),
        _LABEL_LAYOUT.pack(
            _int64(told["merchant"]),
            labels["event_time_us"].to_numpy(),
            labels["clock_us"].to_numpy(),
            told,
        ),
    )
    moments = Moments(merchant, time_us, transactions["offset"].to_numpy(), clock_us, known)
    features = features_at(
        feature_set.over("merchant"),
        layout.events(records),
        _LABEL_LAYOUT.events(label_records),
        moments,
    )
    if len(rows) > len(rejected):
        clocks = np.concatenate([clock_us, labels["clock_us"].to_numpy()])
        oldest = int(clocks.max()) - duration_us(feature_set.retention() + SLACK)
        store.append(names, records, oldest)
        store.append(label_names, label_records, oldest)

    of_card = _matrix(transactions["card_features"])
    for column, feature in enumerate(_of_card_step(feature_set)):
        features[feature.name] = of_card[:, column]
    matrix = assemble(feature_set, features)
    scores = bundle.score(matrix)
    return pa.concat_tables(
        [
            _predictions(feature_set, bundle, transactions, matrix, scores, to, share_of_features),
            _dead_letters(rejected, to),
        ]
    )


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
        zip(alerts.tolist(), strongest(bundle, feature_set.groups, matrix[alerts]), strict=True)
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


def _dead_letters(rejected: pa.Table, to: Destinations) -> pa.Table:
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


def _cut(original: bytes) -> str:
    if len(original) <= _MOST_ORIGINAL:
        return ""
    return f" (the first {_MOST_ORIGINAL:,} of {len(original):,} bytes are kept)"


def _sampled(transaction: Int64, share: float) -> npt.NDArray[np.bool_]:
    # The hash decides, so that a repeated batch shows the same rows.
    return transaction.view(np.uint64) < np.uint64(min(share, 1.0) * (2**64 - 2**11))


# --- columns -------------------------------------------------------------------------------------


def _of_card_step(feature_set: FeatureSet) -> list[Feature]:
    return [feature for feature in feature_set.features if feature.key in (None, "card")]


def _advance_clock(store: Store, batch: int, time_us: Int64) -> Int64:
    """Return the partition clock at each record, and remember it for the next batch."""
    before = store.clock_before(batch)
    if len(time_us) == 0:
        return time_us
    clock_us = np.maximum.accumulate(time_us)
    if before is not None:
        clock_us = np.maximum(clock_us, before)
    store.keep_clock(batch, int(clock_us[-1]))
    return clock_us


def _merged(held: Records, new: Records) -> Records:
    """Return what is held, and of what is new the first copy of each transaction not held yet."""
    both = np.concatenate([held, new])
    first, _ = first_copies(both["key"], both["transaction"], np.arange(len(both)))
    return both[first]


def _is_own(
    records: Records, card: Int64, transaction: Int64, offset: Int64
) -> npt.NDArray[np.bool_]:
    """Tell which transactions are what the records hold under their id, not copies of it."""
    place = np.dtype([("key", "i8"), ("transaction", "i8"), ("arrival", "i8")])
    asked = np.empty(len(card), dtype=place)
    asked["key"], asked["transaction"], asked["arrival"] = card, transaction, offset
    held = np.empty(len(records), dtype=place)
    for name in place.names or ():
        held[name] = records[name]
    return np.isin(asked, held)


def _is_late(history: Events, moments: Moments) -> npt.NDArray[np.bool_]:
    """Tell which transactions are behind what their card had already shown."""
    order = np.lexsort((history.arrival, history.key))
    latest = running_maximum(history.key[order], history.time_us[order])
    place = np.dtype([("key", "i8"), ("arrival", "i8")])
    sorted_places = np.empty(len(order), dtype=place)
    sorted_places["key"], sorted_places["arrival"] = history.key[order], history.arrival[order]
    asked = np.empty(len(moments), dtype=place)
    asked["key"], asked["arrival"] = moments.key, moments.sequence
    return latest[np.searchsorted(sorted_places, asked)] > moments.time_us


def _names(key: Int64, column: pa.ChunkedArray) -> dict[int, str]:
    found, at = np.unique(key, return_index=True)
    return dict(zip(found.tolist(), column.take(pa.array(at)).to_pylist(), strict=True))


def _table(columns: pa.Table, handed: Mapping[str, object]) -> pa.Table:
    """Return `HANDED_ON` from columns that are there already and columns that are new."""
    rows = len(columns)
    return pa.table(
        [
            pa.array(handed[field.name], field.type)
            if field.name in handed and not isinstance(handed[field.name], pa.Array)
            else handed[field.name]
            if field.name in handed
            else columns[field.name]
            if field.name in columns.column_names
            else pa.nulls(rows, field.type)
            for field in HANDED_ON
        ],
        schema=HANDED_ON,
    )


def _rejected(
    decoded: Decoded, values: Sequence[bytes | None], place: tuple[str, int], offsets: Int64
) -> pa.Table:
    rows = [rejection.row for rejection in decoded.rejections]
    handed = {
        "kind": np.full(len(rows), REJECTED),
        "bucket": offsets[rows] % BUCKETS if rows else np.zeros(0, np.int64),
        "topic": [place[0]] * len(rows),
        "partition": np.full(len(rows), place[1]),
        "offset": offsets[rows] if rows else np.zeros(0, np.int64),
        "original": [values[row] for row in rows],
        "reason": [rejection.reason for rejection in decoded.rejections],
    }
    return _table(pa.table({"kind": pa.nulls(len(rows))}), handed)


def _lists(matrix: Float64, rows: int) -> pa.Array:
    width = matrix.shape[1]
    bounds = np.arange(rows + 1, dtype=np.int32) * width
    return pa.ListArray.from_arrays(pa.array(bounds), pa.array(matrix.reshape(-1)))


def _matrix(lists: pa.ChunkedArray) -> Float64:
    flat = lists.combine_chunks().flatten().to_numpy()
    return flat.reshape(len(lists), -1) if len(lists) else np.zeros((0, 1_000))


def _int64(column: npt.NDArray[np.generic]) -> Int64:
    return np.asarray(column, dtype=np.int64)
