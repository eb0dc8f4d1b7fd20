"""A program that uses Kafka's Java client as the stream does, and prints what came of it.

For each file of client properties in librdkafka's terms it reads a topic by a stream of Spark, and
prints a line: how many records it was given, or why it was refused. Then it prints the names of the
topics, which it asks for with a file of properties in Java's own terms.
"""

from pathlib import Path

import click
from pyspark import SparkConf
from pyspark.errors import StreamingQueryException
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


def outcome(spark: SparkSession, servers: str, topic: str, config: Path, checkpoint: Path) -> str:
    records = spark.readStream.format("kafka").option("kafka.bootstrap.servers", servers)
    records = records.option("subscribe", topic).option("startingOffsets", "earliest")
    for name, value in java_properties(read_properties(config)).items():
        records = records.option(f"kafka.{name}", value)
    query = (
        records.load()
        .writeStream.format("memory")
        .queryName(f"of_{checkpoint.name}")
        .trigger(availableNow=True)
        .option("checkpointLocation", str(checkpoint))
        .start()
    )
    try:
        query.awaitTermination()
    except StreamingQueryException as refusal:
        return " ".join(str(refusal).split())
    return str(spark.table(f"of_{checkpoint.name}").count())


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


_FILE = click.Path(path_type=Path)


@click.command()
@click.option("--servers", required=True)
@click.option("--topic", required=True)
@click.option("--tools", type=_FILE, required=True)
@click.option("--cache", type=_FILE, required=True)
@click.option("--folder", type=_FILE, required=True)
@click.argument("configs", nargs=-1, type=_FILE)
def main(
    servers: str, topic: str, tools: Path, cache: Path, folder: Path, configs: tuple[Path, ...]
) -> None:
    spark = session(cache, folder / "log4j2.properties")
    try:
        for number, config in enumerate(configs):
            click.echo(outcome(spark, servers, topic, config, folder / str(number)))
        click.echo(" ".join(topics(spark, servers, tools)))
    finally:
        spark.stop()


if __name__ == "__main__":
    main()
