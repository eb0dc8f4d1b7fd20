"""Whether scores flow: what a reader of committed records sees, as it comes."""

from collections import Counter
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
import threading
import time

from confluent_kafka import OFFSET_END
from confluent_kafka import Consumer
from confluent_kafka import Message
from confluent_kafka import TopicPartition
from faults.load import LAST
import numpy as np
import numpy.typing as npt
import orjson

from fraudstream.features.sets import DEFAULT
from fraudstream.kafka.topics import Cluster
from fraudstream.schema.timestamps import to_us

_AT_ONCE = 5_000
_WAIT_S = 0.1
_PROBE_S = 0.05
# Of what comes at once, so many tell how far the stream has come: one in twenty is late.
_LOOKED_AT = 10
# So many scores that came with their features, one in a hundred.
_KEPT = 3_000
# Of a score that is written without its features.
_WITHOUT = b'"features":null'


class NoScores(TimeoutError):
    """Scores did not come in time."""


class Flow:
    """Reads the topic of scores from its end on, in a thread.

    Attributes
    ----------
    a_second
        How many scores were appended in each second since the epoch.
    versions
        Of models that were seen to serve; a sample.
    """

    def __init__(self, cluster: Cluster, topic: str, partitions: int) -> None:
        self.a_second: Counter[int] = Counter()
        self.versions: set[str] = set()
        self._last: set[str] = set()
        self._features: deque[list[float | None]] = deque(maxlen=_KEPT)
        self._reached_ms = 0
        self._appended_ms = 0
        self._over = threading.Event()
        self._consumer = Consumer(
            cluster.config(
                group_id="faults-flow",
                enable_auto_commit=False,
                isolation_level="read_committed",
                reconnect_backoff_max_ms=500,
            )
        )
        self._consumer.assign([TopicPartition(topic, n, OFFSET_END) for n in range(partitions)])
        self._thread = ThreadPoolExecutor(1, "flow")
        self._watching = self._thread.submit(self._watch)

    def await_score_of(self, made_ms: int, within_s: float, alive: Callable[[], None]) -> int:
        """Wait for the score of a transaction that was made at a moment, or after it.

        Parameters
        ----------
        made_ms
            The moment, milliseconds since the epoch.
        within_s
            How long to wait.
        alive
            Called again and again meanwhile.

        Returns
        -------
        int
            When such a score was appended first, milliseconds since the epoch.

        Raises
        ------
        NoScores
            If none comes in time.
        """
        deadline = time.monotonic() + within_s
        while self._reached_ms < made_ms:
            self._require_well()
            if time.monotonic() > deadline:
                raise NoScores(f"no transaction was scored that came after {made_ms}")
            alive()
            time.sleep(_PROBE_S)
        return self._appended_ms

    def await_last(self, name: str, partitions: int, within_s: float) -> None:
        """Wait for the scores of the last transactions of a load.

        Raises
        ------
        NoScores
            If they do not come in time.
        """
        wanted = {f"{LAST}{name}-{partition}" for partition in range(partitions)}
        deadline = time.monotonic() + within_s
        while not wanted <= self._last:
            self._require_well()
            if time.monotonic() > deadline:
                raise NoScores(f"these were not scored: {sorted(wanted - self._last)}")
            time.sleep(_PROBE_S)

    def features(self) -> npt.NDArray[np.float64]:
        """Return features of the latest transactions, as they were served, shape (n, features).

        Few scores have them; those of some minutes are kept.
        """
        return np.array(list(self._features), dtype=np.float64)

    def stop(self) -> None:
        """Read no more."""
        self._over.set()
        self._thread.shutdown()
        self._consumer.close()

    def _require_well(self) -> None:
        if self._watching.done():
            self._watching.result()

    def _watch(self) -> None:
        while not self._over.is_set():
            # A broker that is away is an error among the messages; it comes back.
            came = self._consumer.consume(_AT_ONCE, timeout=_WAIT_S)
            self._take([message for message in came if message.error() is None])

    def _take(self, messages: list[Message]) -> None:
        for message in messages:
            self.a_second[message.timestamp()[1] // 1000] += 1
            value = message.value() or b""
            if value.startswith(b'{"transaction_id":"' + LAST.encode()):
                self._last.add(orjson.loads(value)["transaction_id"])
            if _WITHOUT not in value:
                served = orjson.loads(value)["features"]
                self._features.append([served[name] for name in DEFAULT.names])
        for message in messages[-_LOOKED_AT:]:
            score = orjson.loads(message.value() or b"")
            self.versions.add(score["model_version"])
            made_ms = to_us(datetime.fromisoformat(score["event_time"])) // 1000
            if made_ms > self._reached_ms:
                self._appended_ms = message.timestamp()[1]
                self._reached_ms = made_ms
