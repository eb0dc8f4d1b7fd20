"""Live traffic that is stopped and started sends each entry once, the history first."""

from datetime import UTC
from datetime import datetime
import threading

import numpy as np
import pytest

from fraudstream.producer.agenda import Agenda
from fraudstream.producer.agenda import ConstantRate
from fraudstream.producer.agenda import FullSpeed
from fraudstream.producer.agenda import Kind
from fraudstream.producer.resuming import BadPosition
from fraudstream.producer.resuming import HistoryFirst
from fraudstream.producer.resuming import Position
from fraudstream.producer.resuming import after
from fraudstream.producer.sending import send
from fraudstream.producer.traffic import Traffic
from fraudstream.simulator.stream import Simulation
from fraudstream.simulator.world import WorldSpec
from unit.producer.recorders import RecordingSink

START = datetime(2026, 1, 1, tzinfo=UTC)
DAY_US = 86_400_000_000


@pytest.fixture
def traffic():
    return Traffic(Simulation(WorldSpec(cards=50), START))


def test_what_follows_a_position_in_a_day_is_what_was_not_sent(traffic):
    day = traffic.day(2)
    half = int(day.due_us[len(day) // 2])
    [rest] = after([day], half)
    assert len(rest)
    assert rest.due_us.min() > half
    assert len(rest) + int((day.due_us <= half).sum()) == len(day)


def test_without_a_position_everything_is_sent(traffic):
    day = traffic.day(0)
    [rest] = after([day], None)
    assert len(rest) == len(day)


def test_a_history_is_sent_at_once_and_what_follows_it_at_the_rate():
    due = np.array([0, 10, 20, 30])
    part = Agenda.of(None, {Kind.TRANSACTION: (due, np.arange(4))})
    pace = HistoryFirst(ConstantRate(2), until_us=15)
    assert pace.due_s(part).tolist() == [0.0, 0.0, 0.0, 0.5]
    later = Agenda.of(None, {Kind.TRANSACTION: (due + 100, np.arange(4))})
    assert pace.due_s(later).tolist() == [1.0, 1.5, 2.0, 2.5]


def test_a_position_is_on_disk_at_most_once_a_second_and_when_it_is_kept(tmp_path):
    now = [0.0]
    file = tmp_path / "position"
    position = Position(file, clock=lambda: now[0])
    position.note(1_000_000)
    position.note(2_000_000)
    assert Position(file).reached_us == 1_000_000
    now[0] = 1.5
    position.note(3_000_000)
    assert Position(file).reached_us == 3_000_000
    position.note(4_000_000)
    position.keep()
    assert Position(file).reached_us == 4_000_000
    assert [each.name for each in tmp_path.iterdir()] == ["position"]


def test_nothing_is_kept_where_nothing_was_sent(tmp_path):
    Position(tmp_path / "position").keep()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-01T00:00:00", "\xff"])
def test_a_file_that_holds_no_position_is_refused_with_what_to_do(text, tmp_path):
    file = tmp_path / "position"
    file.write_bytes(text.encode("latin-1"))
    with pytest.raises(BadPosition, match=r"expected a time such as .* remove it to begin"):
        Position(file)


def test_two_runs_send_together_what_one_run_sends(traffic, tmp_path):
    days = [traffic.day(number) for number in range(3)]
    whole = RecordingSink()
    send(days, FullSpeed(), whole, threading.Event())

    halves = RecordingSink()
    stop = threading.Event()

    def sent(part):
        if len(part):
            position.note(int(part.due_us[-1]))
        if len(halves.taken) > len(whole.taken) // 2:
            stop.set()

    position = Position(tmp_path / "position", clock=lambda: 0.0)
    send(days, FullSpeed(), halves, stop, sent=sent)
    position.keep()
    assert 0 < len(halves.taken) < len(whole.taken)
    reached_us = Position(tmp_path / "position").reached_us
    send(after(days, reached_us), FullSpeed(), halves, threading.Event())
    assert halves.taken == whole.taken
