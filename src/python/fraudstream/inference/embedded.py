"""State on one machine: an LMDB environment a store, so that writers do not wait for one another.

Nothing is written to the disk at once. What is written outlives the end of any process, but not of
the machine: a state that was not settled and comes from an earlier run of the machine is not
trusted. Nor is one whose files are damaged, cut or gone: that is looked for when a stream starts.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
import functools
import multiprocessing
from multiprocessing.connection import Connection
import os
from pathlib import Path
import shutil
import socket
import struct
from typing import Any
from typing import NamedTuple
from zlib import crc32

import lmdb
import numpy as np
import orjson

from fraudstream.inference.bounds import Records
from fraudstream.inference.durable import sync
from fraudstream.inference.store import Layout
from fraudstream.inference.store import OlderBatch
from fraudstream.inference.store import StateLost
from fraudstream.inference.store import by_key
from fraudstream.inference.store import older

#: The most that one environment may grow to. The file is sparse: this reserves no disk.
_MAP_BYTES = 1 << 38
_CLOCK_KEY = b"\x00partition clock"
_BATCH_KEY = b"\x00batch"
#: A checksum, which stands before anything that is held of a key. LMDB has none of its own.
_CHECK = struct.Struct("<I")
#: What stands before a key's recent records: the checksum of all that stands here; the batch that
#: wrote last; how many bytes had been there before it, and how many are held of the key besides, in
#: bulk; and the checksums of those before, and of all that are there. They are not computed again
#: of what is held: it would cost more, and what was damaged meanwhile would pass for whole.
_HEAD = struct.Struct("<IqIIII")
#: So many bytes of recent records are held, or this share of the bulk, before they are added to it:
#: what is written for an event does not grow with what is known.
_RECENT_BYTES, _RECENT_SHARE = 4096, 1 / 8
#: Stands for the run of the machine where all is on the disk.
_SETTLED = "settled"


#: For so long who looks through a store may say nothing, and after so many keys it says something.
_SILENCE_S = 120.0
_SIGN_EVERY = 10_000


class StateNotWritten(OSError):
    """A store could not be written."""


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


class EmbeddedStore:
    """A `PartitionStore` in a folder of this machine.

    Survives the kill of any process that uses it. A folder serves one stream at a time.

    Parameters
    ----------
    folder
        Created if it does not exist, in one that does.
    """

    def __init__(self, folder: Path) -> None:
        # Without its parents: those of a state that was removed must not come back.
        folder.mkdir(exist_ok=True)
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
        parts: list[memoryview | bytes] = []
        with self._environment.begin(buffers=True) as transaction:
            for name in keys.values():
                value = transaction.get(name.encode())
                if value is None:
                    continue
                if _bulk_bytes(value):
                    parts.append(transaction.get(_bulk_of(name.encode()), b"")[_CHECK.size :])
                parts.append(value[_HEAD.size :])
            packed = b"".join(parts)
        return np.frombuffer(packed, dtype=layout.dtype)

    def append(self, batch: int, keys: Mapping[int, str], new: Records) -> None:
        """See `Store.append`."""
        with self._writing() as transaction:
            self._take(transaction, batch)
            for key, added in by_key(new).items():
                name = keys[key].encode()
                held: bytes | memoryview = b""
                check = bulk = 0
                if (value := transaction.get(name)) is not None:
                    _, last, before, bulk, check_before, check = _HEAD.unpack_from(value)
                    held = value[_HEAD.size :]
                    if last == batch:
                        held, check = held[:before], check_before
                _put(transaction, name, batch, bulk, held, check, added)

    def replace(self, batch: int, keys: Mapping[int, str], rest: Records, new: Records) -> None:
        """See `Store.replace`."""
        held, added = by_key(rest), by_key(new)
        with self._writing() as transaction:
            self._take(transaction, batch)
            for key, text in keys.items():
                name = text.encode()
                transaction.delete(name)
                transaction.delete(_bulk_of(name))
                if key in held or key in added:
                    kept = held.get(key, b"")
                    _put(transaction, name, batch, 0, kept, crc32(kept), added.get(key, b""))

    def clock_before(self, batch: int) -> int | None:
        """See `Store.clock_before`."""
        with self._environment.begin() as transaction:
            self._require_turn(transaction, batch)
            clocks = self._clocks(transaction.get(_CLOCK_KEY, b""))
        earlier = [clock_us for number, clock_us in clocks if number < batch]
        return earlier[-1] if earlier else None

    def keep_clock(self, batch: int, clock_us: int) -> None:
        """See `Store.keep_clock`."""
        with self._writing() as transaction:
            self._take(transaction, batch)
            clocks = self._clocks(transaction.get(_CLOCK_KEY, b""))
            # Only the last batch can be repeated: one earlier clock is enough.
            kept = [*[entry for entry in clocks if entry[0] < batch][-1:], (batch, clock_us)]
            transaction.put(_CLOCK_KEY, np.array(kept, dtype=np.int64).tobytes())

    def last_batch(self) -> int | None:
        """Return the number of the last batch that was written, or ``None`` if none was."""
        with self._environment.begin() as transaction:
            return _last_batch(transaction)

    def flaw(self, sign: Callable[[], None] = lambda: None) -> str | None:
        """Read all there is, and tell what is wrong with it; ``None`` if nothing is.

        Where the file is damaged, LMDB may end the process instead of telling. `sign` is called
        again and again meanwhile.
        """
        try:
            with self._environment.begin(buffers=True) as transaction:
                for count, (name, value) in enumerate(transaction.cursor()):
                    if count % _SIGN_EVERY == 0:
                        sign()
                    if not _is_whole(bytes(name), value):
                        return f"what is held of {bytes(name)!r} is not what was written"
        except lmdb.Error as error:
            return str(error)
        return None

    def sync(self) -> None:
        """Wait until all that was written is on disk."""
        with self._told():
            self._environment.sync(True)

    def await_turn(self) -> None:
        """Wait until nobody writes; for ever, if who writes is frozen."""
        self._environment.begin(write=True).abort()

    def close(self) -> None:
        """Let go of the folder."""
        self._environment.close()

    @contextmanager
    def _writing(self) -> Iterator[lmdb.Transaction]:
        with self._told(), self._environment.begin(write=True, buffers=True) as transaction:
            yield transaction

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except lmdb.Error as error:
            raise StateNotWritten(
                f"state in {self._environment.path()} could not be written: {error}"
            ) from error

    def _take(self, transaction: lmdb.Transaction, batch: int) -> None:
        """See that no later batch was there, and that no earlier one comes."""
        self._require_turn(transaction, batch)
        transaction.put(_BATCH_KEY, batch.to_bytes(8, "big", signed=True))

    def _require_turn(self, transaction: lmdb.Transaction, batch: int) -> None:
        last = _last_batch(transaction)
        if last is not None and batch < last:
            raise OlderBatch(older(self._environment.path(), last, batch))

    @staticmethod
    def _clocks(packed: bytes | memoryview) -> list[tuple[int, int]]:
        pairs = np.frombuffer(packed, dtype=np.int64).reshape(-1, 2)
        return [(int(number), int(clock_us)) for number, clock_us in pairs]


def _last_batch(transaction: lmdb.Transaction) -> int | None:
    packed = transaction.get(_BATCH_KEY)
    return None if packed is None else int.from_bytes(packed, "big", signed=True)


def _bulk_of(name: bytes) -> bytes:
    """Return where the bulk of a key is held. No name has such a byte: the schema sees to that."""
    return name + b"\x00"


def _bulk_bytes(value: memoryview) -> int:
    return int(_HEAD.unpack_from(value)[3])


def _put(
    transaction: lmdb.Transaction,
    name: bytes,
    batch: int,
    bulk: int,
    held: bytes | memoryview,
    check: int,
    added: bytes,
) -> None:
    """Write a key's recent records: those that were held, of this checksum, and what a batch adds.

    What is held goes into the bulk where it is much; what is added never at once, since the batch
    may be repeated.
    """
    if len(held) > _RECENT_BYTES and len(held) > bulk * _RECENT_SHARE:
        before = transaction.get(_bulk_of(name), _CHECK.pack(0))
        [check] = _CHECK.unpack_from(before)
        whole = b"".join((_CHECK.pack(crc32(held, check)), before[_CHECK.size :], held))
        transaction.put(_bulk_of(name), whole)
        held, check, bulk = b"", 0, len(whole) - _CHECK.size
    head = _HEAD.pack(0, batch, len(held), bulk, check, crc32(added, check))[_CHECK.size :]
    transaction.put(name, b"".join((_CHECK.pack(crc32(head)), head, held, added)))


def _is_whole(name: bytes, value: memoryview) -> bool:
    """Tell whether an entry is what was written; the store's own notes have no checksum."""
    if name.startswith(b"\x00"):
        return True
    [check] = _CHECK.unpack_from(value)
    if name == _bulk_of(name.rstrip(b"\x00")):
        return bool(check == crc32(value[_CHECK.size :]))
    _, _, before, _, check_before, check_all = _HEAD.unpack_from(value)
    earlier, added = value[_HEAD.size :][:before], value[_HEAD.size + before :]
    found = crc32(earlier)
    return (check, check_before, check_all) == (
        crc32(value[_CHECK.size : _HEAD.size]),
        found,
        crc32(added, found),
    )


# LMDB allows a process to open a store only once.
_opened: dict[Path, EmbeddedStore] = {}


@dataclass(frozen=True)
class EmbeddedState:
    """A `State` in a folder of this machine.

    Parameters
    ----------
    folder
        Its parent holds nothing but states of the same stream.
    machine
        Where it is.
    """

    folder: Path
    machine: Machine = field(default_factory=this_machine)

    @property
    def name(self) -> str:
        """See `State.name`."""
        return self.folder.name

    def open(self, name: str, batch: int) -> EmbeddedStore:
        """See `State.open`.

        Raises
        ------
        StateElsewhere
            On another machine. Executors are asked where they are when the stream starts; one that
            comes later would find nothing in its folders, and go on from that.
        """
        here = this_machine()
        if here != self.machine:
            raise StateElsewhere(
                f"state is embedded, on {self.machine.host}, where the driver runs, and this task "
                f"runs on {here.host}: use workers on {self.machine.host} only, or a shared --state"
            )
        return _open(self.folder, name)

    def flaw(self, batch: int, sign: Callable[[], None] = lambda: None) -> str | None:
        """See `State.flaw`."""
        last = self._last_mark()
        if last is None:
            return "it is not there"
        try:
            mark = orjson.loads(last.read_bytes())
            reached, boot, stores = mark["batch"], mark["boot"], mark["stores"]
        except (KeyError, TypeError, ValueError):
            return f"{last} is damaged"
        if boot not in (_SETTLED, this_machine().boot):
            return "the machine was restarted, and what was not on its disk is lost"
        if reached < batch:
            return f"it ends with batch {reached}, and batch {batch} is done"
        return _flaw_of(self.folder, stores, sign)

    def begin(self, batch: int) -> str:
        """See `State.begin`; a settled state is marked as in use."""
        mark = self._marked()
        if mark["batch"] < batch - 1:
            raise StateLost(
                f"{self.folder} ends with batch {mark['batch']}, and batch {batch} is to come"
            )
        if mark["boot"] == _SETTLED:
            # On the disk before anything that is not: else it would be trusted after a crash.
            self._set({**mark, "boot": self.machine.boot}, durably=True)
        return str(self.machine.boot)

    def keep(self, batch: int, begun: str) -> None:
        """See `State.keep`."""
        if self._marked()["batch"] <= batch:
            self._set({"batch": batch, "boot": begun, "stores": self._stores()})

    def create(self, batch: int) -> None:
        """See `State.create`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self._set({"batch": batch, "boot": self.machine.boot, "stores": {}})

    def settle(self) -> None:
        """See `State.settle`."""
        mark = self._marked()
        for name in mark["stores"]:
            _open(self.folder, name).sync()
        self._set({**mark, "boot": _SETTLED}, durably=True)

    def size(self) -> int:
        """See `State.size`: what its files take on disk; they are sparse."""
        return sum(file.stat().st_blocks * 512 for file in self.folder.glob("*/data.mdb"))

    def remove_others(self) -> None:
        """See `State.remove_others`."""
        # Empty where there is no such folder yet.
        for other in self.folder.parent.glob("*"):
            if other != self.folder:
                # At once, and then bit by bit: to who still works with it, it is whole or gone.
                gone = other.with_name(f"{other.name}.gone")
                other.rename(gone)
                shutil.rmtree(gone)

    def _last_mark(self) -> Path | None:
        return max(self.folder.glob("mark.*.json"), key=_batch_of, default=None)

    def _marked(self) -> dict[str, Any]:
        if (last := self._last_mark()) is None:
            raise StateLost(f"{self.folder} was removed")
        mark: dict[str, Any] = orjson.loads(last.read_bytes())
        return mark

    def _set(self, mark: dict[str, Any], *, durably: bool = False) -> None:
        # A mark for each batch, of which the last one counts: a driver that was given up, however
        # late it comes here, cannot set back what another has marked since.
        last = self.folder / f"mark.{mark['batch']}.json"
        scratch = last.with_suffix(f".{os.getpid()}.new")
        scratch.write_bytes(orjson.dumps(mark))
        if durably:
            sync(scratch)
        scratch.replace(last)
        if durably:
            sync(self.folder)
        for mark_before in self.folder.glob("mark.*.json"):
            if _batch_of(mark_before) < mark["batch"]:
                mark_before.unlink(missing_ok=True)

    def _stores(self) -> dict[str, int | None]:
        names = sorted(entry.name for entry in self.folder.iterdir() if entry.is_dir())
        return {name: _open(self.folder, name).last_batch() for name in names}


def _batch_of(mark: Path) -> int:
    return int(mark.name.split(".")[1])


def _open(state: Path, name: str) -> EmbeddedStore:
    """Return this process's store of a state, which is made when it is first asked for."""
    place = state / name
    if place not in _opened:
        try:
            _opened[place] = EmbeddedStore(place)
        except FileNotFoundError as error:
            raise StateLost(f"{state} was removed") from error
    return _opened[place]


def close_all() -> None:
    """Close all stores that this process has open; each reserves much of its address space."""
    while _opened:
        _opened.popitem()[1].close()


def _flaw_of(folder: Path, stores: Mapping[str, int], sign: Callable[[], None]) -> str | None:
    """Read all stores, and tell what is wrong with them.

    A process of its own does so: a file that was cut or overwritten can be the end of its reader,
    and one that is held by a process that is frozen makes it wait.
    """
    ours, theirs = multiprocessing.Pipe(duplex=False)
    reader = multiprocessing.get_context("fork").Process(
        target=_tell_flaw, args=(theirs, folder, stores), daemon=True
    )
    reader.start()
    theirs.close()
    try:
        told: str | None = None
        while told is None:
            if not ours.poll(_SILENCE_S):
                return f"{folder} is held: is a process that works with it frozen?"
            told = ours.recv()
            sign()
    except EOFError:
        return f"{folder} is damaged: who reads it is ended"
    finally:
        reader.kill()
        reader.join()
    return told or None


def _tell_flaw(to: Connection, folder: Path, stores: Mapping[str, int]) -> None:
    # What was open before the fork is not ours to use, and would be in our way.
    close_all()
    # Nothing is a sign that all is well so far.
    sign = functools.partial(to.send, None)
    for name, batch in stores.items():
        to.send(_flaw_of_one(folder / name, batch, sign))
    to.send("")


def _flaw_of_one(folder: Path, batch: int, sign: Callable[[], None]) -> str | None:
    if not (folder / "data.mdb").exists():
        return f"{folder} is not there"
    try:
        store = EmbeddedStore(folder)
        last = store.last_batch()
    except lmdb.Error as error:
        return f"{folder} is damaged: {error}"
    if last is None or last < batch:
        return f"{folder} ends with batch {last}, and had ended with {batch}"
    store.await_turn()
    flaw = store.flaw(sign)
    return flaw and f"{folder} is damaged: {flaw}"
