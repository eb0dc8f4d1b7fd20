"""Times on the wire (RFC 3339, UTC) and in columns (integer microseconds since the epoch)."""

from datetime import UTC
from datetime import datetime
from datetime import timedelta

import numpy as np
import numpy.typing as npt

MICROSECOND = timedelta(microseconds=1)

#: How far an event time may lie after the broker's append time: clocks differ, the future does not
#: happen early. Beyond it a record is refused, so that it can neither block nor poison a window.
CLOCK_TOLERANCE = timedelta(minutes=5)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_us(moment: datetime) -> int:
    """Return an aware `moment` as microseconds since the epoch.

    Raises
    ------
    ValueError
        If `moment` has no time zone: a naive time could mean any instant.

    Examples
    --------
    >>> to_us(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    1000000
    """
    if moment.tzinfo is None:
        raise ValueError(f"expected a time with a time zone, got {moment.isoformat()}: add +00:00")
    return (moment - _EPOCH) // MICROSECOND


def from_us(us: int) -> datetime:
    """Return microseconds since the epoch as an aware UTC `datetime`.

    Examples
    --------
    >>> from_us(1_000_000).isoformat()
    '1970-01-01T00:00:01+00:00'
    """
    return _EPOCH + int(us) * MICROSECOND


def duration_us(duration: timedelta) -> int:
    """Return a `duration` in whole microseconds."""
    return duration // MICROSECOND


def format_us(us: npt.NDArray[np.int64]) -> list[str]:
    """Return times as the schemas write them, in bulk.

    Examples
    --------
    >>> format_us(np.array([0, 1_500_000]))
    ['1970-01-01T00:00:00.000000Z', '1970-01-01T00:00:01.500000Z']
    """
    text = np.datetime_as_string(np.asarray(us, dtype="datetime64[us]"), unit="us")
    return np.char.add(text, "Z").tolist()
