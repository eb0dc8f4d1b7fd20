"""A feature that saw what had not happened, or not arrived, would be caught, whatever it tells.

For each feature there is a history in which something lies just out of its sight. It must not
move the feature; and it does move it where the engine is made to look: else the test would prove
nothing.
"""

from dataclasses import replace

import numpy as np
import pytest

from contract.decoded_tables import tables
from contract.every_statistic import EVERY_STATISTIC
from contract.every_statistic import OF_WINDOWS
from contract.naive_features import Label
from contract.naive_features import Transaction
from fraudstream.features.definitions import FeatureSet
from fraudstream.features.view import Timeline
from fraudstream.features.view import View
from fraudstream.features.windows import replay

MINUTE_US = 60_000_000
NOON_US = 12 * 60 * MINUTE_US
ONE = Transaction("one", "a", "m", NOON_US, 0, 0, 21.5, "atm", "own", "NL", 52.1, 4.9)
#: Of other cards and merchants, an hour ahead: they only move the clocks of their partitions.
CLOCK = Transaction("clock", "z", "z", NOON_US + 60 * MINUTE_US, 0, 0, 1.0)
LABEL_CLOCK = Label("clock", "z", "z", NOON_US + 120 * MINUTE_US, 0, 0, False)


def events(name, minutes, amounts, **changed):
    """Transactions that share the card, the merchant, the device and the country with `ONE`."""
    return [
        replace(
            ONE,
            id=f"{name}{number}",
            time_us=NOON_US + minute * MINUTE_US,
            amount=amount,
            **changed,
        )
        for number, (minute, amount) in enumerate(zip(minutes, amounts, strict=True))
    ]


def labels_of(name, minutes, frauds):
    return [
        Label(f"{name}{number}", "a", "m", NOON_US + minute * MINUTE_US, 0, 0, fraud)
        for number, (minute, fraud) in enumerate(zip(minutes, frauds, strict=True))
    ]


PAST = events("p", (-55, -50, -45, -28, -26, -24, -22, -20), (9, 11, 10, 12, 8, 10.5, 9.5, 11.5))
PAST = [
    replace(p, merchant="n" if p.id == "p7" else "m", device="another", country="DE") for p in PAST
]
PAST += events("d", (-58, -29, -27), (13, 7, 12.5), card="b", merchant="n", country="BE")
PAST += events("c", (-57, -29, -23), (8, 13.5, 12), card="b", merchant="n", device="third")
KNOWN = labels_of("p", (-29, -25, -21, -19), (True, False, True, False))
#: What is out of sight lies in the windows with a delay and in those without.
HIDDEN_MINUTES = (-44, -43, -35, -12, -11, -10, -9)
HIDDEN_AMOUNTS = (0.5, 900.0, 14.0, 0.25, 950.0, 15.0, 13.5)
HIDDEN = [
    replace(h, latitude=40.0, longitude=-3.0, merchant=merchant, card=card)
    for merchant, card in (("m", "a"), ("q", "a"), ("m", "c"))
    for h in events(f"h{merchant}{card}", HIDDEN_MINUTES, HIDDEN_AMOUNTS)
]
HIDDEN_LABELS = labels_of("h", (-13, -12, -11, -10, -9), (False, True, True, True, True))
AHEAD = [replace(h, time_us=h.time_us + 60 * MINUTE_US, id=f"x{h.id}") for h in HIDDEN]
AHEAD_LABELS = [
    replace(x, id=f"x{x.id}", known_us=x.known_us + 60 * MINUTE_US) for x in HIDDEN_LABELS
]


def seen_by(feature, transactions, labels):
    """The value for `ONE` when records arrive in this order, all in one partition."""
    sent = [replace(t, offset=number) for number, t in enumerate(transactions)]
    known = [replace(x, offset=number) for number, x in enumerate(labels)]
    row = next(number for number, t in enumerate(sent) if t.id == "one")
    return replay(FeatureSet("one", 1, (feature,)), *tables(sent, known))[row, 0]


def with_and_without_what_had_not_arrived(feature):
    past = [*PAST, CLOCK, ONE]
    known = [*KNOWN, LABEL_CLOCK]
    return (
        seen_by(feature, past, known),
        seen_by(feature, [*past, *HIDDEN], [*known, *HIDDEN_LABELS]),
    )


def with_and_without_what_had_not_happened(feature):
    return (
        seen_by(feature, [*PAST, CLOCK, ONE], KNOWN),
        seen_by(feature, [*PAST, *AHEAD, CLOCK, ONE], [*KNOWN, *AHEAD_LABELS]),
    )


def identity_of(feature):
    return feature.name


@pytest.mark.parametrize("feature", EVERY_STATISTIC.features, ids=identity_of)
def test_no_feature_sees_what_had_not_arrived_or_not_happened(feature):
    without, with_it = with_and_without_what_had_not_arrived(feature)
    np.testing.assert_equal(with_it, without)
    without, with_it = with_and_without_what_had_not_happened(feature)
    np.testing.assert_equal(with_it, without)


def looking_ahead(monkeypatch, by_us):
    """Make the engine believe that it is so much later, wherever it looks for a window's end."""
    honest = Timeline.first_after

    def ahead(self, span_us):
        return honest(self, span_us - by_us)

    monkeypatch.setattr(Timeline, "first_after", ahead)


@pytest.mark.parametrize("feature", OF_WINDOWS, ids=identity_of)
def test_an_engine_that_sees_what_had_not_arrived_is_caught(feature, monkeypatch):
    def everything(moments, feature):
        return np.full(len(moments), np.iinfo(np.int64).max)

    monkeypatch.setattr(View, "horizon_of", staticmethod(everything))
    # It would see the transaction itself as the last one before it.
    looking_ahead(monkeypatch, -1)
    without, with_it = with_and_without_what_had_not_arrived(feature)
    with pytest.raises(AssertionError):
        np.testing.assert_equal(with_it, without)


@pytest.mark.parametrize("feature", OF_WINDOWS, ids=identity_of)
def test_an_engine_that_sees_what_had_not_happened_is_caught(feature, monkeypatch):
    looking_ahead(monkeypatch, 60 * MINUTE_US)
    without, with_it = with_and_without_what_had_not_happened(feature)
    with pytest.raises(AssertionError):
        np.testing.assert_equal(with_it, without)
