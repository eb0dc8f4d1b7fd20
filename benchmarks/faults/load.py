"""The load: transactions at a steady rate, some twice, some late, some of them poison.

Event time is the clock's, so that ten seconds of it, within which merchants' histories are not
seen by anybody, are ten seconds. What is sent waits for the broker: a broker that is away makes a
gap that is caught up afterwards, not a heap of records that reach one partition long before
another (README, "Limits known today").
"""

from collections import Counter
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
import random
import time
from typing import Any

import click
from confluent_kafka import Producer
import orjson

from fraudstream.cli.console import run
from fraudstream.cli.stopping import stop_requests
from fraudstream.kafka.options import kafka_options
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.schema.timestamps import from_us

#: The share of transactions of which a label follows.
LABELLED = 0.05
#: The last transaction of each partition is called like this, with the partition's number.
LAST = "last-"

_SHARES = {"transactions": 0.89, "duplicates": 0.05, "late": 0.05, "poison": 0.01}
_TICK_S = 0.05
# After a gap, so many times the rate.
_CATCHING_UP = 2.0
_REMEMBERED = 20_000
_LATE_US = (60_000_000, 6 * 3_600_000_000)
_LABEL_AFTER_US = 20_000_000
_YEAR_US = 365 * 86_400_000_000
_ACKNOWLEDGED_S = 600.0
# Of Kafka's client: the key decides.
_BY_KEY = -1
_CHANNELS = ("card_present", "online", "atm")
_COUNTRIES = ("BE", "FR", "DE", "NL", "LU")


@dataclass(frozen=True)
class Message:
    """A record to send.

    Attributes
    ----------
    kind
        What a count of it goes under: ``transactions``, ``duplicates``, ``late``, ``poison`` or
        ``labels``.
    key, value
        As they go to Kafka.
    """

    kind: str
    key: bytes
    value: bytes


class Load:
    """Draws what is sent; equal seeds draw alike, but for the time.

    Parameters
    ----------
    seed, cards
        Of the draw, and how many cards there are. There is a merchant for every five.
    run
        Begins the ids of transactions, which must never come twice by chance.
    """

    def __init__(self, seed: int, cards: int, run: str) -> None:
        self._random = random.Random(seed)
        self._cards = cards
        self._run = run
        self._number = 0
        self._sent: deque[Message] = deque(maxlen=_REMEMBERED)
        self._to_label: deque[tuple[int, dict[str, Any]]] = deque()

    def draw(self, count: int, now_us: int) -> Iterator[Message]:
        """Yield `count` records for the topic of transactions, and the labels that are due.

        Parameters
        ----------
        count
            How many.
        now_us
            The clock, microseconds since the epoch.
        """
        kinds = self._random.choices(list(_SHARES), list(_SHARES.values()), k=count)
        for kind in kinds:
            if kind == "poison":
                yield self._poison(now_us)
            elif kind == "duplicates" and self._sent:
                again = self._random.choice(self._sent)
                yield Message(kind, again.key, again.value)
            else:
                yield self._transaction(now_us, is_late=kind == "late")
        while self._to_label and self._to_label[0][0] <= now_us:
            yield self._label(now_us, self._to_label.popleft()[1])

    def last(self, partition: int, now_us: int) -> Message:
        """Return the last transaction of a partition, to be sent there whatever its key."""
        name = f"{LAST}{self._run}-{partition}"
        # Of a card of its own: no card may have transactions in two partitions.
        document = {**self._document(now_us), "transaction_id": name, "card_id": name}
        return Message("transactions", name.encode(), orjson.dumps(document))

    def _transaction(self, now_us: int, is_late: bool) -> Message:
        time_us = now_us - self._random.randrange(*_LATE_US) * is_late
        document = self._document(time_us)
        value = orjson.dumps(document)
        message = Message(
            "late" if is_late else "transactions", document["card_id"].encode(), value
        )
        self._sent.append(message)
        if self._random.random() < LABELLED:
            self._to_label.append((now_us + _LABEL_AFTER_US, document))
        return message

    def _document(self, time_us: int) -> dict[str, Any]:
        draw = self._random
        card = draw.randrange(self._cards)
        self._number += 1
        return {
            "transaction_id": f"{self._run}-{self._number}",
            "event_time": _told(time_us),
            "card_id": f"card-{card}",
            "merchant_id": f"merchant-{draw.randrange(max(self._cards // 5, 1))}",
            "amount": round(draw.lognormvariate(3.3, 1.0), 2),
            "currency": "EUR",
            "channel": draw.choice(_CHANNELS),
            "latitude": round(draw.gauss(50.8, 0.3), 4),
            "longitude": round(draw.gauss(4.4, 0.5), 4),
            "country": _COUNTRIES[int(draw.random() ** 3 * len(_COUNTRIES))],
            "device_id": f"device-{card}-{int(draw.random() ** 4 * 3)}",
        }

    def _label(self, now_us: int, document: dict[str, Any]) -> Message:
        label = {name: document[name] for name in ("transaction_id", "card_id", "merchant_id")}
        label |= {
            "event_time": document["event_time"],
            "is_fraud": self._random.random() < 0.1,
            "labelled_at": _told(now_us),
            "source": "investigation",
        }
        return Message("labels", document["card_id"].encode(), orjson.dumps(label))

    def _poison(self, now_us: int) -> Message:
        document = self._document(now_us)
        poisons = (
            b"",
            b"\xff\xfe\x00",
            orjson.dumps(document)[:-9],
            b"[" * 2_000,
            orjson.dumps({**document, "amount": "12.50"}),
            orjson.dumps({**document, "card_id": "0" * 16}),
            orjson.dumps({name: document[name] for name in document if name != "merchant_id"}),
            orjson.dumps({**document, "event_time": _told(now_us + _YEAR_US)}),
        )
        return Message("poison", document["card_id"].encode(), self._random.choice(poisons))


def _told(time_us: int) -> str:
    return from_us(time_us).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@click.command()
@kafka_options()
@click.option("--rate", type=float, required=True)
@click.option("--seed", type=int, required=True)
@click.option("--cards", type=int, required=True)
@click.option("--name", required=True, help="Begins the ids of transactions.")
@click.option("--seconds", type=float, default=float("inf"))
def send(
    cluster: Cluster,
    topics: Topics,
    rate: float,
    seed: int,
    cards: int,
    name: str,
    seconds: float,
) -> None:
    """Send the load until told to stop; print as JSON how much of each kind was acknowledged."""
    partitions = cluster.require_topics([topics.transactions])[topics.transactions]
    load = Load(seed, cards, name)
    acknowledged: Counter[str] = Counter()
    producer = Producer(
        cluster.config(
            enable_idempotence=True,
            acks="all",
            compression_type="lz4",
            partitioner="murmur2_random",
            linger_ms=2,
            # Whatever the broker goes through, what was sent once gets there.
            message_timeout_ms=int(_ACKNOWLEDGED_S * 1000),
            reconnect_backoff_max_ms=500,
        )
    )

    def deliver(message: Message, partition: int = _BY_KEY) -> None:
        def told(error: object, record: object) -> None:
            if error is None:
                acknowledged[message.kind] += 1

        topic = topics.labels if message.kind == "labels" else topics.transactions
        producer.produce(topic, message.value, message.key, partition, on_delivery=told)

    began = time.monotonic()
    sent = 0
    with stop_requests() as stop:
        while not stop.wait(_TICK_S):
            passed_s = time.monotonic() - began
            if passed_s >= seconds:
                break
            count = min(int(passed_s * rate) - sent, int(_CATCHING_UP * rate * _TICK_S))
            for message in load.draw(count, time.time_ns() // 1000):
                deliver(message)
            sent += count
            _acknowledge(producer)
    for partition in range(partitions):
        deliver(load.last(partition, time.time_ns() // 1000), partition)
    _acknowledge(producer)
    told = {**acknowledged, "seconds": round(time.monotonic() - began, 1), "sent": sent}
    click.echo(orjson.dumps(told))


def _acknowledge(producer: Producer) -> None:
    if producer.flush(_ACKNOWLEDGED_S):
        raise TimeoutError(f"records were not acknowledged within {_ACKNOWLEDGED_S:.0f} s")


if __name__ == "__main__":
    run(send)
