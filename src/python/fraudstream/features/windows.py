"""The engine: exact sliding windows in event time, over any history, as of any moment.

The same functions serve training (the history is the whole topic) and the stream (the history is
what the state holds for the keys of a batch), and give the same numbers:

* An event counts for a moment when its time lies in ``(t - delay - window, t - delay]`` and it had
  arrived: before the moment in the card's partition, or `VISIBILITY_LAG` before by the partition
  clock elsewhere. Of a key, the latest `FeatureSet.most_events` of these are seen. A repeated
  batch gets the same numbers even though the state already holds it.
* Sums are kept in integers of a millionth, so that they are exact in whatever order and over
  however long a history they are formed.

Where every event before a window's end had arrived, which is so unless some came late, counts and
sums come from prefix sums in constant time a row. The other rows, and statistics that prefix sums
cannot give, look at the window's members one by one. Late, duplicated and out-of-order events
therefore change speed, never numbers.
"""

from collections.abc import Iterator
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pyarrow as pa

from fraudstream.features.definitions import MOST_EVENTS
from fraudstream.features.definitions import OF_TRANSACTION
from fraudstream.features.definitions import Feature
from fraudstream.features.definitions import FeatureSet
from fraudstream.features.history import ABSENT
from fraudstream.features.history import Events
from fraudstream.features.history import Float64
from fraudstream.features.history import Int64
from fraudstream.features.history import Moments
from fraudstream.features.history import as_int64
from fraudstream.features.history import chronological
from fraudstream.features.history import first_copies
from fraudstream.features.history import label_values
from fraudstream.features.history import partition_clock
from fraudstream.features.history import transaction_values
from fraudstream.features.statistics import of_transaction
from fraudstream.features.statistics import of_window
from fraudstream.features.view import Finder
from fraudstream.features.view import View

#: Rows looked at in one go, but for a key that has more.
_ROWS_AT_ONCE = 1 << 16


def features_at(
    features: Sequence[Feature],
    transactions: Events,
    labels: Events,
    moments: Moments,
    most_events: int = MOST_EVENTS,
) -> dict[str, Float64]:
    """Compute the features of one key.

    Parameters
    ----------
    features
        Features that share one key; ``None`` needs no history.
    transactions, labels
        The history of at least the moments' keys. The moments' own events may be among them, and
        so may later ones: neither is seen.
    moments
        For which transactions.
    most_events
        See `FeatureSet`.

    Returns
    -------
    dict
        ``float64`` columns of the moments' length by feature name; nan where there is no value.
    """
    if not moments.is_chronological:
        order = chronological(moments.key, moments.time_us, moments.sequence)
        found = features_at(features, transactions, labels, moments.take(order), most_events)
        back = np.argsort(order)
        return {name: column.take(back) for name, column in found.items()}
    reach = max((feature.reach for feature in features), default=timedelta(0))
    finders: dict[bool, Finder] = {}
    views: dict[tuple[bool, timedelta, bool], View] = {}
    columns: dict[str, Float64] = {}
    for feature in features:
        if feature.statistic in OF_TRANSACTION:
            columns[feature.name] = of_transaction(feature, moments)
            continue
        of_labels = feature.is_of_labels
        if of_labels not in finders:
            finders[of_labels] = Finder(labels if of_labels else transactions, reach)
        place = (of_labels, feature.delay, feature.include_current)
        if place not in views:
            views[place] = View(finders[of_labels], moments, feature, most_events)
        columns[feature.name] = of_window(feature, views[place])
    return columns


def features_throughout(
    features: Sequence[Feature],
    transactions: Moments,
    labels: Events,
    most_events: int = MOST_EVENTS,
) -> dict[str, Float64]:
    """Compute the features of one key for every transaction of a whole history.

    Parameters
    ----------
    features, labels, most_events
        As of `features_at`.
    transactions
        All there are, without copies, in any order. What has no key (`ABSENT`) is nobody's
        history, and has none.

    Returns
    -------
    dict
        As of `features_at`, in the order of `transactions`.

    Examples
    --------
    >>> key, time_us = np.array([1, 1, 2]), np.array([0, 5_000_000, 9_000_000])
    >>> paid = Moments(key, time_us, np.arange(3), time_us, {"amount": np.array([3.0, 4.0, 5.0])})
    >>> spent = Feature("card", "amount", "sum", timedelta(hours=1), include_current=True)
    >>> features_throughout([spent], paid, Events.none())[spent.name].tolist()
    [3.0, 7.0, 5.0]
    """
    if all(feature.statistic in OF_TRANSACTION for feature in features):
        return features_at(features, Events.none(), labels, transactions, most_events)
    is_of_card = any(feature.key == "card" for feature in features)
    arrival = transactions.sequence if is_of_card else transactions.clock_us
    order = chronological(
        transactions.key, transactions.time_us, arrival, transactions.values.get("transaction")
    )
    key = transactions.key.take(order)
    # Row by row, since one write of a row is faster than one of each of its columns.
    matrix = np.empty((len(order), len(features)))
    for begin, stop in _blocks(key):
        moments = transactions.take(order[begin:stop])
        history = Events(
            moments.key,
            moments.time_us,
            moments.sequence if is_of_card else moments.clock_us,
            moments.values,
        )
        known = labels.between(key[begin], key[stop - 1])
        if (moments.key == ABSENT).any():
            history, known = history.without(ABSENT), known.without(ABSENT)
        found = features_at(features, history, known, moments, most_events)
        _write_rows(matrix, order[begin:stop], np.column_stack([*found.values()]))
    return {feature.name: matrix[:, column] for column, feature in enumerate(features)}


def _write_rows(matrix: Float64, rows: Int64, values: Float64) -> None:
    whole = np.dtype((np.void, matrix.shape[1] * matrix.itemsize))
    matrix.view(whole)[rows, 0] = values.view(whole)[:, 0]


def _blocks(key: Int64) -> Iterator[tuple[int, int]]:
    """Yield where pieces of whole keys begin and end: what is at work at once fits into a cache."""
    begin = 0
    while begin < len(key):
        last = key[min(begin + _ROWS_AT_ONCE, len(key)) - 1]
        stop = int(key.searchsorted(last, side="right"))
        yield begin, stop
        begin = stop


def assemble(feature_set: FeatureSet, columns: dict[str, Float64]) -> Float64:
    """Return the matrix of a feature set, shape (n, features), from columns by name."""
    return np.column_stack([columns[name] for name in feature_set.names])


def replay(feature_set: FeatureSet, transactions: pa.Table, labels: pa.Table) -> Float64:
    """Compute the features of a whole topic, each row as the stream would have seen it.

    Parameters
    ----------
    feature_set
        Which features.
    transactions, labels
        Decoded columns (`fraudstream.schema.decoding`) with ``partition`` and ``offset``.

    Returns
    -------
    float64, shape (n, features)
        In the order of `transactions`. A duplicate has the features of its first copy.
    """
    values = transaction_values(transactions)
    time_us = transactions["event_time_us"].to_numpy()
    partition = transactions["partition"].to_numpy()
    offset = transactions["offset"].to_numpy()
    clock_us = partition_clock(partition, offset, time_us)
    first, copy_of = first_copies(as_int64(values["card"]), as_int64(values["transaction"]), offset)

    known = label_values(labels)
    known_us = labels["labelled_at_us"].to_numpy()
    label_offset = labels["offset"].to_numpy()
    label_clock_us = partition_clock(labels["partition"].to_numpy(), label_offset, known_us)
    first_label, _ = first_copies(
        as_int64(known["card"]), as_int64(known["transaction"]), label_offset
    )

    kept = {name: column[first] for name, column in values.items()}
    told = {name: column[first_label] for name, column in known.items()}
    columns: dict[str, Float64] = {}
    for key in dict.fromkeys(feature.key for feature in feature_set.features):
        whose = key or "card"
        known_by = told.get(whose)
        columns |= features_throughout(
            feature_set.over(key),
            Moments(as_int64(kept[whose]), time_us[first], offset[first], clock_us[first], kept),
            Events.none()
            if known_by is None
            else Events.ordered(
                as_int64(known_by), known_us[first_label], label_clock_us[first_label], told
            ),
            feature_set.most_events,
        )
    return assemble(feature_set, columns).take(copy_of, axis=0)
