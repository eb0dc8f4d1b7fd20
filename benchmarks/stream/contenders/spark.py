"""Spark's own way from Kafka to Kafka, with the settings that the inference app gives Spark."""

import os
from pathlib import Path

from pyspark.sql import DataFrame
from pyspark.sql import SparkSession
from pyspark.sql.streaming.query import StreamingQuery
from stream.plan import Plan

from fraudstream.inference.session import session

#: A slow contender may take its time.
_PATIENCE_S = 3_600


def session_for(plan: Plan) -> SparkSession:
    """Return a session."""
    return session(
        f"local[{plan.tasks}]", Path(plan.cache), plan.tasks, _PATIENCE_S, environment=os.environ
    )


def read(spark: SparkSession, plan: Plan) -> DataFrame:
    """Return the source as a stream."""
    return (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", plan.bootstrap_servers)
        .option("subscribe", plan.source)
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", plan.batch)
        .load()
    )


def write(records: DataFrame, plan: Plan) -> StreamingQuery:
    """Write ``key`` and ``value`` to the destination."""
    return (
        records.writeStream.format("kafka")
        .option("kafka.bootstrap.servers", plan.bootstrap_servers)
        .option("kafka.compression.type", "lz4")
        .option("topic", plan.destination)
        .option("checkpointLocation", f"{plan.folder}/checkpoint")
        .start()
    )
