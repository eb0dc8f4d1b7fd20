"""No single raw field and no simple rule tells fraud from honesty; history does."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from fraudstream.simulator.places import ONLINE
from fraudstream.simulator.stream import Batch

LIMIT = 0.30


def target_rate(code: NDArray[np.int64], truth: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Score each row by the fraud rate of its value, learned on the first half, at both halves."""
    _, value = np.unique(code, return_inverse=True)
    half = len(code) // 2
    rows = np.bincount(value[:half], minlength=value.max() + 1)
    frauds = np.bincount(value[:half], weights=truth[:half], minlength=value.max() + 1)
    # The prior keeps values that were hardly seen near the mean.
    return ((frauds + truth.mean()) / (rows + 1.0))[value]


def first_seen(*columns: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return where a combination of values occurs for the first time."""
    table = np.stack(columns, axis=1)
    _, first = np.unique(table, axis=0, return_index=True)
    seen = np.zeros(len(table), dtype=bool)
    seen[first] = True
    return seen


def scores(batch: Batch) -> Iterator[tuple[str, NDArray]]:
    """Yield every raw field and simple rule as a score: the higher, the more suspicious."""
    truth = batch.is_fraud
    hour = batch.event_time_us // 3_600_000_000 % 24
    weekday = batch.event_time_us // 86_400_000_000 % 7
    absent = np.isnan(batch.latitude)
    numbers = {
        "amount": batch.amount,
        "latitude": np.nan_to_num(batch.latitude, nan=-100.0),
        "longitude": np.nan_to_num(batch.longitude, nan=-200.0),
        "hour": hour,
        "time": batch.event_time_us,
        "second": batch.event_time_us // 1_000_000 % 60,
        "cents": np.round(batch.amount * 100) % 100,
    }
    for name, column in numbers.items():
        yield f"{name} high", column
        yield f"{name} low", -column
    categories = {
        "channel": batch.channel,
        "category": batch.merchant_category,
        "country": batch.country,
        "currency": batch.currency,
        "hour": hour,
        "hour and weekday": hour * 7 + weekday,
        "channel and country": batch.channel * 1_000 + batch.country,
        "category and channel": batch.merchant_category * 10 + batch.channel,
        "merchant": batch.merchant,
        "card": batch.card,
        "device": batch.device,
        "amount in whole units": batch.amount.astype(np.int64),
    }
    for name, column in categories.items():
        yield f"rate of {name}", target_rate(column, truth)
    new_device = first_seen(batch.card, batch.device) & (batch.device >= 0)
    yield "place absent", absent
    yield "device absent", batch.device < 0
    yield "device absent online", (batch.device < 0) & (batch.channel == 1)
    yield "first device of the card", new_device
    yield "first use of the merchant by the card", first_seen(batch.card, batch.merchant)
    yield "first use of the country by the card", first_seen(batch.card, batch.country)
    for limit in (1, 2, 3, 5, 10, 50, 100, 200, 500, 1_000):
        yield f"amount at least {limit}", batch.amount >= limit
        yield f"amount below {limit}", batch.amount < limit
        yield f"amount at least {limit} on a new device", (batch.amount >= limit) & new_device
    for begin in range(0, 24, 3):
        yield f"hour from {begin}", (hour >= begin) & (hour < begin + 3)


def test_no_single_field_or_rule_gives_fraud_away(transactions: Batch) -> None:
    assert len(transactions) >= 200_000
    second = slice(len(transactions) // 2, None)
    found = {
        name: average_precision_score(transactions.is_fraud[second], score[second])
        for name, score in scores(transactions)
    }
    best = max(found, key=found.__getitem__)
    assert found[best] < LIMIT, (best, found[best])


def lift(batch: Batch, rows: NDArray[np.bool_]) -> float:
    """Return how many times more often than on average the rows are fraud; there must be some."""
    assert rows.sum() >= 20
    return float(batch.is_fraud[rows].mean() / batch.is_fraud.mean())


def test_small_amounts_from_many_cards_at_a_merchant_within_an_hour_are_suspicious(
    transactions: Batch,
) -> None:
    hour = transactions.event_time_us // 3_600_000_000
    small = np.flatnonzero((transactions.amount < 6) & (transactions.channel == ONLINE))
    group = transactions.merchant[small] * 10_000_000 + hour[small]
    pairs = np.unique(np.stack([group, transactions.card[small]], axis=1), axis=0)
    busy, cards = np.unique(pairs[:, 0], return_counts=True)
    crowded = np.zeros(len(transactions), dtype=bool)
    crowded[small] = np.isin(group, busy[cards >= 8])
    assert lift(transactions, crowded) > 20


def test_a_card_far_from_where_it_was_hours_ago_is_suspicious(transactions: Batch) -> None:
    rows = np.flatnonzero(~np.isnan(transactions.latitude))
    rows = rows[np.lexsort((transactions.event_time_us[rows], transactions.card[rows]))]
    same = np.diff(transactions.card[rows]) == 0
    hours = np.diff(transactions.event_time_us[rows]) / 3_600e6
    degrees = np.hypot(
        np.diff(transactions.latitude[rows]), 0.7 * np.diff(transactions.longitude[rows])
    )
    far = np.zeros(len(transactions), dtype=bool)
    far[rows[1:][same & (hours < 6) & (degrees > 4)]] = True
    assert lift(transactions, far) > 20


def test_a_merchant_with_a_high_rate_of_known_frauds_is_suspicious(transactions: Batch) -> None:
    rate = np.zeros(len(transactions))
    for merchant in np.unique(transactions.merchant[transactions.is_fraud]):
        rows = np.flatnonzero(transactions.merchant == merchant)
        labelled = np.sort(transactions.labelled_at_us[rows[transactions.is_fraud[rows]]])
        known = np.searchsorted(labelled, transactions.event_time_us[rows])
        rate[rows] = known / (np.arange(len(rows)) + 20.0)
    assert lift(transactions, rate >= 0.1) > 10


def test_a_new_device_with_a_large_amount_is_suspicious(transactions: Batch) -> None:
    new = first_seen(transactions.card, transactions.device) & (transactions.device >= 0)
    assert lift(transactions, new & (transactions.amount > 100)) > 5
