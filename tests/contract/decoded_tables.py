"""Naive records as the decoded columns that the engine reads."""

import pyarrow as pa


def tables(transactions, labels):
    """The same records as the decoded columns that the engine reads."""
    return (
        pa.table(
            {
                "transaction_id": pa.array([t.id for t in transactions], pa.string()),
                "card_id": pa.array([t.card for t in transactions], pa.string()),
                "merchant_id": pa.array([t.merchant for t in transactions], pa.string()),
                "event_time_us": pa.array([t.time_us for t in transactions], pa.int64()),
                "partition": pa.array([t.partition for t in transactions], pa.int64()),
                "offset": pa.array([t.offset for t in transactions], pa.int64()),
                "amount": pa.array([t.amount for t in transactions], pa.float64()),
                "channel": pa.array([t.channel for t in transactions], pa.string()),
                "device_id": pa.array([t.device for t in transactions], pa.string()),
                "country": pa.array([t.country for t in transactions], pa.string()),
                "latitude": pa.array([t.latitude for t in transactions], pa.float64()),
                "longitude": pa.array([t.longitude for t in transactions], pa.float64()),
            }
        ),
        pa.table(
            {
                "transaction_id": pa.array([x.id for x in labels], pa.string()),
                "card_id": pa.array([x.card for x in labels], pa.string()),
                "merchant_id": pa.array([x.merchant for x in labels], pa.string()),
                "labelled_at_us": pa.array([x.known_us for x in labels], pa.int64()),
                "partition": pa.array([x.partition for x in labels], pa.int64()),
                "offset": pa.array([x.offset for x in labels], pa.int64()),
                "is_fraud": pa.array([x.is_fraud for x in labels], pa.bool_()),
            }
        ),
    )
