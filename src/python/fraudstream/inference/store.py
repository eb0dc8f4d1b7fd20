"""What the stream remembers: the recent history of each card, merchant and so on, outside of Spark.

A store is read and written in bulk, for the keys of a batch. What a batch adds takes the place of
what an earlier try of it has added, so that repeating it changes nothing; features are computed as
of each event, so that it does not matter that the store already holds later ones.

There is a store for each owner: one of a topic's partitions for cards, one bucket of merchants.
Spark never works on one owner in two tasks at once. A task that Spark has given up may live on, and
must not undo what came after it: a store takes nothing of a batch that is older than the last one
it has taken.

Here is the seam. What stands behind it is in `fraudstream.inference.embedded`, on this machine, and
in `fraudstream.inference.shared`, for several.
"""

from collections.abc import Callable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fraudstream.features.history import Events
from fraudstream.features.history import Int64
from fraudstream.inference.bounds import Records
from fraudstream.inference.bounds import begins

#: How many buckets the keys of one kind are spread over: the most tasks that can share a step.
BUCKETS = 16


class OlderBatch(RuntimeError):
    """A batch came to write after a later one had: its task was given up, or progress was lost."""


class StateLost(LookupError):
    """State is not there any more, or is behind what the stream has done."""


@dataclass(frozen=True)
class Layout:
    """What a record of one kind of history holds, besides its place in time.

    Parameters
    ----------
    numbers, identities
        Names of the ``float64`` and of the ``int64`` columns.
    """

    numbers: tuple[str, ...]
    identities: tuple[str, ...]

    @property
    def dtype(self) -> np.dtype[np.void]:
        """The packed record; the key is a column here, and the name of the entry in the store."""
        places = [(name, "i8") for name in ("key", "time_us", "arrival", "transaction")]
        numbers = [(name, "f8") for name in self.numbers]
        return np.dtype(places + numbers + [(name, "i8") for name in self.identities])

    def pack(
        self,
        key: Int64,
        time_us: Int64,
        arrival: Int64,
        values: Mapping[str, npt.NDArray[np.generic]],
    ) -> Records:
        """Return records from columns; `values` holds ``transaction`` and the layout's columns."""
        records = np.empty(len(key), dtype=self.dtype)
        records["key"], records["time_us"], records["arrival"] = key, time_us, arrival
        for name in ("transaction", *self.numbers, *self.identities):
            records[name] = values[name]
        return records

    def events(self, records: Records) -> Events:
        """Return records as the history that the features read."""
        return Events(
            records["key"].copy(),
            records["time_us"].copy(),
            records["arrival"].copy(),
            {
                name: records[name].copy()
                for name in ("transaction", *self.numbers, *self.identities)
            },
        ).in_order()


class Store(Protocol):
    """The seam behind which state is kept."""

    def read(self, keys: Mapping[int, str], layout: Layout) -> Records:
        """Return all records of `keys`, in the order in which they were appended, key by key.

        Parameters
        ----------
        keys
            The keys and their names.
        layout
            With which they were written.
        """
        ...

    def append(self, batch: int, keys: Mapping[int, str], new: Records) -> None:
        """Add records to what is held of their keys, in place of what the same batch had added.

        So it costs what is new, and not what is known; and a batch that is repeated, even beside a
        try of it that was given up, adds nothing twice.

        Parameters
        ----------
        batch
            Number of the micro-batch.
        keys
            The keys and their names.
        new
            What the batch brings of any of these keys, also where it is held already.

        Raises
        ------
        OlderBatch
            If a later batch was there before. Nothing is changed then.
        """
        ...

    def replace(self, batch: int, keys: Mapping[int, str], rest: Records, new: Records) -> None:
        """Keep of what is held of some keys only `rest`, and add what is new.

        Parameters
        ----------
        batch, new
            As of `append`.
        keys
            The keys and their names; one that has no record is forgotten.
        rest
            Of what `read` gave what need be kept, without what is new.

        Raises
        ------
        OlderBatch
            See `append`.
        """
        ...


class PartitionStore(Store, Protocol):
    """A store of one partition of a topic, which has a clock."""

    def clock_before(self, batch: int) -> int | None:
        """Return the partition clock as it stood before `batch`, or ``None`` at the beginning.

        Raises
        ------
        OlderBatch
            See `Store.append`. Here, before anything is done in vain.
        """
        ...

    def keep_clock(self, batch: int, clock_us: int) -> None:
        """Remember the partition clock as it stands after `batch`.

        Raises
        ------
        OlderBatch
            See `Store.append`.
        """
        ...


class State(Protocol):
    """All stores of a stream, and the mark up to which batch they are whole.

    The driver sets the mark when a batch is done, before Spark takes the batch as done. So if the
    mark is not behind Spark's progress, nothing is missing; if it is, the state is built again from
    the topics, as another one: who still works on the old one disturbs nobody.
    """

    @property
    def name(self) -> str:
        """Tells it from the stream's other states."""
        ...

    def open(self, name: str, batch: int) -> PartitionStore:
        """Return a store, as a task of `batch` needs it.

        Raises
        ------
        StateLost
            If the state is gone; a store that is only new would be taken for empty.
        """
        ...

    def flaw(self, batch: int, sign: Callable[[], None] = lambda: None) -> str | None:
        """Tell why a stream cannot go on from here that has done `batch`; ``None`` if it can.

        To look through much takes long: `sign` is called again and again meanwhile.
        """
        ...

    def begin(self, batch: int) -> str:
        """See that what was done before `batch` is there, and return what `keep` asks for.

        Raises
        ------
        StateLost
            If it is not.
        """
        ...

    def keep(self, batch: int, begun: str) -> None:
        """Set the mark: `batch` is done, and what its tasks have written is there.

        It is not set back: a driver that was given up comes late, and the stream has gone on.

        Raises
        ------
        StateLost
            If something may have been lost since it began.
        """
        ...

    def create(self, batch: int) -> None:
        """Begin without any history, and with the mark at `batch`."""
        ...

    def settle(self) -> None:
        """Make what is there outlive the machine; the stream stops."""
        ...

    def size(self) -> int:
        """Return how many bytes it takes, on disk or in memory, wherever it is."""
        ...

    def remove_others(self) -> None:
        """Remove what earlier states of this stream have left."""
        ...


class Buckets:
    """A `Store` of all keys of one kind, each of which lies in the store of its bucket.

    Parameters
    ----------
    bucket
        Gives the store of a bucket.
    """

    def __init__(self, bucket: Callable[[int], Store]) -> None:
        self._bucket = bucket

    def read(self, keys: Mapping[int, str], layout: Layout) -> Records:
        """See `Store.read`."""
        found = [self._bucket(number).read(some, layout) for number, some in _spread(keys).items()]
        return joined([np.zeros(0, layout.dtype), *found])

    def append(self, batch: int, keys: Mapping[int, str], new: Records) -> None:
        """See `Store.append`."""
        bucket = bucket_of(new["key"])
        for number in np.unique(bucket).tolist():
            self._bucket(number).append(batch, keys, new.compress(bucket == number))

    def replace(self, batch: int, keys: Mapping[int, str], rest: Records, new: Records) -> None:
        """See `Store.replace`."""
        parts = [(records, bucket_of(records["key"])) for records in (rest, new)]
        for number, some in _spread(keys).items():
            own = (records.compress(bucket == number) for records, bucket in parts)
            self._bucket(number).replace(batch, some, *own)


def joined(parts: Sequence[Records]) -> Records:
    """Return records one after another, each field of which has eight bytes, as in a `Layout`.

    numpy itself would copy them field by field.

    Examples
    --------
    >>> two = np.array([(2, 0.5), (1, 0.7)], dtype=[("key", "i8"), ("amount", "f8")])
    >>> joined([two, two[:1]])["key"].tolist()
    [2, 1, 2]
    """
    words = [np.ascontiguousarray(part).view(np.int64) for part in parts]
    return np.concatenate(words).view(parts[0].dtype)


def by_key(records: Records) -> dict[int, bytes]:
    """Return the records of each key, packed, in the order in which they came.

    Examples
    --------
    >>> two = np.array([(2, 5), (1, 7)], dtype=[("key", "i1"), ("amount", "i1")])
    >>> by_key(two)
    {1: b'\\x01\\x07', 2: b'\\x02\\x05'}
    """
    key = np.ascontiguousarray(records["key"])
    if not (key[1:] >= key[:-1]).all():
        order = np.argsort(key, kind="stable")
        records, key = records.take(order), key.take(order)
    packed, size = records.tobytes(), records.dtype.itemsize
    starts = begins(key)
    bounds = [*(starts * size).tolist(), len(packed)]
    return {
        name: packed[start:stop]
        for name, (start, stop) in zip(key[starts].tolist(), pairwise(bounds), strict=True)
    }


def older(where: str, last: int, batch: int) -> str:
    """Return what an `OlderBatch` says."""
    return (
        f"{where}: expected batch {last} or a later one, got {batch}: either this task was given "
        "up and its batch repeated, and all is well; or the checkpoint's folder progress was "
        "removed or is an older copy, and then another --checkpoint is needed"
    )


def bucket_of(key: Int64) -> Int64:
    """Return the bucket of each key.

    Examples
    --------
    >>> bucket_of(np.array([1, 17, -1])).tolist()
    [1, 1, 15]
    """
    return key % BUCKETS


def _spread(keys: Mapping[int, str]) -> dict[int, dict[int, str]]:
    found: dict[int, dict[int, str]] = {}
    for key, name in keys.items():
        found.setdefault(key % BUCKETS, {})[key] = name
    return found
