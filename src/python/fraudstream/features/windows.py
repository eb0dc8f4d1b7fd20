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

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from dataclasses import field
from datetime import timedelta
from functools import partial

import numpy as np
import pyarrow as pa

from fraudstream.features.definitions import LABEL
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
from fraudstream.features.view import Timeline
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
    if all(feature.statistic in OF_TRANSACTION for feature in features):
        return {feature.name: of_transaction(feature, moments) for feature in features}
    if not moments.is_chronological:
        order = chronological(moments.key, moments.time_us, moments.sequence)
        found = features_at(features, transactions, labels, moments.take(order), most_events)
        back = np.argsort(order)
        return {name: column.take(back) for name, column in found.items()}
    return _features_in_order(features, transactions, labels, moments, most_events)


def _features_in_order(
    features: Sequence[Feature],
    transactions: Events,
    labels: Events,
    moments: Moments,
    most_events: int,
) -> dict[str, Float64]:
    """Compute features of moments that lie by key and time; see `features_at`."""
    reach = max((feature.reach for feature in features), default=timedelta(0))
    timelines: list[Timeline] = []
    finders: dict[bool, Finder] = {}
    views: dict[tuple[bool, timedelta, bool], View] = {}
    columns: dict[str, Float64] = {}
    for feature in features:
        if feature.statistic in OF_TRANSACTION:
            columns[feature.name] = of_transaction(feature, moments)
            continue
        of_labels = feature.is_of_labels
        if of_labels not in finders:
            events = labels if of_labels else transactions
            # Labels may lie where their transactions do.
            timeline = next((some for some in timelines if some.is_of(events)), None)
            if timeline is None:
                timeline = Timeline(events.key, events.time_us, moments, reach)
                timelines.append(timeline)
            finders[of_labels] = Finder(events, timeline)
        place = (of_labels, feature.delay, feature.include_current)
        if place not in views:
            views[place] = View(finders[of_labels], moments, feature, most_events)
        columns[feature.name] = of_window(feature, views[place])
    return columns


@dataclass(frozen=True)
class Whole:
    """All that is known of the keys of one kind, and what is asked of it.

    Attributes
    ----------
    features
        Features that share one key; ``None`` needs no history.
    transactions
        All there are, without copies, in any order. What has no key (`ABSENT`) is nobody's
        history, and has none.
    labels
        All there are, in any order.
    """

    features: Sequence[Feature]
    transactions: Moments
    labels: Events = field(default_factory=Events.none)


def features_throughout(
    histories: Sequence[Whole],
    most_events: int = MOST_EVENTS,
    threads: int = 1,
    advance: Callable[[float], None] = lambda share: None,
) -> dict[str, Float64]:
    """Compute features for every transaction of whole histories.

    Parameters
    ----------
    histories
        One a key, of the same transactions in the same order.
    most_events
        See `FeatureSet`.
    threads
        How many pieces are worked on side by side. Numbers do not depend on it.
    advance
        Is told of each piece that is done, as its share of the whole.

    Returns
    -------
    dict
        As of `features_at`, in the order of the transactions.

    Examples
    --------
    >>> key, time_us = np.array([1, 1, 2]), np.array([0, 5_000_000, 9_000_000])
    >>> paid = Moments(key, time_us, np.arange(3), time_us, {"amount": np.array([3.0, 4.0, 5.0])})
    >>> spent = Feature("card", "amount", "sum", timedelta(hours=1), include_current=True)
    >>> features_throughout([Whole([spent], paid)])[spent.name].tolist()
    [3.0, 7.0, 5.0]
    """
    # Row by row, since one write of a row is faster than one of each of its columns.
    matrices = [np.empty((len(whole.transactions), len(whole.features))) for whole in histories]
    rows = sum(len(matrix) for matrix in matrices)
    with ThreadPoolExecutor(threads) as pool:
        for matrix, pieces in zip(matrices, pool.map(_pieces, histories), strict=True):
            for done in pool.map(partial(_fill, matrix, most_events), pieces):
                advance(done / rows)
    return {
        feature.name: matrix[:, column]
        for matrix, whole in zip(matrices, histories, strict=True)
        for column, feature in enumerate(whole.features)
    }


@dataclass(frozen=True)
class _Piece:
    """Some rows of whole keys, with these keys: what is at work at once fits into a cache."""

    whole: Whole
    rows: Int64
    key: Int64
    labels: Events


def _pieces(whole: Whole) -> list[_Piece]:
    transactions = whole.transactions
    if all(feature.statistic in OF_TRANSACTION for feature in whole.features):
        key = order = np.arange(len(transactions))
    else:
        order = chronological(
            transactions.key,
            transactions.time_us,
            _arrival(whole),
            transactions.values.get("transaction"),
        )
        key = transactions.key.take(order)
    labels = whole.labels.in_order()
    return [
        _Piece(
            whole,
            order[begin:stop],
            key[begin:stop],
            labels.between(key[begin], key[stop - 1]),
        )
        for begin, stop in _blocks(key)
    ]


def _arrival(whole: Whole) -> Int64:
    """Return in which order the transactions came, as who looks at them sees it."""
    of_own_card = any(feature.is_of_own_card for feature in whole.features)
    return whole.transactions.sequence if of_own_card else whole.transactions.clock_us


def _blocks(key: Int64) -> Iterator[tuple[int, int]]:
    """Yield where pieces of whole keys begin and end."""
    begin = 0
    while begin < len(key):
        last = key[min(begin + _ROWS_AT_ONCE, len(key)) - 1]
        stop = int(key.searchsorted(last, side="right"))
        yield begin, stop
        begin = stop


def _fill(matrix: Float64, most_events: int, piece: _Piece) -> int:
    """Compute the features of a piece, put them in their places, and return of how many rows."""
    features, transactions = piece.whole.features, piece.whole.transactions
    read = {name for feature in features for name in feature.columns}
    arrival = _arrival(piece.whole).take(piece.rows)
    by_clock = any(feature.key and not feature.is_of_own_card for feature in features)
    moments = Moments(
        piece.key,
        transactions.time_us.take(piece.rows),
        # Of the two, only what is looked at is worth the time.
        arrival,
        transactions.clock_us.take(piece.rows) if by_clock else arrival,
        {
            name: column.take(piece.rows)
            for name, column in transactions.values.items()
            if name in read
        },
    )
    history = Events(moments.key, moments.time_us, arrival, moments.values)
    known = piece.labels
    if piece.key[0] <= ABSENT <= piece.key[-1]:
        history, known = history.without(ABSENT), known.without(ABSENT)
    found = _features_in_order(features, history, known, moments, most_events)
    values = np.column_stack([*found.values()])
    whole_row = np.dtype((np.void, matrix.shape[1] * matrix.itemsize))
    # One axis first: numpy writes to places on one in a third of the time.
    matrix.view(whole_row)[:, 0][piece.rows] = values.view(whole_row)[:, 0]
    return len(piece.rows)


def assemble(feature_set: FeatureSet, columns: dict[str, Float64]) -> Float64:
    """Return the matrix of a feature set, shape (n, features), from columns by name."""
    return np.column_stack([columns[name] for name in feature_set.names])


def replay(
    feature_set: FeatureSet,
    transactions: pa.Table,
    labels: pa.Table,
    threads: int = 1,
    advance: Callable[[float], None] = lambda share: None,
) -> Float64:
    """Compute the features of a whole topic, each row as the stream would have seen it.

    Parameters
    ----------
    feature_set
        Which features.
    transactions, labels
        Decoded columns (`fraudstream.schema.decoding`) with ``partition`` and ``offset``.
    threads, advance
        As of `features_throughout`.

    Returns
    -------
    float64, shape (n, features)
        In the order of `transactions`. A duplicate has the features of its first copy.
    """
    found = replayed(feature_set, transactions, labels, threads, advance)
    return assemble(feature_set, found.columns).take(found.copy_of, axis=0)


@dataclass(frozen=True)
class Replayed:
    """The features of a whole topic, before they are a matrix, which would be as much again.

    Attributes
    ----------
    feature_set
        Which features.
    columns
        By name, of the first copies.
    copy_of
        ``int64``, for each row of the topic, the place of its first copy in `columns`.
    """

    feature_set: FeatureSet
    columns: dict[str, Float64]
    copy_of: Int64

    def rows(self, rows: Int64) -> Float64:
        """Return the features of some rows of the topic, as `replay` has them."""
        first = self.copy_of.take(rows)
        return assemble(
            self.feature_set, {name: column.take(first) for name, column in self.columns.items()}
        )


def replayed(
    feature_set: FeatureSet,
    transactions: pa.Table,
    labels: pa.Table,
    threads: int = 1,
    advance: Callable[[float], None] = lambda share: None,
) -> Replayed:
    """Compute the features of a whole topic, for who needs some rows of it at a time.

    See `replay`.
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
    of_label = {name: told[name] for name in ("transaction", LABEL)}
    histories = []
    for key in dict.fromkeys(feature.key for feature in feature_set.features):
        whose = key or "card"
        moments = Moments(
            as_int64(kept[whose]), time_us[first], offset[first], clock_us[first], kept
        )
        labels = Events.none()
        if whose in told:
            labels = Events(
                as_int64(told[whose]), known_us[first_label], label_clock_us[first_label], of_label
            )
        histories.append(Whole(feature_set.over(key), moments, labels))
    columns = features_throughout(histories, feature_set.most_events, threads, advance)
    return Replayed(feature_set, columns, copy_of)
