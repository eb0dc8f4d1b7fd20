"""Quix Streams: a message at a time, as it documents it, with state for each key.

The state of a card, and after `group_by` that of a merchant, is what Quix keeps in RocksDB. It has
no stateful step over batches, so that features and model are asked for each message.
"""

import pickle
from typing import Any

import pyarrow as pa
from quixstreams import Application  # pants: no-infer-dep
from quixstreams import State  # pants: no-infer-dep
from quixstreams import message_context  # pants: no-infer-dep
from stream.plan import Plan
from stream.scorer import Memory
from stream.scorer import Scorer
from stream.scorer import of_cards

from fraudstream.features.sets import DEFAULT
from fraudstream.inference.steps import HANDED_ON

#: Bytes, some hundred records.
_FETCHED = 64 * 1024


def run(plan: Plan) -> None:
    """Read, keep cards, group by merchant, keep merchants, write."""
    scorer = Scorer(plan)

    def with_cards(
        value: bytes, key: bytes, timestamp: int, headers: Any, state: State
    ) -> list[bytes]:
        record, memory = message_context(), _memory(state)
        place = (plan.source, record.partition)
        rows = of_cards(DEFAULT, place, 0, [record.offset], [timestamp], [value], memory)
        state.set_bytes("memory", pickle.dumps(memory))
        return [pickle.dumps(row) for row in rows.to_pylist()]

    def scored(packed: bytes, state: State) -> list[bytes]:
        memory = _memory(state)
        rows = pa.Table.from_pylist([pickle.loads(packed)], HANDED_ON)  # noqa: S301
        results = scorer.results(0, rows, lambda key: memory)
        state.set_bytes("memory", pickle.dumps(memory))
        return [row["value"] for row in results.to_pylist() if row["topic"] == plan.destination]

    app = Application(
        broker_address=plan.bootstrap_servers,
        consumer_group=plan.destination,
        auto_offset_reset="earliest",
        state_dir=f"{plan.folder}/state",
        loglevel="WARNING",
        # It takes what has been fetched first, first: a backlog fetched far ahead would keep the
        # merchants waiting until all of its cards are done.
        consumer_extra_config={"max.partition.fetch.bytes": _FETCHED, "queued.min.messages": 100},
        producer_extra_config={"compression.type": "lz4", "partitioner": "murmur2_random"},
    )
    source = app.topic(plan.source, value_deserializer="bytes", key_deserializer="bytes")
    destination = app.topic(plan.destination, value_serializer="bytes", key_serializer="bytes")
    rows = app.dataframe(source).apply(with_cards, stateful=True, expand=True, metadata=True)
    by_merchant = rows.group_by(
        _merchant,
        name="merchant",
        value_serializer="bytes",
        value_deserializer="bytes",
        key_serializer="str",
        key_deserializer="bytes",
    )
    by_merchant.apply(scored, stateful=True, expand=True).to_topic(destination)
    app.run()


def _merchant(packed: bytes) -> str:
    return str(pickle.loads(packed)["merchant_id"])  # noqa: S301


def _memory(state: State) -> Memory:
    packed = state.get_bytes("memory")
    return Memory() if packed is None else pickle.loads(packed)  # noqa: S301
