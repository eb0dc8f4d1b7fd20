"""Times on the wire and in columns."""

from datetime import UTC
from datetime import datetime
from datetime import timedelta
from datetime import timezone
import re

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from fraudstream.schema.timestamps import duration_us
from fraudstream.schema.timestamps import format_us
from fraudstream.schema.timestamps import from_us
from fraudstream.schema.timestamps import to_us
from fraudstream.schema.validation import TRANSACTION
from fraudstream.schema.validation import load_schema

_MOMENTS = st.datetimes(
    min_value=datetime(1970, 1, 1), max_value=datetime(2099, 12, 31), timezones=st.just(UTC)
)


@given(moment=_MOMENTS)
def test_a_moment_survives_the_way_to_microseconds_and_back(moment: datetime) -> None:
    assert from_us(to_us(moment)) == moment


@given(moment=_MOMENTS)
def test_a_time_as_written_fits_the_schema_and_is_read_as_the_same_time(moment: datetime) -> None:
    (text,) = format_us(np.array([to_us(moment)]))
    rule = load_schema(TRANSACTION)["properties"]["event_time"]
    assert re.fullmatch(rule["pattern"], text)
    assert datetime.fromisoformat(text) == moment


def test_the_zone_of_a_moment_counts() -> None:
    assert to_us(datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 0


def test_a_moment_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        to_us(datetime(2026, 1, 1))


def test_a_duration_is_counted_in_whole_microseconds() -> None:
    assert duration_us(timedelta(days=1, microseconds=2)) == 86_400_000_002
