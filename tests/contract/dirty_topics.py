"""Simulated topics as they are in life: with records that are late, sent twice and broken."""

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
    later; 1% are broken.
    """
    draw = np.random.default_rng(seed)
    simulation = Simulation(WorldSpec(cards=cards, seed=seed), START)
    arriving: list[tuple[int, str, dict]] = []
    for day in range(days):
        batch = simulation.day(day)
        for us, document in zip(batch.event_time_us.tolist(), batch.transactions(), strict=True):
            late_us = int(draw.integers(2 * 86_400_000_000)) if draw.random() < 0.05 else 0
            arriving.append((us + late_us, "transactions", document))
            if draw.random() < 0.05:
                copy_us = us + late_us + int(draw.integers(1, 86_400_000_000))
                arriving.append((copy_us, "transactions", document))
        for us, document in zip(batch.labelled_at_us.tolist(), batch.labels(), strict=True):
            arriving.append((us, "labels", document))
    arriving.sort(key=lambda entry: entry[0])

    records = []
    offsets: dict[tuple[str, int], int] = {}
    for us, topic, document in arriving:
        partition = zlib.crc32(document["card_id"].encode()) % PARTITIONS
        offset = offsets.get((topic, partition), 0)
        offsets[topic, partition] = offset + 1
        value, name = orjson.dumps(document), document["transaction_id"]
        if draw.random() < 0.01:
            broken = [value[:-1], b"\xff\x00", orjson.dumps({**document, "card_id": "4" * 16})]
            value, name = broken[int(draw.integers(3))], None
        records.append(Record(topic, partition, offset, us // 1000, value, name))
    return records


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
