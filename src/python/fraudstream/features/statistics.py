"""What windows are asked for: every statistic, as a function of a `View`."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraudstream.features.definitions import LABEL
from fraudstream.features.definitions import Feature
from fraudstream.features.history import ABSENT
from fraudstream.features.history import Column
from fraudstream.features.history import Float64
from fraudstream.features.history import Int64
from fraudstream.features.history import Moments
from fraudstream.features.history import as_float64
from fraudstream.features.history import as_int64
from fraudstream.features.history import identity
from fraudstream.features.view import FIXED_POINT
from fraudstream.features.view import Members
from fraudstream.features.view import View

Mask = npt.NDArray[np.bool_]

_ROUNDING = 1e-12
#: A value of more than so many medians is unusual, and left out of a trimmed mean.
_USUAL_MEDIANS = 2.6
_EARTH_RADIUS_KM = 6371.0088
_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_NIGHT_ENDS_HOUR = 6
_SATURDAY = 5
_EPOCH_WEEKDAY = 3


def of_transaction(feature: Feature, moments: Moments) -> Float64:
    """Return a feature of the transactions alone."""
    if feature.statistic == "value":
        return np.asarray(moments.values[feature.value or ""], dtype=np.float64)
    if feature.statistic == "is":
        level = identity(pa.array([feature.level]))[0]
        return (moments.values[feature.value or ""] == level).astype(np.float64)
    hour = moments.time_us % _DAY_US // _HOUR_US
    if feature.statistic == "hour":
        return hour.astype(np.float64)
    if feature.statistic == "is_night":
        return (hour <= _NIGHT_ENDS_HOUR).astype(np.float64)
    weekday = (moments.time_us // _DAY_US + _EPOCH_WEEKDAY) % 7
    return (weekday >= _SATURDAY).astype(np.float64)


def of_window(feature: Feature, view: View) -> Float64:
    """Return a feature of the windows before the transactions."""
    window, value = feature.window or timedelta(0), feature.value or ""
    if feature.reference is not None:
        return _WITH_REFERENCE[feature.statistic](view, window, value, feature.reference)
    if feature.statistic == "rate":
        return _rate(view, window, value, feature.smoothing)
    return _STATISTICS[feature.statistic](view, window, value)


def _count(view: View, window: timedelta, value: str) -> Float64:
    return view.counts(window, value).astype(np.float64)


def _sum(view: View, window: timedelta, value: str) -> Float64:
    return view.counts_and_sums(window, value)[1] / FIXED_POINT


def _mean(view: View, window: timedelta, value: str) -> Float64:
    count, total = view.counts_and_sums(window, value)
    return _divide(total / FIXED_POINT, count)


def _ratio(view: View, window: timedelta, value: str) -> Float64:
    return _divide(_own(view, value), _mean(view, window, value))


def _ratio_to_median(view: View, window: timedelta, value: str) -> Float64:
    return _divide(_own(view, value), _median(view, window, value))


def _ratio_to_trimmed_mean(view: View, window: timedelta, value: str) -> Float64:
    return _divide(_own(view, value), _trimmed_mean(view, window, value))


def _rate(view: View, window: timedelta, value: str, smoothing: float) -> Float64:
    count, total = view.counts_and_sums(window, value)
    divisor = count + smoothing
    return np.divide(total / FIXED_POINT, divisor, out=np.zeros(len(count)), where=divisor > 0)


def _min(view: View, window: timedelta, value: str) -> Float64:
    return _extreme(np.minimum, view, window, value)


def _max(view: View, window: timedelta, value: str) -> Float64:
    return _extreme(np.maximum, view, window, value)


def _extreme(function: np.ufunc, view: View, window: timedelta, value: str) -> Float64:
    result = np.full(len(view.moments), np.nan)
    for rows, members in view.members(window):
        some = members.with_value(value)
        result[rows] = some.reduce(function, some.column(value))
    return result


def _median(view: View, window: timedelta, value: str) -> Float64:
    # Several statistics build on one median, which is dear.
    if (window, value) not in view.medians:
        result = np.full(len(view.moments), np.nan)
        for rows, members in view.members(window):
            some = members.with_value(value)
            result[rows] = some.median(some.column(value))
        view.medians[window, value] = result
    return view.medians[window, value]


def _trimmed_mean(view: View, window: timedelta, value: str) -> Float64:
    usual = _USUAL_MEDIANS * _median(view, window, value)
    result = np.full(len(view.moments), np.nan)
    for rows, members in view.members(window):
        some = members.with_value(value)
        column = some.column(value)
        kept = column <= usual[rows][some.row]
        count = np.bincount(some.row[kept], minlength=len(rows))
        total = as_float64(np.bincount(some.row[kept], column[kept], len(rows)))
        result[rows] = _divide(total, count)
    return result


def _unusual_count(view: View, window: timedelta, value: str, reference: timedelta) -> Float64:
    return _unusual(view, window, value, reference)[0]


def _unusual_share(view: View, window: timedelta, value: str, reference: timedelta) -> Float64:
    return _divide(*_unusual(view, window, value, reference))


def _unusual(
    view: View, window: timedelta, value: str, reference: timedelta
) -> tuple[Float64, Float64]:
    """Return how many values of each window are unusual by the reference, and how many it has."""
    usual = _USUAL_MEDIANS * _median(view, reference, value)
    unusual, count = np.zeros(len(view.moments)), np.zeros(len(view.moments))
    for rows, members in view.members(window):
        some = members.with_value(value)
        over = some.column(value) > usual[rows][some.row]
        unusual[rows] = np.bincount(some.row[over], minlength=len(rows))
        count[rows] = some.count
    return unusual, count


def _seconds_since_unusual(
    view: View, window: timedelta, value: str, reference: timedelta
) -> Float64:
    usual = _USUAL_MEDIANS * _median(view, reference, value)

    def is_unusual(members: Members, rows: Int64) -> Mask:
        return members.column(value) > usual[rows][members.row]

    return _seconds_since(view, window, is_unusual)


def _max_to_median(view: View, window: timedelta, value: str, reference: timedelta) -> Float64:
    return _divide(_max(view, window, value), _median(view, reference, value))


def _seconds_since_fraud(view: View, window: timedelta, value: str) -> Float64:
    return _seconds_since(view, window, lambda members, rows: members.column(LABEL) > 0)


def _seconds_since_legitimate(view: View, window: timedelta, value: str) -> Float64:
    return _seconds_since(view, window, lambda members, rows: members.column(LABEL) == 0)


def _seconds_since(
    view: View, window: timedelta, is_one: Callable[[Members, Int64], Mask]
) -> Float64:
    """Return how long before the moments the last event was that is one; nan where none is."""
    result = np.full(len(view.moments), np.nan)
    for rows, members in view.members(window):
        some = members.where(is_one(members, rows))
        last_us = some.reduce(np.maximum, some.time_us().astype(np.float64))
        result[rows] = (view.moments.time_us[rows] - last_us) / 1e6
    return result


@dataclass(frozen=True)
class _Streaks:
    """Labels of some windows in the order in which they became known.

    `length` is how many frauds in a row a label ends; `last` is the place of the last label of
    each window that has any.
    """

    time_us: Int64
    length: Int64
    last: Int64


def _streaks(members: Members) -> _Streaks:
    """Return how many frauds in a row each label ends."""
    known_us = members.time_us()
    fraud = members.column(LABEL) > 0
    order = np.lexsort((fraud, known_us, members.row))
    place = np.arange(len(order))
    filled = members.count > 0
    starts = members.begins[filled]
    # Where the streak that reaches a label had not begun yet: at a label that is no fraud, or
    # before the window's first.
    before = np.where(fraud[order], -1, place)
    before[starts] = np.maximum(before[starts], starts - 1)
    length = place - np.maximum.accumulate(before)
    return _Streaks(known_us[order], length, members.ends[filled] - 1)


def _current_streak(view: View, window: timedelta, value: str) -> Float64:
    result = np.zeros(len(view.moments))
    for rows, members in view.members(window):
        filled, streaks = members.count > 0, _streaks(members)
        result[rows[filled]] = streaks.length[streaks.last]
    return result


def _current_streak_seconds(view: View, window: timedelta, value: str) -> Float64:
    result = np.full(len(view.moments), np.nan)
    for rows, members in view.members(window):
        streaks = _streaks(members)
        length = streaks.length[streaks.last]
        running = rows[members.count > 0][length > 0]
        first = (streaks.last - length + 1)[length > 0]
        result[running] = (view.moments.time_us[running] - streaks.time_us[first]) / 1e6
    return result


def _longest_streak(view: View, window: timedelta, value: str) -> Float64:
    result = np.zeros(len(view.moments))
    for rows, members in view.members(window):
        longest = members.reduce(np.maximum, _streaks(members).length.astype(np.float64))
        result[rows] = np.nan_to_num(longest)
    return result


def _std(view: View, window: timedelta, value: str) -> Float64:
    result = np.full(len(view.moments), np.nan)
    mean = _mean(view, window, value)
    for rows, members in view.members(window):
        some = members.with_value(value)
        squares = (some.column(value) - mean[rows][some.row]) ** 2
        result[rows] = np.sqrt(_divide(some.reduce(np.add, squares), some.count - 1.0))
    # Equal values deviate by nothing, not by how their mean was rounded.
    return np.where(result <= _ROUNDING * np.abs(mean), 0.0, result)


def _zscore(view: View, window: timedelta, value: str) -> Float64:
    return _divide(_own(view, value) - _mean(view, window, value), _std(view, window, value))


def _distinct_count(view: View, window: timedelta, value: str) -> Float64:
    result = np.zeros(len(view.moments))
    for rows, members in view.members(window):
        result[rows] = members.with_value(value).distinct(value)
    return result


def _is_new(view: View, window: timedelta, value: str) -> Float64:
    own = as_int64(view.moments.values[value])
    seen = np.zeros(len(own), dtype=np.int64)
    for rows, members in view.members(window):
        same = members.identities(value) == own.take(rows).take(members.row)
        seen[rows] = np.bincount(members.row.compress(same), minlength=len(rows))
    return np.where(own == ABSENT, np.nan, seen == 0)


def _since_last(view: View, window: timedelta) -> tuple[Int64, Float64]:
    """Return the position of each window's last event (0 if none) and the seconds since (nan)."""
    place = view.range_of(window)
    inside = place.end > place.start
    last = np.where(inside, place.end - 1, 0)
    seconds = np.full(len(last), np.nan)
    elapsed_us = view.moments.time_us[inside] - view.events.time_us[last[inside]]
    seconds[inside] = elapsed_us / 1e6
    return last, seconds


def _seconds_since_last(view: View, window: timedelta, value: str) -> Float64:
    return _since_last(view, window)[1]


def _distance_since_last_km(view: View, window: timedelta, value: str) -> Float64:
    last, seconds = _since_last(view, window)
    if np.isnan(seconds).all():
        return seconds
    here, there = view.moments.values, view.events.values
    distance = _great_circle_km(
        as_float64(here["latitude"]),
        as_float64(here["longitude"]),
        as_float64(there["latitude"])[last],
        as_float64(there["longitude"])[last],
    )
    return np.where(np.isnan(seconds), np.nan, distance)


def _speed_since_last_kmh(view: View, window: timedelta, value: str) -> Float64:
    # Below a minute, clocks and coordinates say more about the terminals than about the traveller.
    hours = np.maximum(_seconds_since_last(view, window, value), 60.0) / 3600.0
    return _distance_since_last_km(view, window, value) / hours


_STATISTICS: dict[str, Callable[[View, timedelta, str], Float64]] = {
    "count": _count,
    "sum": _sum,
    "mean": _mean,
    "min": _min,
    "max": _max,
    "std": _std,
    "median": _median,
    "trimmed_mean": _trimmed_mean,
    "ratio": _ratio,
    "ratio_to_median": _ratio_to_median,
    "ratio_to_trimmed_mean": _ratio_to_trimmed_mean,
    "zscore": _zscore,
    "distinct_count": _distinct_count,
    "is_new": _is_new,
    "seconds_since_last": _seconds_since_last,
    "distance_since_last_km": _distance_since_last_km,
    "speed_since_last_kmh": _speed_since_last_kmh,
    "current_streak": _current_streak,
    "current_streak_seconds": _current_streak_seconds,
    "longest_streak": _longest_streak,
    "seconds_since_fraud": _seconds_since_fraud,
    "seconds_since_legitimate": _seconds_since_legitimate,
}
_WITH_REFERENCE: dict[str, Callable[[View, timedelta, str, timedelta], Float64]] = {
    "unusual_count": _unusual_count,
    "unusual_share": _unusual_share,
    "seconds_since_unusual": _seconds_since_unusual,
    "max_to_median": _max_to_median,
}


def _own(view: View, value: str) -> Float64:
    return as_float64(view.moments.values[value])


def _divide(above: Float64, below: Column) -> Float64:
    """Divide; nan where the divisor is not positive."""
    divisor = as_float64(below)
    with np.errstate(divide="ignore", invalid="ignore"):
        result: Float64 = above / divisor
    without = divisor <= 0
    if without.any():
        result[without] = np.nan
    return result


def _great_circle_km(lat1: Float64, lon1: Float64, lat2: Float64, lon2: Float64) -> Float64:
    """Distance on a sphere by the haversine formula (R. W. Sinnott, 1984), degrees in, km out."""
    phi1, phi2 = np.radians(lat1), np.radians(lat2)
    half_phi = (phi2 - phi1) / 2
    half_lambda = np.radians(lon2 - lon1) / 2
    h = np.sin(half_phi) ** 2 + np.cos(phi1) * np.cos(phi2) * np.sin(half_lambda) ** 2
    return 2 * _EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(h, 1.0)))
