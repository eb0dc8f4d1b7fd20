"""The endless stream of a world's transactions and of what becomes known about them."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from dataclasses import fields
from datetime import datetime
from functools import lru_cache
from functools import partial
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fraudstream.schema.timestamps import format_us
from fraudstream.schema.timestamps import to_us
from fraudstream.simulator.behaviour import draw_trips
from fraudstream.simulator.behaviour import honest_day
from fraudstream.simulator.events import DAY_US
from fraudstream.simulator.events import HOUR_US
from fraudstream.simulator.events import Events
from fraudstream.simulator.events import Pattern
from fraudstream.simulator.fraud import LONGEST_DAYS
from fraudstream.simulator.fraud import account_takeover
from fraudstream.simulator.fraud import card_testing
from fraudstream.simulator.fraud import geo_anomaly
from fraudstream.simulator.fraud import merchant_collusion
from fraudstream.simulator.labels import LABEL_SOURCES
from fraudstream.simulator.labels import draw_labels
from fraudstream.simulator.places import CATEGORIES
from fraudstream.simulator.places import CHANNELS
from fraudstream.simulator.places import COUNTRIES
from fraudstream.simulator.places import CURRENCIES
from fraudstream.simulator.world import Purpose
from fraudstream.simulator.world import World
from fraudstream.simulator.world import WorldError
from fraudstream.simulator.world import WorldSpec
from fraudstream.simulator.world import build_world

NUMBERS_PER_DAY = 10**9
"""Transaction numbers of a day start at its number times this: no day depends on another."""


class Names:
    """The identifiers of a world, as they stand on the wire.

    Names are deterministic. Those of devices are scrambled, so that neither whose device it is nor
    what kind can be read from it; those of cards never look like a card number.

    Parameters
    ----------
    world : World
        Whose names they are.
    """

    def __init__(self, world: World) -> None:
        self._seed = world.spec.seed
        self._cards = [f"card-{number:07d}" for number in range(len(world.cards))]
        self._merchants = [f"merchant-{number:06d}" for number in range(len(world.merchants))]

    def transactions(self, number: NDArray[np.int64]) -> list[str]:
        """Return the ids of transactions, such as `t-0-d12-0000345`: seed, day, place in it."""
        days, places = np.divmod(number, NUMBERS_PER_DAY)
        prefix = f"t-{self._seed}-d"
        return [
            f"{prefix}{day}-{place:07d}"
            for day, place in zip(days.tolist(), places.tolist(), strict=True)
        ]

    def cards(self, card: NDArray[np.int64]) -> list[str]:
        """Return the ids of cards, such as `card-0000012`."""
        names = self._cards
        return [names[code] for code in card.tolist()]

    def merchants(self, merchant: NDArray[np.int64]) -> list[str]:
        """Return the ids of merchants, such as `merchant-000012`."""
        names = self._merchants
        return [names[code] for code in merchant.tolist()]

    def devices(self, device: NDArray[np.int64]) -> list[str | None]:
        """Return the ids of devices, such as `device-5a0c9e-77b1d2`; None for code -1."""
        names: list[str | None] = [None] * len(device)
        shown = np.flatnonzero(device >= 0)
        text = _scramble48(device[shown], self._seed).astype(">u8").tobytes().hex()
        for index, row in enumerate(shown.tolist()):
            begin = index * 16 + 4
            names[row] = f"device-{text[begin : begin + 6]}-{text[begin + 6 : begin + 12]}"
        return names


def _scramble48(value: NDArray[np.int64], seed: int) -> NDArray[np.uint64]:
    """Mix numbers below 2**48 one to one, differently for each seed.

    Each step (an odd factor modulo 2**48, a shift folded in) can be undone, so that no two numbers
    meet. It hides, it does not encrypt.
    """
    mask = np.uint64(2**48 - 1)
    mixed = value.astype(np.uint64) ^ np.uint64(seed)
    for factor in (0x9E3779B97F4B, 0xBF58476D1CE5, 0x94D049BB1331):
        mixed = (mixed * np.uint64(factor)) & mask
        mixed ^= mixed >> np.uint64(25)
    return mixed


def _none_for_nan(column: NDArray[np.float64]) -> list[float | None]:
    values: list[float | None] = column.tolist()
    for row in np.flatnonzero(np.isnan(column)).tolist():
        values[row] = None
    return values


_CATEGORY_CODES = np.array([kind.code for kind in CATEGORIES])
_CATEGORY_NAMES = {kind.code: f"{kind.code:04d}" for kind in CATEGORIES}


@dataclass(frozen=True, eq=False)
class Batch:
    """Transactions with their truth, in columns of equal length, sorted by event time.

    Attributes
    ----------
    transaction_number : numpy.ndarray of int64
        Unique in the simulation and increasing, with gaps between days.
    event_time_us : numpy.ndarray of int64
        Microseconds since the epoch, UTC.
    card, merchant : numpy.ndarray of int64
        Codes: rows of the world's cards and merchants.
    merchant_category : numpy.ndarray of int64
        The MCC as a number.
    amount : numpy.ndarray of float64
        In the card's currency, two decimals.
    currency, channel, country : numpy.ndarray of int64
        Codes into `CURRENCIES`, `CHANNELS` and `COUNTRIES` of `simulator.places`.
    latitude, longitude : numpy.ndarray of float64
        Degrees, nan where absent: online, and at terminals that report no place.
    device : numpy.ndarray of int64
        A code, -1 where absent.
    is_fraud : numpy.ndarray of bool
        The truth.
    pattern : numpy.ndarray of int8
        Why; see `events.Pattern`.
    labelled_at_us : numpy.ndarray of int64
        When the truth becomes known; at most `labels.LABEL_DELAY` after the event.
    label_source : numpy.ndarray of int8
        From whom; a code into `labels.LABEL_SOURCES`.
    names : Names
        Turns codes into identifiers.
    """

    transaction_number: NDArray[np.int64]
    event_time_us: NDArray[np.int64]
    card: NDArray[np.int64]
    merchant: NDArray[np.int64]
    merchant_category: NDArray[np.int64]
    amount: NDArray[np.float64]
    currency: NDArray[np.int64]
    channel: NDArray[np.int64]
    latitude: NDArray[np.float64]
    longitude: NDArray[np.float64]
    country: NDArray[np.int64]
    device: NDArray[np.int64]
    is_fraud: NDArray[np.bool_]
    pattern: NDArray[np.int8]
    labelled_at_us: NDArray[np.int64]
    label_source: NDArray[np.int8]
    names: Names = field(repr=False)

    def __len__(self) -> int:
        return len(self.transaction_number)

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns by name, in their order; no copies."""
        return {
            item.name: getattr(self, item.name) for item in fields(self) if item.name != "names"
        }

    def _like(self, columns: dict[str, Any]) -> Batch:
        return Batch(names=self.names, **columns)

    def __getitem__(self, rows: slice) -> Batch:
        """Return the rows of a slice, as views."""
        return self._like({name: column[rows] for name, column in self.columns().items()})

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Batch:
        """Return the rows at these positions, or where this mask is true, as copies."""
        return self._like({name: column[rows] for name, column in self.columns().items()})

    def transactions(self) -> list[dict[str, Any]]:
        """Return the documents of `src/schemas/transaction.v1.json`, in the batch's order.

        Values are plain Python scalars; keys stand in the schema's order.

        Examples
        --------
        >>> from datetime import UTC
        >>> simulation = Simulation(WorldSpec(cards=50), datetime(2026, 1, 1, tzinfo=UTC))
        >>> document = simulation.day(0)[:1].transactions()[0]
        >>> document["transaction_id"], list(document)[:4]
        ('t-0-d0-0000000', ['transaction_id', 'event_time', 'card_id', 'merchant_id'])
        """
        return [
            {
                "transaction_id": transaction_id,
                "event_time": event_time,
                "card_id": card_id,
                "merchant_id": merchant_id,
                "merchant_category": _CATEGORY_NAMES[category],
                "amount": amount,
                "currency": CURRENCIES[currency],
                "channel": CHANNELS[channel],
                "latitude": latitude,
                "longitude": longitude,
                "country": COUNTRIES[country],
                "device_id": device_id,
            }
            for (
                transaction_id,
                event_time,
                card_id,
                merchant_id,
                category,
                amount,
                currency,
                channel,
                latitude,
                longitude,
                country,
                device_id,
            ) in zip(
                self.names.transactions(self.transaction_number),
                format_us(self.event_time_us),
                self.names.cards(self.card),
                self.names.merchants(self.merchant),
                self.merchant_category.tolist(),
                self.amount.tolist(),
                self.currency.tolist(),
                self.channel.tolist(),
                _none_for_nan(self.latitude),
                _none_for_nan(self.longitude),
                self.country.tolist(),
                self.names.devices(self.device),
                strict=True,
            )
        ]

    def labels(self) -> list[dict[str, Any]]:
        """Return the documents of `src/schemas/label.v1.json`, in the order of the transactions.

        Whoever sends them waits until `labelled_at`; the batch does not sort by it.

        Examples
        --------
        >>> from datetime import UTC
        >>> simulation = Simulation(WorldSpec(cards=50), datetime(2026, 1, 1, tzinfo=UTC))
        >>> label = simulation.day(0)[:1].labels()[0]
        >>> label["transaction_id"], label["is_fraud"], label["source"]
        ('t-0-d0-0000000', False, 'no_dispute')
        """
        return [
            {
                "transaction_id": transaction_id,
                "card_id": card_id,
                "merchant_id": merchant_id,
                "event_time": event_time,
                "is_fraud": is_fraud,
                "labelled_at": labelled_at,
                "source": LABEL_SOURCES[source],
            }
            for (
                transaction_id,
                card_id,
                merchant_id,
                event_time,
                is_fraud,
                labelled_at,
                source,
            ) in zip(
                self.names.transactions(self.transaction_number),
                self.names.cards(self.card),
                self.names.merchants(self.merchant),
                format_us(self.event_time_us),
                self.is_fraud.tolist(),
                format_us(self.labelled_at_us),
                self.label_source.tolist(),
                strict=True,
            )
        ]


class Simulation:
    """The transactions of a world from a start on, day by day.

    A day's bytes depend on the specification, on the start's weekday and hour and on the day's
    number alone, not on which days were drawn before. Events carry no arrival: whoever sends them
    decides about lateness and duplicates.

    Parameters
    ----------
    spec : WorldSpec
        The world and its fraud.
    start : datetime
        When day 0 begins, with a time zone. Days last 24 hours from there.

    Raises
    ------
    WorldError
        If the start has no time zone.

    Examples
    --------
    >>> from datetime import UTC
    >>> simulation = Simulation(WorldSpec(cards=200), datetime(2026, 1, 1, tzinfo=UTC))
    >>> first = next(simulation.days())
    >>> bool((first.event_time_us == simulation.day(0).event_time_us).all())
    True
    """

    def __init__(self, spec: WorldSpec, start: datetime) -> None:
        if start.tzinfo is None:
            raise WorldError(f"start: expected a time with a time zone, got {start.isoformat()}")
        self.spec = spec
        self.start_us = to_us(start)
        self.world = build_world(spec)
        self._names = Names(self.world)
        # Pure functions of the block and of the day: remembered, because neighbours need the same.
        self._trips_of = lru_cache(maxsize=4)(partial(draw_trips, self.world))
        self._honest_day = lru_cache(maxsize=2)(self._draw_honest_day)
        draws: dict[Pattern, Callable[[int], Events]] = {
            Pattern.ACCOUNT_TAKEOVER: partial(account_takeover, self.world),
            Pattern.CARD_TESTING: partial(card_testing, self.world),
            Pattern.MERCHANT_COLLUSION: partial(merchant_collusion, self.world),
            Pattern.GEO_ANOMALY: self._draw_clones,
        }
        self._episodes_of = {
            pattern: lru_cache(maxsize=LONGEST_DAYS[pattern] + 2)(draw)
            for pattern, draw in draws.items()
        }

    def days(self, first: int = 0) -> Iterator[Batch]:
        """Yield one batch for each day, in order, without end.

        Parameters
        ----------
        first : int
            The day to begin with; those before it are not drawn.
        """
        return map(self.day, count(first))

    def day(self, day: int) -> Batch:
        """Draw one day alone.

        Parameters
        ----------
        day : int
            Counted from the start, at least 0.

        Returns
        -------
        Batch
            Its transactions, sorted by event time, all of them within the day.

        Raises
        ------
        WorldError
            If the day lies before the start.
        """
        if day < 0:
            raise WorldError(f"day: expected at least 0, got {day}")
        events = Events.concatenate([self._honest_day(day), *self._fraud(day)])
        return self._finish(events.take(np.argsort(events.time_us, kind="stable")), day)

    def _draw_honest_day(self, day: int) -> Events:
        begin_us = self.start_us + day * DAY_US
        # The epoch was a Thursday.
        weekday = (begin_us // DAY_US + 3) % 7
        start_hour = begin_us % DAY_US / HOUR_US
        return honest_day(self.world, day, weekday, start_hour, self._trips_of)

    def _draw_clones(self, day: int) -> Events:
        return geo_anomaly(self.world, day, self._honest_day(day))

    def _fraud(self, day: int) -> Iterator[Events]:
        for pattern, episodes_of in self._episodes_of.items():
            for first in range(day - LONGEST_DAYS[pattern], day + 1):
                episodes = episodes_of(first)
                yield episodes.take(episodes.time_us // DAY_US == day)

    def _finish(self, events: Events, day: int) -> Batch:
        merchants = self.world.merchants
        is_fraud = events.pattern != 0
        event_time_us = self.start_us + events.time_us
        delay_us, source = draw_labels(is_fraud, self.world.random(Purpose.LABELS, day))
        return Batch(
            transaction_number=day * NUMBERS_PER_DAY + np.arange(len(events)),
            event_time_us=event_time_us,
            card=events.card,
            merchant=events.merchant,
            merchant_category=_CATEGORY_CODES[merchants.category[events.merchant]],
            amount=events.amount,
            currency=self.world.cards.currency[events.card],
            channel=merchants.channel[events.merchant],
            latitude=merchants.latitude[events.merchant],
            longitude=merchants.longitude[events.merchant],
            country=merchants.country[events.merchant],
            device=events.device,
            is_fraud=is_fraud,
            pattern=events.pattern,
            labelled_at_us=event_time_us + delay_us,
            label_source=source,
            names=self._names,
        )
