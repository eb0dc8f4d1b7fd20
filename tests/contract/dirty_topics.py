"""Simulated topics as they are in life: with records that are late, sent twice and broken."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC
from datetime import datetime
import zlib

import numpy as np
import orjson
import pyarrow as pa

from fraudstream.features.definitions import FeatureSet
from fraudstream.features.windows import replay
from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_transactions
from fraudstream.simulator.stream import Simulation
from fraudstream.simulator.world import WorldSpec

START = datetime(2026, 3, 1, tzinfo=UTC)
PARTITIONS = 3

_DAY_US = 86_400_000_000


@dataclass(frozen=True)
class Record:
    """A record in the order in which the broker took it; `id` is ``None`` where it is broken."""

    topic: str
    partition: int
    offset: int
    appended_ms: int
    value: bytes
    id: str | None


def dirty_topics(days: int, cards: int, seed: int) -> list[Record]:
    """Return both topics' records in one order of arrival.

    5% of the transactions come late, by up to two days; 5% are sent twice, the copy up to a day
    later; 1% are broken. What is late comes right behind a record of its partition that is not:
    so no partition falls behind the others, which is the one admitted source of difference
    between what is served and what is replayed.
    """
    draw = np.random.default_rng(seed)
    simulation = Simulation(WorldSpec(cards=cards, seed=seed), START)
    arriving: list[_Arrival] = []
    for day in range(days):
        batch = simulation.day(day)
        for us, document in zip(batch.event_time_us.tolist(), batch.transactions(), strict=True):
            late_us = int(draw.integers(2 * _DAY_US)) if draw.random() < 0.05 else 0
            broken = _broken(document, draw) if draw.random() < 0.01 else None
            arriving.append(_Arrival(us + late_us, "transactions", document, late_us > 0, broken))
            if draw.random() < 0.05:
                copy_us = us + late_us + int(draw.integers(1, _DAY_US))
                arriving.append(_Arrival(copy_us, "transactions", document, True, None))
        for us, document in zip(batch.labelled_at_us.tolist(), batch.labels(), strict=True):
            broken = _broken(document, draw) if draw.random() < 0.01 else None
            arriving.append(_Arrival(us, "labels", document, False, broken))

    records: list[Record] = []
    offsets: Counter[tuple[str, int]] = Counter()
    held_back: dict[int, list[_Arrival]] = {partition: [] for partition in range(PARTITIONS)}
    for arrival in sorted(arriving, key=lambda each: each.us):
        if arrival.is_late:
            held_back[arrival.partition].append(arrival)
            continue
        coming = [arrival]
        if arrival.topic == "transactions" and arrival.broken is None:
            coming += held_back[arrival.partition]
            held_back[arrival.partition] = []
        for each in coming:
            place = (each.topic, each.partition)
            value = orjson.dumps(each.document) if each.broken is None else each.broken
            name = each.document["transaction_id"] if each.broken is None else None
            records.append(Record(*place, offsets[place], arrival.us // 1000, value, name))
            offsets[place] += 1
    return records


@dataclass(frozen=True)
class _Arrival:
    us: int
    topic: str
    document: dict
    is_late: bool
    broken: bytes | None

    @property
    def partition(self) -> int:
        return zlib.crc32(self.document["card_id"].encode()) % PARTITIONS


def _broken(document: dict, draw: np.random.Generator) -> bytes:
    cut = orjson.dumps(document)[:-1]
    return [cut, b"\xff\x00", orjson.dumps({**document, "card_id": "4" * 16})][draw.integers(3)]


def replayed(feature_set: FeatureSet, records: list[Record]) -> dict[str, np.ndarray]:
    """Return the features of each transaction as a replay of the whole topics gives them."""
    tables = {}
    for topic, decode in (("transactions", decode_transactions), ("labels", decode_labels)):
        mine = [r for r in records if r.topic == topic]
        decoded = decode([r.value for r in mine], np.array([r.appended_ms for r in mine]))
        kept = [mine[row] for row in decoded.rows]
        tables[topic] = decoded.columns.append_column(
            "partition", pa.array([r.partition for r in kept], pa.int64())
        ).append_column("offset", pa.array([r.offset for r in kept], pa.int64()))
    matrix = replay(feature_set, tables["transactions"], tables["labels"])
    ids = tables["transactions"]["transaction_id"].to_pylist()
    return dict(zip(ids, matrix, strict=True))
