"""The catalogues that a simulated world draws from: cities, merchant categories, daily rhythms.

Everything here is a constant. Positions, populations and category codes are real; the amounts are
plausible, not measured.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CHANNELS: tuple[str, ...] = ("card_present", "online", "atm")
"""The names of the channel codes 0, 1 and 2."""

CARD_PRESENT = 0
ONLINE = 1
ATM = 2


class City(NamedTuple):
    """A city in which customers live or which they visit.

    Attributes
    ----------
    name, country : str
        The city's name and its ISO 3166 alpha-2 country.
    latitude, longitude : float
        The centre, in degrees.
    utc_offset_h : int
        Standard time, in hours ahead of UTC. Summer time is left out: no pattern needs it.
    residents : float
        The weight with which cards live here, in millions of people; 0 where the issuer has none.
    visitors : float
        The weight with which travellers come here.
    """

    name: str
    country: str
    latitude: float
    longitude: float
    utc_offset_h: int
    residents: float
    visitors: float


# The order matters for small worlds, which keep only the first few cities: those lie far apart.
CITIES: tuple[City, ...] = (
    City("London", "GB", 51.507, -0.128, 0, 8.9, 5.0),
    City("Berlin", "DE", 52.520, 13.405, 1, 3.7, 3.0),
    City("Madrid", "ES", 40.417, -3.704, 1, 3.3, 3.0),
    City("New York", "US", 40.713, -74.006, -5, 4.0, 4.0),
    City("Paris", "FR", 48.857, 2.352, 1, 2.1, 5.0),
    City("Rome", "IT", 41.903, 12.496, 1, 2.8, 4.0),
    City("Istanbul", "TR", 41.008, 28.978, 3, 0.0, 3.0),
    City("Hamburg", "DE", 53.551, 9.994, 1, 1.9, 1.0),
    City("Barcelona", "ES", 41.385, 2.173, 1, 1.6, 4.0),
    City("Vienna", "AT", 48.208, 16.373, 1, 1.9, 2.0),
    City("Munich", "DE", 48.137, 11.575, 1, 1.5, 2.0),
    City("Milan", "IT", 45.464, 9.190, 1, 1.4, 2.0),
    City("Bangkok", "TH", 13.756, 100.502, 7, 0.0, 2.0),
    City("Birmingham", "GB", 52.486, -1.890, 0, 1.1, 0.5),
    City("Amsterdam", "NL", 52.370, 4.895, 1, 0.9, 3.0),
    City("Lisbon", "PT", 38.722, -9.139, 0, 0.0, 2.5),
    City("Dubai", "AE", 25.205, 55.271, 4, 0.0, 2.0),
    City("Marseille", "FR", 43.297, 5.370, 1, 0.9, 1.0),
    City("Naples", "IT", 40.852, 14.268, 1, 0.9, 1.0),
    City("Athens", "GR", 37.984, 23.728, 2, 0.0, 2.0),
    City("Rotterdam", "NL", 51.924, 4.478, 1, 0.65, 0.5),
    City("Dublin", "IE", 53.350, -6.260, 0, 0.6, 1.5),
    City("Manchester", "GB", 53.481, -2.242, 0, 0.55, 0.7),
    City("Prague", "CZ", 50.076, 14.438, 1, 0.0, 2.0),
    City("Zurich", "CH", 47.377, 8.541, 1, 0.43, 1.0),
    City("Mexico City", "MX", 19.433, -99.133, -6, 0.0, 1.0),
    City("Chicago", "US", 41.878, -87.630, -6, 1.3, 1.0),
    City("Sao Paulo", "BR", -23.551, -46.633, -3, 0.0, 0.7),
)

COUNTRIES: tuple[str, ...] = tuple(dict.fromkeys(city.country for city in CITIES))
"""The names of the country codes, in the order of their first city."""

CURRENCIES: tuple[str, ...] = ("EUR", "GBP", "USD", "CHF")
"""The names of the currency codes: the billing currencies of the countries with residents.

Amounts are what the issuer bills, in the card's own currency, wherever the card is used. The four
currencies are worth about the same, so that no rate of exchange is needed.
"""

BILLING_CURRENCY: dict[str, str] = {"GB": "GBP", "US": "USD", "CH": "CHF"}
"""The billing currency by country of residence; everyone else pays in euros."""


class Category(NamedTuple):
    """A merchant category.

    Attributes
    ----------
    code : int
        The MCC, ISO 18245.
    channel : int
        The channel in which its merchants sell.
    weight : float
        How common its merchants are within the channel.
    amount : float
        The median amount of a purchase.
    sigma : float
        The standard deviation of the logarithm of the amount.
    resale : float
        How much a thief likes its goods: the weight with which one who wants money shops there.
    testing : float
        The weight with which one who only wants to know whether a card works shops there.
    """

    code: int
    channel: int
    weight: float
    amount: float
    sigma: float
    resale: float
    testing: float


GAMES_CODE = 5816
SUBSCRIPTION_CODE = 5968

CATEGORIES: tuple[Category, ...] = (
    Category(6011, ATM, 1.0, 80.0, 0.55, 0.0, 0.0),  # cash machines
    Category(5411, CARD_PRESENT, 5.0, 27.0, 0.75, 1.0, 0.0),  # grocery stores
    Category(5812, CARD_PRESENT, 4.0, 32.0, 0.60, 0.2, 0.0),  # restaurants
    Category(5814, CARD_PRESENT, 3.0, 9.0, 0.50, 0.2, 0.0),  # fast food
    Category(5541, CARD_PRESENT, 2.0, 48.0, 0.45, 1.0, 0.0),  # service stations
    Category(4111, CARD_PRESENT, 1.5, 3.2, 0.50, 0.1, 0.0),  # local transport
    Category(5912, CARD_PRESENT, 1.5, 16.0, 0.65, 0.5, 0.0),  # drug stores
    Category(5651, CARD_PRESENT, 1.5, 55.0, 0.70, 2.0, 0.0),  # clothing
    Category(5311, CARD_PRESENT, 1.0, 45.0, 0.85, 2.5, 0.0),  # department stores
    Category(5732, CARD_PRESENT, 0.7, 110.0, 0.95, 4.0, 0.0),  # electronics
    Category(5200, CARD_PRESENT, 0.8, 42.0, 0.90, 0.8, 0.0),  # home supply
    Category(7011, CARD_PRESENT, 0.6, 140.0, 0.65, 0.6, 0.0),  # hotels
    Category(5944, CARD_PRESENT, 0.3, 130.0, 0.95, 3.0, 0.0),  # jewellery
    Category(7230, CARD_PRESENT, 0.8, 34.0, 0.45, 0.0, 0.0),  # hairdressers
    Category(5964, ONLINE, 3.0, 38.0, 0.85, 2.0, 0.5),  # catalogue merchants
    Category(GAMES_CODE, ONLINE, 1.5, 6.5, 0.80, 1.0, 2.0),  # digital games
    Category(SUBSCRIPTION_CODE, ONLINE, 1.2, 11.0, 0.45, 0.2, 0.5),  # subscriptions
    Category(5815, ONLINE, 1.5, 7.0, 0.65, 0.4, 2.0),  # digital books, films, music
    Category(5732, ONLINE, 1.0, 95.0, 0.95, 4.0, 0.3),  # electronics
    Category(5651, ONLINE, 1.5, 58.0, 0.65, 2.0, 0.3),  # clothing
    Category(4511, ONLINE, 0.5, 170.0, 0.75, 1.0, 0.0),  # airlines
    Category(4121, ONLINE, 1.2, 14.0, 0.55, 0.3, 0.5),  # rides
    Category(8398, ONLINE, 0.4, 18.0, 0.85, 0.0, 2.0),  # charities
    Category(7995, ONLINE, 0.4, 30.0, 0.95, 1.5, 0.3),  # gambling
    Category(5947, ONLINE, 0.5, 45.0, 0.70, 3.0, 0.3),  # gift cards
)


class Rhythm(NamedTuple):
    """When in the day a customer buys: a mixture of bell curves over the local hour.

    Attributes
    ----------
    share : float
        The share of the customers that live so.
    peaks : tuple of (float, float, float)
        Local hour, width in hours and weight of each bell.
    """

    share: float
    peaks: tuple[tuple[float, float, float], ...]


RHYTHMS: tuple[Rhythm, ...] = (
    Rhythm(0.45, ((8.2, 0.9, 1.0), (12.6, 1.0, 1.4), (18.3, 1.8, 2.4), (21.5, 1.5, 0.6))),
    Rhythm(0.30, ((10.5, 1.8, 2.0), (15.0, 2.2, 2.0), (19.5, 2.0, 0.8))),
    Rhythm(0.17, ((13.5, 2.5, 1.0), (20.5, 2.2, 2.4), (23.5, 1.5, 0.8))),
    Rhythm(0.08, ((16.0, 2.5, 0.8), (22.5, 2.0, 1.4), (2.0, 2.0, 1.6))),
)

WEEKEND_SHIFT_H = 1.3
"""How much later the weekend's bells stand, in hours."""

WEEKDAY_FACTORS: tuple[float, ...] = (0.90, 0.92, 0.95, 1.00, 1.18, 1.20, 0.85)
"""How much is bought on each day of the week, Monday first; the mean is 1."""

QUANTILES = 257
"""The number of knots of a rhythm's quantile function."""


def rhythm_quantiles() -> NDArray[np.float64]:
    """Tabulate the quantile functions of the time of day.

    Returns
    -------
    numpy.ndarray, shape (2, len(RHYTHMS), QUANTILES)
        Local hours in [0, 24], first for working days, then for weekends; the last axis runs
        over equally spaced probabilities from 0 to 1.

    Examples
    --------
    >>> table = rhythm_quantiles()
    >>> table.shape
    (2, 4, 257)
    >>> bool(table[1, 0, 128] > table[0, 0, 128])
    True
    """
    hours = np.linspace(0.0, 24.0, 24 * 12 + 1)
    table = np.empty((2, len(RHYTHMS), QUANTILES))
    for weekend in (0, 1):
        for row, rhythm in enumerate(RHYTHMS):
            density = np.full_like(hours, 0.004)
            for peak, width, weight in rhythm.peaks:
                centre = peak + weekend * WEEKEND_SHIFT_H
                # The nearest copy of the bell, because the day closes on itself at midnight.
                gap = (hours - centre + 12.0) % 24.0 - 12.0
                density += weight / width * np.exp(-0.5 * (gap / width) ** 2)
            mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
            table[weekend, row] = np.interp(
                np.linspace(0.0, 1.0, QUANTILES), mass / mass[-1], hours
            )
    return table
