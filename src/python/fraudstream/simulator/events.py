"""Transactions as columns, while a day is being put together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import fields
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

SECOND_US = 1_000_000
HOUR_US = 3_600 * SECOND_US
DAY_US = 24 * HOUR_US

NO_DEVICE = -1
"""The device code of a transaction that shows none."""

_VERSION_BITS = 24


class Pattern(IntEnum):
    """Why a transaction was made; the codes of `Batch.pattern`."""

    NONE = 0
    ACCOUNT_TAKEOVER = 1
    CARD_TESTING = 2
    MERCHANT_COLLUSION = 3
    GEO_ANOMALY = 4


class DeviceKind(IntEnum):
    """Whose device it is; part of its code, and not to be read from its name."""

    PHONE = 0
    HOUSEHOLD = 1
    BORROWED = 2
    THIEF = 3


def device_code(
    kind: DeviceKind, owner: NDArray[np.int64], version: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return the codes of devices.

    Parameters
    ----------
    kind : DeviceKind
        Whose devices they are.
    owner : numpy.ndarray of int64
        From 0 to 2**22 - 1: the card for a holder's device, the day for a thief's.
    version : numpy.ndarray of int64
        From 0 to 2**24 - 1: tells the devices of one owner apart.

    Returns
    -------
    numpy.ndarray of int64
        At least 0 and below 2**48; equal only for the same device.

    Examples
    --------
    >>> device_code(DeviceKind.PHONE, np.array([0, 1]), np.array([0, 0])).tolist()
    [0, 67108864]
    """
    return ((owner << _VERSION_BITS | version) << 2) | int(kind)


@dataclass(frozen=True, eq=False)
class Events:
    """Transactions, one row each, in no order; what the merchant adds is looked up later.

    Attributes
    ----------
    time_us : numpy.ndarray of int64
        Microseconds since the simulation's start; negative before it.
    card, merchant : numpy.ndarray of int64
        Rows of the world's cards and merchants.
    amount : numpy.ndarray of float64
        In the card's currency, two decimals.
    device : numpy.ndarray of int64
        See `device_code`; `NO_DEVICE` where none is shown.
    pattern : numpy.ndarray of int8
        See `Pattern`.
    """

    time_us: NDArray[np.int64]
    card: NDArray[np.int64]
    merchant: NDArray[np.int64]
    amount: NDArray[np.float64]
    device: NDArray[np.int64]
    pattern: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.time_us)

    def take(self, rows: NDArray[np.int64] | NDArray[np.bool_]) -> Events:
        """Return the rows at these positions, or where this mask is true."""
        return Events(*(getattr(self, field.name)[rows] for field in fields(self)))

    @staticmethod
    def concatenate(parts: Sequence[Events]) -> Events:
        """Return the rows of all parts, one part after the other; at least one part."""
        return Events(
            *(
                np.concatenate([getattr(part, field.name) for part in parts])
                for field in fields(Events)
            )
        )

    @staticmethod
    def of_pattern(
        pattern: Pattern,
        *,
        time_us: NDArray[np.int64],
        card: NDArray[np.int64],
        merchant: NDArray[np.int64],
        amount: NDArray[np.float64],
        device: NDArray[np.int64] | None = None,
    ) -> Events:
        """Put together events of one pattern; amounts are rounded to cents, at least 0.50."""
        return Events(
            time_us=time_us,
            card=card,
            merchant=merchant,
            amount=np.maximum(np.round(amount, 2), 0.5),
            device=np.full(len(card), NO_DEVICE) if device is None else device,
            pattern=np.full(len(card), int(pattern), dtype=np.int8),
        )


def whole_us(value: NDArray[np.float64], unit: int) -> NDArray[np.int64]:
    """Return times or durations in a unit of `unit` microseconds as whole microseconds.

    Examples
    --------
    >>> whole_us(np.array([0.5]), HOUR_US).tolist()
    [1800000000]
    """
    return np.floor(value * unit).astype(np.int64)
