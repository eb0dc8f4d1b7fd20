"""Columnar histories: what windows are computed over, and the order in which it arrived.

Strings become 64-bit hashes at this edge; from here on everything is numpy. An event has a time
(when the card was used; for a label, when it became known) and an arrival. Within one partition
the arrival is the offset. Across partitions it is the **partition clock**: the latest event time
that the event's partition had shown when it came. It is a function of the topic's content alone,
so a replay, a bulk load and the live stream agree on it whatever the wall clock said.
"""

from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from fraudstream.features.definitions import IDENTITIES
from fraudstream.features.definitions import KEYS_OF_LABELS
from fraudstream.features.definitions import LABEL

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Column = npt.NDArray[np.generic]

#: The hash that stands for an absent string.
ABSENT = 0
#: The decoded columns of which identities are made.
STRINGS = {
    "transaction": "transaction_id",
    "card": "card_id",
    "merchant": "merchant_id",
    "device": "device_id",
    "country": "country",
    "channel": "channel",
}
#: The decoded columns that are numbers.
NUMBERS = ("amount", "latitude", "longitude")
_ODD = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class Events:
    """The history of some keys of one kind, for who asks it `in_order`.

    Attributes
    ----------
    key, time_us, arrival
        ``int64``, one an event.
    values
        Columns by name: ``float64`` for numbers (nan: absent), ``int64`` for identities.
    """

    key: Int64
    time_us: Int64
    arrival: Int64
    values: Mapping[str, Column] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.key)

    def in_order(self) -> "Events":
        """Return them by key, time and arrival.

        Events of one key, time and arrival, as cards of several partitions may have, are told
        apart by `values` ``["transaction"]``, if that is there: the order is then the same
        whatever order they are given in.
        """
        order = chronological(self.key, self.time_us, self.arrival, self.values.get("transaction"))
        return self if (order[1:] > order[:-1]).all() else self.take(order)

    @classmethod
    def none(cls) -> "Events":
        """Return the history of which nothing is known."""
        nothing = np.zeros(0, dtype=np.int64)
        columns: dict[str, Column] = dict.fromkeys(IDENTITIES, nothing)
        columns |= {name: np.zeros(0) for name in (*NUMBERS, LABEL)}
        return cls(nothing, nothing, nothing, columns)

    def between(self, first: np.int64, last: np.int64) -> "Events":
        """Return the events of the keys from `first` to `last`, of a history in order."""
        place = slice(
            int(self.key.searchsorted(first)), int(self.key.searchsorted(last, side="right"))
        )
        return Events(
            self.key[place],
            self.time_us[place],
            self.arrival[place],
            {name: column[place] for name, column in self.values.items()},
        )

    def without(self, key: int) -> "Events":
        """Return the events of all other keys."""
        return self.take(np.flatnonzero(self.key != key))

    def take(self, places: Int64) -> "Events":
        """Return those at some places, in that order."""
        return Events(
            self.key.take(places),
            self.time_us.take(places),
            self.arrival.take(places),
            {name: column.take(places) for name, column in self.values.items()},
        )


@dataclass(frozen=True)
class Moments:
    """The transactions for which features are computed, each as of its own event time and arrival.

    Attributes
    ----------
    key, time_us
        ``int64``: whose history is asked for, and the transaction's event time.
    sequence
        ``int64``, the offset in the card's partition.
    clock_us
        ``int64``, the partition clock.
    values
        The transaction's own columns, as in `Events`.
    """

    key: Int64
    time_us: Int64
    sequence: Int64
    clock_us: Int64
    values: Mapping[str, Column] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.key)

    @property
    def is_chronological(self) -> bool:
        """Whether they lie by key and time, as `Events` do."""
        return _is_sorted(self.key, self.time_us)

    def take(self, order: Int64) -> "Moments":
        """Return those at some places, in that order."""
        return Moments(
            self.key.take(order),
            self.time_us.take(order),
            self.sequence.take(order),
            self.clock_us.take(order),
            {name: column.take(order) for name, column in self.values.items()},
        )


@dataclass(frozen=True)
class Line:
    """Values of several rows on one line of integers: row after row, and in order within each.

    One comparison of places then compares rows and values at once, and one sort or one search in
    a sorted array is of all rows together.

    Attributes
    ----------
    length
        How much of the line each row has.
    before
        The value that stands just before the lowest.
    margin
        How far a place that was found may be moved to either side and still lie in its row; 0
        where `ticks` are used, since they tell no distances.
    ticks
        The values that occur, where the line would not fit into 64 bits with all those between.

    Examples
    --------
    >>> line = Line.of(np.array([5, 9, 7]), rows=2)
    >>> place = line.place(np.array([0, 0, 1]), np.array([5, 9, 7]))
    >>> bool((place[1:] > place[:-1]).all())
    True
    >>> line.value(np.array([0, 0, 1]), place).tolist()
    [5, 9, 7]
    """

    length: int
    before: int
    ticks: Int64 | None
    margin: int = 0

    @classmethod
    def of(cls, values: Int64, rows: int, margin: int = 0) -> "Line":
        """Return a line on which these values have places, in any of so many rows.

        With a margin, where there is room for it.
        """
        lowest, highest = (int(values.min()), int(values.max())) if len(values) else (0, 0)
        for some in (margin, 0):
            length = highest - lowest + 2 + 2 * some
            if length * (rows + 1) < _END_OF_LINE:
                return cls(length, lowest - 1, None, some)
        ticks = np.unique(values)
        return cls(len(ticks) + 1, 0, ticks)

    def place(self, row: Int64, values: Int64) -> Int64:
        """Return the places of values; of one that does not occur, that of the next lower one.

        Lower than all, it has a place of its own before them; row -1 lies before row 0.
        """
        if self.ticks is None:
            # Beyond the values that occur a place may lie as far as the margin.
            at = values - self.before
            np.maximum(at, 0, out=at)
            np.minimum(at, self.length - 1 - self.margin, out=at)
        else:
            at = self.ticks.searchsorted(values, side="right")
        at += row * self.length
        return at

    def value(self, row: Int64, place: Int64) -> Int64:
        """Return the values of which these are the places."""
        at = place - row * self.length
        return at + self.before if self.ticks is None else self.ticks.take(at - 1)


_END_OF_LINE = 1 << 62


def identity(column: pa.ChunkedArray | pa.Array) -> Int64:
    """Return a stable 64-bit hash of each string; `ABSENT` for null.

    Examples
    --------
    >>> identity(pa.array(["a", None, "a"])).tolist()[1:2]
    [0]
    """
    # Each string is hashed once, however often it occurs.
    chunks = [column] if isinstance(column, pa.Array) else column.chunks
    encoded = pa.chunked_array(chunks, pa.string()).combine_chunks().dictionary_encode()
    strings = np.append(encoded.dictionary.to_numpy(zero_copy_only=False), "")
    hashed: Int64 = pd.util.hash_array(strings, categorize=False).view(np.int64)
    hashed[strings == ""] = ABSENT
    return hashed[pc.fill_null(encoded.indices, len(strings) - 1).to_numpy(zero_copy_only=False)]


def transaction_values(columns: pa.Table) -> dict[str, Column]:
    """Return the columns of decoded transactions that features may read, as numpy.

    Parameters
    ----------
    columns
        As `fraudstream.schema.decoding.decode_transactions` gives them.

    Returns
    -------
    dict
        ``transaction`` (of the card and the id together: ids are a card's own), ``card``,
        ``merchant``, ``device``, ``country``, ``channel`` (``int64`` identities), ``amount``,
        ``latitude``, ``longitude`` (``float64``, nan for absent).
    """
    return _identities(columns, STRINGS) | numbers(columns)


def numbers(columns: pa.Table) -> dict[str, Column]:
    """Return those columns of decoded transactions that are numbers; see `transaction_values`."""
    return {name: columns[name].to_numpy().astype(np.float64) for name in NUMBERS}


def label_values(columns: pa.Table) -> dict[str, Column]:
    """Return the columns of decoded labels that features may read; see `transaction_values`."""
    return _identities(columns, ("transaction", *KEYS_OF_LABELS)) | {
        LABEL: columns[LABEL].to_numpy().astype(np.float64)
    }


def _identities(columns: pa.Table, names: Iterable[str]) -> dict[str, Column]:
    found = {name: identity(columns[STRINGS[name]]) for name in names}
    own = found["card"].view(np.uint64) * _ODD + found["transaction"].view(np.uint64)
    return {**found, "transaction": own.view(np.int64)}


def chronological(
    key: Int64, time_us: Int64, arrival: Int64, transaction: Column | None = None
) -> Int64:
    """Return the order by key, then time, then arrival, and then `transaction`, if that is given.

    Examples
    --------
    >>> chronological(np.array([7, 3, 7]), np.array([2, 9, 1]), np.array([0, 1, 2])).tolist()
    [1, 2, 0]
    """
    last = () if transaction is None else (as_int64(transaction),)
    if _is_sorted(key, time_us, arrival, *last):
        return np.arange(len(key))
    if _is_sorted(time_us, arrival):
        order = _stable_order(key)
        tied: tuple[Int64, ...] = (key, time_us, arrival)
    else:
        # One sort of numbers, and next to none where they lie nearly in order already.
        number, names = pd.factorize(key, sort=True)
        place = Line.of(time_us, len(names)).place(number, time_us)
        order = np.argsort(place, kind="stable")
        order = _untied(order, (arrival,), (place,))
        tied = (place, arrival)
    return _untied(order, last, tied) if last else order


def _is_sorted(*columns: Int64) -> bool:
    """Tell whether rows lie by the first column, where that is the same by the next, and so on."""
    is_tied = np.ones(max(len(columns[0]) - 1, 0), dtype=bool)
    for column in columns:
        before, after = column[:-1], column[1:]
        if (is_tied & (after < before)).any():
            return False
        is_tied &= after == before
    return True


def _stable_order(key: Int64) -> Int64:
    """Return the order by key; of equal keys, the earlier first."""
    if len(key) == 0:
        return np.zeros(0, dtype=np.int64)
    lowest = key.min()
    if int(key.max()) - int(lowest) < _DIGIT:
        return np.argsort((key - lowest).astype(np.uint16), kind="stable")
    # Numbers of 16 bits are sorted digit by digit, in a fifth of the time that others take.
    number, names = pd.factorize(key, sort=True)
    order = np.argsort((number % _DIGIT).astype(np.uint16), kind="stable")
    if len(names) > _DIGIT:
        high = (number // _DIGIT).astype(np.uint16).take(order)
        order = order.take(np.argsort(high, kind="stable"))
    return order


_DIGIT = 1 << 16


def _untied(order: Int64, by: tuple[Int64, ...], tied: tuple[Int64, ...]) -> Int64:
    """Return `order` with rows that are the same in all of `tied` put in order by `by`."""
    same = np.ones(max(len(order) - 1, 0), dtype=bool)
    for column in tied:
        in_order = column.take(order)
        same &= in_order[1:] == in_order[:-1]
    if not same.any():
        return order
    among = np.flatnonzero(np.append(same, False) | np.append(False, same))
    rows = order[among]
    order[among] = rows[np.lexsort(tuple(column[rows] for column in (*by, *reversed(tied))))]
    return order


def running_maximum(segment: Column, values: Int64) -> Int64:
    """Return the maximum of `values` so far within each run of equal `segment`.

    Examples
    --------
    >>> running_maximum(np.array([0, 0, 0, 7, 7]), np.array([3, 1, 4, 1, 2])).tolist()
    [3, 3, 4, 1, 2]
    """
    if len(values) == 0:
        return values
    row = np.concatenate([[0], np.cumsum(segment[1:] != segment[:-1])])
    line = Line.of(values, int(row[-1]) + 1)
    return line.value(row, np.maximum.accumulate(line.place(row, values)))


def partition_clock(partition: Int64, offset: Int64, time_us: Int64) -> Int64:
    """Return, for each record, the latest event time that its partition had shown by then.

    Examples
    --------
    >>> partition_clock(np.array([0, 1, 0, 0]), np.array([0, 0, 1, 2]), np.array([5, 1, 3, 9]))
    array([5, 1, 5, 9])
    """
    order = np.lexsort((offset, partition))
    clock = np.empty_like(time_us)
    clock[order] = running_maximum(partition[order], time_us[order])
    return clock


def first_copies(card: Int64, transaction: Int64, offset: Int64) -> tuple[Int64, Int64]:
    """Tell duplicates: the same transaction of the same card, sent again.

    Returns
    -------
    first, copy_of
        Rows that are the first copy to arrive, in order; and for each row, the place in `first`
        of the copy that it stands for.

    Examples
    --------
    >>> first, copy_of = first_copies(np.array([1, 1, 1]), np.array([8, 9, 8]), np.array([0, 1, 2]))
    >>> first.tolist(), copy_of.tolist()
    ([0, 1], [0, 1, 0])
    """
    order = np.argsort(offset, kind="stable")
    # Numbered as they come first. A transaction's own hash tells nearly all of them apart.
    group, _ = pd.factorize(transaction[order])
    begins = _first_of_each(group)
    if (card[order][begins][group] != card[order]).any():
        whose, _ = pd.factorize(card[order])
        group, _ = pd.factorize(group * len(order) + whose)
        begins = _first_of_each(group)
    first = order[begins]
    in_order = np.argsort(first, kind="stable")
    place = np.empty(len(first), dtype=np.int64)
    place[in_order] = np.arange(len(first))
    copy_of = np.empty(len(order), dtype=np.int64)
    copy_of[order] = place[group]
    return first[in_order], copy_of


def _first_of_each(number: Int64) -> Int64:
    """Return where each number comes first, of numbers that rise by one when a new one comes."""
    return np.flatnonzero(np.diff(np.maximum.accumulate(number), prepend=-1))


def as_int64(column: Column) -> Int64:
    """Return a column as ``int64``, without a copy where it is that already."""
    return np.asarray(column, dtype=np.int64)


def as_float64(column: Column) -> Float64:
    """Return a column as ``float64``, without a copy where it is that already."""
    return np.asarray(column, dtype=np.float64)
