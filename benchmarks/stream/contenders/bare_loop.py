"""The least that can do the work: one process that consumes, scores and produces.

It recovers nothing: no offset is committed, no transaction opened.
"""

from itertools import count

from confluent_kafka import Consumer
from confluent_kafka import Producer
import numpy as np
import pyarrow as pa
from stream.plan import Plan
from stream.scorer import Folder
from stream.scorer import Scorer
from stream.scorer import of_cards

from fraudstream.features.sets import DEFAULT

_WAIT_S = 0.5


def run(plan: Plan) -> None:
    """Take some records, score them, send the results; again and again."""
    scorer, state = Scorer(plan), Folder(plan)
    consumer = Consumer(
        plan.cluster.config(
            group_id=plan.destination,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            queued_max_messages_kbytes=256 * 1024,
        )
    )
    consumer.subscribe([plan.source])
    producer = producer_of(plan)
    for batch in count():
        messages = [m for m in consumer.consume(plan.batch, _WAIT_S) if m.error() is None]
        partition = np.array([message.partition() for message in messages], dtype=np.int64)
        rows = []
        for each in np.unique(partition).tolist():
            some = [messages[row] for row in np.flatnonzero(partition == each).tolist()]
            rows.append(
                of_cards(
                    DEFAULT,
                    (plan.source, each),
                    batch,
                    np.array([message.offset() for message in some]),
                    np.array([message.timestamp()[1] for message in some]),
                    [message.value() for message in some],
                    state.of_partition(each),
                )
            )
        if rows:
            send(producer, scorer.results(batch, pa.concat_tables(rows), state.of_key))


def producer_of(plan: Plan) -> Producer:
    """Return a producer with room for all that comes of a batch."""
    return Producer(
        plan.cluster.config(
            compression_type="lz4",
            partitioner="murmur2_random",
            queue_buffering_max_messages=2 * plan.batch + 100_000,
        )
    )


def send(producer: Producer, results: pa.Table) -> None:
    """Send topic, key and value of each row, and wait until all have been taken."""
    columns = (results[name].to_pylist() for name in ("topic", "key", "value"))
    for topic, key, value in zip(*columns, strict=True):
        producer.produce(topic, value, key)
    producer.flush()
