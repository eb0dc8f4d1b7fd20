"""Valid documents to start from."""

from typing import Any


def transaction(**changes: Any) -> dict[str, Any]:
    """Return a valid transaction with every field, some of them changed."""
    return {
        "transaction_id": "t1",
        "event_time": "2026-01-01T00:00:00Z",
        "card_id": "c1",
        "merchant_id": "m1",
        "merchant_category": "5411",
        "amount": 9.5,
        "currency": "EUR",
        "channel": "online",
        "latitude": 48.1,
        "longitude": 11.5,
        "country": "DE",
        "device_id": "d1",
        **changes,
    }


def label(**changes: Any) -> dict[str, Any]:
    """Return a valid label, some of its fields changed."""
    return {
        "transaction_id": "t1",
        "card_id": "c1",
        "merchant_id": "m1",
        "event_time": "2026-01-01T00:00:00Z",
        "is_fraud": False,
        "labelled_at": "2026-01-08T00:00:00Z",
        "source": "no_dispute",
        **changes,
    }


def prediction(**changes: Any) -> dict[str, Any]:
    """Return a valid prediction, some of its fields changed."""
    return {
        "transaction_id": "t1",
        "event_time": "2026-01-01T00:00:00Z",
        "card_id": "c1",
        "merchant_id": "m1",
        "amount": 9.5,
        "score": 0.5,
        "threshold": 0.75,
        "is_alert": False,
        "is_late": False,
        "role": "champion",
        "model_name": "fraud-detector",
        "model_version": "1",
        "model_digest": "0" * 64,
        "feature_set": "default.v1@0123456789abcdef",
        "reasons": [],
        "features": None,
        **changes,
    }
