"""A world is as large as its specification says and varied enough to hide fraud in."""

import numpy as np
import pytest

from fraudstream.simulator.places import CARD_PRESENT
from fraudstream.simulator.places import CHANNELS
from fraudstream.simulator.places import ONLINE
from fraudstream.simulator.stream import Batch
from fraudstream.simulator.stream import Simulation
from fraudstream.simulator.world import EARLIEST_DAY
from fraudstream.simulator.world import Purpose
from fraudstream.simulator.world import WorldError
from fraudstream.simulator.world import WorldSpec
from fraudstream.simulator.world import build_world
from fraudstream.simulator.world import random_stream


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cards": 9}, "cards: expected 10"),
        ({"merchants": 49}, "merchants: expected 50"),
        ({"seed": -1}, "seed: expected 0"),
        ({"transactions_per_card_per_day": 0.0}, "transactions_per_card_per_day: expected more"),
        ({"geo_anomaly_rate": -0.1}, "fraud rates: expected each"),
        ({"card_testing_rate": 0.3}, "fraud rates: expected each"),
    ],
)
def test_an_impossible_specification_is_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(WorldError, match=message):
        WorldSpec(**change)


def test_a_day_too_long_before_the_start_is_refused() -> None:
    with pytest.raises(WorldError, match=f"expected at least {EARLIEST_DAY}"):
        random_stream(0, Purpose.TRIPS, EARLIEST_DAY - 1)


@pytest.mark.parametrize("cards", [10, 300, 20_000])
def test_worlds_of_any_size_have_every_kind_of_merchant_in_every_city(cards: int) -> None:
    world = build_world(WorldSpec(cards=cards))
    assert len(world.cards) == cards
    assert len(world.merchants) == world.spec.merchant_count
    for city in range(len(world.cities)):
        here = world.merchants.channel[world.merchants.city == city]
        assert {0, 2} <= set(here.tolist())
    assert (world.merchants.channel == ONLINE).any()


def test_habits_fit_the_home(simulation: Simulation) -> None:
    cards, merchants = simulation.world.cards, simulation.world.merchants
    assert (merchants.city[cards.usual_shops] == cards.city[:, None]).all()
    assert (merchants.channel[cards.usual_shops] == CARD_PRESENT).all()
    assert (merchants.channel[cards.usual_online] == ONLINE).all()


def test_popularity_and_activity_are_heavy_tailed(simulation: Simulation, month: Batch) -> None:
    per_merchant = np.sort(np.bincount(month.merchant, minlength=1_000))[::-1]
    assert per_merchant[:100].sum() > 0.25 * per_merchant.sum()
    per_card = np.bincount(month.card, minlength=5_000)
    assert per_card.max() > 5 * np.median(per_card)


def test_the_number_of_transactions_is_the_one_asked_for(month: Batch) -> None:
    assert len(month) / 5_000 / 30 == pytest.approx(2.52, abs=0.15)


def test_honest_customers_do_what_makes_fraud_hard_to_see(
    simulation: Simulation, month: Batch
) -> None:
    honest = month.take(~month.is_fraud)
    world = simulation.world
    home = world.cities.country[world.cards.city[honest.card]]
    abroad = (honest.country != home) & (honest.channel == CARD_PRESENT)
    assert 0.01 < abroad.mean() < 0.15
    hour = honest.event_time_us // 3_600_000_000 % 24
    assert 0.03 < (hour < 5).mean() < 0.3
    assert (honest.amount > 5 * np.median(honest.amount)).mean() > 0.03
    assert {CHANNELS[code] for code in np.unique(honest.channel)} == set(CHANNELS)
    # Devices that the card showed for the first time in the second half of the month.
    middle = len(honest) // 2
    online = honest.device >= 0
    pairs = honest.card * 2**48 + honest.device
    early = np.unique(pairs[:middle][online[:middle]])
    late = np.unique(pairs[middle:][online[middle:]])
    assert np.isin(late, early, invert=True).sum() > month.is_fraud.sum() / 2


def test_purchases_are_made_where_the_holder_is(simulation: Simulation, month: Batch) -> None:
    """Between two honest uses in person nobody travels faster than a plane."""
    world = simulation.world
    rows = np.flatnonzero(~month.is_fraud & (month.channel != ONLINE))
    rows = rows[np.lexsort((month.event_time_us[rows], month.card[rows]))]
    city = world.merchants.city[month.merchant[rows]]
    latitude = np.radians(world.cities.latitude[city])
    longitude = np.radians(world.cities.longitude[city])
    angle = (
        np.sin(np.diff(latitude) / 2) ** 2
        + np.cos(latitude[1:]) * np.cos(latitude[:-1]) * np.sin(np.diff(longitude) / 2) ** 2
    )
    distance_km = 2 * 6371 * np.arcsin(np.sqrt(angle))
    hours = np.diff(month.event_time_us[rows]) / 3_600e6
    same = np.diff(month.card[rows]) == 0
    moved = same & (distance_km > 0)
    assert moved.sum() > 100
    assert (distance_km[moved] / hours[moved]).max() < 1_500
