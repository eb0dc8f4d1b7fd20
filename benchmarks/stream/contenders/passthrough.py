"""The floor: Spark reads a topic and writes another, and does nothing in between."""

from pyspark.sql import DataFrame
from stream.contenders.spark import read
from stream.contenders.spark import session_for
from stream.contenders.spark import write
from stream.plan import Plan


def run(plan: Plan) -> None:
    """Copy key and value."""
    records: DataFrame = read(session_for(plan), plan).select("key", "value")
    write(records, plan).awaitTermination()
