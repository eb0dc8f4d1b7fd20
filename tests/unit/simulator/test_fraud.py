"""Each pattern does what its docstring says, at the rate that is set."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC
from datetime import datetime
from typing import Any

import numpy as np
import pytest

from fraudstream.simulator.behaviour import typical_amounts
from fraudstream.simulator.events import DAY_US
from fraudstream.simulator.events import Events
from fraudstream.simulator.events import Pattern
from fraudstream.simulator.fraud import CLONE_MIN_KM
from fraudstream.simulator.fraud import LONGEST_DAYS
from fraudstream.simulator.fraud import account_takeover
from fraudstream.simulator.fraud import card_testing
from fraudstream.simulator.fraud import city_distances_km
from fraudstream.simulator.fraud import geo_anomaly
from fraudstream.simulator.fraud import merchant_collusion
from fraudstream.simulator.places import ATM
from fraudstream.simulator.places import ONLINE
from fraudstream.simulator.stream import Batch
from fraudstream.simulator.stream import Simulation
from fraudstream.simulator.world import World
from fraudstream.simulator.world import WorldSpec
from fraudstream.simulator.world import build_world

START = datetime(2026, 3, 1, tzinfo=UTC)
RATES = {
    Pattern.ACCOUNT_TAKEOVER: "account_takeover_rate",
    Pattern.CARD_TESTING: "card_testing_rate",
    Pattern.MERCHANT_COLLUSION: "merchant_collusion_rate",
    Pattern.GEO_ANOMALY: "geo_anomaly_rate",
}
NO_FRAUD = WorldSpec(
    cards=1_000,
    account_takeover_rate=0.0,
    card_testing_rate=0.0,
    merchant_collusion_rate=0.0,
    geo_anomaly_rate=0.0,
)


@pytest.fixture(scope="module")
def world() -> World:
    # A higher rate makes sure that campaigns begin on every day that a test looks at.
    return build_world(WorldSpec(cards=20_000, seed=3, merchant_collusion_rate=0.03))


@pytest.fixture(scope="module")
def honest() -> Events:
    """One honest day of that world."""
    batch = Simulation(replace(NO_FRAUD, cards=20_000, seed=3), START).day(0)
    return Events(
        batch.event_time_us - batch.event_time_us[0] // DAY_US * DAY_US,
        batch.card,
        batch.merchant,
        batch.amount,
        batch.device,
        batch.pattern,
    )


def rate(pattern: Pattern, value: float) -> dict[str, Any]:
    return {RATES[pattern]: value}


def shares(spec: WorldSpec, days: int) -> np.ndarray:
    simulation = Simulation(spec, START)
    counts = sum(np.bincount(simulation.day(day).pattern, minlength=5) for day in range(days))
    return np.asarray(counts) / np.sum(counts)


@pytest.mark.parametrize("pattern", RATES)
def test_a_rate_of_zero_switches_off_its_pattern_only(pattern: Pattern) -> None:
    spec = replace(
        WorldSpec(cards=1_000, seed=2),
        account_takeover_rate=0.01,
        card_testing_rate=0.01,
        merchant_collusion_rate=0.01,
        geo_anomaly_rate=0.01,
    )
    found = shares(replace(spec, **rate(pattern, 0.0)), 12)
    for other in RATES:
        assert (found[other] > 0) == (other != pattern)


def test_without_fraud_the_honest_transactions_are_the_same() -> None:
    with_fraud = Simulation(replace(NO_FRAUD, account_takeover_rate=0.02), START).day(3)
    without = Simulation(NO_FRAUD, START).day(3)
    assert not without.is_fraud.any()
    honest = with_fraud.take(~with_fraud.is_fraud)
    assert (honest.event_time_us == without.event_time_us).all()
    assert (honest.amount == without.amount).all()


@pytest.mark.parametrize("pattern", RATES)
def test_a_rate_is_the_share_of_all_transactions(pattern: Pattern) -> None:
    found = shares(replace(NO_FRAUD, cards=20_000, **rate(pattern, 0.02)), 8)
    assert found[pattern] == pytest.approx(0.02, rel=0.3)


def test_the_default_share_of_fraud_is_about_eight_in_a_thousand() -> None:
    assert shares(WorldSpec(cards=20_000), 10)[1:].sum() == pytest.approx(0.008, rel=0.25)


@pytest.mark.parametrize(
    ("draw", "pattern"),
    [
        (account_takeover, Pattern.ACCOUNT_TAKEOVER),
        (card_testing, Pattern.CARD_TESTING),
        (merchant_collusion, Pattern.MERCHANT_COLLUSION),
    ],
)
@pytest.mark.parametrize("day", [-20, 0, 7])
def test_no_episode_outlives_its_bound(
    world: World, draw: Callable[[World, int], Events], pattern: Pattern, day: int
) -> None:
    events = draw(world, day)
    assert len(events) > 0
    assert (events.time_us // DAY_US >= day).all()
    assert (events.time_us // DAY_US <= day + LONGEST_DAYS[pattern]).all()
    assert (events.pattern == pattern).all()


def test_a_taken_over_account_buys_online_from_new_devices_above_the_cards_normal(
    world: World,
) -> None:
    events = account_takeover(world, 0)
    assert (world.merchants.channel[events.merchant] == ONLINE).all()
    victims, purchases = np.unique(events.card, return_counts=True)
    assert purchases.min() >= 2
    shops = {card: set(events.merchant[events.card == card].tolist()) for card in victims.tolist()}
    assert np.mean([len(each) for each in shops.values()]) < 3
    normal = typical_amounts(world, events.card, events.merchant, np.zeros(len(events)))
    assert 1.7 < np.median(events.amount / normal) < 4.0
    assert np.quantile(events.amount / normal, 0.99) < 40
    shown = events.device >= 0
    # The lowest bits tell the kind of device; 3 is a thief's.
    assert (events.device[shown] & 3 == 3).all()


def test_card_testing_tries_many_cards_at_few_merchants_within_minutes(world: World) -> None:
    events = card_testing(world, 0)
    small = events.take(events.amount < 10)
    merchant = np.bincount(small.merchant).argmax()
    there = small.take(small.merchant == merchant)
    assert len(np.unique(there.card)) >= 8
    gaps = np.diff(np.sort(there.time_us)) / 1e6
    assert np.median(gaps) < 120
    assert np.median(small.amount) < 4
    large = events.take(events.amount >= 25)
    assert 0.02 < len(large) / len(events) < 0.3
    assert np.isin(large.card, small.card).mean() > 0.9


def test_a_crooked_merchant_charges_strangers_for_weeks_in_its_usual_range(world: World) -> None:
    events = merchant_collusion(world, 0)
    assert (world.merchants.channel[events.merchant] != ATM).all()
    cards = world.cards
    regular = (cards.usual_shops[events.card] == events.merchant[:, None]).any(axis=1)
    regular |= (cards.usual_online[events.card] == events.merchant[:, None]).any(axis=1)
    assert regular.mean() < 0.001
    ratio = events.amount / world.merchants.amount[events.merchant]
    assert 1.0 < np.median(ratio) < 2.0
    lasted = [
        np.ptp(events.time_us[events.merchant == merchant]) / DAY_US
        for merchant in np.unique(events.merchant)
    ]
    assert 12 < np.median(lasted) < 35


def test_shops_in_collusion_charge_cards_of_their_own_city(world: World) -> None:
    events = merchant_collusion(world, 1)
    city = world.merchants.city[events.merchant]
    lived_in = np.isin(city, world.cards.city)
    shop = lived_in & (world.merchants.channel[events.merchant] != ONLINE)
    assert shop.any()
    assert (world.cards.city[events.card[shop]] == city[shop]).all()


def test_a_clone_is_used_in_person_far_from_where_the_card_was_hours_before(
    world: World, honest: Events
) -> None:
    events = geo_anomaly(world, 0, honest)
    assert len(events) > 20
    assert (world.merchants.channel[events.merchant] != ONLINE).all()
    distance = city_distances_km(world)
    for row in range(len(events)):
        before = (honest.card == events.card[row]) & (honest.time_us < events.time_us[row])
        before &= world.merchants.channel[honest.merchant] != ONLINE
        assert before.any()
        cities = world.merchants.city[honest.merchant[before]]
        away = distance[world.merchants.city[events.merchant[row]], cities]
        assert away.max() >= CLONE_MIN_KM
        assert events.time_us[row] - honest.time_us[before].min() < 2 * DAY_US


def test_no_card_is_cloned_on_a_day_on_which_none_is_used(world: World, honest: Events) -> None:
    assert len(geo_anomaly(world, 0, honest.take(np.array([], dtype=np.int64)))) == 0


def test_the_honest_use_of_a_victims_card_goes_on(month: Batch) -> None:
    victims = np.unique(month.card[month.is_fraud])
    honest = np.unique(month.card[~month.is_fraud])
    assert np.isin(victims, honest).mean() > 0.95


def test_fraud_does_not_start_late_because_the_simulation_starts(month: Batch) -> None:
    """Campaigns of weeks must be running on the first day already."""
    day = (month.event_time_us - month.event_time_us[0]) // DAY_US
    first_week = (month.pattern[day < 7] > 0).mean()
    last_week = (month.pattern[day >= 23] > 0).mean()
    assert 0.4 < first_week / last_week < 2.5
