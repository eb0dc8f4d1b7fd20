"""Simulated traffic goes on where it has stopped."""

from collections.abc import Iterator
from datetime import UTC
from datetime import datetime
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from fraudstream.kafka.reading import Records
from fraudstream.kafka.reading import Span
from fraudstream.kafka.topics import Cluster
from fraudstream.stack import apps
from fraudstream.stack.apps import days_sent
from fraudstream.stack.apps import simulation_start

_START = datetime(2026, 1, 1, tzinfo=UTC)
_NOTHING = np.zeros(0, dtype=np.int64)


def sent(monkeypatch: pytest.MonkeyPatch, *times: str) -> int:
    """Return how many days count as sent when these are the last times of the partitions."""
    values = [f'{{"event_time":"{time}"}}'.encode() for time in times]
    held = [Span(number, 0, 7) for number, _ in enumerate(times)]

    def read(cluster: Cluster, topic: str, within: list[Span]) -> Iterator[Records]:
        assert within == [Span(number, 6, 7) for number, _ in enumerate(times)]
        yield Records(_NOTHING, _NOTHING, _NOTHING, [*values, None])

    monkeypatch.setattr(apps, "spans", lambda cluster, topic: [*held, Span(9, 0, 0)])
    monkeypatch.setattr(apps, "read", read)
    return days_sent(Cluster("nowhere:1"), "t", _START)


def test_an_empty_topic_holds_no_day(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sent(monkeypatch) == 0


def test_a_day_that_has_begun_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sent(monkeypatch, "2026-01-01T00:00:01Z") == 1
    assert sent(monkeypatch, "2026-01-03T12:00:00Z", "2026-01-02T01:00:00Z") == 3


def test_the_first_to_ask_decides_when_the_simulation_began(tmp_path: Path) -> None:
    file = tmp_path / "simulation.json"
    now = datetime(2026, 6, 1, 15, 30, tzinfo=UTC)
    start = simulation_start(file, now)
    assert (start.hour, start.minute) == (0, 0)
    assert now - start > apps.HISTORY + timedelta(days=100)
    assert simulation_start(file, now + timedelta(days=9)) == start
