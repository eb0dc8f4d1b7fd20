"""A world of cards and merchants, drawn once from a seed.

The specification says how large the world is and how much fraud it sees; `build_world` draws the
customers and the merchants. What they do day by day is in `behaviour` (honest) and `fraud`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from fraudstream.simulator.places import ATM
from fraudstream.simulator.places import BILLING_CURRENCY
from fraudstream.simulator.places import CARD_PRESENT
from fraudstream.simulator.places import CATEGORIES
from fraudstream.simulator.places import CITIES
from fraudstream.simulator.places import COUNTRIES
from fraudstream.simulator.places import CURRENCIES
from fraudstream.simulator.places import GAMES_CODE
from fraudstream.simulator.places import ONLINE
from fraudstream.simulator.places import RHYTHMS
from fraudstream.simulator.places import SUBSCRIPTION_CODE
from fraudstream.simulator.places import rhythm_quantiles

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

MIN_MERCHANTS = 50
MAX_CARDS = 2**22
"""A card's number has a fixed place in the codes of its devices; see `events.device_code`."""
EARLIEST_DAY = -100
"""Days before the start may be drawn, because episodes that run at the start began before it."""

USUAL_SHOPS = 8
USUAL_ONLINE = 6
USUAL_ATMS = 2
SUBSCRIPTIONS = 3
SUBSCRIPTION_PERIOD_DAYS = 30
SUBSCRIPTION_SHARE = 0.02
"""The share of transactions that are subscriptions, where the card's slots suffice."""
BURST_SHARE = 0.04
"""The share of transactions that are made in bursts of small online purchases."""


class WorldError(ValueError):
    """A specification that describes no possible world."""


class Purpose(IntEnum):
    """What a random stream is for; streams of different purposes are independent."""

    WORLD = 0
    BEHAVIOUR = 1
    TRIPS = 2
    PROMOTIONS = 3
    LABELS = 4
    ACCOUNT_TAKEOVER = 5
    CARD_TESTING = 6
    MERCHANT_COLLUSION = 7
    GEO_ANOMALY = 8


@dataclass(frozen=True)
class WorldSpec:
    """How large a world is and how much fraud it sees.

    A fraud rate is the expected share of all transactions that the pattern makes. Together the
    defaults come to 0.8 %. Real portfolios see about 0.1 %; but a month of 5,000 cards at that rate
    would hold some 400 frauds in some 60 episodes, too few to train a model on and to tell a better
    one from a worse one. The mechanisms, too, were tuned until history features find most of the
    fraud; what a model reaches here says nothing about what it reaches on real transactions.

    Parameters
    ----------
    cards : int
        How many cards there are, at least 10.
    merchants : int or None
        How many merchants there are, at least 50. None: one for every five cards, at least 50.
    seed : int
        From 0 to 2**32 - 1. The same specification gives the same bytes.
    transactions_per_card_per_day : float
        The expected number of honest ones, over all cards and weekdays. Cards differ much.
    account_takeover_rate, card_testing_rate, merchant_collusion_rate, geo_anomaly_rate : float
        Expected shares of all transactions, each at least 0, at most 0.2 together. A rate changes
        its own pattern only; 0 switches it off.

    Raises
    ------
    WorldError
        If a value is out of range.

    Examples
    --------
    >>> WorldSpec(cards=2_000).merchant_count
    400
    >>> round(WorldSpec().fraud_rate, 4)
    0.008
    """

    cards: int = 5_000
    merchants: int | None = None
    seed: int = 0
    transactions_per_card_per_day: float = 2.5
    account_takeover_rate: float = 0.0025
    card_testing_rate: float = 0.0020
    merchant_collusion_rate: float = 0.0020
    geo_anomaly_rate: float = 0.0015

    def __post_init__(self) -> None:
        rates = (
            self.account_takeover_rate,
            self.card_testing_rate,
            self.merchant_collusion_rate,
            self.geo_anomaly_rate,
        )
        if not 10 <= self.cards <= MAX_CARDS:
            raise WorldError(f"cards: expected 10 to {MAX_CARDS:,}, got {self.cards}")
        if self.merchants is not None and not MIN_MERCHANTS <= self.merchants <= 10_000_000:
            raise WorldError(
                f"merchants: expected {MIN_MERCHANTS} to 10,000,000, got {self.merchants};"
                " leave it out to derive it from the number of cards"
            )
        if not 0 <= self.seed < 2**32:
            raise WorldError(f"seed: expected 0 to 2**32 - 1, got {self.seed}")
        if not 0 < self.transactions_per_card_per_day <= 100:
            raise WorldError(
                "transactions_per_card_per_day: expected more than 0 and at most 100, got "
                f"{self.transactions_per_card_per_day}"
            )
        if not all(rate >= 0 for rate in rates) or sum(rates) > 0.2:
            raise WorldError(
                f"fraud rates: expected each at least 0 and at most 0.2 together, got {rates}"
            )

    @property
    def merchant_count(self) -> int:
        """How many merchants there are, derived from the cards if not given."""
        if self.merchants is not None:
            return self.merchants
        return max(MIN_MERCHANTS, self.cards // 5)

    @property
    def fraud_rate(self) -> float:
        """The expected share of fraudulent transactions, all patterns together."""
        return (
            self.account_takeover_rate
            + self.card_testing_rate
            + self.merchant_collusion_rate
            + self.geo_anomaly_rate
        )

    @property
    def transactions_per_day(self) -> float:
        """The expected number of transactions of all cards on a day, fraudulent ones included."""
        return self.cards * self.transactions_per_card_per_day / (1.0 - self.fraud_rate)


@dataclass(frozen=True, eq=False)
class Cities:
    """The cities of a world, one row each; those of `places.CITIES` that it is large enough for.

    Attributes
    ----------
    latitude, longitude : numpy.ndarray of float64
        Degrees.
    country : numpy.ndarray of int64
        Codes into `places.COUNTRIES`.
    utc_offset_h : numpy.ndarray of int64
        Hours ahead of UTC.
    residents, visitors : numpy.ndarray of float64
        Weights that sum to 1.
    """

    latitude: Floats
    longitude: Floats
    country: Ints
    utc_offset_h: Ints
    residents: Floats
    visitors: Floats

    def __len__(self) -> int:
        return len(self.latitude)


@dataclass(frozen=True, eq=False)
class Merchants:
    """The merchants of a world, one row each.

    Attributes
    ----------
    category : numpy.ndarray of int64
        Rows of `places.CATEGORIES`.
    channel : numpy.ndarray of int64
        Codes into `places.CHANNELS`.
    city : numpy.ndarray of int64
        Where the merchant stands; for an online one, where it is registered.
    latitude, longitude : numpy.ndarray of float64
        What its terminals report, in degrees; nan for online merchants and for terminals that
        report no place. Some chains report their head office, in another city.
    country : numpy.ndarray of int64
        What its terminals report, a code into `places.COUNTRIES`.
    amount : numpy.ndarray of float64
        The median amount of a purchase by a card of level 1.
    sigma : numpy.ndarray of float64
        The standard deviation of the logarithm of the amount.
    popularity : numpy.ndarray of float64
        A weight: how often customers without a habit choose it. Zipf-like.
    billing_hour : numpy.ndarray of float64
        The UTC hour at which it bills subscriptions.
    """

    category: Ints
    channel: Ints
    city: Ints
    latitude: Floats
    longitude: Floats
    country: Ints
    amount: Floats
    sigma: Floats
    popularity: Floats
    billing_hour: Floats

    def __len__(self) -> int:
        return len(self.category)


@dataclass(frozen=True, eq=False)
class Cards:
    """The cards of a world and the habits of their holders, one row each.

    Attributes
    ----------
    city : numpy.ndarray of int64
        Where the holder lives.
    currency : numpy.ndarray of int64
        The billing currency, a code into `places.CURRENCIES`.
    rate : numpy.ndarray of float64
        Expected ordinary purchases a day: no subscriptions, no bursts. Heavy-tailed.
    level : numpy.ndarray of float64
        The factor on a merchant's median amount; its median over cards is about 1.
    spread : numpy.ndarray of float64
        The factor on the spread of amounts.
    online_share, atm_share : numpy.ndarray of float64
        The shares of ordinary purchases by channel; the rest is card present.
    loyalty : numpy.ndarray of float64
        The share of purchases at usual merchants.
    rhythm : numpy.ndarray of int64
        The row of `places.RHYTHMS`.
    wanderlust : numpy.ndarray of float64
        The probability of a trip in four weeks.
    burst_weight : numpy.ndarray of float64
        Cumulative share of the bursts of small purchases, up to and with this card.
    phone_phase_days, phone_life_days : numpy.ndarray of float64
        A phone is replaced every `phone_life_days`, first `phone_phase_days` before day 0.
    usual_shops, usual_online, usual_atms : numpy.ndarray of int64, shape (cards, slots)
        Merchants by habit, the dearest first.
    games : numpy.ndarray of int64
        Where the holder makes bursts of small purchases.
    subscriptions : numpy.ndarray of int64, shape (cards, SUBSCRIPTIONS)
        Merchants that bill the card once in 30 days; -1 where a slot is unused.
    subscription_phase : numpy.ndarray of int64, shape (cards, SUBSCRIPTIONS)
        The day of the period on which they bill.
    subscription_amount : numpy.ndarray of float64, shape (cards, SUBSCRIPTIONS)
        What they bill.
    """

    city: Ints
    currency: Ints
    rate: Floats
    level: Floats
    spread: Floats
    online_share: Floats
    atm_share: Floats
    loyalty: Floats
    rhythm: Ints
    wanderlust: Floats
    burst_weight: Floats
    phone_phase_days: Floats
    phone_life_days: Floats
    usual_shops: Ints
    usual_online: Ints
    usual_atms: Ints
    games: Ints
    subscriptions: Ints
    subscription_phase: Ints
    subscription_amount: Floats

    def __len__(self) -> int:
        return len(self.city)


class Market:
    """Draws merchants by popularity within a group: the shops of a city, its ATMs, or online.

    Parameters
    ----------
    cities : int
        How many cities there are.
    merchants : Merchants
        All merchants.
    popularity : numpy.ndarray of float64
        The weights to draw by; those of the merchants, or those of a day with promotions.
    """

    def __init__(self, cities: int, merchants: Merchants, popularity: Floats) -> None:
        group = merchants.city + cities * (merchants.channel == CARD_PRESENT)
        group = np.where(merchants.channel == ONLINE, 2 * cities, group)
        self._cities = cities
        self._order = np.argsort(group, kind="stable")
        self._cumulative = np.concatenate([[0.0], np.cumsum(popularity[self._order])])
        bounds = np.searchsorted(group[self._order], np.arange(2 * cities + 2))
        self._low = self._cumulative[bounds[:-1]]
        self._width = self._cumulative[bounds[1:]] - self._low

    def atms(self, city: Ints, uniform: Floats) -> Ints:
        """Draw an ATM in each of the cities; `uniform` holds numbers from [0, 1), one each."""
        return self._draw(city, uniform)

    def shops(self, city: Ints, uniform: Floats) -> Ints:
        """Draw a shop in each of the cities."""
        return self._draw(self._cities + city, uniform)

    def online(self, uniform: Floats) -> Ints:
        """Draw an online merchant for each of the uniform numbers."""
        return self._draw(np.full(uniform.shape, 2 * self._cities), uniform)

    def _draw(self, group: Ints, uniform: Floats) -> Ints:
        target = self._low[group] + uniform * self._width[group]
        place = np.searchsorted(self._cumulative, target, side="right") - 1
        # Rounding may carry a number that is almost 1 over the last merchant of all.
        return self._order[np.minimum(place, len(self._order) - 1)]


@dataclass(frozen=True, eq=False)
class World:
    """Everything that stays as it is from day to day.

    Attributes
    ----------
    spec : WorldSpec
        What it was built from.
    cities, merchants, cards
        Its parts.
    market : Market
        Draws merchants by their standing popularity.
    quantiles : numpy.ndarray, shape (2, len(RHYTHMS), QUANTILES)
        See `places.rhythm_quantiles`.
    """

    spec: WorldSpec
    cities: Cities
    merchants: Merchants
    cards: Cards
    market: Market
    quantiles: Floats

    def random(self, purpose: Purpose, day: int) -> np.random.Generator:
        """Return the random stream of a purpose on a day, the same one at every call.

        Parameters
        ----------
        purpose : Purpose
            What it is for.
        day : int
            The day, counted from the start; not before `EARLIEST_DAY`.
        """
        return random_stream(self.spec.seed, purpose, day)


def random_stream(seed: int, purpose: Purpose, day: int = 0) -> np.random.Generator:
    """Return the random stream of a seed, a purpose and a day.

    Streams are independent of each other, so that a day can be drawn without those before it.

    Raises
    ------
    WorldError
        If the day lies before `EARLIEST_DAY`.

    Examples
    --------
    >>> first = random_stream(1, Purpose.LABELS, day=7).random()
    >>> first == random_stream(1, Purpose.LABELS, day=7).random()
    True
    """
    if day < EARLIEST_DAY:
        raise WorldError(f"day: expected at least {EARLIEST_DAY}, got {day}")
    return np.random.default_rng([seed, int(purpose), day - EARLIEST_DAY])


def build_world(spec: WorldSpec) -> World:
    """Draw the cities, merchants and cards of a specification.

    Parameters
    ----------
    spec : WorldSpec
        What to build.

    Returns
    -------
    World
        The same for the same specification.

    Examples
    --------
    >>> world = build_world(WorldSpec(cards=100, seed=1))
    >>> len(world.cards), len(world.merchants)
    (100, 50)
    """
    rng = random_stream(spec.seed, Purpose.WORLD)
    cities = _cities(spec.merchant_count)
    merchants = _merchants(spec.merchant_count, cities, rng)
    market = Market(len(cities), merchants, merchants.popularity)
    cards = _cards(spec, cities, merchants, market, rng)
    return World(spec, cities, merchants, cards, market, rhythm_quantiles())


def _cities(merchants: int) -> Cities:
    """Take as many cities as the merchants can fill: each needs an ATM and a few shops."""
    chosen = CITIES[: max(3, min(len(CITIES), merchants // 12))]
    residents = np.array([city.residents for city in chosen])
    visitors = np.array([city.visitors for city in chosen])
    return Cities(
        latitude=np.array([city.latitude for city in chosen]),
        longitude=np.array([city.longitude for city in chosen]),
        country=np.array([COUNTRIES.index(city.country) for city in chosen]),
        utc_offset_h=np.array([city.utc_offset_h for city in chosen]),
        residents=residents / residents.sum(),
        visitors=visitors / visitors.sum(),
    )


def _merchants(count: int, cities: Cities, rng: np.random.Generator) -> Merchants:
    towns = len(cities)
    # Every city has an ATM and three shops; what is left is spread by size.
    channel = np.concatenate(
        [
            np.full(towns, ATM),
            np.full(3 * towns, CARD_PRESENT),
            rng.choice([ATM, CARD_PRESENT, ONLINE], count - 4 * towns, p=[0.07, 0.53, 0.40]),
        ]
    )
    size = (cities.residents + 0.5 * cities.visitors) / 1.5
    city = np.concatenate(
        [np.tile(np.arange(towns), 4), rng.choice(towns, count - 4 * towns, p=size)]
    )
    # The kinds lie in the order in which they were filled; the numbers must not give them away.
    shuffled = rng.permutation(count)
    channel, city = channel[shuffled], city[shuffled]

    category = np.empty(count, dtype=np.int64)
    kinds = np.array([kind.channel for kind in CATEGORIES])
    weights = np.array([kind.weight for kind in CATEGORIES])
    for code in (ATM, CARD_PRESENT, ONLINE):
        members = np.flatnonzero(channel == code)
        rows = np.flatnonzero(kinds == code)
        drawn = rng.choice(rows, len(members), p=weights[rows] / weights[rows].sum())
        # The first members take one category each, so that a small world has as many as it can.
        drawn[: len(rows)] = rows[: len(drawn)]
        category[members] = drawn

    rank = rng.permutation(count).astype(np.float64)
    physical = channel != ONLINE
    head_office = (channel == CARD_PRESENT) & (rng.random(count) < 0.003)
    reported = np.where(head_office, rng.choice(towns, count, p=size), city)
    silent = ~physical | (rng.random(count) < 0.03)
    latitude = cities.latitude[reported] + rng.normal(0.0, 0.05, count)
    longitude = cities.longitude[reported] + rng.normal(0.0, 0.08, count)
    return Merchants(
        category=category,
        channel=channel,
        city=city,
        latitude=np.where(silent, np.nan, np.round(latitude, 5)),
        longitude=np.where(silent, np.nan, np.round(longitude, 5)),
        country=cities.country[reported],
        amount=np.array([kind.amount for kind in CATEGORIES])[category]
        * np.exp(rng.normal(0.0, 0.35, count)),
        sigma=np.array([kind.sigma for kind in CATEGORIES])[category]
        * rng.uniform(0.8, 1.2, count),
        popularity=1.0 / (rank + 5.0) ** 0.8,
        billing_hour=rng.uniform(0.0, 23.5, count),
    )


def _cards(
    spec: WorldSpec, cities: Cities, merchants: Merchants, market: Market, rng: np.random.Generator
) -> Cards:
    count = spec.cards
    city = rng.choice(len(cities), count, p=cities.residents)
    country = [COUNTRIES[code] for code in cities.country]
    currency = np.array([CURRENCIES.index(BILLING_CURRENCY.get(name, "EUR")) for name in country])

    online_share = rng.beta(2.0, 4.5, count)
    atm_share = (1.0 - online_share) * rng.beta(1.0, 14.0, count)
    habit = np.repeat(city[:, None], USUAL_SHOPS, axis=1)
    usual_shops = market.shops(habit, rng.random((count, USUAL_SHOPS)))
    usual_online = market.online(rng.random((count, USUAL_ONLINE)))
    usual_atms = market.atms(habit[:, :USUAL_ATMS], rng.random((count, USUAL_ATMS)))

    codes = np.array([kind.code for kind in CATEGORIES])[merchants.category]
    games = rng.choice(np.flatnonzero(codes == GAMES_CODE), count)
    slots = (count, SUBSCRIPTIONS)
    per_card = spec.transactions_per_card_per_day
    wanted = SUBSCRIPTION_SHARE * per_card * SUBSCRIPTION_PERIOD_DAYS / SUBSCRIPTIONS
    taken = rng.random(slots) < min(1.0, wanted)
    drawn = rng.choice(np.flatnonzero(codes == SUBSCRIPTION_CODE), slots)
    price = np.maximum(np.round(merchants.amount[drawn] * np.exp(rng.normal(0, 0.3, slots))), 2.0)

    rate = np.exp(rng.normal(0.0, 0.75, count))
    subscribed = taken.mean() * SUBSCRIPTIONS / SUBSCRIPTION_PERIOD_DAYS
    ordinary = per_card * (1.0 - BURST_SHARE) - subscribed
    gamer = rng.exponential(1.0, count) * (rng.random(count) < 0.25)
    # One player at least, whatever the draw, because somebody has to make the bursts.
    gamer[rng.integers(count)] += 0.1
    return Cards(
        city=city,
        currency=currency[city],
        rate=rate / rate.mean() * ordinary,
        level=np.exp(rng.normal(0.0, 0.45, count)),
        spread=rng.uniform(0.7, 1.2, count),
        online_share=online_share,
        atm_share=atm_share,
        loyalty=rng.uniform(0.6, 0.95, count),
        rhythm=rng.choice(len(RHYTHMS), count, p=[rhythm.share for rhythm in RHYTHMS]),
        wanderlust=rng.beta(1.0, 4.0, count),
        burst_weight=np.cumsum(gamer) / gamer.sum(),
        phone_phase_days=rng.uniform(0.0, 900.0, count),
        phone_life_days=rng.uniform(300.0, 900.0, count),
        usual_shops=usual_shops,
        usual_online=usual_online,
        usual_atms=usual_atms,
        games=games,
        subscriptions=np.where(taken, drawn, -1),
        subscription_phase=rng.integers(0, SUBSCRIPTION_PERIOD_DAYS, slots),
        subscription_amount=price - 0.01,
    )
