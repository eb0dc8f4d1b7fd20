"""From records to features: the steps of a batch, as functions of columns and a store.

The first step works on one partition of a topic, in which a card's records lie in order: it
decodes, sets aside what is invalid, and computes what the transactions and their cards tell. Each
further step works on buckets of one key, brought together from all partitions, and computes what
the key's history tells. Which steps there are follows from the feature set: `shared_keys`. Spark
sees only that columns go in and columns come out.
"""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fraudstream.features.definitions import IDENTITIES
from fraudstream.features.definitions import LABEL
from fraudstream.features.definitions import VISIBILITY_LAG
from fraudstream.features.definitions import Feature
from fraudstream.features.definitions import FeatureSet
from fraudstream.features.history import ABSENT
from fraudstream.features.history import STRINGS
from fraudstream.features.history import Column
from fraudstream.features.history import Events
from fraudstream.features.history import Float64
from fraudstream.features.history import Int64
from fraudstream.features.history import Moments
from fraudstream.features.history import as_int64
from fraudstream.features.history import chronological
from fraudstream.features.history import first_copies
from fraudstream.features.history import label_values
from fraudstream.features.history import numbers
from fraudstream.features.history import running_maximum
from fraudstream.features.history import transaction_values
from fraudstream.features.windows import features_at
from fraudstream.inference.bounds import Bound
from fraudstream.inference.bounds import Mask
from fraudstream.inference.bounds import Records
from fraudstream.inference.bounds import begins
from fraudstream.inference.store import Layout
from fraudstream.inference.store import PartitionStore
from fraudstream.inference.store import Store
from fraudstream.inference.store import bucket_of
from fraudstream.inference.store import joined
from fraudstream.schema.card_numbers import masked
from fraudstream.schema.decoding import Decoded
from fraudstream.schema.timestamps import duration_us

TRANSACTION, LABELLED, REJECTED = 0, 1, 2

#: History is kept this much longer than any window reaches, so that a transaction that is late, or
#: repeated after later ones were stored, still finds all that it saw.
SLACK = timedelta(days=2)

#: A key is written anew when more than this share of what is held of it need not be.
_FORGOTTEN_SHARE = 1 / 8

_LAG_US = duration_us(VISIBILITY_LAG)
_NONE = np.zeros(0, dtype=np.int64)
_NO_EVENTS = Events(_NONE, _NONE, _NONE, {LABEL: np.zeros(0)})
_LABEL_LAYOUT = Layout(numbers=(LABEL,), identities=())

#: Where `HANDED_ON` holds what each string of a transaction was hashed to by the first step.
_IDENTITIES = {name: f"{name}_identity" for name in STRINGS}

#: What one step hands to the next, one row a record. Columns of another kind are null.
HANDED_ON = pa.schema(
    [
        ("kind", pa.int8()),
        # Of the next step's key.
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
        ("appended_ms", pa.int64()),
        *((name, pa.int64()) for name in _IDENTITIES.values()),
        # Those computed so far, step by step.
        ("features", pa.list_(pa.float64())),
        # Labels.
        ("is_fraud", pa.bool_()),
        # Rejected records; a card number is masked before it is handed on.
        ("original", pa.binary()),
        ("reason", pa.string()),
    ]
)


def shared_keys(feature_set: FeatureSet) -> tuple[str, ...]:
    """Return the keys by which a batch is brought together after the first step, in this order.

    A card is among them where its labels are asked for: they come from another topic than its
    transactions. The keys of labels come first, so that labels travel no further than they must.
    Where no key is needed, the first step's results are brought together by card.

    Examples
    --------
    >>> day = timedelta(days=1)
    >>> of_device = Feature("device", None, "count", day, VISIBILITY_LAG)
    >>> of_merchant = Feature("merchant", "is_fraud", "rate", day, VISIBILITY_LAG)
    >>> shared_keys(FeatureSet("x", 1, (of_device, of_merchant)))
    ('merchant', 'device')
    """
    shared = [f for f in feature_set.features if f.key and not f.is_of_own_card]
    shared.sort(key=lambda feature: not feature.is_of_labels)
    return tuple(dict.fromkeys(f.key for f in shared if f.key)) or ("card",)


def layout_of(feature_set: FeatureSet, key: str) -> Layout:
    """Return what must be kept of a key's transactions for the features of a set.

    Examples
    --------
    >>> layout_of(FeatureSet("x", 1, (Feature("card", "amount", "mean", timedelta(1)),)), "card")
    Layout(numbers=('amount',), identities=())
    """
    own = (feature for feature in feature_set.over(key) if not feature.is_of_labels)
    columns = {name for feature in own for name in feature.columns}
    return Layout(tuple(sorted(columns - IDENTITIES)), tuple(sorted(columns & IDENTITIES)))


def card_step(
    feature_set: FeatureSet,
    decoded: Decoded,
    originals: Sequence[bytes | None],
    place: tuple[str, int],
    offsets: Int64,
    batch: int,
    store: PartitionStore,
    clock_before_us: int | None,
) -> pa.Table:
    """Compute what the cards' histories tell of one partition's transactions, and remember them.

    Parameters
    ----------
    feature_set
        Which features.
    decoded
        The records; with a column ``appended_ms`` where latency is to be told.
    originals
        The values of those that were rejected, one a rejection.
    place
        Topic and partition.
    offsets
        Of all records, one a row of what was decoded.
    batch
        Number of the micro-batch.
    store
        Of this partition.
    clock_before_us
        The partition clock as it stood before the batch, by the store.

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
    clock_us = _advance_clock(store, batch, clock_before_us, time_us)
    card = as_int64(known["card"])
    layout = layout_of(feature_set, "card")
    records, is_first = np.zeros(0, layout.dtype), np.zeros(0, dtype=bool)
    own = np.zeros(0, dtype=np.int64)
    if len(columns):
        records, is_first, own = _remember(
            store,
            batch,
            layout,
            _names(card, columns["card_id"]),
            layout.pack(card, time_us, own_offsets, known),
            Bound(
                feature_set.most_events,
                _oldest_us(feature_set, clock_us[0]),
                before=int(own_offsets.min()) - 1,
                after=int(own_offsets.max()),
            ),
        )
    rows = np.flatnonzero(is_first)
    history = layout.events(records)
    moments = Moments(
        card[rows],
        time_us[rows],
        own_offsets[rows],
        clock_us[rows],
        {name: column[rows] for name, column in known.items()},
    )
    firsts = _of_first_step(feature_set)
    features = features_at(firsts, history, _NO_EVENTS, moments, feature_set.most_events)
    handed = {
        "kind": np.full(len(rows), TRANSACTION),
        "bucket": _bucket(moments.values, shared_keys(feature_set)[0]),
        "topic": [place[0]] * len(rows),
        "partition": np.full(len(rows), place[1]),
        "offset": own_offsets[rows],
        "clock_us": clock_us[rows],
        "is_late": _is_late(records, own),
        "features": _lists(np.column_stack([np.zeros((len(rows), 0)), *features.values()])),
        **{column: moments.values[name] for name, column in _IDENTITIES.items()},
    }
    transactions = _table(columns.take(pa.array(rows)), handed)
    return pa.concat_tables([transactions, _rejected(decoded, originals, place, offsets)])


def label_step(
    feature_set: FeatureSet,
    decoded: Decoded,
    originals: Sequence[bytes | None],
    place: tuple[str, int],
    offsets: Int64,
    batch: int,
    store: PartitionStore,
    clock_before_us: int | None,
) -> pa.Table:
    """Hand on one partition's labels, with the partition clock, to the keys that ask for labels.

    See `card_step`.
    """
    columns = decoded.columns
    known_us = columns["labelled_at_us"].to_numpy()
    clock_us = _advance_clock(store, batch, clock_before_us, known_us)
    key = shared_keys(feature_set)[0]
    rejected = _rejected(decoded, originals, place, offsets)
    if not _reads_labels(feature_set, key):
        return rejected
    handed = {
        "kind": np.full(len(columns), LABELLED),
        "bucket": _bucket(label_values(columns), key),
        "topic": [place[0]] * len(columns),
        "partition": np.full(len(columns), place[1]),
        "offset": offsets[decoded.rows],
        "event_time_us": known_us,
        "clock_us": clock_us,
    }
    return pa.concat_tables([_table(columns, handed), rejected])


def key_step(
    feature_set: FeatureSet, key: str, rows: pa.Table, batch: int, store: Store
) -> pa.Table:
    """Compute what one key's histories tell of transactions, and remember them.

    Parameters
    ----------
    feature_set
        Which features.
    key
        One of `shared_keys`; those before it have been dealt with.
    rows
        `HANDED_ON`, of some buckets of the key.
    batch
        Number of the micro-batch.
    store
        Of these buckets.

    Returns
    -------
    pyarrow.Table
        `HANDED_ON`, with this key's features behind the others and the bucket of the next key.
    """
    transactions, labels = of_kind(rows, TRANSACTION), of_kind(rows, LABELLED)
    known, told = _values(transactions), label_values(labels)
    whose = as_int64(known[key])
    time_us = transactions["event_time_us"].to_numpy()
    clock_us = transactions["clock_us"].to_numpy()
    moments = Moments(whose, time_us, transactions["offset"].to_numpy(), clock_us, known)
    bound = _bound(feature_set, transactions)

    shared = [f for f in feature_set.over(key) if not f.is_of_own_card]
    names = _names(whose, transactions[STRINGS[key]])
    history = label_history = _NO_EVENTS
    if not all(feature.is_of_labels for feature in shared):
        layout = layout_of(feature_set, key)
        new = layout.pack(whose, time_us, clock_us, known).compress(whose != ABSENT)
        history = layout.events(_remember(store, batch, layout, names, new, bound)[0])
    if any(feature.is_of_labels for feature in shared):
        labelled = as_int64(told[key])
        new = _LABEL_LAYOUT.pack(
            labelled, labels["event_time_us"].to_numpy(), labels["clock_us"].to_numpy(), told
        )
        names |= _names(labelled, labels[STRINGS[key]])
        # No key is named like this: the schema allows no slash in an id.
        names = {each: f"{name}/labels" for each, name in names.items()}
        label_history = _LABEL_LAYOUT.events(
            _remember(store, batch, _LABEL_LAYOUT, names, new, bound)[0]
        )
    features = features_at(shared, history, label_history, moments, feature_set.most_events)

    before = _matrix(transactions["features"])
    handed = {"features": _lists(np.column_stack([before, *features.values()]))}
    keys = shared_keys(feature_set)
    following = keys[keys.index(key) + 1 :]
    if not following:
        return pa.concat_tables([_table(transactions, handed), of_kind(rows, REJECTED)])
    next_key = following[0]
    handed["bucket"] = _bucket(known, next_key)
    parts = [_table(transactions, handed), of_kind(rows, REJECTED)]
    if _reads_labels(feature_set, next_key):
        parts.append(_table(labels, {"bucket": _bucket(told, next_key)}))
    return pa.concat_tables(parts)


def _values(transactions: pa.Table) -> dict[str, Column]:
    """Return what `transaction_values` does, of what the first step has handed on."""
    identities = {name: transactions[column].to_numpy() for name, column in _IDENTITIES.items()}
    return identities | numbers(transactions)


def matrix_of(feature_set: FeatureSet, transactions: pa.Table) -> Float64:
    """Return the matrix of the feature set, shape (n, features), when all steps have been gone.

    Parameters
    ----------
    feature_set
        Which features.
    transactions
        Rows of `HANDED_ON`.
    """
    in_order = _of_first_step(feature_set)
    for key in shared_keys(feature_set):
        in_order += [f for f in feature_set.over(key) if not f.is_of_own_card]
    matrix = _matrix(transactions["features"]).reshape(len(transactions), len(in_order))
    place = {feature.name: at for at, feature in enumerate(in_order)}
    return matrix.take([place[name] for name in feature_set.names], axis=1)


def of_kind(rows: pa.Table, kind: int) -> pa.Table:
    """Return the transactions, labels or rejected records among `HANDED_ON`."""
    is_one = pc.equal(rows["kind"], kind)
    # Most often all are, and a copy of them would cost something.
    return rows if pc.all(is_one).as_py() else rows.filter(is_one)


def portions(rows: pa.Table, most: int) -> Iterator[pa.Table]:
    """Yield `HANDED_ON` in parts of whole buckets: about `most` rows, or one bucket.

    Examples
    --------
    >>> rows = pa.table({"bucket": [3, 1, 3, 2, 1], "offset": range(5)})
    >>> [part["offset"].to_pylist() for part in portions(rows, 3)]
    [[1, 4, 3], [0, 2]]
    """
    bucket = rows["bucket"].to_numpy()
    order = np.argsort(bucket, kind="stable")
    starts = np.flatnonzero(np.diff(bucket[order], prepend=-1))
    begin = 0
    for start, stop in zip(starts.tolist(), [*starts[1:].tolist(), len(order)], strict=True):
        if stop - begin > most and start > begin:
            yield rows.take(pa.array(order[begin:start]))
            begin = start
    if begin < len(order):
        yield rows.take(pa.array(order[begin:]))


# --- histories -----------------------------------------------------------------------------------


def _remember(
    store: Store, batch: int, layout: Layout, names: Mapping[int, str], new: Records, bound: Bound
) -> tuple[Records, Mask, Int64]:
    """Return all that is known of some keys, with what a batch brings, and keep what must be.

    Returns
    -------
    records
        All of it.
    is_first
        Which of `new` are no copies of what came before.
    own
        The places of these in `records`.
    """
    records, is_first, own = _merged(store.read(names, layout), new)
    # Of nothing held and nothing new, nothing is to be forgotten either.
    if len(records):
        is_new = np.zeros(len(records), dtype=bool)
        is_new[own] = True
        kept = bound.kept(records, is_new)
        is_anew = _is_anew(np.ascontiguousarray(records["key"]), kept)
        store.append(batch, names, records.compress(is_new & ~is_anew))
        if is_anew.any():
            anew = {key: names[key] for key in np.unique(records["key"][is_anew]).tolist()}
            rest, added = (records.compress(is_anew & kept & of) for of in (~is_new, is_new))
            store.replace(batch, anew, rest, added)
    return records, is_first, own


def _is_anew(key: Int64, kept: Mask) -> Mask:
    """Tell which records are of keys of which so much need not be kept that they are written anew.

    To forget each record at once would be to write all of a key for each event of it.
    """
    starts = begins(key)
    count = np.diff(starts, append=len(key))
    dropped = np.add.reduceat(~kept, starts, dtype=np.int64)
    return np.repeat(dropped > count * _FORGOTTEN_SHARE, count)


def _merged(held: Records, new: Records) -> tuple[Records, Mask, Int64]:
    """Return what is held, and of what is new the first copy of each transaction not held yet.

    Returns
    -------
    records
        All of them, by key, time and arrival. As they are held in this order, too, there is little
        to sort.
    is_first
        Which of `new` are no copies, also where the batch is repeated and they are held already.
        What is known under a transaction's id has to come from its own arrival: so a repeated
        batch is not mistaken for a batch of copies.
    own
        The places of these in `records`.
    """
    both = joined([held, new])
    key, time_us, arrival, transaction = (
        np.ascontiguousarray(both[name]) for name in ("key", "time_us", "arrival", "transaction")
    )
    count = len(held)
    # Of what is held, only this can be a copy of what is new.
    again = np.flatnonzero(pd.Series(transaction[:count]).isin(transaction[count:]))
    some = np.concatenate([again, np.arange(count, len(both))])
    first, copy_of = first_copies(key[some], transaction[some], some)
    stands_for = some[first][copy_of[len(again) :]]
    is_first = arrival[stands_for] == arrival[count:]

    if len(first) == len(some):
        order = chronological(key, time_us, arrival, transaction)
    else:
        left = np.ones(len(both), dtype=bool)
        left[some] = False
        left[some[first]] = True
        rows = np.flatnonzero(left)
        order = rows[chronological(key[rows], time_us[rows], arrival[rows], transaction[rows])]
    place = np.empty(len(both), dtype=np.int64)
    place[order] = np.arange(len(order))
    return both.take(order), is_first, place[stands_for[is_first]]


def _bound(feature_set: FeatureSet, transactions: pa.Table) -> Bound:
    clock_us = transactions["clock_us"].to_numpy()
    if not len(clock_us):
        # Labels alone. They may be far ahead of the transactions that will ask for them.
        return Bound(feature_set.most_events, oldest_us=0)
    partitions, partition = np.unique(transactions["partition"].to_numpy(), return_inverse=True)
    reached = np.full(len(partitions), clock_us.min())
    np.maximum.at(reached, partition, clock_us)
    return Bound(
        feature_set.most_events,
        _oldest_us(feature_set, clock_us.min()),
        before=int(clock_us.min()) - _LAG_US,
        after=int(reached.min()) - _LAG_US,
    )


def _oldest_us(feature_set: FeatureSet, clock_us: np.int64) -> int:
    """Return what a batch can forget that began by this clock: not all that it could do without.

    It may be repeated, and its first transaction has to find then what it found before.
    """
    return int(clock_us) - duration_us(feature_set.retention() + SLACK)


def _advance_clock(
    store: PartitionStore, batch: int, before_us: int | None, time_us: Int64
) -> Int64:
    """Return the partition clock at each record, and remember it for the next batch."""
    if len(time_us) == 0:
        return time_us
    clock_us = np.maximum.accumulate(time_us)
    if before_us is not None:
        clock_us = np.maximum(clock_us, before_us)
    store.keep_clock(batch, int(clock_us[-1]))
    return clock_us


def _is_late(records: Records, own: Int64) -> Mask:
    """Tell which transactions, by their places, are behind what their card had already shown."""
    key, time_us = records["key"], records["time_us"]
    order = chronological(key, records["arrival"], time_us)
    latest = np.empty(len(order), dtype=np.int64)
    latest[order] = running_maximum(key[order], time_us[order])
    late: Mask = latest[own] > time_us[own]
    return late


def _of_first_step(feature_set: FeatureSet) -> list[Feature]:
    return [f for f in feature_set.features if f.key is None or f.is_of_own_card]


def _reads_labels(feature_set: FeatureSet, key: str) -> bool:
    return any(feature.is_of_labels for feature in feature_set.over(key))


# --- columns -------------------------------------------------------------------------------------


def _names(key: Int64, column: pa.ChunkedArray) -> dict[int, str]:
    found, at = np.unique(key, return_index=True)
    names = dict(zip(found.tolist(), column.take(pa.array(at)).to_pylist(), strict=True))
    names.pop(ABSENT, None)
    return names


def _bucket(values: Mapping[str, Column], key: str) -> Int64:
    """Return the bucket of each record; those without the key are spread by transaction."""
    whose = as_int64(values[key])
    return bucket_of(np.where(whose == ABSENT, as_int64(values["transaction"]), whose))


def _table(columns: pa.Table, handed: Mapping[str, object]) -> pa.Table:
    """Return `HANDED_ON` from columns that are there already and columns that are new."""
    rows = len(columns)
    return pa.table(
        [
            _array(handed[field.name], field.type)
            if field.name in handed
            else columns[field.name]
            if field.name in columns.column_names
            else pa.nulls(rows, field.type)
            for field in HANDED_ON
        ],
        schema=HANDED_ON,
    )


def _array(column: object, kind: pa.DataType) -> pa.Array:
    return column if isinstance(column, pa.Array) else pa.array(column, kind)


def _rejected(
    decoded: Decoded, originals: Sequence[bytes | None], place: tuple[str, int], offsets: Int64
) -> pa.Table:
    rows = np.array([rejection.row for rejection in decoded.rejections], dtype=np.int64)
    handed = {
        "kind": np.full(len(rows), REJECTED),
        "bucket": bucket_of(offsets[rows]),
        "topic": [place[0]] * len(rows),
        "partition": np.full(len(rows), place[1]),
        "offset": offsets[rows],
        "original": [None if value is None else masked(value) for value in originals],
        "reason": [rejection.reason for rejection in decoded.rejections],
    }
    return _table(pa.table({"kind": pa.nulls(len(rows))}), handed)


def _lists(matrix: Float64) -> pa.Array:
    rows, width = matrix.shape
    bounds = np.arange(rows + 1, dtype=np.int32) * width
    return pa.ListArray.from_arrays(pa.array(bounds), pa.array(matrix.reshape(-1)))


def _matrix(lists: pa.ChunkedArray) -> Float64:
    """Return lists of one length as rows; without any row, of no length."""
    flat = lists.combine_chunks().flatten().to_numpy()
    return flat.reshape(len(lists), -1) if len(lists) else np.zeros((0, 0))
