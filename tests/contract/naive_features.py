"""Every statistic, computed the slow and obvious way: one transaction and one event at a time.

The engine is tested against this. It shares no code with it beyond the definitions.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
from datetime import UTC
from datetime import datetime
from datetime import timedelta
import math
import statistics
from typing import Any

from fraudstream.features.definitions import MOST_EVENTS
from fraudstream.features.definitions import VISIBILITY_LAG
from fraudstream.features.definitions import Feature

NAN = float("nan")
_US = timedelta(microseconds=1)


@dataclass(frozen=True)
class Transaction:
    """A transaction as it lies in the topic; `None` is an absent value."""

    id: str
    card: str
    merchant: str
    time_us: int
    partition: int
    offset: int
    amount: float
    channel: str | None = None
    device: str | None = None
    country: str | None = None
    latitude: float | None = None
    longitude: float | None = None


@dataclass(frozen=True)
class Label:
    """A label as it lies in its topic."""

    id: str
    card: str
    merchant: str
    known_us: int
    partition: int
    offset: int
    is_fraud: bool


def without_copies(records: Sequence) -> list:
    """Keep the first copy of each transaction (or label) of a card."""
    kept: dict = {}
    for record in sorted(records, key=lambda r: (r.partition, r.offset)):
        kept.setdefault((record.card, record.id), record)
    return list(kept.values())


def clock(records: Sequence, one: Any, time_of: Any) -> int:
    """The latest time that the partition of `one` had shown when it arrived."""
    return max(
        time_of(r) for r in records if r.partition == one.partition and r.offset <= one.offset
    )


def _tie(ties: Mapping[tuple[str, str], int] | None, one: Any) -> int:
    return 0 if ties is None else ties[one.card, one.id]


def value_of(
    feature: Feature,
    one: Transaction,
    transactions: Sequence[Transaction],
    labels: Sequence[Label],
    most_events: int = MOST_EVENTS,
    ties: Mapping[tuple[str, str], int] | None = None,
) -> float:
    """Return a feature of transaction `one`, given all records of both topics.

    `ties` tells by card and id how events of one time and arrival are ordered.
    """
    present = next(t for t in without_copies(transactions) if (t.card, t.id) == (one.card, one.id))
    if feature.key is None:
        return _alone(feature, present)
    end = present.time_us - feature.delay // _US
    begin = end - feature.window // _US
    lag = VISIBILITY_LAG // _US
    now = clock(transactions, present, lambda t: t.time_us)
    if feature.value == "is_fraud":
        arrivals = [
            (x.known_us, clock(labels, x, lambda r: r.known_us), _tie(ties, x), x)
            for x in without_copies(labels)
            if getattr(x, feature.key) == getattr(present, feature.key)
            and clock(labels, x, lambda r: r.known_us) <= now - lag
        ]
        arrivals.sort(key=lambda a: a[:3])
        seen = [a[3] for a in arrivals[-most_events:] if begin < a[0] <= end]
        return _over_labels(feature, present, seen)
    arrivals = []
    nobodys = getattr(present, feature.key) is None
    for x in [] if nobodys else without_copies(transactions):
        if getattr(x, feature.key) != getattr(present, feature.key):
            continue
        if feature.key == "card":
            limit = present.offset + (1 if feature.include_current else 0)
            arrival, arrived = x.offset, x.offset < limit
        else:
            arrival = clock(transactions, x, lambda t: t.time_us)
            arrived = arrival <= now - lag
        if arrived:
            arrivals.append((x.time_us, arrival, _tie(ties, x), x))
    arrivals.sort(key=lambda a: a[:3])
    seen = [a[3] for a in arrivals[-most_events:] if begin < a[0] <= end]
    if feature.reference is not None:
        longer = replace(feature, window=feature.reference, reference=None, statistic="median")
        median = value_of(longer, one, transactions, labels, most_events, ties)
        unusual = [x for x in seen if x.amount > 2.6 * median]
        match feature.statistic:
            case "unusual_count":
                return len(unusual)
            case "unusual_share":
                return len(unusual) / len(seen) if seen else NAN
            case "seconds_since_unusual":
                return (present.time_us - unusual[-1].time_us) / 1e6 if unusual else NAN
            case "max_to_median":
                return max(x.amount for x in seen) / median if seen and median > 0 else NAN
    return _over(feature, present, seen)


def _over_labels(feature: Feature, one: Transaction, seen: list[Label]) -> float:
    frauds = sum(x.is_fraud for x in seen)
    streak: list[Label] = []
    longest = 0
    for x in sorted(seen, key=lambda x: (x.known_us, x.is_fraud)):
        streak = [*streak, x] if x.is_fraud else []
        longest = max(longest, len(streak))
    match feature.statistic:
        case "count":
            return len(seen)
        case "sum":
            return frauds
        case "mean":
            return frauds / len(seen) if seen else NAN
        case "seconds_since_last":
            last = max((x.known_us for x in seen), default=NAN)
            return (one.time_us - last) / 1e6
        case "rate":
            below = len(seen) + feature.smoothing
            return frauds / below if below else 0.0
        case "current_streak":
            return len(streak)
        case "current_streak_seconds":
            return (one.time_us - streak[0].known_us) / 1e6 if streak else NAN
        case "longest_streak":
            return longest
        case "seconds_since_fraud":
            return _since([x.known_us for x in seen if x.is_fraud], one)
        case "seconds_since_legitimate":
            return _since([x.known_us for x in seen if not x.is_fraud], one)
    raise AssertionError(feature.statistic)


def _since(known_us: list[int], one: Transaction) -> float:
    return (one.time_us - max(known_us)) / 1e6 if known_us else NAN


def _alone(feature: Feature, one: Transaction) -> float:
    moment = datetime(1970, 1, 1, tzinfo=UTC) + one.time_us * _US
    match feature.statistic:
        case "value":
            return getattr(one, feature.value)
        case "is":
            return float(getattr(one, feature.value) == feature.level)
        case "hour":
            return moment.hour
        case "is_weekend":
            return float(moment.weekday() >= 5)
        case "is_night":
            return float(moment.hour <= 6)
    raise AssertionError(feature.statistic)


def _over(feature: Feature, one: Transaction, seen: list[Transaction]) -> float:
    name = feature.value
    values = [getattr(x, name) for x in seen] if name else []
    values = [v for v in values if v is not None]
    match feature.statistic:
        case "count":
            return len(seen)
        case "sum":
            return math.fsum(values)
        case "mean":
            return math.fsum(values) / len(values) if values else NAN
        case "min":
            return min(values, default=NAN)
        case "max":
            return max(values, default=NAN)
        case "median":
            return statistics.median(values) if values else NAN
        case "trimmed_mean":
            return _trimmed(values)
        case "ratio_to_median":
            median = statistics.median(values) if values else 0
            return getattr(one, name) / median if median > 0 else NAN
        case "ratio_to_trimmed_mean":
            mean = _trimmed(values)
            return getattr(one, name) / mean if mean > 0 else NAN
        case "std":
            return statistics.stdev(values) if len(values) > 1 else NAN
        case "ratio":
            mean = math.fsum(values) / len(values) if values else 0
            return getattr(one, name) / mean if mean > 0 else NAN
        case "zscore":
            deviation = statistics.stdev(values) if len(values) > 1 else 0
            if deviation == 0:
                return NAN
            return (getattr(one, name) - math.fsum(values) / len(values)) / deviation
        case "distinct_count":
            return len(set(values))
        case "is_new":
            own = getattr(one, name)
            return NAN if own is None else float(own not in values)
        case "seconds_since_last":
            return (one.time_us - seen[-1].time_us) / 1e6 if seen else NAN
        case "distance_since_last_km":
            return _distance(one, seen)
        case "speed_since_last_kmh":
            seconds = (one.time_us - seen[-1].time_us) / 1e6 if seen else NAN
            return _distance(one, seen) / (max(seconds, 60.0) / 3600)
    raise AssertionError(feature.statistic)


def _trimmed(values: list[float]) -> float:
    kept = [v for v in values if v <= 2.6 * statistics.median(values)]
    return math.fsum(kept) / len(kept) if kept else NAN


def _distance(one: Transaction, seen: list[Transaction]) -> float:
    if not seen or None in (one.latitude, one.longitude, seen[-1].latitude, seen[-1].longitude):
        return NAN
    # The angle between two unit vectors, by another formula than the engine's.
    a, b = (
        (
            math.cos(math.radians(p.latitude)) * math.cos(math.radians(p.longitude)),
            math.cos(math.radians(p.latitude)) * math.sin(math.radians(p.longitude)),
            math.sin(math.radians(p.latitude)),
        )
        for p in (one, seen[-1])
    )
    cross = (
        a[1] * b[2] - a[2] * b[1],
        a[2] * b[0] - a[0] * b[2],
        a[0] * b[1] - a[1] * b[0],
    )
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return 6371.0088 * math.atan2(math.hypot(*cross), dot)
