"""Pathway: one user-defined function over batches, as it documents those for models.

What is remembered lies in embedded stores, as in the bare loop: Pathway's own state is reached by
its reducers, which give one row a key, not one an event. It recovers nothing.
"""

from collections import defaultdict
from itertools import count
import json
from typing import Any

import pathway as pw  # pants: no-infer-dep
import pyarrow as pa
from stream.plan import Plan
from stream.scorer import Folder
from stream.scorer import Scorer
from stream.scorer import of_cards

from fraudstream.features.sets import DEFAULT


def run(plan: Plan) -> None:
    """Read, score batches, write."""
    scorer, state, number = Scorer(plan), Folder(plan), count()

    @pw.udf(max_batch_size=plan.batch)
    def score(values: list[bytes], places: list[Any]) -> list[bytes]:
        batch = next(number)
        by_partition: dict[int, list[tuple[int, int, bytes]]] = defaultdict(list)
        for value, packed in zip(values, places, strict=True):
            place = json.loads(str(packed))
            by_partition[place["partition"]].append((place["offset"], 2**42, value))
        rows = []
        for partition, some in by_partition.items():
            offsets, appended_ms, theirs = zip(*sorted(some), strict=True)
            at, store = (plan.source, partition), state.of_partition(partition)
            rows.append(of_cards(DEFAULT, at, batch, offsets, appended_ms, [*theirs], store))
        results = scorer.results(batch, pa.concat_tables(rows), state.of_key)
        # Each record has one result; which one is for which does not matter from here on.
        return [row["value"] for row in results.to_pylist() if row["topic"] == plan.destination]

    settings = {
        "bootstrap.servers": plan.bootstrap_servers,
        "group.id": "pathway",
        "auto.offset.reset": "earliest",
        "compression.type": "lz4",
    }
    records = pw.io.kafka.read(settings, plan.source, format="raw", with_metadata=True)
    results = records.select(value=score(pw.this.data, pw.this._metadata))
    pw.io.kafka.write(results, settings, plan.destination, format="raw", value=results.value)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
