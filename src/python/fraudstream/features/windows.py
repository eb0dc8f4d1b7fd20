"""The engine: exact sliding windows in event time, over any history, as of any moment.

The same functions serve training (the history is the whole topic) and the stream (the history is
what the state holds for the keys of a batch), and give the same numbers:

* An event counts for a moment when its time lies in ``(t - delay - window, t - delay]`` and it had
  arrived: before the moment in the card's partition, or `VISIBILITY_LAG` before by the partition
  clock elsewhere. A repeated batch gets the same numbers even though the state already holds it.
* Sums are kept in integers of a millionth, so that they are exact in whatever order and over
  however long a history they are formed.

Where every event before a window's end had arrived, which is so unless some came late, counts and
sums come from prefix sums in constant time a row. The other rows, and statistics that prefix sums
cannot give, look at the window's members one by one. Late, duplicated and out-of-order events
therefore change speed, never numbers.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraudstream.features.definitions import IDENTITIES
from fraudstream.features.definitions import LABEL
from fraudstream.features.definitions import OF_TRANSACTION
from fraudstream.features.definitions import VISIBILITY_LAG
from fraudstream.features.definitions import Feature
from fraudstream.features.definitions import FeatureSet
from fraudstream.features.history import ABSENT
from fraudstream.features.history import Events
from fraudstream.features.history import Float64
from fraudstream.features.history import Int64
from fraudstream.features.history import Moments
from fraudstream.features.history import first_copies
from fraudstream.features.history import identity
from fraudstream.features.history import label_values
from fraudstream.features.history import partition_clock
from fraudstream.features.history import transaction_values

_FIXED_POINT = 1_000_000
_ROUNDING = 1e-12
#: A value of more than so many medians is unusual, and left out of a trimmed mean.
_USUAL_MEDIANS = 2.6
_EARTH_RADIUS_KM = 6371.0088
_HOUR_US = 3_600_000_000
_DAY_US = 24 * _HOUR_US
_NIGHT_ENDS_HOUR = 6
_SATURDAY = 5
_EPOCH_WEEKDAY = 3
#: Window members looked at in one go; bounds memory to some tens of megabytes.
_MEMBERS_AT_ONCE = 2_000_000

Column = npt.NDArray[np.generic]


def features_at(
    features: Sequence[Feature], transactions: Events, labels: Events, moments: Moments
) -> dict[str, Float64]:
    """Compute the features of one key.

    Parameters
    ----------
    features
        Features that share one key; ``None`` needs no history.
    transactions, labels
        The history of at least the moments' keys. The moments' own events may be among them, and
        so may later ones: neither is seen.
    moments
        For which transactions.

    Returns
    -------
    dict
        ``float64`` columns of the moments' length by feature name; nan where there is no value.
    """
    views: dict[tuple[bool, timedelta, bool], _View] = {}
    columns: dict[str, Float64] = {}
    for feature in features:
        if feature.statistic in OF_TRANSACTION:
            columns[feature.name] = _of_transaction(feature, moments)
            continue
        of_labels = feature.is_of_labels
        place = (of_labels, feature.delay, feature.include_current)
        if place not in views:
            views[place] = _View(labels if of_labels else transactions, moments, feature)
        columns[feature.name] = _of_window(feature, views[place])
    return columns


def assemble(feature_set: FeatureSet, columns: dict[str, Float64]) -> Float64:
    """Return the matrix of a feature set, shape (n, features), from columns by name."""
    return np.column_stack([columns[name] for name in feature_set.names])


def replay(feature_set: FeatureSet, transactions: pa.Table, labels: pa.Table) -> Float64:
    """Compute the features of a whole topic, each row as the stream would have seen it.

    Parameters
    ----------
    feature_set
        Which features.
    transactions, labels
        Decoded columns (`fraudstream.schema.decoding`) with ``partition`` and ``offset``.

    Returns
    -------
    float64, shape (n, features)
        In the order of `transactions`. A duplicate has the features of its first copy.
    """
    values = transaction_values(transactions)
    time_us = transactions["event_time_us"].to_numpy()
    partition = transactions["partition"].to_numpy()
    offset = transactions["offset"].to_numpy()
    clock_us = partition_clock(partition, offset, time_us)
    first, copy_of = first_copies(_int64(values["card"]), _int64(values["transaction"]), offset)

    known = label_values(labels)
    known_us = labels["labelled_at_us"].to_numpy()
    label_offset = labels["offset"].to_numpy()
    label_clock_us = partition_clock(labels["partition"].to_numpy(), label_offset, known_us)
    first_label, _ = first_copies(_int64(known["card"]), _int64(known["transaction"]), label_offset)

    kept = {name: column[first] for name, column in values.items()}
    told = {name: column[first_label] for name, column in known.items()}
    columns: dict[str, Float64] = {}
    for key in dict.fromkeys(feature.key for feature in feature_set.features):
        identities = _int64(kept[key or "card"])
        arrival = offset if key == "card" else clock_us
        columns |= features_at(
            feature_set.over(key),
            Events.ordered(identities, time_us[first], arrival[first], kept),
            Events.ordered(
                _int64(told[key or "card"]),
                known_us[first_label],
                label_clock_us[first_label],
                {"is_fraud": told["is_fraud"]},
            ),
            Moments(identities, time_us[first], offset[first], clock_us[first], kept),
        )
    return assemble(feature_set, columns)[copy_of]


# --- the transaction alone -----------------------------------------------------------------------


def _of_transaction(feature: Feature, moments: Moments) -> Float64:
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


# --- windows -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Range:
    """For each moment, the positions ``start`` up to but without ``end`` in the history."""

    start: Int64
    end: Int64


@dataclass(frozen=True)
class _Terms:
    """What each event adds to a count and to a sum in fixed point, and both summed up so far."""

    counts: Int64
    sums: Int64
    counts_so_far: Int64
    sums_so_far: Int64

    @classmethod
    def of(cls, counts: Int64, sums: Int64) -> "_Terms":
        return cls(counts, sums, _prefix(counts), _prefix(sums))


class _View:
    """A history as the moments see it, under one delay: where windows end, and who had arrived."""

    def __init__(self, events: Events, moments: Moments, feature: Feature) -> None:
        self.events = events
        self.moments = moments
        self._finder = _Finder(events)
        self._delay_us = feature.delay // timedelta(microseconds=1)
        if feature.is_of_own_card:
            self.horizon = moments.sequence - (0 if feature.include_current else 1)
        else:
            self.horizon = moments.clock_us - VISIBILITY_LAG // timedelta(microseconds=1)
        self.key_row = self._finder.rows_of(moments.key)
        begin = self._finder.begin_of(self.key_row)
        end = self._finder.first_after(self.key_row, moments.time_us - self._delay_us)
        #: Where the windows end: behind the last event that had arrived.
        self.end = _without_tail(begin, end, events.arrival, self.horizon)
        #: Whether any event of the key lies before the end.
        self.any = self.end > begin
        #: Whether all of them had arrived.
        self.settled = ~self.any
        self.settled[self.any] = (
            self._finder.highest_arrival[self.end[self.any] - 1] <= self.horizon[self.any]
        )
        self._ranges: dict[timedelta, _Range] = {}
        self._terms: dict[str, _Terms] = {}

    def range_of(self, window: timedelta) -> _Range:
        """Return the positions of each moment's window."""
        if window not in self._ranges:
            from_us = self.moments.time_us - self._delay_us - window // timedelta(microseconds=1)
            start = self._finder.first_after(self.key_row, from_us)
            self._ranges[window] = _Range(np.minimum(start, self.end), self.end)
        return self._ranges[window]

    def counts_and_sums(self, window: timedelta, value: str) -> tuple[Int64, Int64]:
        """Return how many events with a value the windows hold, and their sum in fixed point."""
        terms = self._terms_of(value)
        place = self.range_of(window)
        count = terms.counts_so_far[place.end] - terms.counts_so_far[place.start]
        total = terms.sums_so_far[place.end] - terms.sums_so_far[place.start]
        for rows, members in self.members(window, np.flatnonzero(~self.settled)):
            count[rows] = members.add(terms.counts)
            total[rows] = members.add(terms.sums)
        return count, total

    def _terms_of(self, value: str) -> "_Terms":
        if value not in self._terms:
            ones = np.ones(len(self.events), dtype=np.int64)
            if value == "":
                self._terms[value] = _Terms.of(ones, ones)
            else:
                column = _float64(self.events.values[value])
                present = ~np.isnan(column)
                fixed = np.rint(np.where(present, column, 0.0) * _FIXED_POINT)
                self._terms[value] = _Terms.of(_int64(present), _int64(fixed))
        return self._terms[value]

    def members(
        self, window: timedelta, rows: Int64 | None = None
    ) -> Iterator[tuple[Int64, "_Members"]]:
        """Yield the windows of `rows` (default: all) and their members, some at a time."""
        place = self.range_of(window)
        rows = np.arange(len(self.moments)) if rows is None else rows
        held = place.end[rows] - place.start[rows]
        chunk = np.cumsum(held) // _MEMBERS_AT_ONCE
        for begin, stop in _runs(chunk):
            some = rows[begin:stop]
            yield some, _Members.gather(self, place, some)


class _Finder:
    """Finds places in a history sorted by key and time."""

    def __init__(self, events: Events) -> None:
        n = len(events)
        starts = np.ones(n, dtype=bool)
        starts[1:] = events.key[1:] != events.key[:-1]
        self._keys = events.key[starts]
        self._begins = np.append(np.flatnonzero(starts), n)
        self._ticks, rank = np.unique(events.time_us, return_inverse=True)
        key_row = np.cumsum(starts) - 1
        self._places = key_row * (len(self._ticks) + 1) + rank
        arrival_ticks, arrival_rank = np.unique(events.arrival, return_inverse=True)
        offset = key_row * len(arrival_ticks)
        #: For each event, the latest arrival among its key's events up to it.
        self.highest_arrival = (
            arrival_ticks[np.maximum.accumulate(offset + arrival_rank) - offset]
            if n
            else events.arrival
        )

    def rows_of(self, keys: Int64) -> Int64:
        """Return the number of each key, or -1 for one without history."""
        if len(self._keys) == 0:
            return np.full(len(keys), -1)
        found = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[found] == keys, found, -1)

    def begin_of(self, key_row: Int64) -> Int64:
        """Return the position of each key's first event; 0 for one without history."""
        return np.where(key_row >= 0, self._begins[key_row], 0)

    def first_after(self, key_row: Int64, time_us: Int64) -> Int64:
        """Return the position of each key's first event later than `time_us`."""
        rank = np.searchsorted(self._ticks, time_us, side="right")
        place = np.searchsorted(self._places, key_row * (len(self._ticks) + 1) + rank)
        return np.where(key_row >= 0, place, 0)


class _Members:
    """The events of some windows, one after another, without those that had not arrived."""

    def __init__(self, position: Int64, row: Int64, count: Int64, view: _View, rows: Int64) -> None:
        self.position = position
        self.row = row
        self.count = count
        self._view = view
        self._rows = rows
        self._ends = np.cumsum(count)

    @classmethod
    def gather(cls, view: _View, place: _Range, rows: Int64) -> "_Members":
        held = place.end[rows] - place.start[rows]
        ends = np.cumsum(held)
        row = np.repeat(np.arange(len(rows)), held)
        position = np.arange(len(row)) + np.repeat(place.start[rows] - (ends - held), held)
        if not view.settled[rows].all():
            arrived = view.events.arrival[position] <= view.horizon[rows][row]
            position, row = position[arrived], row[arrived]
        return cls(position, row, np.bincount(row, minlength=len(rows)), view, rows)

    def add(self, column: Int64) -> Int64:
        """Return the sum of an integer column over each window."""
        so_far = _prefix(column[self.position])
        return so_far[self._ends] - so_far[self._ends - self.count]

    def column(self, value: str) -> Float64:
        """Return a numeric column of the members."""
        return np.asarray(self._view.events.values[value], dtype=np.float64)[self.position]

    def reduce(self, function: np.ufunc, column: Float64) -> Float64:
        """Return `function` over each window; nan for an empty one."""
        result = np.full(len(self.count), np.nan)
        filled = self.count > 0
        if filled.any():
            starts = (self._ends - self.count)[filled]
            result[filled] = function.reduceat(column, starts)
        return result

    def with_value(self, value: str) -> "_Members":
        """Return the members that have a value."""
        column = self._view.events.values[value][self.position]
        present = column != ABSENT if value in IDENTITIES else ~np.isnan(column)
        row = self.row[present]
        count = np.bincount(row, minlength=len(self.count))
        return _Members(self.position[present], row, count, self._view, self._rows)

    def median(self, column: Float64) -> Float64:
        """Return the median of each window; nan for an empty one."""
        in_order = column[np.lexsort((column, self.row))]
        result = np.full(len(self.count), np.nan)
        filled = self.count > 0
        start = (self._ends - self.count)[filled]
        count = self.count[filled]
        low, high = in_order[start + (count - 1) // 2], in_order[start + count // 2]
        result[filled] = low + (high - low) / 2
        return result

    def streaks(self) -> "_Streaks":
        """Return how many frauds in a row each label ends."""
        known_us = self._view.events.time_us[self.position]
        fraud = _float64(self._view.events.values[LABEL])[self.position] > 0
        order = np.lexsort((fraud, known_us, self.row))
        place = np.arange(len(order))
        filled = self.count > 0
        starts = (self._ends - self.count)[filled]
        # Where the streak that reaches a label had not begun yet: at a label that is no fraud, or
        # before the window's first.
        before = np.where(fraud[order], -1, place)
        before[starts] = np.maximum(before[starts], starts - 1)
        length = place - np.maximum.accumulate(before)
        return _Streaks(known_us[order], length, self._ends[filled] - 1)

    def distinct(self, value: str) -> Int64:
        """Return how many different identities each window holds."""
        names = self._view.events.values[value][self.position]
        _, code = np.unique(names, return_inverse=True)
        pairs = np.unique(self.row * (len(names) + 1) + code)
        return np.bincount(pairs // (len(names) + 1), minlength=len(self.count))


@dataclass(frozen=True)
class _Streaks:
    """Labels of some windows in the order in which they became known.

    `length` is how many frauds in a row a label ends; `last` is the place of the last label of
    each window that has any.
    """

    time_us: Int64
    length: Int64
    last: Int64


def _of_window(feature: Feature, view: _View) -> Float64:
    window, value = feature.window or timedelta(0), feature.value or ""
    if feature.reference is not None:
        unusual, count = _unusual(view, window, value, feature.reference)
        return unusual if feature.statistic == "unusual_count" else _divide(unusual, count)
    if feature.statistic == "rate":
        return _rate(view, window, value, feature.smoothing)
    return _STATISTICS[feature.statistic](view, window, value)


def _count(view: _View, window: timedelta, value: str) -> Float64:
    return view.counts_and_sums(window, value)[0].astype(np.float64)


def _sum(view: _View, window: timedelta, value: str) -> Float64:
    return view.counts_and_sums(window, value)[1] / _FIXED_POINT


def _mean(view: _View, window: timedelta, value: str) -> Float64:
    count, total = view.counts_and_sums(window, value)
    return _divide(total / _FIXED_POINT, count)


def _ratio(view: _View, window: timedelta, value: str) -> Float64:
    return _divide(_own(view, value), _mean(view, window, value))


def _ratio_to_median(view: _View, window: timedelta, value: str) -> Float64:
    return _divide(_own(view, value), _median(view, window, value))


def _ratio_to_trimmed_mean(view: _View, window: timedelta, value: str) -> Float64:
    return _divide(_own(view, value), _trimmed_mean(view, window, value))


def _rate(view: _View, window: timedelta, value: str, smoothing: float) -> Float64:
    count, total = view.counts_and_sums(window, value)
    return np.nan_to_num(_divide(total / _FIXED_POINT, count + smoothing))


def _min(view: _View, window: timedelta, value: str) -> Float64:
    return _extreme(np.minimum, view, window, value)


def _max(view: _View, window: timedelta, value: str) -> Float64:
    return _extreme(np.maximum, view, window, value)


def _extreme(function: np.ufunc, view: _View, window: timedelta, value: str) -> Float64:
    result = np.full(len(view.moments), np.nan)
    for rows, members in view.members(window):
        some = members.with_value(value)
        result[rows] = some.reduce(function, some.column(value))
    return result


def _median(view: _View, window: timedelta, value: str) -> Float64:
    result = np.full(len(view.moments), np.nan)
    for rows, members in view.members(window):
        some = members.with_value(value)
        result[rows] = some.median(some.column(value))
    return result


def _trimmed_mean(view: _View, window: timedelta, value: str) -> Float64:
    usual = _USUAL_MEDIANS * _median(view, window, value)
    result = np.full(len(view.moments), np.nan)
    for rows, members in view.members(window):
        some = members.with_value(value)
        column = some.column(value)
        kept = column <= usual[rows][some.row]
        count = np.bincount(some.row[kept], minlength=len(rows))
        total = _float64(np.bincount(some.row[kept], column[kept], len(rows)))
        result[rows] = _divide(total, count)
    return result


def _unusual(
    view: _View, window: timedelta, value: str, reference: timedelta
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


def _current_streak(view: _View, window: timedelta, value: str) -> Float64:
    result = np.zeros(len(view.moments))
    for rows, members in view.members(window):
        filled, streaks = members.count > 0, members.streaks()
        result[rows[filled]] = streaks.length[streaks.last]
    return result


def _current_streak_seconds(view: _View, window: timedelta, value: str) -> Float64:
    result = np.full(len(view.moments), np.nan)
    for rows, members in view.members(window):
        streaks = members.streaks()
        length = streaks.length[streaks.last]
        running = rows[members.count > 0][length > 0]
        first = (streaks.last - length + 1)[length > 0]
        result[running] = (view.moments.time_us[running] - streaks.time_us[first]) / 1e6
    return result


def _longest_streak(view: _View, window: timedelta, value: str) -> Float64:
    result = np.zeros(len(view.moments))
    for rows, members in view.members(window):
        longest = members.reduce(np.maximum, members.streaks().length.astype(np.float64))
        result[rows] = np.nan_to_num(longest)
    return result


def _std(view: _View, window: timedelta, value: str) -> Float64:
    result = np.full(len(view.moments), np.nan)
    mean = _mean(view, window, value)
    for rows, members in view.members(window):
        some = members.with_value(value)
        squares = (some.column(value) - mean[rows][some.row]) ** 2
        result[rows] = np.sqrt(_divide(some.reduce(np.add, squares), some.count - 1.0))
    # Equal values deviate by nothing, not by how their mean was rounded.
    return np.where(result <= _ROUNDING * np.abs(mean), 0.0, result)


def _zscore(view: _View, window: timedelta, value: str) -> Float64:
    return _divide(_own(view, value) - _mean(view, window, value), _std(view, window, value))


def _distinct_count(view: _View, window: timedelta, value: str) -> Float64:
    result = np.zeros(len(view.moments))
    for rows, members in view.members(window):
        result[rows] = members.with_value(value).distinct(value)
    return result


def _is_new(view: _View, window: timedelta, value: str) -> Float64:
    own = _int64(view.moments.values[value])
    seen = np.zeros(len(own), dtype=np.int64)
    for rows, members in view.members(window):
        names = view.events.values[value][members.position]
        same = names == own[rows][members.row]
        seen[rows] = np.bincount(members.row[same], minlength=len(rows))
    return np.where(own == ABSENT, np.nan, seen == 0)


def _since_last(view: _View, window: timedelta) -> tuple[Int64, Float64]:
    """Return the position of each window's last event (0 if none) and the seconds since (nan)."""
    place = view.range_of(window)
    inside = view.any & (place.end > place.start)
    last = np.where(inside, place.end - 1, 0)
    seconds = np.full(len(last), np.nan)
    elapsed_us = view.moments.time_us[inside] - view.events.time_us[last[inside]]
    seconds[inside] = elapsed_us / 1e6
    return last, seconds


def _seconds_since_last(view: _View, window: timedelta, value: str) -> Float64:
    return _since_last(view, window)[1]


def _distance_since_last_km(view: _View, window: timedelta, value: str) -> Float64:
    last, seconds = _since_last(view, window)
    if np.isnan(seconds).all():
        return seconds
    here, there = view.moments.values, view.events.values
    distance = _great_circle_km(
        _float64(here["latitude"]),
        _float64(here["longitude"]),
        _float64(there["latitude"])[last],
        _float64(there["longitude"])[last],
    )
    return np.where(np.isnan(seconds), np.nan, distance)


def _speed_since_last_kmh(view: _View, window: timedelta, value: str) -> Float64:
    # Below a minute, clocks and coordinates say more about the terminals than about the traveller.
    hours = np.maximum(_seconds_since_last(view, window, value), 60.0) / 3600.0
    return _distance_since_last_km(view, window, value) / hours


_STATISTICS: dict[str, Callable[[_View, timedelta, str], Float64]] = {
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
}


def _own(view: _View, value: str) -> Float64:
    return _float64(view.moments.values[value])


def _divide(above: Float64, below: npt.NDArray[np.generic]) -> Float64:
    """Divide; nan where the divisor is not positive."""
    divisor = _float64(below)
    result: Float64 = np.full(np.shape(above), np.nan)
    np.divide(above, divisor, out=result, where=divisor > 0)
    return result


def _great_circle_km(lat1: Float64, lon1: Float64, lat2: Float64, lon2: Float64) -> Float64:
    """Distance on a sphere by the haversine formula (R. W. Sinnott, 1984), degrees in, km out."""
    phi1, phi2 = np.radians(lat1), np.radians(lat2)
    half_phi = (phi2 - phi1) / 2
    half_lambda = np.radians(lon2 - lon1) / 2
    h = np.sin(half_phi) ** 2 + np.cos(phi1) * np.cos(phi2) * np.sin(half_lambda) ** 2
    return 2 * _EARTH_RADIUS_KM * np.arcsin(np.sqrt(np.minimum(h, 1.0)))


def _without_tail(begin: Int64, end: Int64, arrival: Int64, horizon: Int64) -> Int64:
    """Move each `end` back over events that had not arrived by then: often the moment's own."""
    end = end.copy()
    looking = np.flatnonzero(end > begin)
    while len(looking):
        looking = looking[arrival[end[looking] - 1] > horizon[looking]]
        end[looking] -= 1
        looking = looking[end[looking] > begin[looking]]
    return end


def _prefix(column: Int64) -> Int64:
    # Integers wrap around and differences come out right all the same: only a window's own sum
    # has to fit.
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(column)])


def _runs(values: Int64) -> Iterator[tuple[int, int]]:
    if len(values) == 0:
        return
    cuts = np.flatnonzero(values[1:] != values[:-1]) + 1
    bounds = [0, *cuts.tolist(), len(values)]
    yield from pairwise(bounds)


def _int64(column: Column) -> Int64:
    return np.asarray(column, dtype=np.int64)


def _float64(column: Column) -> Float64:
    return np.asarray(column, dtype=np.float64)
