"""Pathway: one user-defined function over batches, as it documents those for models.

What is remembered lies in memory: Pathway's own state is reached by its reducers, which give one
row a key, not one an event. It recovers nothing. However many rows a batch may have, its engine
hands over 128.
"""

from itertools import count
from typing import Any

import pathway as pw  # pants: no-infer-dep
from stream.plan import Plan
from stream.scorer import Memory
from stream.scorer import Scorer
from stream.scorer import of_cards

from fraudstream.features.sets import DEFAULT


def run(plan: Plan) -> None:
    """Read, score batches, write."""
    scorer, cards, merchants, number = Scorer(plan), Memory(), Memory(), count()

    @pw.udf(max_batch_size=plan.batch)
    def score(values: list[bytes], places: list[Any]) -> list[bytes]:
        appended_ms = [place["timestamp_millis"].as_int() for place in places]
        at = [next(number) for _ in values]
        rows = of_cards(DEFAULT, (plan.source, 0), 0, at, appended_ms, [*values], cards)
        results = scorer.results(0, rows, lambda key: merchants)
        # Each record has one result; which one is for which does not matter from here on.
        return [row["value"] for row in results.to_pylist() if row["topic"] == plan.destination]

    settings = {
        "bootstrap.servers": plan.bootstrap_servers,
        "group.id": plan.destination,
        "auto.offset.reset": "earliest",
        "compression.type": "lz4",
    }
    # What is read together is written together: without a limit, all of a backlog.
    records = pw.io.kafka.read(
        settings, plan.source, format="raw", with_metadata=True, max_backlog_size=plan.batch
    )
    results = records.select(value=score(pw.this.data, pw.this._metadata))
    pw.io.kafka.write(results, settings, plan.destination, format="raw", value=results.value)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)
