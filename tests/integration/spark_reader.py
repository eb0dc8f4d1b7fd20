"""A program that uses Kafka's Java client as the stream does, and prints what came of it.

Started by the tests with ``--servers``, and with ``--config``, a file of client properties in
librdkafka's terms: counts the records of ``--topic`` by a stream of Spark. With ``--tools``, a file
of properties in Java's own terms, it prints the names of the topics instead.
"""

from pathlib import Path

import click
from pyspark import SparkConf
from pyspark.sql import SparkSession

from fraudstream.inference.session import CONNECTOR
from fraudstream.kafka.options import read_properties
from fraudstream.kafka.security import java_properties

# Started by Python, Spark says nothing below the level of warnings but of what is named here.
_LOGGING = """\
rootLogger.level=warn
rootLogger.appenderRef.stderr.ref=stderr
appender.stderr.type=Console
appender.stderr.name=stderr
appender.stderr.target=SYSTEM_ERR
appender.stderr.layout.type=PatternLayout
appender.stderr.layout.pattern=%p %m (%c)%n
logger.kafka.name=org.apache.kafka
logger.kafka.level=info
logger.source.name=org.apache.spark.sql.kafka010
logger.source.level=debug
"""


def session(cache: Path, logging: Path) -> SparkSession:
    logging.write_text(_LOGGING)
    settings = {
        "spark.master": "local[1]",
        "spark.jars.packages": CONNECTOR,
        "spark.jars.ivy": str(cache / "ivy"),
        "spark.ui.enabled": "false",
        "spark.driver.extraJavaOptions": f"-Dlog4j2.configurationFile={logging}",
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }
    return SparkSession.builder.config(
        conf=SparkConf().setAll(list(settings.items()))
    ).getOrCreate()


def count(spark: SparkSession, servers: str, config: Path, topic: str, checkpoint: Path) -> int:
    records = spark.readStream.format("kafka").option("kafka.bootstrap.servers", servers)
    records = records.option("subscribe", topic).option("startingOffsets", "earliest")
    for name, value in java_properties(read_properties(config)).items():
        records = records.option(f"kafka.{name}", value)
    query = (
        records.load()
        .writeStream.format("memory")
        .queryName("records")
        .trigger(availableNow=True)
        .option("checkpointLocation", str(checkpoint))
        .start()
    )
    query.awaitTermination()
    return spark.table("records").count()


def topics(spark: SparkSession, servers: str, tools: Path) -> list[str]:
    jvm = spark.sparkContext._jvm
    assert jvm is not None
    properties = jvm.java.util.Properties()
    file = jvm.java.io.FileInputStream(str(tools))
    properties.load(file)
    file.close()
    properties.setProperty("bootstrap.servers", servers)
    admin = jvm.org.apache.kafka.clients.admin.AdminClient.create(properties)
    names = sorted(admin.listTopics().names().get())
    admin.close()
    return names


@click.command()
@click.option("--servers", required=True)
@click.option("--cache", type=click.Path(path_type=Path), required=True)
@click.option("--checkpoint", type=click.Path(path_type=Path), required=True)
@click.option("--config", type=click.Path(path_type=Path))
@click.option("--topic")
@click.option("--tools", type=click.Path(path_type=Path))
def main(
    servers: str,
    cache: Path,
    checkpoint: Path,
    config: Path | None,
    topic: str | None,
    tools: Path | None,
) -> None:
    spark = session(cache, checkpoint.with_name("log4j2.properties"))
    try:
        if config is not None and topic is not None:
            click.echo(count(spark, servers, config, topic, checkpoint))
        if tools is not None:
            click.echo(" ".join(topics(spark, servers, tools)))
    finally:
        spark.stop()


if __name__ == "__main__":
    main()
