"""Bytewax: two stateful steps over batches, keyed by partition and by shard of merchants.

Its state is kept as it documents it: in each key's logic, with snapshots into a recovery store.
"""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
import pickle
from typing import Any

from bytewax.connectors.kafka import KafkaSink  # pants: no-infer-dep
from bytewax.connectors.kafka import KafkaSinkMessage  # pants: no-infer-dep
from bytewax.connectors.kafka import KafkaSource  # pants: no-infer-dep
from bytewax.dataflow import Dataflow  # pants: no-infer-dep
import bytewax.operators as op  # pants: no-infer-dep
from bytewax.operators import StatefulBatchLogic  # pants: no-infer-dep
from bytewax.recovery import RecoveryConfig  # pants: no-infer-dep
from bytewax.recovery import init_db_dir  # pants: no-infer-dep
from bytewax.run import cli_main  # pants: no-infer-dep
import pyarrow as pa
from stream.plan import Plan
from stream.scorer import Memory
from stream.scorer import Scorer
from stream.scorer import by_shard
from stream.scorer import of_cards

from fraudstream.features.sets import DEFAULT


class _Remembering(StatefulBatchLogic):
    def __init__(self, packed: bytes | None) -> None:
        self.memory: Memory = Memory() if packed is None else pickle.loads(packed)  # noqa: S301

    def snapshot(self) -> bytes:
        return pickle.dumps(self.memory)


class _Cards(_Remembering):
    def __init__(self, source: str, shards: int, packed: bytes | None) -> None:
        super().__init__(packed)
        self._source = source
        self._shards = shards

    def on_batch(self, values: list[Any]) -> tuple[Iterable[Any], bool]:
        rows = of_cards(
            DEFAULT,
            (self._source, values[0].partition),
            0,
            [message.offset for message in values],
            [message.timestamp[1] for message in values],
            [message.value for message in values],
            self.memory,
        )
        return [*by_shard(rows, self._shards)], StatefulBatchLogic.RETAIN


class _Merchants(_Remembering):
    def __init__(self, scorer: Scorer, packed: bytes | None) -> None:
        super().__init__(packed)
        self._scorer = scorer

    def on_batch(self, values: list[Any]) -> tuple[Iterable[Any], bool]:
        results = self._scorer.results(0, pa.concat_tables(values), lambda key: self.memory)
        return results.to_pylist(), StatefulBatchLogic.RETAIN


def run(plan: Plan) -> None:
    """Read, keep cards by partition, keep merchants by shard, write."""
    scorer = Scorer(plan)
    brokers = [plan.bootstrap_servers]
    config = {"compression.type": "lz4", "partitioner": "murmur2_random"}
    flow = Dataflow("fraud")
    read = KafkaSource(brokers, [plan.source], batch_size=plan.batch // 4)
    records = op.input("read", flow, read)
    by_partition = op.key_on("partition", records, lambda record: str(record.partition))
    parts = op.stateful_batch("cards", by_partition, partial(_Cards, plan.source, plan.tasks))
    by_merchant = op.map("shard", parts, lambda part: part[1])
    results = op.stateful_batch("merchants", by_merchant, partial(_Merchants, scorer))
    messages = op.map("message", results, lambda keyed: _message(keyed[1]))
    op.output("write", messages, KafkaSink(brokers, None, config))
    recovery = Path(plan.folder) / "recovery"
    recovery.mkdir()
    init_db_dir(recovery, plan.tasks)
    cli_main(flow, workers_per_process=plan.tasks, recovery_config=RecoveryConfig(str(recovery)))


def _message(row: dict[str, Any]) -> KafkaSinkMessage[bytes, bytes]:
    return KafkaSinkMessage(row["key"], row["value"], row["topic"])
