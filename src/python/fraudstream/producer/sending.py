"""The loop that sends agendas at a pace."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Sequence
import threading
import time
from typing import Any
from typing import Protocol

import numpy as np

from fraudstream.producer.agenda import Agenda
from fraudstream.producer.agenda import Pace

#: Rendered and sent at once. Small enough to stop within a moment, large enough to be fast.
PART = 10_000
# Entries that fall due within this are sent together.
_TICK_S = 0.01
# The longest wait, so that acknowledgements are taken in time.
_WAIT_S = 0.5


class Sink(Protocol):
    """Takes documents, as `Delivery` does."""

    @property
    def failed(self) -> bool:
        """Whether there is no use in sending more."""

    def deliver(self, documents: Sequence[dict[str, Any]], is_label: Sequence[bool]) -> int:
        """Take documents and return how many were taken."""


def send(
    agendas: Iterable[Agenda],
    pace: Pace,
    sink: Sink,
    stop: threading.Event,
    *,
    sent: Callable[[Agenda], None] = lambda part: None,
    limit_s: float | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Send the entries of `agendas` when they are due, until the end or until told to stop.

    Parameters
    ----------
    agendas
        In order; taken one at a time.
    pace
        When entries are due.
    sink
        Takes the documents. When it has failed, nothing more is sent.
    stop
        Ends the run as soon as it is set.
    sent
        Is told of the entries that were taken.
    limit_s
        Ends the run so many seconds after the first entry was ready; ``None`` is never.
    clock
        Seconds that only increase.
    """
    began: float | None = None
    for agenda in agendas:
        for part in agenda.parts(PART):
            due_s = pace.due_s(part)
            documents = part.documents()
            is_label = part.is_label.tolist()
            # What it took to have something to send is not the traffic's time.
            began = clock() if began is None else began
            place = 0
            while place < len(part):
                passed_s = clock() - began
                if stop.is_set() or sink.failed or (limit_s is not None and passed_s >= limit_s):
                    return
                ready = int(np.searchsorted(due_s, passed_s, side="right"))
                if ready > place:
                    taken = sink.deliver(documents[place:ready], is_label[place:ready])
                    sent(part.part(place, place + taken))
                    place += taken
                else:
                    sink.deliver([], [])
                    wait_s = min(max(due_s[place] - passed_s, _TICK_S), _WAIT_S)
                    if limit_s is not None:
                        wait_s = min(wait_s, limit_s - passed_s)
                    stop.wait(wait_s)
