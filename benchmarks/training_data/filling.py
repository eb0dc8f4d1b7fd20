"""Fill the topics as the producer would, once: a folder that is filled is used again."""

from collections.abc import Callable
from datetime import UTC
from datetime import datetime
import json
from pathlib import Path
import threading

from fraudstream.kafka.reading import spans
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.producer.agenda import Agenda
from fraudstream.producer.agenda import FullSpeed
from fraudstream.producer.agenda import first_events
from fraudstream.producer.delivery import Delivery
from fraudstream.producer.sending import send
from fraudstream.producer.traffic import Traffic
from fraudstream.simulator.stream import Simulation
from fraudstream.simulator.world import WorldSpec

START = datetime(2025, 1, 1, tzinfo=UTC)
PARTITIONS = 4
#: Beside the broker's data: what the topics were filled with.
_FILLED = "filled.json"


class NotFilled(ValueError):
    """The topics do not hold what they were to be filled with."""


def is_filled(folder: Path, rows: int, cards: int) -> bool:
    """Return whether a folder's topics are filled with just that many transactions and cards.

    Raises
    ------
    NotFilled
        If they are filled with something else, or half: the folder has to be another, or deleted.
    """
    if not folder.exists() or not any(folder.iterdir()):
        return False
    wanted = {"rows": rows, "cards": cards}
    note = folder / _FILLED
    found = json.loads(note.read_text()) if note.exists() else "a fill that was not finished"
    if found != wanted:
        raise NotFilled(f"{folder}: expected {wanted}, got {found}; delete it, or name another")
    return True


def fill(
    folder: Path,
    cluster: Cluster,
    topics: Topics,
    rows: int,
    cards: int,
    advance: Callable[[float], None],
) -> None:
    """Send the first `rows` transactions of a simulated world, and the labels due until then.

    Documents are drawn, checked, encoded and spread over the partitions by the producer's own
    code.

    Parameters
    ----------
    folder
        Of the broker; notes there what the topics hold.
    cluster, topics
        Where to send; the topics are made.
    rows, cards
        How many transactions, and how many cards make them.
    advance
        Is called with the number of transactions sent since the last call.

    Raises
    ------
    NotFilled
        If the broker did not take every record.
    """
    cluster.create_topics(topics, PARTITIONS)
    stop = threading.Event()
    delivery = Delivery(cluster, topics, lambda: datetime.now(UTC), stop)
    traffic = Traffic(Simulation(WorldSpec(cards=cards), START))

    def sent(part: Agenda) -> None:
        advance(int(part.is_event.sum()))

    send(first_events(traffic.days(), rows), FullSpeed(), delivery, stop, sent=sent)
    account = delivery.close()
    if account.failed or account.acknowledged.get(topics.transactions) != rows:
        raise NotFilled(f"expected {rows:,} transactions acknowledged, got {account}")
    (folder / _FILLED).write_text(json.dumps({"rows": rows, "cards": cards}))


def held(cluster: Cluster, topic: str) -> int:
    """Return how many offsets a topic spans."""
    return sum(span.high - span.low for span in spans(cluster, topic))
