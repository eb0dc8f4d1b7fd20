"""What a batch costs, by how many keys the state holds."""

from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

import numpy as np
import numpy.typing as npt

from fraudstream.features.history import Events
from fraudstream.features.history import Moments
from fraudstream.features.sets import HANDBOOK
from fraudstream.features.windows import features_at
from fraudstream.inference.bounds import Records
from fraudstream.inference.embedded import EmbeddedStore
from fraudstream.inference.steps import layout_of
from fraudstream.inference.store import Layout

BATCH = 10_000
_HISTORY_US = 60 * 86_400_000_000
#: Keys written to the store in one go.
_KEYS_AT_ONCE = 20_000

Int64 = npt.NDArray[np.int64]


class Batches:
    """Micro-batches over the cards of a store, as the stream works them off.

    A batch has one event of each of so many different cards: so it reads as much history however
    many cards the store holds, and what differs is what their number costs.

    Of a batch's cards, and of no others, the history is read, the card features of `handbook` are
    computed, and what is new is written: what `fraudstream.inference.steps.card_step` does between
    decoding and handing on.

    Parameters
    ----------
    folder
        Of the store.
    keys
        How many cards the store is filled with.
    events
        How many transactions each of them has, over sixty days.
    advance
        Is told of keys that were filled.

    Attributes
    ----------
    store
        Where the history is.
    """

    def __init__(
        self, folder: Path, keys: int, events: int, advance: Callable[[float], None]
    ) -> None:
        self.store = EmbeddedStore(folder)
        self._layout: Layout = layout_of(HANDBOOK, "card")
        self._features = [f for f in HANDBOOK.features if f.key == "card"]
        self._keys = keys
        self._random = np.random.default_rng(keys)
        self._transactions = 0
        self._batch = 0
        for first in range(1, keys + 1, _KEYS_AT_ONCE):
            some = np.arange(first, min(first + _KEYS_AT_ONCE, keys + 1))
            key = np.repeat(some, events)
            time_us = self._random.integers(0, _HISTORY_US, len(key))
            self.store.append(self._batch, _names(some), self._records(key, np.sort(time_us)))
            advance(len(some))

    def work_off(self) -> dict[str, float]:
        """Work off one more batch; return the milliseconds of each part."""
        key = self._random.choice(self._keys, BATCH, replace=False) + 1
        time_us = (
            _HISTORY_US
            + self._batch * 1_000_000
            + np.sort(self._random.integers(0, 1_000_000, BATCH))
        )
        new = self._records(key, time_us)
        self._batch += 1
        names = _names(key)
        begin = perf_counter()
        records = np.concatenate([self.store.read(names, self._layout), new])
        read = perf_counter()
        moments = Moments(
            key, time_us, new["arrival"].copy(), time_us, {"amount": new["amount"].copy()}
        )
        found = features_at(self._features, self._layout.events(records), Events.none(), moments)
        computed = perf_counter()
        self.store.append(self._batch, names, new)
        end = perf_counter()
        if any(np.isnan(column).any() for column in found.values()):
            raise ValueError("expected a value for every event, since each counts itself")
        return {
            "read": (read - begin) * 1e3,
            "features": (computed - read) * 1e3,
            "read and features": (computed - begin) * 1e3,
            "write": (end - computed) * 1e3,
        }

    def _records(self, key: Int64, time_us: Int64) -> Records:
        number = np.arange(self._transactions, self._transactions + len(key))
        self._transactions += len(key)
        amount = self._random.gamma(2.0, 27.0, len(key)).round(2)
        return self._layout.pack(key, time_us, number, {"transaction": number, "amount": amount})


def medians(batches: dict[int, Batches], repeats: int) -> dict[int, dict[str, float]]:
    """Work off batches of each in turns, after one to warm up; return medians by number of keys."""
    runs: dict[int, list[dict[str, float]]] = {keys: [] for keys in batches}
    for one in batches.values():
        one.work_off()
    for _ in range(repeats):
        for keys, one in batches.items():
            runs[keys].append(one.work_off())
    return {
        keys: {part: round(median(run[part] for run in some), 2) for part in some[0]}
        for keys, some in runs.items()
    }


def _names(keys: Int64) -> dict[int, str]:
    return {key: f"card-{key:08d}" for key in keys.tolist()}
