"""What the stream remembers: the recent history of each card, merchant and so on, outside of Spark.

A store is read and written in bulk, for the keys of a batch. Records are appended only where the
transaction is not there yet, so that repeating a batch changes nothing; features are computed as
of each event, so that it does not matter that the store already holds later ones.

The embedded store keeps an LMDB environment for each owner: one of a topic's partitions for cards,
one bucket of merchants. Spark never works on one owner in two tasks at once, so that writers do
not wait for one another. A task that Spark has given up may live on, and must not undo what came
after it: a store takes nothing of a batch that is older than the last one it has taken.
"""

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
import functools
from pathlib import Path
import socket
from typing import NamedTuple
from typing import Protocol

import lmdb
import numpy as np
import numpy.typing as npt

from fraudstream.features.history import Events
from fraudstream.features.history import Int64
from fraudstream.inference.bounds import Records

#: The most that one environment may grow to. The file is sparse: this reserves no disk.
_MAP_BYTES = 1 << 38
_CLOCK_KEY = b"\x00partition clock"
_BATCH_KEY = b"\x00batch"

#: How many buckets the keys of one kind are spread over: the most tasks that can share a step.
BUCKETS = 16


class OlderBatch(RuntimeError):
    """A batch came to write after a later one had: its task was given up, or progress was lost."""


class StateElsewhere(ValueError):
    """State is embedded, on the driver's machine, and a task or an executor cannot reach it."""


class Machine(NamedTuple):
    """What tells one machine's run from any other's.

    Attributes
    ----------
    host
        Its name.
    boot
        The kernel's random id of its run.
    """

    host: str
    boot: str


@functools.cache
def this_machine() -> Machine:
    """Return the machine that this process runs on."""
    return Machine(
        socket.gethostname(), Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    )


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

    def append(self, batch: int, keys: Mapping[int, str], records: Records) -> None:
        """Keep `records`, and of their keys nothing else.

        Parameters
        ----------
        batch
            Number of the micro-batch.
        keys
            The keys and their names; one that has no record is forgotten.
        records
            All that is to be known of these keys: what `read` gave with what is new behind it,
            less what need not be kept.

        Raises
        ------
        OlderBatch
            If a later batch was there before. Nothing is changed then.
        """
        ...


class PartitionStore(Store, Protocol):
    """A store of one partition of a topic, which has a clock."""

    def clock_before(self, batch: int) -> int | None:
        """Return the partition clock as it stood before `batch`, or ``None`` at the beginning."""
        ...

    def keep_clock(self, batch: int, clock_us: int) -> None:
        """Remember the partition clock as it stands after `batch`.

        Raises
        ------
        OlderBatch
            See `Store.append`.
        """
        ...


class EmbeddedStore:
    """A `PartitionStore` in a folder of this machine.

    Survives the kill of any process that uses it. A folder serves one stream at a time.

    Parameters
    ----------
    folder
        Created if it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._environment = lmdb.open(
            str(folder),
            map_size=_MAP_BYTES,
            # Written pages reach the system at once and so survive our own end. Waiting for the
            # disk would only guard against the machine's, after which state is built again.
            sync=False,
            metasync=False,
        )
        # Workers that were killed while they read hold places that only so many can have.
        self._environment.reader_check()

    def read(self, keys: Mapping[int, str], layout: Layout) -> Records:
        """See `Store.read`."""
        with self._environment.begin(buffers=True) as transaction:
            packed = b"".join(transaction.get(name.encode(), b"") for name in keys.values())
        return np.frombuffer(packed, dtype=layout.dtype)

    def append(self, batch: int, keys: Mapping[int, str], records: Records) -> None:
        """See `Store.append`."""
        # Stable: a key's records stay in the order in which they came.
        kept = records[np.argsort(records["key"], kind="stable")]
        packed = kept.tobytes()
        size = kept.dtype.itemsize
        found, starts = np.unique(kept["key"], return_index=True)
        stops = np.append(starts, len(kept))[1:]
        with self._environment.begin(write=True) as transaction:
            self._take(transaction, batch)
            for key in keys.keys() - set(found.tolist()):
                transaction.delete(keys[key].encode())
            for key, start, stop in zip(
                found.tolist(), starts.tolist(), stops.tolist(), strict=True
            ):
                transaction.put(keys[key].encode(), packed[start * size : stop * size])

    def clock_before(self, batch: int) -> int | None:
        """See `Store.clock_before`."""
        with self._environment.begin() as transaction:
            clocks = self._clocks(transaction.get(_CLOCK_KEY, b""))
        earlier = [clock_us for number, clock_us in clocks if number < batch]
        return earlier[-1] if earlier else None

    def keep_clock(self, batch: int, clock_us: int) -> None:
        """See `Store.keep_clock`."""
        with self._environment.begin(write=True) as transaction:
            self._take(transaction, batch)
            clocks = self._clocks(transaction.get(_CLOCK_KEY, b""))
            # Only the last batch can be repeated: one earlier clock is enough.
            kept = [*[entry for entry in clocks if entry[0] < batch][-1:], (batch, clock_us)]
            transaction.put(_CLOCK_KEY, np.array(kept, dtype=np.int64).tobytes())

    def _take(self, transaction: lmdb.Transaction, batch: int) -> None:
        """See that no later batch was there, and that no earlier one comes."""
        last = int.from_bytes(transaction.get(_BATCH_KEY, b""), "big")
        if batch < last:
            raise OlderBatch(
                f"{self._environment.path()}: expected batch {last} or a later one, got {batch}: "
                "either this task was given up and its batch repeated, and all is well; or the "
                "checkpoint's folder progress was removed or is an older copy, and then another "
                "--checkpoint is needed"
            )
        transaction.put(_BATCH_KEY, batch.to_bytes(8, "big"))

    @staticmethod
    def _clocks(packed: bytes) -> list[tuple[int, int]]:
        pairs = np.frombuffer(packed, dtype=np.int64).reshape(-1, 2)
        return [(int(number), int(clock_us)) for number, clock_us in pairs]


@functools.cache
def open_embedded(folder: Path) -> EmbeddedStore:
    """Return this process's store in `folder`: LMDB allows a process to open one only once."""
    return EmbeddedStore(folder)


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
        return np.concatenate([np.zeros(0, layout.dtype), *found])

    def append(self, batch: int, keys: Mapping[int, str], records: Records) -> None:
        """See `Store.append`."""
        bucket = bucket_of(records["key"])
        for number, some in _spread(keys).items():
            self._bucket(number).append(batch, some, records[bucket == number])


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
