"""Features and model as one call, for contenders that are not our stream: the same code as there.

The steps are those of `fraudstream.inference.steps`, the documents those of
`fraudstream.inference.scoring`. No label comes in the benchmark; features of labels are computed
all the same.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from stream.plan import Plan

from fraudstream.features.definitions import FeatureSet
from fraudstream.features.sets import DEFAULT
from fraudstream.inference import exchange
from fraudstream.inference.bounds import Records
from fraudstream.inference.embedded import EmbeddedStore
from fraudstream.inference.scoring import Destinations
from fraudstream.inference.scoring import results
from fraudstream.inference.steps import card_step
from fraudstream.inference.steps import key_step
from fraudstream.inference.steps import shared_keys
from fraudstream.inference.store import Buckets
from fraudstream.inference.store import Layout
from fraudstream.inference.store import PartitionStore
from fraudstream.inference.store import Store
from fraudstream.inference.store import by_key
from fraudstream.model.bundle import load_bundle
from fraudstream.schema.decoding import decode_transactions

#: As the inference app has it by default.
_SHARE_OF_FEATURES = 0.01


def of_cards(
    features: FeatureSet,
    place: tuple[str, int],
    batch: int,
    offsets: npt.ArrayLike,
    appended_ms: npt.ArrayLike,
    values: list[bytes | None],
    store: PartitionStore,
) -> pa.Table:
    """Return records with the features of their cards, as one step hands them on to the next.

    Parameters
    ----------
    features
        Which features.
    place
        The topic and partition that all of them come from.
    batch
        Counts the calls for one store.
    offsets, appended_ms, values
        Of the records, in their order.
    store
        Of their cards.
    """
    decoded = decode_transactions(values, np.array(appended_ms, dtype=np.int64))
    originals = [values[rejection.row] for rejection in decoded.rejections]
    at = np.array(offsets, dtype=np.int64)
    before_us = store.clock_before(batch)
    return card_step(features, decoded, originals, place, at, batch, store, before_us)


def by_shard(rows: pa.Table, shards: int) -> Iterator[tuple[str, pa.Table]]:
    """Yield what `of_cards` gave in parts, each for one of some shards of merchants, by name."""
    for some in rows.combine_chunks().to_batches():
        for shard, part in exchange.by_shard(some, shards):
            yield str(shard), pa.Table.from_batches([part])


class Scorer:
    """From the features of cards to results.

    Parameters
    ----------
    plan
        Where the model is, and where results go.
    """

    def __init__(self, plan: Plan) -> None:
        self._bundle = load_bundle(Path(plan.bundle), DEFAULT)
        topics = plan.topics
        self._to = Destinations(topics.scores, topics.predicted, topics.dead_letters)

    def results(self, batch: int, rows: pa.Table, store: Callable[[str], Store]) -> pa.Table:
        """Return what goes out (topic, key, value) for what `of_cards` gave.

        Parameters
        ----------
        batch, rows
            As there.
        store
            Gives the store of a key, such as ``"merchant"``.
        """
        for key in shared_keys(DEFAULT):
            rows = key_step(DEFAULT, key, rows, batch, store(key))
        return results(DEFAULT, self._bundle, rows, self._to, _SHARE_OF_FEATURES).outgoing


class Folder:
    """Embedded stores in a folder, each opened once."""

    def __init__(self, plan: Plan) -> None:
        self._folder = Path(plan.folder) / "state"
        self._folder.mkdir(exist_ok=True)
        self._opened: dict[str, EmbeddedStore] = {}

    def of_partition(self, partition: int) -> PartitionStore:
        """Return the store of the cards of a partition."""
        return self._open(f"partition-{partition}")

    def of_key(self, key: str) -> Store:
        """Return the store of all buckets of a key."""
        return Buckets(lambda bucket: self._open(f"by-{key}-{bucket}"))

    def _open(self, name: str) -> EmbeddedStore:
        if name not in self._opened:
            self._opened[name] = EmbeddedStore(self._folder / name)
        return self._opened[name]


class Memory:
    """A store in memory, for contenders that keep what they remember in a state of their own.

    It can be pickled, as such states are. None of them asks for a batch again that it has had.
    """

    def __init__(self) -> None:
        self._records: dict[str, bytearray] = {}
        self._clock_us: int | None = None

    def read(self, keys: Mapping[int, str], layout: Layout) -> Records:
        """See `fraudstream.inference.store.Store.read`."""
        packed = b"".join(self._records.get(name, b"") for name in keys.values())
        return np.frombuffer(packed, dtype=layout.dtype)

    def append(self, batch: int, keys: Mapping[int, str], new: Records) -> None:
        """See `fraudstream.inference.store.Store.append`."""
        for key, added in by_key(new).items():
            self._records.setdefault(keys[key], bytearray()).extend(added)

    def replace(self, batch: int, keys: Mapping[int, str], rest: Records, new: Records) -> None:
        """See `fraudstream.inference.store.Store.replace`."""
        held, added = by_key(rest), by_key(new)
        for key, name in keys.items():
            self._records.pop(name, None)
            if key in held or key in added:
                self._records[name] = bytearray(held.get(key, b"") + added.get(key, b""))

    def clock_before(self, batch: int) -> int | None:
        """See `fraudstream.inference.store.PartitionStore.clock_before`."""
        return self._clock_us

    def keep_clock(self, batch: int, clock_us: int) -> None:
        """See `fraudstream.inference.store.PartitionStore.keep_clock`."""
        self._clock_us = clock_us
