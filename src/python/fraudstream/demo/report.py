"""What became of the traffic: computed from what the topics hold, never from an app's counters."""

import base64
from collections.abc import Collection
from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from fraudstream.kafka.reading import Records
from fraudstream.kafka.reading import read
from fraudstream.kafka.reading import spans
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics

#: How many alerts a report shows, and what it tells of each besides its reasons.
_ALERTS_TOLD = 3
_TOLD_OF_ALERT = ("transaction_id", "event_time", "card_id", "merchant_id", "amount", "score")


def transaction_key(value: bytes | None, partition: int, offset: int) -> str:
    """Return what identifies a record of the topic of transactions.

    That is its ``transaction_id``, so that a transaction sent twice counts once; a record that
    has none, because it is broken, is known by its place.

    Examples
    --------
    >>> transaction_key(b'{"transaction_id": "t-1"}', 0, 7)
    't-1'
    >>> transaction_key(b"?", 0, 7)
    'partition 0, offset 7'
    """
    place = f"partition {partition}, offset {offset}"
    if value is None:
        return place
    try:
        document = orjson.loads(value)
    except orjson.JSONDecodeError:
        return place
    found = document.get("transaction_id") if isinstance(document, dict) else None
    return found if isinstance(found, str) else place


@dataclass
class Ledger:
    """Every transaction that was produced, and what came of it.

    Records may be added in any order and in any pieces; those of scores each once, because a
    second is told as a duplicate. Conservation means that `transactions` less those in `scores`
    and `refused` is empty.

    Attributes
    ----------
    transactions
        Key of each transaction (see `transaction_key`), and the append time of its first record
        in milliseconds since the epoch.
    scores
        Transaction id of each score, and the append time of its first record.
    repeated
        Transaction ids that have more than one score.
    refused
        Keys of the transactions that ended in the dead letters. What was refused before it was
        ever in the topic of transactions, or came from another topic, is not among them.
    alerts
        The first alert (a ``prediction.v3`` document) of each alerted transaction id, in the
        order in which they came.
    model
        Name and version of the model that gave the last score; ``None`` before the first.
    """

    transactions: dict[str, int] = field(default_factory=dict)
    scores: dict[str, int] = field(default_factory=dict)
    repeated: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    alerts: dict[str, dict[str, Any]] = field(default_factory=dict)
    model: tuple[str, str] | None = None
    _open: set[str] = field(default_factory=set)

    def add_transactions(self, records: Records) -> None:
        """Enter records of the topic of transactions."""
        for value, partition, offset, appended_ms in _rows(records):
            key = transaction_key(value, partition, offset)
            known = self.transactions.get(key)
            if known is None or appended_ms < known:
                self.transactions[key] = appended_ms
            if key not in self.scores and key not in self.refused:
                self._open.add(key)

    def add_scores(self, records: Records) -> None:
        """Enter records of the topic of scores; those of a challenger are left out."""
        for value, _, _, appended_ms in _rows(records):
            document = orjson.loads(value or b"null")
            if document.get("role") == "challenger":
                continue
            key = document["transaction_id"]
            known = self.scores.get(key)
            if known is not None:
                self.repeated.add(key)
            if known is None or appended_ms < known:
                self.scores[key] = appended_ms
            self._open.discard(key)
            self.model = (document["model_name"], document["model_version"])

    def add_dead_letters(self, records: Records, transactions_topic: str) -> None:
        """Enter records of the topic of dead letters; those of other topics are left out."""
        for value, *_ in _rows(records):
            letter = orjson.loads(value or b"null")
            if letter["topic"] != transactions_topic or letter["offset"] is None:
                continue
            original = base64.b64decode(letter["original"])
            key = transaction_key(original, letter["partition"], letter["offset"])
            self.refused.add(key)
            self._open.discard(key)

    def add_alerts(self, records: Records) -> None:
        """Enter records of the topic of alerts."""
        for value, *_ in _rows(records):
            document = orjson.loads(value or b"null")
            self.alerts.setdefault(document["transaction_id"], document)

    @property
    def lag(self) -> int:
        """How many transactions have neither a score nor a dead letter yet."""
        return len(self._open)

    def latencies_ms(self, keys: Iterable[str]) -> npt.NDArray[np.int64]:
        """Return, for each scored transaction of `keys`, the time from its append to its score's.

        Those without a score are passed over.
        """
        return np.array(
            [
                self.scores[key] - self.transactions[key]
                for key in keys
                if key in self.scores and key in self.transactions
            ],
            dtype=np.int64,
        )


def _rows(records: Records) -> Iterable[tuple[bytes | None, int, int, int]]:
    return zip(
        records.values,
        records.partition.tolist(),
        records.offset.tolist(),
        records.appended_ms.tolist(),
        strict=True,
    )


def read_ledger(cluster: Cluster, topics: Topics) -> Ledger:
    """Return the ledger of all that the topics hold now.

    Raises
    ------
    UnknownTopic, BrokerUnreachable, TopicChanged
        See `fraudstream.kafka.reading`.
    """
    ledger = Ledger()
    for records in read(cluster, topics.transactions, spans(cluster, topics.transactions)):
        ledger.add_transactions(records)
    for records in read(cluster, topics.scores, spans(cluster, topics.scores)):
        ledger.add_scores(records)
    for records in read(cluster, topics.predicted, spans(cluster, topics.predicted)):
        ledger.add_alerts(records)
    for records in read(cluster, topics.dead_letters, spans(cluster, topics.dead_letters)):
        ledger.add_dead_letters(records, topics.transactions)
    return ledger


class Truth:
    """The simulator's truth of the live traffic, read from a file while it is being written.

    Parameters
    ----------
    file
        JSON lines with ``transaction_id`` and ``is_fraud``; it need not exist yet.

    Attributes
    ----------
    is_fraud
        What each transaction is, as far as `refresh` has read.
    """

    def __init__(self, file: Path) -> None:
        self.is_fraud: dict[str, bool] = {}
        self._file = file
        self._position = 0

    def refresh(self) -> None:
        """Read the lines written since the last call; a line that is not finished waits."""
        if not self._file.exists():
            return
        with self._file.open("rb") as lines:
            lines.seek(self._position)
            for line in lines:
                if not line.endswith(b"\n"):
                    return
                self._position += len(line)
                told = orjson.loads(line)
                self.is_fraud[told["transaction_id"]] = told["is_fraud"]


def precision_and_recall(
    alerted: Collection[str], is_fraud: Mapping[str, bool]
) -> tuple[float | None, float | None]:
    """Return the share of alerts that are frauds, and the share of frauds that were alerted.

    Parameters
    ----------
    alerted
        Transaction ids; those that `is_fraud` does not know are left out.
    is_fraud
        The truth of each transaction that counts.

    Returns
    -------
    precision, recall
        ``None`` where there is nothing to divide by: no alert, no fraud.

    Examples
    --------
    >>> precision_and_recall({"a", "b", "z"}, {"a": True, "b": False, "c": True})
    (0.5, 0.5)
    >>> precision_and_recall(set(), {"a": False})
    (None, None)
    """
    judged = [key for key in alerted if key in is_fraud]
    caught = sum(is_fraud[key] for key in judged)
    frauds = sum(is_fraud.values())
    return (caught / len(judged) if judged else None, caught / frauds if frauds else None)


def percentiles_ms(latencies_ms: npt.NDArray[np.int64]) -> dict[str, float | None]:
    """Return the median and the 99th percentile; ``None`` where nothing was scored.

    Examples
    --------
    >>> percentiles_ms(np.array([100, 200, 300]))
    {'p50': 200.0, 'p99': 298.0}
    """
    if not len(latencies_ms):
        return {"p50": None, "p99": None}
    p50, p99 = np.percentile(latencies_ms, [50, 99])
    return {"p50": round(float(p50), 1), "p99": round(float(p99), 1)}


def report(
    ledger: Ledger,
    is_fraud: Mapping[str, bool],
    *,
    average_precision: float,
    seconds: Mapping[str, float],
    history_transactions: int,
    first_alert_s: float | None,
) -> dict[str, Any]:
    """Return the report of a whole run, ready for JSON.

    ``transactions_produced``, ``transactions_scored``, ``dead_letters``, ``lost`` and
    ``duplicates`` count distinct transactions of history and live traffic together, and
    ``produced = scored + dead_letters + lost``. ``alerts``, ``alert_precision``,
    ``alert_recall`` and ``latency_ms`` are of the live traffic only: the transactions that
    `is_fraud` knows. A fraud that was lost counts as missed. ``latest_alerts`` are some of these,
    the newest first, with their reasons in words.

    Parameters
    ----------
    ledger
        Of everything, as `read_ledger` gives it.
    is_fraud
        The simulator's truth of the live traffic.
    average_precision
        Of the model that served, on its validation data.
    seconds
        How long each stage took.
    history_transactions
        How many distinct transactions there were before the live traffic.
    first_alert_s
        Seconds from the start of the demo to the first alert on live traffic that it showed;
        ``None`` if there was none.
    """
    scored = ledger.transactions.keys() & ledger.scores.keys()
    refused = (ledger.transactions.keys() & ledger.refused) - scored
    live_alerts = [key for key in ledger.alerts if key in is_fraud]
    precision, recall = precision_and_recall(live_alerts, is_fraud)
    name, version = ledger.model or (None, None)
    return {
        "history_transactions": history_transactions,
        "transactions_produced": len(ledger.transactions),
        "transactions_scored": len(scored),
        "dead_letters": len(refused),
        "lost": len(ledger.transactions) - len(scored) - len(refused),
        "duplicates": len(ledger.repeated),
        "alerts": len(live_alerts),
        "alert_precision": precision,
        "alert_recall": recall,
        "model": {"name": name, "version": version, "average_precision": average_precision},
        "latency_ms": percentiles_ms(ledger.latencies_ms(is_fraud)),
        "first_alert_s": first_alert_s,
        "latest_alerts": [
            {
                **{name: ledger.alerts[key][name] for name in _TOLD_OF_ALERT},
                "is_fraud": is_fraud[key],
                "reasons": [reason["sentence"] for reason in ledger.alerts[key]["reasons"]],
            }
            for key in reversed(live_alerts[-_ALERTS_TOLD:])
        ],
        "seconds": {stage: round(taken, 1) for stage, taken in seconds.items()},
    }
