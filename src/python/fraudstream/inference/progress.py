"""How far the stream has come: told by Spark after each batch, and held against Kafka."""

from collections.abc import Mapping
from collections.abc import Sequence

from confluent_kafka import Consumer
from confluent_kafka import KafkaException
from confluent_kafka import TopicPartition
import orjson
from py4j.java_gateway import JavaObject  # pants: no-infer-dep (it comes with Spark)
from pyspark import SparkContext
from pyspark.sql.streaming.listener import JStreamingQueryListener
from pyspark.sql.streaming.listener import QueryProgressEvent
from pyspark.sql.streaming.listener import QueryStartedEvent
from pyspark.sql.streaming.listener import QueryTerminatedEvent
from pyspark.sql.streaming.listener import StreamingQueryListener
import structlog

from fraudstream.inference.metrics import Metrics
from fraudstream.inference.metrics import Offsets
from fraudstream.kafka.topics import Cluster

_TIMEOUT_S = 2.0

log = structlog.get_logger()


class Ends:
    """Asks Kafka where partitions end; its connection is kept.

    Parameters
    ----------
    cluster
        The Kafka cluster.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._consumer = Consumer(
            cluster.config(group_id="inference-ends", enable_auto_commit=False)
        )

    def __call__(self, places: Sequence[tuple[str, int]]) -> Offsets:
        """Return where these partitions end; nothing of them if Kafka does not answer."""
        try:
            return {
                place: self._consumer.get_watermark_offsets(
                    TopicPartition(*place), timeout=_TIMEOUT_S
                )[1]
                for place in places
            }
        except KafkaException as error:
            log.warning("lag unknown", why=error.args[0].str())
            return {}


class Progress(StreamingQueryListener):
    """Hands to the metrics what Spark tells of a batch.

    Parameters
    ----------
    metrics
        Takes it.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    @property
    def _jlistener(self) -> JavaObject:
        """What Spark's `StreamingQueryManager.addListener` registers."""
        return SparkContext._jvm.PythonStreamingQueryListenerWrapper(  # type: ignore[union-attr]
            _AtOnce(self)
        )

    def onQueryStarted(self, event: QueryStartedEvent) -> None:  # noqa: N802 - Spark's name
        """Nothing is to be noted."""

    def onQueryProgress(self, event: QueryProgressEvent) -> None:  # noqa: N802
        """Note how many records a batch has read, and to where."""
        for source in event.progress.sources:
            reached = offsets(source.endOffset)
            topics = {topic for topic, _ in reached}
            self._metrics.add_records(dict.fromkeys(topics, source.numInputRows), reached)

    def onQueryTerminated(self, event: QueryTerminatedEvent) -> None:  # noqa: N802
        """Nothing is to be noted."""


class _AtOnce(JStreamingQueryListener):
    """Asks the JVM for all of what it tells of a batch in one call.

    Spark's own way takes a call for each figure: a tenth of the time of a small batch.
    """

    def onQueryProgress(self, jevent: JavaObject) -> None:  # noqa: N802 - Spark's name
        told = {"progress": orjson.loads(jevent.progress().json())}
        self.pylistener.onQueryProgress(QueryProgressEvent.fromJson(told))


def offsets(told: str) -> Offsets:
    """Return offsets as Spark's source writes them.

    Examples
    --------
    >>> offsets('{"transactions": {"0": 5, "1": 7}}')
    {('transactions', 0): 5, ('transactions', 1): 7}
    """
    topics: Mapping[str, Mapping[str, int]] = orjson.loads(told)
    return {
        (topic, int(partition)): offset
        for topic, partitions in topics.items()
        for partition, offset in partitions.items()
    }
