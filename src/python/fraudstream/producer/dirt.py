"""What real traffic has and clean simulations lack: repeats, late arrivals, garbled records."""

from collections.abc import Callable
from typing import Any

_Document = dict[str, Any]

# Mistakes that upstream systems make. The number is no card's: it belongs to no issuer's range.
_GARBLINGS: tuple[Callable[[_Document], _Document], ...] = (
    lambda document: {name: value for name, value in document.items() if name != "merchant_id"},
    lambda document: {**document, "amount": str(document["amount"])},
    lambda document: {**document, "amount": -1.0},
    lambda document: {**document, "card_id": "0000000000000000"},
    lambda document: {**document, "event_time": document["event_time"].replace("T", " ")},
    lambda document: {**document, "is_fraud": False},
)


def garble(document: _Document, variant: int) -> _Document:
    """Return a copy of a valid transaction that breaks the schema in one of several ways.

    Parameters
    ----------
    document
        A transaction.
    variant
        Any number of at least 0; equal ones garble alike.

    Examples
    --------
    >>> garble({"amount": 9.5, "card_id": "c1"}, 1)
    {'amount': '9.5', 'card_id': 'c1'}
    """
    return _GARBLINGS[variant % len(_GARBLINGS)](document)
