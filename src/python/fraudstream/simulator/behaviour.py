"""What honest customers do on a day.

It holds, on purpose, what makes fraud hard to tell from honesty: trips abroad, new phones and
borrowed devices, merchants never used before, purchases far above the card's normal, night owls,
bursts of small purchases in a game, subscriptions that a merchant bills in one go in the night,
sales that send many strangers to one merchant, and terminals that report their head office's place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fraudstream.simulator.events import DAY_US
from fraudstream.simulator.events import HOUR_US
from fraudstream.simulator.events import NO_DEVICE
from fraudstream.simulator.events import DeviceKind
from fraudstream.simulator.events import Events
from fraudstream.simulator.events import Pattern
from fraudstream.simulator.events import device_code
from fraudstream.simulator.events import whole_us
from fraudstream.simulator.places import QUANTILES
from fraudstream.simulator.places import WEEKDAY_FACTORS
from fraudstream.simulator.world import BURST_SHARE
from fraudstream.simulator.world import SUBSCRIPTION_PERIOD_DAYS
from fraudstream.simulator.world import SUBSCRIPTIONS
from fraudstream.simulator.world import Floats
from fraudstream.simulator.world import Ints
from fraudstream.simulator.world import Market
from fraudstream.simulator.world import Purpose
from fraudstream.simulator.world import World

TRIP_BLOCK_DAYS = 28
LONGEST_TRIP_DAYS = 16.0
TRANSIT_BEFORE_DAYS = 0.25
TRANSIT_AFTER_DAYS = 0.15
"""Around either end of a trip nothing is bought in a shop, so that no holder outruns a plane."""

BIG_PURCHASE = 0.006
"""The share of purchases that lie far above what the merchant's usual spread allows."""

SHARED_HOUSEHOLD = 4
"""One household in so many shares its second device between two cards."""

PROMOTION_DAYS = 5
PROMOTED_SHARE = 0.01
PROMOTION_BOOST = 15.0
MEAN_BURST = 6.0


@dataclass(frozen=True, eq=False)
class Trips:
    """At most one trip of each card that begins in one block of four weeks.

    Attributes
    ----------
    departure, arrival_home : numpy.ndarray of float64, one element a card
        In days since the start; both are inf where the card stays at home.
    destination : numpy.ndarray of int64
        The city visited.
    """

    departure: Floats
    arrival_home: Floats
    destination: Ints


def draw_trips(world: World, block: int) -> Trips:
    """Draw the trips that begin in a block.

    Parameters
    ----------
    world : World
        Who travels and where to.
    block : int
        Block 0 begins at the start; block -1 is the earliest that is needed.
    """
    rng = world.random(Purpose.TRIPS, block)
    count = len(world.cards)
    begin = block * TRIP_BLOCK_DAYS
    departure = begin + rng.uniform(0.0, TRIP_BLOCK_DAYS - LONGEST_TRIP_DAYS / 2, count)
    length = np.minimum(1.0 + rng.exponential(3.5, count), LONGEST_TRIP_DAYS)
    destination = rng.choice(len(world.cities), count, p=world.cities.visitors)
    away = (rng.random(count) < world.cards.wanderlust) & (destination != world.cards.city)
    return Trips(
        np.where(away, departure, np.inf), np.where(away, departure + length, np.inf), destination
    )


def whereabouts(
    world: World, trips: tuple[Trips, ...], card: Ints, time_us: Ints
) -> tuple[Ints, NDArray[np.bool_]]:
    """Return the city in which a holder is at a time, and whether he is on the way.

    Parameters
    ----------
    world : World
        Where the cards live.
    trips : tuple of Trips
        Those that may touch the times.
    card, time_us : numpy.ndarray of int64
        Cards, and microseconds since the start.

    Returns
    -------
    city : numpy.ndarray of int64
    in_transit : numpy.ndarray of bool
    """
    day = time_us / DAY_US
    city = world.cards.city[card]
    in_transit = np.zeros(len(card), dtype=bool)
    for trip in trips:
        departure, arrival = trip.departure[card], trip.arrival_home[card]
        city = np.where((day >= departure) & (day < arrival), trip.destination[card], city)
        for end in (departure, arrival):
            in_transit |= (day > end - TRANSIT_BEFORE_DAYS) & (day < end + TRANSIT_AFTER_DAYS)
    return city, in_transit


def holder_hours(world: World, card: Ints, weekend: bool, uniform: Floats) -> Floats:
    """Return when in the day, in UTC hours, holders buy by their rhythm at home.

    Parameters
    ----------
    world : World
        The rhythms.
    card : numpy.ndarray of int64
        The cards.
    weekend : bool
        Whether it is a Saturday or Sunday.
    uniform : numpy.ndarray of float64
        Numbers from [0, 1), one for each card: the quantiles.

    Returns
    -------
    numpy.ndarray of float64
        Hours in [0, 24).
    """
    position = uniform * (QUANTILES - 1)
    knot = position.astype(np.int64)
    flat = world.quantiles[int(weekend)].ravel()
    index = world.cards.rhythm[card] * QUANTILES + knot
    low = flat[index]
    hours = low + (flat[index + 1] - low) * (position - knot)
    return (hours - world.cities.utc_offset_h[world.cards.city[card]]) % 24.0


def typical_amounts(
    world: World, card: Ints, merchant: Ints, normal: Floats, mark_up: float = 0.0
) -> Floats:
    """Return amounts that a card would pay at a merchant.

    Parameters
    ----------
    world : World
        What merchants ask and cards spend.
    card, merchant : numpy.ndarray of int64
        The two sides.
    normal : numpy.ndarray of float64
        Standard normal numbers, one for each.
    mark_up : float
        What is added to the logarithm of the amount.

    Returns
    -------
    numpy.ndarray of float64
        Not rounded.
    """
    spread = world.merchants.sigma[merchant] * world.cards.spread[card]
    return (
        world.merchants.amount[merchant]
        * world.cards.level[card]
        * np.exp(normal * spread + mark_up)
    )


def promoted_market(world: World, day: int) -> Market:
    """Return the market of a day: a few merchants hold a sale that lasts some days.

    Parameters
    ----------
    world : World
        The merchants.
    day : int
        The day, from 0.
    """
    rng = world.random(Purpose.PROMOTIONS, day // PROMOTION_DAYS)
    promoted = rng.random(len(world.merchants)) < PROMOTED_SHARE
    popularity = np.where(promoted, PROMOTION_BOOST, 1.0) * world.merchants.popularity
    return Market(len(world.cities), world.merchants, popularity)


def honest_day(
    world: World,
    day: int,
    weekday: int,
    start_hour: float,
    trips_of: Callable[[int], Trips],
) -> Events:
    """Draw everything that honest customers do on a day.

    Parameters
    ----------
    world : World
        Who they are.
    day : int
        The day, counted from the start.
    weekday : int
        0 for Monday, 6 for Sunday.
    start_hour : float
        The UTC hour of day at which the simulation's days begin, in [0, 24).
    trips_of : callable
        Returns the trips of a block, as `draw_trips` does.

    Returns
    -------
    Events
        In no order, all of them inside the day.
    """
    rng = world.random(Purpose.BEHAVIOUR, day)
    block = day // TRIP_BLOCK_DAYS
    trips = (trips_of(block - 1), trips_of(block))
    return Events.concatenate(
        [
            _purchases(world, day, weekday, start_hour, trips=trips, rng=rng),
            _subscriptions(world, day, start_hour, rng),
            _bursts(world, day, weekday, start_hour, rng),
        ]
    )


def _purchases(
    world: World,
    day: int,
    weekday: int,
    start_hour: float,
    *,
    trips: tuple[Trips, ...],
    rng: np.random.Generator,
) -> Events:
    cards = world.cards
    # A gamma-distributed mood with mean 1 makes good and bad days: counts are overdispersed.
    mood = rng.standard_gamma(1.5, len(cards)) / 1.5
    counts = rng.poisson(cards.rate * WEEKDAY_FACTORS[weekday] * mood)
    card = np.repeat(np.arange(len(cards)), counts)
    count = len(card)

    hours = holder_hours(world, card, weekday >= 5, rng.random(count))
    time_us = day * DAY_US + whole_us((hours - start_hour) % 24.0, HOUR_US)
    city, in_transit = whereabouts(world, trips, card, time_us)
    abroad = city != cards.city[card]

    which = rng.random(count)
    online = (which < cards.online_share[card]) | in_transit
    atm = ~online & (which > 1.0 - cards.atm_share[card])
    shop = ~online & ~atm
    by_habit = (rng.random(count) < cards.loyalty[card]) & ~(abroad & ~online)

    uniform = rng.random(count)
    market = promoted_market(world, day)
    merchant = np.empty(count, dtype=np.int64)
    for rows, usual in (
        (np.flatnonzero(by_habit & shop), cards.usual_shops),
        (np.flatnonzero(by_habit & online), cards.usual_online),
        (np.flatnonzero(by_habit & atm), cards.usual_atms),
    ):
        # The square prefers the first slots: everyone has favourites among the usual merchants.
        slot = (uniform[rows] ** 2 * usual.shape[1]).astype(np.int64)
        merchant[rows] = usual[card[rows], slot]
    rows = np.flatnonzero(~by_habit & shop)
    merchant[rows] = market.shops(city[rows], uniform[rows])
    rows = np.flatnonzero(~by_habit & online)
    merchant[rows] = market.online(uniform[rows])
    rows = np.flatnonzero(~by_habit & atm)
    merchant[rows] = market.atms(city[rows], uniform[rows])

    amount = typical_amounts(world, card, merchant, rng.standard_normal(count))
    rows = np.flatnonzero(rng.random(count) < BIG_PURCHASE)
    amount[rows] *= np.exp(0.5 + rng.exponential(0.8, len(rows)))
    rows = np.flatnonzero(atm)
    amount[rows] = cash(amount[rows])

    device = np.full(count, NO_DEVICE)
    rows = np.flatnonzero(online)
    device[rows] = _devices(world, card[rows], day, rng)
    return Events.of_pattern(
        Pattern.NONE,
        time_us=time_us,
        card=card,
        merchant=merchant,
        amount=amount,
        device=device,
    )


def cash(amount: Floats) -> Floats:
    """Return the notes nearest to an amount: multiples of 10, from 10 to 500.

    Examples
    --------
    >>> cash(np.array([3.0, 84.0, 9_000.0])).tolist()
    [10.0, 80.0, 500.0]
    """
    return np.clip(np.round(amount / 10.0), 1.0, 50.0) * 10.0


def _devices(world: World, card: Ints, day: int, rng: np.random.Generator) -> Ints:
    """Draw the devices of online purchases: mostly the phone, at times another one, or none."""
    cards = world.cards
    age = day + cards.phone_phase_days[card]
    phone = device_code(
        DeviceKind.PHONE, card, (age // cards.phone_life_days[card]).astype(np.int64)
    )
    sharing = card // 2 % SHARED_HOUSEHOLD == 0
    household = device_code(
        DeviceKind.HOUSEHOLD, np.where(sharing, card & ~1, card), np.zeros_like(card)
    )
    # A private window or a hotel's computer looks like a device that was never seen before.
    borrowed = device_code(DeviceKind.BORROWED, card, rng.integers(0, 2**24, len(card)))
    which = rng.random(len(card))
    # Every other pair of cards has a second device at home.
    device = np.where((which < 0.68) | (card // 2 % 2 == 1), phone, household)
    device = np.where(which >= 0.88, NO_DEVICE, device)
    return np.where(which >= 0.99, borrowed, device)


def _subscriptions(world: World, day: int, start_hour: float, rng: np.random.Generator) -> Events:
    """Draw the subscriptions that are due: each merchant bills all of them within minutes."""
    cards = world.cards
    due = cards.subscription_phase == day % SUBSCRIPTION_PERIOD_DAYS
    due &= cards.subscriptions >= 0
    position = np.flatnonzero(due)
    card = position // SUBSCRIPTIONS
    merchant = cards.subscriptions.ravel()[position]
    hours = world.merchants.billing_hour[merchant] + rng.uniform(0.0, 0.4, len(card))
    return Events.of_pattern(
        Pattern.NONE,
        time_us=day * DAY_US + whole_us((hours - start_hour) % 24.0, HOUR_US),
        card=card,
        merchant=merchant,
        amount=cards.subscription_amount.ravel()[position],
    )


def _bursts(
    world: World, day: int, weekday: int, start_hour: float, rng: np.random.Generator
) -> Events:
    """Draw bursts of small purchases that players make in one game within an hour or so."""
    cards = world.cards
    expected = BURST_SHARE * len(cards) * world.spec.transactions_per_card_per_day / MEAN_BURST
    bursts = rng.poisson(expected)
    player = np.searchsorted(cards.burst_weight, rng.random(bursts), side="right")
    player = np.minimum(player, len(cards) - 1)
    size = 2 + rng.geometric(1.0 / (MEAN_BURST - 2.0), bursts)
    begin = holder_hours(world, player, weekday >= 5, rng.random(bursts))

    burst = np.repeat(np.arange(bursts), size)
    card = player[burst]
    count = len(card)
    # The gaps are summed over all bursts; what went before a burst is taken off again.
    passed = np.cumsum(rng.exponential(0.08, count))
    first = np.cumsum(size) - size
    hours = begin[burst] + passed - passed[first][burst]
    merchant = cards.games[card]
    amount = world.merchants.amount[merchant] * np.exp(rng.normal(-0.4, 0.6, count))
    return Events.of_pattern(
        Pattern.NONE,
        time_us=day * DAY_US + whole_us((hours - start_hour) % 24.0, HOUR_US),
        card=card,
        merchant=merchant,
        amount=amount,
        device=_devices(world, card, day, rng),
    )
