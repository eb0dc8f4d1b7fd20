"""Runs of contenders against one broker."""

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
import os
from pathlib import Path
import sys
import tempfile
import time

import orjson
from stream.contenders.table import CONTENDERS
from stream.measuring import Drained
from stream.measuring import Load
from stream.measuring import drained
from stream.measuring import latency_ms
from stream.peers import our_sources
from stream.peers import python_of
from stream.plan import Plan
from stream.running import Contender
from stream.running import started
from stream.traffic import Traffic

from fraudstream.kafka.reading import read
from fraudstream.kafka.reading import spans
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.kafka.topics import UnknownTopic
from fraudstream.stack.jars import resolve_jars
from fraudstream.stack.kafka import KafkaBroker

#: How long a contender may take for a backlog, and to start.
_DRAIN_S, _START_S = 900.0, 300.0
#: For how long events come before a latency is measured.
_SETTLING_S = 30.0
_TASKS = 2
#: How long a broker may take to know a topic that it has created, and how often it is asked.
_SEEN_S, _PROBE_S = 30.0, 0.1
#: Before a latency is measured: enough for every partition, and for code to get warm.
_FIRST = 20_000

Advance = Callable[[float], None]


@dataclass
class Bench:
    """Starts contenders against a broker.

    Parameters
    ----------
    broker
        Runs.
    bundle, registry
        See `Plan`.
    folder, cache
        For what contenders leave behind, and for what is kept.
    """

    broker: KafkaBroker
    bundle: Path
    registry: str
    folder: Path
    cache: Path
    _runs: int = field(default=0, init=False)

    @property
    def cluster(self) -> Cluster:
        """Where Kafka is."""
        return self.broker.cluster()

    def backlog(self, name: str, cards: int, partitions: int, events: int, advance: Advance) -> str:
        """Fill a new topic with transactions, and return its name."""
        topics = Topics(name, f"{name}-labels", f"{name}-a", f"{name}-s", f"{name}-refused")
        created(self.cluster, topics, partitions)
        Traffic(cards).send(self.cluster, topics, events, advance)
        return name

    def drain(self, name: str, source: str, load: Load) -> Drained:
        """Let a contender work off a backlog.

        Raises
        ------
        TooSlow, ProcessFailed
            If it does not, or cannot be installed.
        """
        entry = CONTENDERS[name]
        load = load.scaled(entry.share)
        with self._started(name, source, load.batch) as (contender, _):
            appended_ms = contender.appended(load.events, _DRAIN_S)
            # What was taken beyond the load is not measured.
            appended_ms = appended_ms[: load.events]
            return drained(load, appended_ms, contender.cost(), entry.runs_ahead)

    def latency(
        self, name: str, source: str, traffic: Traffic, rate: float, seconds: float, batch: int
    ) -> dict[str, float]:
        """Return how long results take when events come at a rate, from append to append.

        Parameters
        ----------
        name
            Of the contender.
        source
            A topic without records, and whence they come.
        traffic, rate, seconds
            What is sent to it, how many a second, and for how long.
        batch
            See `Plan`.
        """
        topics = Topics(source, f"{source}-labels", "", "", f"{source}-refused")
        count = int(rate * seconds)
        with self._started(name, source, batch) as (contender, plan):
            traffic.send(self.cluster, topics, _FIRST, _silent)
            contender.appended(_FIRST, _START_S)
            # A stream runs for months: its first moments, in which Java compiles, are not measured.
            before = int(rate * _SETTLING_S)
            traffic.send(self.cluster, topics, before, _silent, rate)
            begin_ms = int(time.time() * 1e3)
            traffic.send(self.cluster, topics, count, _silent, rate)
            contender.appended(_FIRST + before + count, _DRAIN_S)
            sent = self._moments(source)
            appended = self._moments(plan.destination)
        return latency_ms({key: at for key, at in sent.items() if at >= begin_ms}, appended)

    def _moments(self, topic: str) -> dict[str, int]:
        return {
            orjson.loads(value or b"")["transaction_id"]: at
            for records in read(self.cluster, topic, spans(self.cluster, topic))
            for value, at in zip(records.values, records.appended_ms.tolist(), strict=True)
        }

    @contextmanager
    def _started(self, name: str, source: str, batch: int) -> Iterator[tuple[Contender, Plan]]:
        entry = CONTENDERS[name]
        self._runs += 1
        jars = self._jars(name)
        python, path = sys.executable, os.pathsep.join(filter(None, sys.path))
        if entry.peer:
            python, path = str(python_of(entry.peer, self.cache)), our_sources()
        partitions = self.cluster.require_topics([source])[source]
        with tempfile.TemporaryDirectory(dir=self.folder, ignore_cleanup_errors=True) as folder:
            plan = Plan(
                self.broker.bootstrap_servers,
                source,
                f"{name}-{self._runs}",
                batch,
                _TASKS,
                str(self.bundle),
                self.registry,
                folder,
                str(self.cache),
                jars,
            )
            created(self.cluster, plan.topics, partitions)
            command = [python, "-m", "stream.contenders.start", entry.module, plan.to_json()]
            with started(name, command, {"PYTHONPATH": path}, plan) as contender:
                yield contender, plan
        self._forget(plan)

    def _jars(self, name: str) -> str:
        modules = CONTENDERS[name].jars
        return str(resolve_jars(self.cache, f"benchmark-{name}", modules)) if modules else ""

    def _forget(self, plan: Plan) -> None:
        """Delete what a run has written: rounds would fill the disk."""
        own = [topic for topic in plan.topics.names() if topic != plan.source]
        # The client is kept in a name: were it collected, it would end before the topics do.
        client = self.cluster.admin()
        for deleted in client.delete_topics(own).values():
            deleted.result()


def created(cluster: Cluster, topics: Topics, partitions: int, within_s: float = _SEEN_S) -> None:
    """Create topics, and wait until the broker knows them: it may say so a moment before.

    Raises
    ------
    UnknownTopic
        If it does not know them `within_s`.
    """
    cluster.create_topics(topics, partitions)
    deadline = time.monotonic() + within_s
    while True:
        try:
            cluster.require_topics(topics.names())
        except UnknownTopic:
            if time.monotonic() > deadline:
                raise
            time.sleep(_PROBE_S)
        else:
            return


def _silent(count: float) -> None:
    pass
