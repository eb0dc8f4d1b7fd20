"""Columnar histories: what windows are computed over, and the order in which it arrived.

Strings become 64-bit hashes at this edge; from here on everything is numpy. An event has a time
(when the card was used; for a label, when it became known) and an arrival. Within one partition
the arrival is the offset. Across partitions it is the **partition clock**: the latest event time
that the event's partition had shown when it came. It is a function of the topic's content alone,
so a replay, a bulk load and the live stream agree on it whatever the wall clock said.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

#: The hash that stands for an absent string.
ABSENT = 0


@dataclass(frozen=True)
class Events:
    """The history of some keys of one kind, sorted by key, time and arrival.

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
    values: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.key)

    @classmethod
    def ordered(
        cls,
        key: Int64,
        time_us: Int64,
        arrival: Int64,
        values: Mapping[str, npt.NDArray[np.generic]],
    ) -> "Events":
        """Build a history from events in any order."""
        order = np.lexsort((arrival, time_us, key))
        return cls(
            key[order],
            time_us[order],
            arrival[order],
            {name: column[order] for name, column in values.items()},
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
    values: Mapping[str, npt.NDArray[np.generic]] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.key)


def identity(column: pa.ChunkedArray | pa.Array) -> Int64:
    """Return a stable 64-bit hash of each string; `ABSENT` for null.

    Examples
    --------
    >>> identity(pa.array(["a", None, "a"])).tolist()[1:2]
    [0]
    """
    strings = column.to_pandas().to_numpy(dtype=object, na_value="")
    hashed: Int64 = pd.util.hash_array(strings, categorize=True).view(np.int64)
    return np.where(strings == "", ABSENT, hashed)


def transaction_values(columns: pa.Table) -> dict[str, npt.NDArray[np.generic]]:
    """Return the columns of decoded transactions that features may read, as numpy.

    Parameters
    ----------
    columns
        As `fraudstream.schema.decoding.decode_transactions` gives them.

    Returns
    -------
    dict
        ``transaction``, ``card``, ``merchant``, ``device``, ``country``, ``channel`` (``int64``
        identities), ``amount``, ``latitude``, ``longitude`` (``float64``, nan for absent).
    """
    strings = {
        "transaction": "transaction_id",
        "card": "card_id",
        "merchant": "merchant_id",
        "device": "device_id",
        "country": "country",
        "channel": "channel",
    }
    numbers = ("amount", "latitude", "longitude")
    return {name: identity(columns[column]) for name, column in strings.items()} | {
        name: columns[name].to_numpy().astype(np.float64) for name in numbers
    }


def label_values(columns: pa.Table) -> dict[str, npt.NDArray[np.generic]]:
    """Return the columns of decoded labels that features may read; see `transaction_values`."""
    strings = {"transaction": "transaction_id", "card": "card_id", "merchant": "merchant_id"}
    return {name: identity(columns[column]) for name, column in strings.items()} | {
        "is_fraud": columns["is_fraud"].to_numpy().astype(np.float64)
    }


def running_maximum(segment: npt.NDArray[np.generic], values: Int64) -> Int64:
    """Return the maximum of `values` so far within each run of equal `segment`.

    Examples
    --------
    >>> running_maximum(np.array([0, 0, 0, 7, 7]), np.array([3, 1, 4, 1, 2])).tolist()
    [3, 3, 4, 1, 2]
    """
    if len(values) == 0:
        return values
    distinct, rank = np.unique(values, return_inverse=True)
    number = np.concatenate([[0], np.cumsum(segment[1:] != segment[:-1])]) * len(distinct)
    reached = np.maximum.accumulate(number + rank) - number
    return distinct[reached]


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
    order = np.lexsort((offset, transaction, card))
    begins = np.ones(len(order), dtype=bool)
    begins[1:] = (card[order][1:] != card[order][:-1]) | (
        transaction[order][1:] != transaction[order][:-1]
    )
    first_of_group = order[begins]
    group = np.empty(len(order), dtype=np.int64)
    group[order] = np.cumsum(begins) - 1
    first = np.sort(first_of_group)
    return first, np.searchsorted(first, first_of_group)[group]
