"""Four ways in which cards are abused, each a mechanism with a rate that can be set.

Each function draws the episodes that begin on one day, whole, from that day's own random numbers.
An episode may run on for as many days as `LONGEST_DAYS` says; a day's fraud is what falls into it
of the episodes that began up to so many days before. So a day can be drawn alone.

The number of episodes is Poisson with a mean that makes the pattern's expected share of all
transactions the rate of the specification. What a victim does honestly goes on meanwhile.
"""

from __future__ import annotations

import numpy as np

from fraudstream.simulator.behaviour import cash
from fraudstream.simulator.behaviour import holder_hours
from fraudstream.simulator.behaviour import typical_amounts
from fraudstream.simulator.events import DAY_US
from fraudstream.simulator.events import HOUR_US
from fraudstream.simulator.events import NO_DEVICE
from fraudstream.simulator.events import DeviceKind
from fraudstream.simulator.events import Events
from fraudstream.simulator.events import Pattern
from fraudstream.simulator.events import device_code
from fraudstream.simulator.events import whole_us
from fraudstream.simulator.places import ATM
from fraudstream.simulator.places import CATEGORIES
from fraudstream.simulator.places import ONLINE
from fraudstream.simulator.world import Floats
from fraudstream.simulator.world import Ints
from fraudstream.simulator.world import Purpose
from fraudstream.simulator.world import World

TAKEOVER_EXTRA = 6.0
TAKEOVER_MEDIAN_HOURS = 2.0
TAKEOVER_MAX_HOURS = 72.0
TAKEOVER_MARK_UP = 1.1
TAKEOVER_SHOPS = 2
TAKEOVER_FRESH_DEVICE = 0.5

TESTING_SECOND_TRY = 0.4
TESTING_FOLLOW_UP = 0.2
TESTING_LOG_AMOUNT = 0.6
TESTING_SIGMA = 0.6
TESTING_GAP_SECONDS = 20.0
TESTING_FOLLOW_UP_MAX_HOURS = 20.0

COLLUSION_DAYS = (14, 35)
COLLUSION_PER_DAY = (3.0, 8.0)
COLLUSION_CARDS_PER_CHARGE = 600.0
COLLUSION_MARK_UP = 0.3

CLONE_EXTRA = 2.0
CLONE_FIRST_HOURS = 0.5
CLONE_LAG_HOURS = 2.0
CLONE_LAG_MAX_HOURS = 12.0
CLONE_LASTS_HOURS = 5.0
CLONE_MIN_KM = 500.0
CLONE_ATM_SHARE = 0.45
CLONE_MARK_UP = 0.7

EARTH_RADIUS_KM = 6371.0


def account_takeover(world: World, day: int) -> Events:
    """Draw the takeovers of online accounts that begin on a day.

    A thief gets hold of the login of a card's online account and uses it for hours, at times for
    two or three days: a handful of purchases (at least two, eight on average) at one or two online
    shops whose goods sell well again. He has a device of his own, poses as a fresh one for half of
    the purchases and hides it for one in ten. The amounts are what the card would pay there, times
    three on average: above its normal, below what would stop it. The hours are the thief's.

    Parameters
    ----------
    world : World
        Whose cards they are.
    day : int
        The day on which the episodes begin, counted from the start; may be negative.

    Returns
    -------
    Events
        Whole episodes, in no order, none later than three days after the day's end.
    """
    rng = world.random(Purpose.ACCOUNT_TAKEOVER, day)
    size = 2.0 + TAKEOVER_EXTRA
    episodes = _episodes(world, world.spec.account_takeover_rate, size, rng)
    victim = rng.integers(0, len(world.cards), episodes)
    purchases = 2 + rng.poisson(TAKEOVER_EXTRA, episodes)
    begin = rng.uniform(0.0, 24.0, episodes)
    lasts = np.minimum(
        TAKEOVER_MEDIAN_HOURS * np.exp(rng.normal(0.0, 0.9, episodes)), TAKEOVER_MAX_HOURS
    )
    shops = _online_shops(world, _resale_weights(world), (episodes, TAKEOVER_SHOPS), rng)
    version = rng.integers(0, 2**24, episodes)

    episode = np.repeat(np.arange(episodes), purchases)
    count = len(episode)
    fresh = rng.random(count) < TAKEOVER_FRESH_DEVICE
    device = device_code(
        DeviceKind.THIEF,
        _thief_owner(day, count),
        np.where(fresh, rng.integers(0, 2**24, count), version[episode]),
    )
    device = np.where(rng.random(count) < 0.1, NO_DEVICE, device)
    hours = begin[episode] + rng.random(count) * lasts[episode]
    merchant = shops[episode, rng.integers(0, TAKEOVER_SHOPS, count)]
    amount = typical_amounts(
        world, victim[episode], merchant, rng.standard_normal(count), TAKEOVER_MARK_UP
    )
    return Events.of_pattern(
        Pattern.ACCOUNT_TAKEOVER,
        time_us=day * DAY_US + whole_us(hours, HOUR_US),
        card=victim[episode],
        merchant=merchant,
        amount=amount,
        device=device,
    )


def card_testing(world: World, day: int) -> Events:
    """Draw the attacks of card testers that begin on a day.

    A thief has a list of stolen cards (20 on average with the default 5,000 cards, 8 to 25 in
    other worlds) and wants to know which of them work. Within minutes he tries them one after the
    other, about 20 seconds apart and some twice, with small amounts at one or two online merchants
    that sell cheap things at once. He changes his device every few cards or hides it. For two cards
    in ten a larger purchase at a shop whose goods sell well again follows within hours.

    Parameters
    ----------
    world : World
        Whose cards they are.
    day : int
        The day on which the attacks begin, counted from the start; may be negative.

    Returns
    -------
    Events
        Whole attacks, in no order, none later than two days after the day's end.
    """
    rng = world.random(Purpose.CARD_TESTING, day)
    mean_cards = float(np.clip(len(world.cards) / 250.0, 8.0, 25.0))
    size = mean_cards * (1.0 + TESTING_SECOND_TRY + TESTING_FOLLOW_UP)
    attacks = _episodes(world, world.spec.card_testing_rate, size, rng)
    listed = 1 + rng.poisson(mean_cards - 1.0, attacks)
    begin = rng.uniform(0.0, 24.0, attacks)
    targets = _online_shops(world, _testing_weights(world), (attacks, 3), rng)
    in_use = rng.integers(1, 3, attacks)
    owner = _thief_owner(day, attacks)
    version = rng.integers(0, 2**23, attacks)

    attack = np.repeat(np.arange(attacks), listed)
    victim = rng.integers(0, len(world.cards), len(attack))
    place = np.arange(len(attack)) - (np.cumsum(listed) - listed)[attack]
    device = device_code(DeviceKind.THIEF, owner[attack], version[attack] + place // 3)
    device = np.where(rng.random(len(attack)) < 0.35, NO_DEVICE, device)

    tries = np.repeat(np.arange(len(attack)), 1 + (rng.random(len(attack)) < TESTING_SECOND_TRY))
    count = len(tries)
    passed = np.cumsum(rng.exponential(TESTING_GAP_SECONDS / 3600.0, count))
    # Each attack starts its own clock: what passed before its first try is taken off.
    first = np.searchsorted(attack[tries], np.arange(attacks))
    hours = begin[attack[tries]] + passed - passed[first][attack[tries]]
    which = (rng.random(count) * in_use[attack[tries]]).astype(np.int64)
    tested = Events.of_pattern(
        Pattern.CARD_TESTING,
        time_us=day * DAY_US + whole_us(hours, HOUR_US),
        card=victim[tries],
        merchant=targets[attack[tries], which],
        amount=np.exp(rng.normal(TESTING_LOG_AMOUNT, TESTING_SIGMA, count)),
        device=device[tries],
    )

    bought = np.flatnonzero(rng.random(len(attack)) < TESTING_FOLLOW_UP)
    count = len(bought)
    merchant = _online_shops(world, _resale_weights(world), (count,), rng)
    # A card's last try is where the next card's first one stands, less one.
    last = np.searchsorted(tries, bought, side="right") - 1
    later = np.minimum(0.3 + rng.exponential(6.0, count), TESTING_FOLLOW_UP_MAX_HOURS)
    purchased = Events.of_pattern(
        Pattern.CARD_TESTING,
        time_us=day * DAY_US + whole_us(hours[last] + later, HOUR_US),
        card=victim[bought],
        merchant=merchant,
        amount=typical_amounts(
            world, victim[bought], merchant, rng.standard_normal(count), TAKEOVER_MARK_UP
        ),
        device=device[bought],
    )
    return Events.concatenate([tested, purchased])


def merchant_collusion(world: World, day: int) -> Events:
    """Draw the crooked campaigns of merchants that begin on a day.

    A merchant of any trade but cash, from the less popular half, charges stolen card data for two
    to five weeks beside its honest business: some charges a day (eight on average with the default
    5,000 cards, three to eight in other worlds; campaigns differ) on cards that are none of its
    regulars, at the hours at which those cards are used, for amounts in its usual range or somewhat
    above. A shop takes cards of its own city, so that the place does not tell; an online merchant
    takes any, half of them typed in without a device.

    Parameters
    ----------
    world : World
        Whose merchants they are.
    day : int
        The day on which the campaigns begin, counted from the start; may be negative.

    Returns
    -------
    Events
        Whole campaigns, in no order, none later than 35 days after the day's end.
    """
    rng = world.random(Purpose.MERCHANT_COLLUSION, day)
    shortest, longest = COLLUSION_DAYS
    per_day = float(np.clip(len(world.cards) / COLLUSION_CARDS_PER_CHARGE, *COLLUSION_PER_DAY))
    size = (shortest + longest) / 2.0 * per_day
    campaigns = _episodes(world, world.spec.merchant_collusion_rate, size, rng)
    channel = world.merchants.channel
    open_to_all = np.flatnonzero(channel != ATM)
    # Beside a great honest business so many stolen cards would drown, and not be worth the risk.
    small = open_to_all[np.argsort(world.merchants.popularity[open_to_all])]
    crook = small[: len(small) // 2][rng.integers(0, len(small) // 2, campaigns)]
    lasts = rng.integers(shortest, longest + 1, campaigns)
    # The mean of the lognormal factor is 1.
    intensity = per_day * np.exp(rng.normal(-0.5 * 0.4**2, 0.4, campaigns))
    charges = rng.poisson(intensity * lasts)

    campaign = np.repeat(np.arange(campaigns), charges)
    count = len(campaign)
    merchant = crook[campaign]
    card = _strangers(world, merchant, rng)
    on_day = day + (rng.random(count) * lasts[campaign]).astype(np.int64)
    hours = holder_hours(world, card, False, rng.random(count))
    amount = world.merchants.amount[merchant] * np.exp(rng.normal(COLLUSION_MARK_UP, 0.4, count))
    device = device_code(DeviceKind.BORROWED, card, rng.integers(0, 2**24, count))
    typed = (channel[merchant] != ONLINE) | (rng.random(count) < 0.5)
    return Events.of_pattern(
        Pattern.MERCHANT_COLLUSION,
        time_us=on_day * DAY_US + whole_us(hours, HOUR_US),
        card=card,
        merchant=merchant,
        amount=amount,
        device=np.where(typed, NO_DEVICE, device),
    )


def geo_anomaly(world: World, day: int, honest: Events) -> Events:
    """Draw the uses of cloned cards that begin on a day.

    A card is skimmed where its holder uses it, in a shop or at an ATM, and its data are sold to
    crews in several places. One to some hours later clones appear in cities at least 500 km from
    there (in the farthest one where none is): one to several withdrawals of cash and purchases in
    shops whose goods sell well again, three on average, within some hours, for about twice what the
    card would pay there. The more a card is used, the likelier it is to be skimmed. The holder
    goes on using his own.

    Parameters
    ----------
    world : World
        Whose cards they are.
    day : int
        The day on which the cards are skimmed, counted from the start; may be negative.
    honest : Events
        What the holders do on that day, as `behaviour.honest_day` draws it.

    Returns
    -------
    Events
        Whole episodes, in no order, none later than one day after the day's end.
    """
    rng = world.random(Purpose.GEO_ANOMALY, day)
    episodes = _episodes(world, world.spec.geo_anomaly_rate, 1.0 + CLONE_EXTRA, rng)
    present = np.flatnonzero(world.merchants.channel[honest.merchant] != ONLINE)
    if len(present) == 0:
        episodes = 0
    skimmed = honest.take(rng.choice(present, episodes) if episodes else present[:0])
    uses = 1 + rng.poisson(CLONE_EXTRA, episodes)
    lag = CLONE_FIRST_HOURS + np.minimum(
        rng.exponential(CLONE_LAG_HOURS, episodes), CLONE_LAG_MAX_HOURS
    )
    lasts = rng.uniform(0.5, CLONE_LASTS_HOURS, episodes)

    episode = np.repeat(np.arange(episodes), uses)
    count = len(episode)
    card = skimmed.card[episode]
    distance = city_distances_km(world)
    here = world.merchants.city[skimmed.merchant[episode]]
    far = distance[here] >= np.minimum(CLONE_MIN_KM, distance.max(axis=1))[here, None]
    weight = np.cumsum(far * np.sqrt(world.cities.visitors), axis=1)
    target = rng.random(count) * weight[:, -1]
    where = (weight <= target[:, None]).sum(axis=1)
    at_atm = rng.random(count) < CLONE_ATM_SHARE
    uniform = rng.random(count)
    merchant = np.where(
        at_atm, world.market.atms(where, uniform), world.market.shops(where, uniform)
    )
    amount = typical_amounts(world, card, merchant, rng.standard_normal(count), CLONE_MARK_UP)
    hours = lag[episode] + rng.random(count) * lasts[episode]
    return Events.of_pattern(
        Pattern.GEO_ANOMALY,
        time_us=skimmed.time_us[episode] + whole_us(hours, HOUR_US),
        card=card,
        merchant=merchant,
        amount=np.where(at_atm, cash(amount), amount),
    )


LONGEST_DAYS: dict[Pattern, int] = {
    Pattern.ACCOUNT_TAKEOVER: 3,
    Pattern.CARD_TESTING: 2,
    Pattern.MERCHANT_COLLUSION: COLLUSION_DAYS[1] - 1,
    Pattern.GEO_ANOMALY: 1,
}
"""How many days after the one on which it begins an episode may still have transactions."""


def city_distances_km(world: World) -> Floats:
    """Return the great-circle distances between the cities' centres, shape (cities, cities).

    The haversine formula on a sphere of radius 6371 km.
    """
    latitude = np.radians(world.cities.latitude)
    longitude = np.radians(world.cities.longitude)
    half_chord = (
        np.sin((latitude[:, None] - latitude) / 2.0) ** 2
        + np.cos(latitude[:, None])
        * np.cos(latitude)
        * np.sin((longitude[:, None] - longitude) / 2.0) ** 2
    )
    return 2.0 * EARTH_RADIUS_KM * np.arcsin(np.sqrt(half_chord))


def _episodes(world: World, rate: float, size: float, rng: np.random.Generator) -> int:
    """Draw how many episodes of a mean size begin on a day."""
    return int(rng.poisson(rate * world.spec.transactions_per_day / size))


def _thief_owner(day: int, episodes: int) -> Ints:
    # Days before the start count too: the shift keeps the owner's number from being negative.
    return np.full(episodes, day + 100)


def _resale_weights(world: World) -> Floats:
    return np.array([kind.resale for kind in CATEGORIES])[world.merchants.category]


def _testing_weights(world: World) -> Floats:
    return np.array([kind.testing for kind in CATEGORIES])[world.merchants.category]


def _online_shops(
    world: World, weight: Floats, shape: tuple[int, ...], rng: np.random.Generator
) -> Ints:
    """Draw online merchants by a weight and, less strongly than customers do, by popularity."""
    online = np.flatnonzero((world.merchants.channel == ONLINE) & (weight > 0.0))
    cumulative = np.cumsum(weight[online] * np.sqrt(world.merchants.popularity[online]))
    place = np.searchsorted(cumulative, rng.random(shape) * cumulative[-1], side="right")
    return online[np.minimum(place, len(online) - 1)]


def _strangers(world: World, merchant: Ints, rng: np.random.Generator) -> Ints:
    """Draw a card for each merchant that does not have it among its usual ones.

    A shop's card lives in its city where anyone does. Of the cards drawn, the one that still is a
    regular after a few attempts is charged all the same: a tiny world may have no other.
    """
    cards = world.cards
    by_city = np.argsort(cards.city, kind="stable")
    bounds = np.searchsorted(cards.city[by_city], np.arange(len(world.cities) + 1))
    local = world.merchants.channel[merchant] != ONLINE
    city = world.merchants.city[merchant]
    low = np.where(local, bounds[city], 0)
    high = np.where(local, bounds[city + 1], len(cards))
    # Nobody lives in a holiday resort: its shops charge visitors, who come from anywhere.
    low, high = np.where(low == high, 0, low), np.where(low == high, len(cards), high)
    card = by_city[rng.integers(low, high)]
    for _ in range(4):
        regular = (cards.usual_shops[card] == merchant[:, None]).any(axis=1)
        regular |= (cards.usual_online[card] == merchant[:, None]).any(axis=1)
        rows = np.flatnonzero(regular)
        card[rows] = by_city[rng.integers(low[rows], high[rows])]
    return card
