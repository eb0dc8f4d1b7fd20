"""The producer and the stream on a stack of this machine: as they ship, and as they go on."""

from datetime import datetime
from datetime import timedelta
import json
from pathlib import Path

import orjson

from fraudstream.kafka.reading import Span
from fraudstream.kafka.reading import read
from fraudstream.kafka.reading import spans
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.stack.jars import spark_home
from fraudstream.stack.local import LocalStack
from fraudstream.stack.process import Process
from fraudstream.stack.process import run_to_end

#: What there is to train on before live traffic begins.
HISTORY = timedelta(days=45)

# Simulated time runs with the transactions, a day in about a minute, until it reaches the present
# and goes on at the clock's pace.
_LIVE = timedelta(days=120)
_DAY = timedelta(days=1)


class Traffic:
    """Simulated transactions: a history once, then live ones, on from wherever they have stopped.

    Parameters
    ----------
    producer
        ``producer.pex``.
    stack
        Runs; its folder remembers when the simulation began.
    now
        Aware UTC: a simulation that is new ends its live part about there.
    """

    def __init__(self, producer: Path, stack: LocalStack, now: datetime) -> None:
        self._producer = producer
        self._stack = stack
        self._now = now
        self._start = simulation_start(stack.folder / "simulation.json", now)
        self._days = days_sent(stack.broker.cluster(), Topics().transactions, self._start)

    @property
    def has_history(self) -> bool:
        """Whether the history has been sent."""
        return self._days >= HISTORY / _DAY

    def send_history(self) -> None:
        """Send the history.

        Raises
        ------
        ProcessFailed
            If the producer fails; the end of its log is told.
        """
        run_to_end(
            "the producer",
            [*self._simulate(), "--days", str(HISTORY // _DAY)],
            self._stack.folder / "history.log",
            self._stack.environment("producer"),
        )
        self._days = HISTORY // _DAY

    def live(self) -> Process:
        """Return the producer of live traffic, to be started.

        It begins with the first day of which nothing has been sent. A day that has been cut short
        stays so, and only today's would be sent again: those are duplicates, and scored once.
        """
        days = min(self._days, (self._now - self._start) // _DAY)
        return Process(
            "the producer",
            [*self._simulate(), "--live", "--after-days", str(days)],
            self._stack.folder / "producer.log",
            self._stack.environment("producer"),
        )

    def _simulate(self) -> list[str]:
        return [str(self._producer), "simulate", "--start", self._start.isoformat()]


def inference(program: Path, stack: LocalStack, cache: Path) -> Process:
    """Return the stream, to be started; it waits for the first champion.

    Parameters
    ----------
    program
        ``inference.pex``; it runs on the Spark that is installed here.
    stack
        Runs; its folder takes the stream's checkpoint.
    cache
        Keeps Spark's connector.
    """
    return Process(
        "the stream",
        [
            *(str(program), "run", "--wait-for-model"),
            *("--checkpoint", str(stack.folder / "checkpoint")),
        ],
        stack.folder / "inference.log",
        {
            **stack.environment("inference"),
            "FRAUDSTREAM_CACHE": str(cache),
            "SPARK_HOME": str(spark_home()),
        },
    )


def days_sent(cluster: Cluster, topic: str, start: datetime) -> int:
    """Return of how many days since `start` a topic holds transactions.

    The last record of each partition tells: a partition is about in the order of event time.
    """
    ends = [
        Span(span.partition, span.high - 1, span.high)
        for span in spans(cluster, topic)
        if span.high > span.low
    ]
    newest = start - _DAY
    for records in read(cluster, topic, ends):
        for value in filter(None, records.values):
            newest = max(newest, datetime.fromisoformat(orjson.loads(value)["event_time"]))
    return (newest - start) // _DAY + 1


def simulation_start(file: Path, now: datetime) -> datetime:
    """Return when the simulation began, which the first to ask decides."""
    if not file.exists():
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        file.write_text(json.dumps({"start": (midnight - HISTORY - _LIVE).isoformat()}))
    return datetime.fromisoformat(json.loads(file.read_text())["start"])
