"""What the driver tells Prometheus: counts of what is committed, and how things stand.

A batch counts when all its shards are written. A batch that an earlier driver had begun, and this
one brings to its end, counts here: over all drivers of a stream, each result is counted once, but
for a driver that is killed between the end of a batch and Spark's note of it.
"""

from collections import Counter
from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from contextlib import suppress
from itertools import accumulate
import threading
import time
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client import start_http_server
from prometheus_client.core import CounterMetricFamily
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from fraudstream.inference.champion import Pin
from fraudstream.inference.store import State
from fraudstream.inference.tally import LATENCY_BOUNDS_S
from fraudstream.model.bundle import CHALLENGER
from fraudstream.model.bundle import CHAMPION
from fraudstream.model.bundle import Bundle

#: By topic and partition, an offset.
Offsets = Mapping[tuple[str, int], int]

_PREFIX = "fraudstream"


class PortTaken(OSError):
    """Metrics cannot be served at the address that was asked for."""


class Metrics(Collector):
    """Adds up what batches come to, and renders it when it is asked for.

    Parameters
    ----------
    state
        Whose size is told, where it can be asked for it.
    ends
        Gives where partitions end now; of those that cannot be asked, nothing.
    clock
        Seconds since the epoch.
    """

    def __init__(
        self,
        state: State,
        ends: Callable[[Sequence[tuple[str, int]]], Offsets],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._ends = ends
        self._clock = clock
        self._lock = threading.Lock()
        self._records: Counter[str] = Counter()
        self._reached: dict[tuple[str, int], int] = {}
        self._scores: Counter[tuple[str, str]] = Counter()
        self._alerts: Counter[tuple[str, str]] = Counter()
        self._dead_letters: Counter[str] = Counter()
        self._refused: Counter[tuple[str, str]] = Counter()
        self._batches = self._repeated = 0
        self._batch_seconds = 0.0
        self._stages: Mapping[str, float] = {}
        self._latencies = [0] * (len(LATENCY_BOUNDS_S) + 1)
        self._latency_sum_s = 0.0
        self._serving: dict[str, tuple[Bundle, float]] = {}

    # --- what is told to it ----------------------------------------------------------------------

    def add_batch(
        self,
        written: Sequence[Mapping[str, Any]],
        pin: Pin,
        seconds: float,
        stages: Mapping[str, float],
    ) -> None:
        """Count a batch that is at its end.

        Parameters
        ----------
        written
            Its rows of `fraudstream.inference.tally.WRITTEN`.
        pin
            The models that scored it.
        seconds
            How long it took.
        stages
            On what the workers have spent their time since the start, all tasks together, in
            seconds.
        """
        with self._lock:
            self._batches += 1
            self._repeated += any(row["was_there"] for row in written)
            self._batch_seconds += seconds
            self._stages = dict(stages)
            for row in written:
                self._scores[CHAMPION, pin.champion.version] += row["scores"]
                self._alerts[CHAMPION, pin.champion.version] += row["alerts"]
                if pin.challenger:
                    self._scores[CHALLENGER, pin.challenger.version] += row["shadow_scores"]
                    self._alerts[CHALLENGER, pin.challenger.version] += row["shadow_alerts"]
                self._dead_letters.update(dict(row["dead_letters"]))
                self._latencies = [
                    one + other
                    for one, other in zip(self._latencies, row["latencies"], strict=True)
                ]
                self._latency_sum_s += row["latency_sum_s"]

    def add_records(self, read: Mapping[str, int], reached: Offsets) -> None:
        """Count records that were read, by topic, and note to where partitions have been read."""
        with self._lock:
            self._records.update(read)
            self._reached.update(reached)

    def refused(self, role: str, check: str) -> None:
        """Count a model that failed a check."""
        with self._lock:
            self._refused[role, check] += 1

    def serves(self, role: str, bundle: Bundle | None, since_s: float) -> None:
        """Note the model of a role, and when it was registered, in seconds since the epoch."""
        with self._lock:
            self._serving.pop(role, None)
            if bundle is not None:
                self._serving[role] = (bundle, since_s)

    # --- what it tells ---------------------------------------------------------------------------

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics as they stand."""
        with self._lock:
            told = list(self._counted())
            reached = dict(self._reached)
        # Kafka may be slow to answer: a batch must not wait for that.
        yield from told
        yield self._lag(reached)
        size = _gauge("state_bytes", "Size of the state, on disk or in Redis", ())
        with suppress(ConnectionError):
            size.add_metric((), self._state.size())
        yield size

    def _counted(self) -> Iterator[Metric]:
        yield _counter("records", "Records read", ("topic",), self._records)
        yield _counter("batches", "Batches at their end", (), {(): self._batches})
        yield _counter(
            "batches_repeated",
            "Batches of which an earlier try had written something",
            (),
            {(): self._repeated},
        )
        yield _counter(
            "batch_seconds", "Time from first task to last result", (), {(): self._batch_seconds}
        )
        yield _counter("stage_seconds", "Time of all tasks by stage", ("stage",), self._stages)
        models = ("role", "version")
        yield _counter("scores", "Scores committed", models, self._scores)
        yield _counter("alerts", "Scores at or over the threshold", models, self._alerts)
        yield _counter(
            "dead_letters", "Records that could not be used", ("reason",), self._dead_letters
        )
        yield HistogramMetricFamily(
            f"{_PREFIX}_latency_seconds",
            "From the append of a transaction to the commit of its score",
            buckets=list(
                zip([*map(str, LATENCY_BOUNDS_S), "+Inf"], accumulate(self._latencies), strict=True)
            ),
            sum_value=self._latency_sum_s,
        )
        yield _counter(
            "models_refused", "Models that failed a check", ("role", "check"), self._refused
        )
        info = _gauge("model_info", "The models at work", ("role", "model", "version", "digest"))
        age = _gauge("model_age_seconds", "Since the model was registered", ("role",))
        for role, (bundle, since_s) in self._serving.items():
            info.add_metric((role, bundle.name, bundle.version, bundle.digest), 1)
            age.add_metric((role,), self._clock() - since_s)
        yield info
        yield age

    def _lag(self, reached: Offsets) -> Metric:
        lag = _gauge(
            "lag_records", "Offsets between what was read and the end", ("topic", "partition")
        )
        for (topic, partition), end in self._ends(sorted(reached)).items():
            behind = max(0, end - reached[topic, partition])
            lag.add_metric((topic, str(partition)), behind)
        return lag


@contextmanager
def served(metrics: Metrics, host: str, port: int) -> Iterator[None]:
    """Serve metrics over HTTP while the block runs; port 0 serves nothing.

    Raises
    ------
    PortTaken
        If the address cannot be listened at.
    """
    if not port:
        yield
        return
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    try:
        server, thread = start_http_server(port, host, registry)
    except OSError as error:
        raise PortTaken(
            f"metrics cannot be served at {host}:{port} ({error}): "
            "choose another --metrics-port or --metrics-host"
        ) from error
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _counter(
    name: str, told: str, labels: Sequence[str], counts: Mapping[Any, float]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"{_PREFIX}_{name}", told, labels=labels)
    for key, count in counts.items():
        family.add_metric((key,) if isinstance(key, str) else key, count)
    return family


def _gauge(name: str, told: str, labels: Sequence[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"{_PREFIX}_{name}", told, labels=labels)
