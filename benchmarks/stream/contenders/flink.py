"""PyFlink: two keyed process functions, with state and checkpoints as it documents them.

A record at a time: PyFlink ships records to Python in bundles, and gives its functions one by one.
"""

from collections.abc import Iterator
import json
from pathlib import Path
import pickle
import sys
from typing import Any

import pyarrow as pa
from pyflink.common import Configuration  # pants: no-infer-dep
from pyflink.common import Types  # pants: no-infer-dep
from pyflink.common import WatermarkStrategy  # pants: no-infer-dep
from pyflink.common.serialization import SimpleStringSchema  # pants: no-infer-dep
from pyflink.datastream import KeyedProcessFunction  # pants: no-infer-dep
from pyflink.datastream import RuntimeContext  # pants: no-infer-dep
from pyflink.datastream import StreamExecutionEnvironment  # pants: no-infer-dep
from pyflink.datastream.connectors import kafka  # pants: no-infer-dep
from pyflink.datastream.state import ValueStateDescriptor  # pants: no-infer-dep
from stream.plan import Plan
from stream.scorer import Memory
from stream.scorer import Scorer
from stream.scorer import of_cards

from fraudstream.features.sets import DEFAULT
from fraudstream.inference.steps import HANDED_ON

_CHECKPOINT_MS = 10_000
#: A bundle's results appear together. By default it takes all that comes within a second, here
#: work for minutes.
_BUNDLE = 200
#: No event time lies behind it: a record's append time does not reach Python.
_ENDLESS_MS = 2**42


class _Cards(KeyedProcessFunction):
    def __init__(self, source: str) -> None:
        self._source = source

    def open(self, runtime_context: RuntimeContext) -> None:
        self._kept = runtime_context.get_state(_MEMORY)

    def process_element(self, value: str, ctx: Any) -> Iterator[bytes]:
        memory, count = self._kept.value() or (Memory(), 0)
        place = (self._source, 0)
        rows = of_cards(DEFAULT, place, 0, [count], [_ENDLESS_MS], [value.encode()], memory)
        self._kept.update((memory, count + 1))
        yield from map(pickle.dumps, rows.to_pylist())


class _Merchants(KeyedProcessFunction):
    def __init__(self, plan: Plan) -> None:
        self._plan = plan

    def open(self, runtime_context: RuntimeContext) -> None:
        self._kept = runtime_context.get_state(_MEMORY)
        self._scorer = Scorer(self._plan)

    def process_element(self, value: bytes, ctx: Any) -> Iterator[str]:
        memory = self._kept.value() or Memory()
        rows = pa.Table.from_pylist([pickle.loads(value)], HANDED_ON)  # noqa: S301
        results = self._scorer.results(0, rows, lambda key: memory)
        self._kept.update(memory)
        for row in results.to_pylist():
            if row["topic"] == self._plan.destination:
                yield row["value"].decode()


_MEMORY = ValueStateDescriptor("memory", Types.PICKLED_BYTE_ARRAY())


def run(plan: Plan) -> None:
    """Read, keep cards, key by merchant, keep merchants, write."""
    env = StreamExecutionEnvironment.get_execution_environment()
    env.set_python_executable(sys.executable)
    env.add_jars(*(jar.as_uri() for jar in Path(plan.jars).glob("*.jar")))
    env.set_parallelism(plan.tasks)
    settings = Configuration()
    settings.set_integer("python.fn-execution.bundle.size", _BUNDLE)
    env.configure(settings)
    env.enable_checkpointing(_CHECKPOINT_MS)
    source = (
        kafka.KafkaSource.builder()
        .set_bootstrap_servers(plan.bootstrap_servers)
        .set_topics(plan.source)
        .set_group_id(plan.destination)
        .set_starting_offsets(kafka.KafkaOffsetsInitializer.earliest())
        .set_value_only_deserializer(SimpleStringSchema())
        .build()
    )
    schema = (
        kafka.KafkaRecordSerializationSchema.builder()
        .set_topic(plan.destination)
        .set_value_serialization_schema(SimpleStringSchema())
        .build()
    )
    sink = (
        kafka.KafkaSink.builder()
        .set_bootstrap_servers(plan.bootstrap_servers)
        .set_record_serializer(schema)
        .set_property("compression.type", "lz4")
        .build()
    )
    records = env.from_source(source, WatermarkStrategy.no_watermarks(), "read")
    rows = records.key_by(_card).process(_Cards(plan.source), Types.PICKLED_BYTE_ARRAY())
    results = rows.key_by(_merchant).process(_Merchants(plan), Types.STRING())
    results.sink_to(sink)
    env.execute("fraud")


def _card(value: str) -> str:
    return str(json.loads(value)["card_id"])


def _merchant(packed: bytes) -> str:
    return str(pickle.loads(packed)["merchant_id"])  # noqa: S301
