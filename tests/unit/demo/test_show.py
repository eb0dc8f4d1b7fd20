"""The simulation is placed so that no live transaction is dated in the future."""

from datetime import UTC
from datetime import datetime
from datetime import timedelta

import pytest

from fraudstream.demo.show import Plan
from fraudstream.demo.show import simulation_start

_NOW = datetime(2026, 3, 1, 0, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize("live_s", [1.0, 90.0, 1_000.0, None])
@pytest.mark.parametrize("cards", [100, 5_000, 100_000])
def test_the_live_traffic_ends_before_now(live_s: float | None, cards: int) -> None:
    plan = Plan(cards, 0, timedelta(days=45), 200.0, live_s)
    history_end = simulation_start(plan, _NOW) + plan.history
    events = 200.0 * (3_600.0 if live_s is None else live_s)
    # A fifth fewer transactions a day than usual make simulated time run that much faster.
    assert history_end + timedelta(days=events / (cards * 2.5 * 0.8)) < _NOW


def test_the_simulation_starts_at_midnight() -> None:
    start = simulation_start(Plan(5_000, 0, timedelta(days=45), 200.0, 90.0), _NOW)
    assert (start.hour, start.minute, start.second, start.microsecond) == (0, 0, 0, 0)
