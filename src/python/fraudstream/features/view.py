"""Where windows lie: the history as moments see it, under one delay.

Statistics ask a `View` for counts and sums, or for the `Members` of the windows one by one.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pandas as pd

from fraudstream.features.definitions import IDENTITIES
from fraudstream.features.definitions import MOST_EVENTS
from fraudstream.features.definitions import VISIBILITY_LAG
from fraudstream.features.definitions import Feature
from fraudstream.features.history import ABSENT
from fraudstream.features.history import Column
from fraudstream.features.history import Events
from fraudstream.features.history import Float64
from fraudstream.features.history import Int64
from fraudstream.features.history import Line
from fraudstream.features.history import Moments
from fraudstream.features.history import as_float64
from fraudstream.features.history import as_int64
from fraudstream.features.history import running_maximum
from fraudstream.features.places import Places

#: Sums are kept in integers of a millionth.
FIXED_POINT = 1_000_000
#: Window members looked at in one go, and kept for the next; bounds memory to tens of megabytes.
_MEMBERS_AT_ONCE = 2_000_000


class Timeline:
    """Where events lie, and what lies a span before each of some moments, by their times alone.

    Each span is looked up once, however many histories and statistics ask for it.

    Parameters
    ----------
    key, time_us
        Of events, sorted by both.
    moments
        Who looks at them; they lie by key and time, too.
    reach
        How far before its moment the longest window begins. To know makes finding faster.
    """

    def __init__(
        self, key: Int64, time_us: Int64, moments: Moments, reach: timedelta = timedelta(0)
    ) -> None:
        self._key, self._time_us = key, time_us
        starts = np.ones(len(key), dtype=bool)
        np.not_equal(key[1:], key[:-1], out=starts[1:])
        begins = np.flatnonzero(starts)
        #: Which events are a key's first.
        self.is_first = starts
        #: How many events the key with the most has.
        self.most_of_a_key = int(np.diff(begins, append=len(key)).max(initial=0))
        self._keys = key.take(begins)
        # The last one stands for row -1, a key without history.
        self._begins = np.append(begins, 0)
        #: The number of each event's key, and of each moment's; -1 for one without history.
        self.row = np.cumsum(starts) - 1
        self.key_row = self.row if moments.key is key else self._rows_of(moments.key)
        self._line = Line.of(time_us, len(begins), reach // timedelta(microseconds=1))
        place = self._line.place(self.row, time_us)
        self._places = Places(place)
        self._moment_us = moments.time_us
        self._moment = place
        if moments.time_us is not time_us or self.key_row is not self.row:
            self._moment = self._line.place(self.key_row, moments.time_us)
        self._found: dict[int, Int64] = {}

    def is_of(self, events: Events) -> bool:
        """Return whether these are the events, or have their keys and times."""
        return np.array_equal(events.key, self._key) and np.array_equal(
            events.time_us, self._time_us
        )

    @property
    def keys(self) -> int:
        """How many keys have events."""
        return len(self._keys)

    def begin(self) -> Int64:
        """Return the position of the first event of each moment's key; 0 without history."""
        return self._begins.take(self.key_row)

    def first_after(self, span_us: int) -> Int64:
        """Return the first event of its key after each moment less a span, in microseconds.

        Positions, not to be written to; 0 for a key without history.
        """
        if span_us not in self._found:
            if 0 <= span_us <= self._line.margin:
                wanted = self._moment - span_us
            else:
                wanted = self._line.place(self.key_row, self._moment_us - span_us)
            self._found[span_us] = self._places.first_after(wanted)
        return self._found[span_us]

    def _rows_of(self, keys: Int64) -> Int64:
        if len(self._keys) == 0 or len(keys) == 0:
            return np.full(len(keys), -1)
        begins = np.append(np.flatnonzero(keys[1:] != keys[:-1]) + 1, 0)
        begins = np.roll(begins, 1)
        distinct = keys.take(begins)
        found = np.minimum(self._keys.searchsorted(distinct), len(self._keys) - 1)
        rows = np.where(self._keys.take(found) == distinct, found, -1)
        return np.repeat(rows, np.diff(begins, append=len(keys)))


class Finder:
    """Finds places in a history, by time and by arrival.

    Parameters
    ----------
    events
        The history.
    timeline
        Of these events, and of who looks at them.
    """

    def __init__(self, events: Events, timeline: Timeline) -> None:
        self.events = events
        self.timeline = timeline
        came_in_order = (events.arrival[1:] >= events.arrival[:-1]) | timeline.is_first[1:]
        #: Whether each key's events arrived in the order of their times.
        self.in_order = bool(came_in_order.all())

    @cached_property
    def highest_before(self) -> Int64:
        """For each position but a key's first, the latest arrival of the key's events before it."""
        highest = np.zeros(len(self.events) + 1, dtype=np.int64)
        highest[1:] = running_maximum(self.timeline.row, self.events.arrival)
        return highest

    def first_never_arrived(self, horizon: Int64) -> Int64:
        """Return the position in each moment's key from which on none had arrived by then."""
        timeline = self.timeline
        line = Line.of(self.events.arrival, timeline.keys)
        places = line.place(timeline.row, self.events.arrival)
        # From the end, the lowest arrival of each key so far.
        lowest = np.minimum.accumulate(places[::-1])[::-1]
        return lowest.searchsorted(line.place(timeline.key_row, horizon), side="right")


@dataclass(frozen=True)
class Range:
    """For each moment, the positions ``start`` up to but without ``end`` in the history."""

    start: Int64
    end: Int64


@dataclass(frozen=True, eq=False)
class _Term:
    """What each event adds to a total, and all of it summed up so far."""

    each: Int64
    so_far: Int64

    @classmethod
    def of(cls, each: Int64) -> "_Term":
        return cls(each, _prefix(each))


class View:
    """A history as the moments see it, under one delay: where windows end, and who had arrived.

    Parameters
    ----------
    finder, moments
        Who looks at what. The moments lie by key and time.
    feature
        One of those that look alike.
    most_events
        See `FeatureSet`.
    """

    def __init__(
        self, finder: Finder, moments: Moments, feature: Feature, most_events: int = MOST_EVENTS
    ) -> None:
        self.events = finder.events
        self.moments = moments
        self._finder = finder
        self._delay_us = feature.delay // timedelta(microseconds=1)
        self.horizon = self.horizon_of(moments, feature)
        self._timeline = finder.timeline
        self._is_bounded = self._timeline.most_of_a_key > most_events
        #: Where what is known of a key begins: no window sees more than its latest events.
        self.begin = self._begin(most_events)
        end = self._timeline.first_after(self._delay_us).copy()
        if self._is_bounded:
            np.maximum(end, self.begin, out=end)
        _take_tail_off(self.begin, end, self.events.arrival, self.horizon)
        #: Where the windows end: behind the last event that had arrived.
        self.end = end
        # Whether events before the end had not all arrived.
        self._is_unsettled = self._look_for_late()
        self._unsettled = np.flatnonzero(self._is_unsettled)
        self._ranges: dict[timedelta, Range] = {}
        self._members: dict[timedelta, list[tuple[Int64, Members]]] = {}
        self._room = _MEMBERS_AT_ONCE
        self._totals: dict[tuple[timedelta, _Term | None], Int64] = {}
        #: Medians by window and value, kept for the statistics that build on them.
        self.medians: dict[tuple[timedelta, str], Float64] = {}
        self._terms: dict[str, tuple[_Term | None, _Term]] = {}
        self._at_end: dict[_Term, Int64] = {}

    @staticmethod
    def horizon_of(moments: Moments, feature: Feature) -> Int64:
        """Return the latest arrival that each moment sees."""
        if feature.is_of_own_card:
            return moments.sequence - (0 if feature.include_current else 1)
        return moments.clock_us - VISIBILITY_LAG // timedelta(microseconds=1)

    def range_of(self, window: timedelta) -> Range:
        """Return the positions of each moment's window."""
        if window not in self._ranges:
            span_us = self._delay_us + window // timedelta(microseconds=1)
            start = np.minimum(self._timeline.first_after(span_us), self.end)
            if self._is_bounded:
                np.maximum(start, self.begin, out=start)
            self._ranges[window] = Range(start, self.end)
        return self._ranges[window]

    def _begin(self, most_events: int) -> Int64:
        begin = self._timeline.begin()
        if not self._is_bounded:
            return begin
        arrival, horizon = self.events.arrival, self.horizon
        #: Behind the last event of the key that had arrived.
        stop = self._finder.first_never_arrived(horizon)
        start = np.maximum(stop - most_events, begin)
        # Each event among these that had not arrived makes room for one that lies before them.
        seen = stop.copy()
        looking = np.flatnonzero(start > begin)
        looking = looking[self._finder.highest_before[stop[looking]] > horizon[looking]]
        while len(looking):
            absent = np.zeros(len(looking), dtype=np.int64)
            for some, row, position in _positions(start[looking], seen[looking]):
                missing = arrival[position] > horizon[looking[some]][row]
                absent[some] = np.bincount(row[missing], minlength=len(some))
            seen[looking] = start[looking]
            start[looking] = np.maximum(start[looking] - absent, begin[looking])
            looking = looking[start[looking] < seen[looking]]
        return start

    def _look_for_late(self) -> npt.NDArray[np.bool_]:
        if self._finder.in_order:
            # The last one had, and all others came before it.
            return np.zeros(len(self.moments), dtype=bool)
        late = self._finder.highest_before.take(self.end) > self.horizon
        return (self.end > self.begin) & late

    def counts(self, window: timedelta, value: str) -> Int64:
        """Return how many events the windows hold; with a `value`, those that have it.

        Not to be written to.
        """
        return self._total(window, self._terms_of(value)[0] if value else None)

    def counts_and_sums(self, window: timedelta, value: str) -> tuple[Int64, Int64]:
        """Return how many events with a value the windows hold, and their sum in fixed point.

        Neither is to be written to.
        """
        count, total = self._terms_of(value)
        return self._total(window, count), self._total(window, total)

    def _total(self, window: timedelta, term: _Term | None) -> Int64:
        # Several statistics build on one sum.
        if (window, term) not in self._totals:
            self._totals[window, term] = self._summed(window, term)
        return self._totals[window, term]

    def _summed(self, window: timedelta, term: _Term | None) -> Int64:
        place = self.range_of(window)
        if term is None:
            total = place.end - place.start
        else:
            if term not in self._at_end:
                self._at_end[term] = term.so_far.take(self.end)
            total = self._at_end[term] - term.so_far.take(place.start)
        for rows, members in self._listed(window, self._unsettled):
            total[rows] = members.count if term is None else members.add(term.each)
        return total

    def _terms_of(self, value: str) -> tuple[_Term | None, _Term]:
        if value not in self._terms:
            column = as_float64(self.events.values[value])
            absent = np.isnan(column)
            if absent.any():
                count = _Term.of(as_int64(~absent))
                column = np.where(absent, 0.0, column)
            else:
                # Every event counts, so that positions tell how many there are.
                count = None
            self._terms[value] = count, _Term.of(as_int64(np.rint(column * FIXED_POINT)))
        return self._terms[value]

    def is_settled(self, rows: Int64) -> bool:
        """Return whether all events of the windows of some moments had arrived."""
        return not self._is_unsettled[rows].any()

    def members(self, window: timedelta) -> Iterator[tuple[Int64, "Members"]]:
        """Yield all moments, some at a time, and the members of their windows."""
        if window not in self._members:
            rows, place = np.arange(len(self.moments)), self.range_of(window)
            count = int((place.end - place.start).sum())
            if count >= self._room:
                yield from self._listed(window, rows)
                return
            # So few are listed once, for all statistics that look at them.
            self._room -= count
            self._members[window] = list(self._listed(window, rows))
        yield from self._members[window]

    def _listed(self, window: timedelta, rows: Int64) -> Iterator[tuple[Int64, "Members"]]:
        place = self.range_of(window)
        for some, row, position in _positions(place.start[rows], place.end[rows]):
            yield rows[some], Members.of(self, rows[some], row, position)


class Members:
    """The events of some windows, one after another, without those that had not arrived."""

    def __init__(self, position: Int64, row: Int64, count: Int64, events: Events) -> None:
        self.position = position
        self.row = row
        self.count = count
        self._events = events
        #: Where each window's members end, and where they begin.
        self.ends = np.cumsum(count)
        self.begins = self.ends - count
        self._columns: dict[str, Column] = {}
        # ``None`` stands for all of them.
        self._with_value: dict[str, Members | None] = {}

    @classmethod
    def of(cls, view: View, rows: Int64, row: Int64, position: Int64) -> "Members":
        """Return those of the events at `position` that had arrived for their window's moment."""
        if not view.is_settled(rows):
            arrived = view.events.arrival.take(position) <= view.horizon[rows][row]
            position, row = position[arrived], row[arrived]
        return cls(position, row, np.bincount(row, minlength=len(rows)), view.events)

    def add(self, column: Int64) -> Int64:
        """Return the sum of an integer column over each window."""
        so_far = _prefix(column.take(self.position))
        return so_far[self.ends] - so_far[self.begins]

    def time_us(self) -> Int64:
        """Return when the members happened (labels: when they became known)."""
        return self._events.time_us.take(self.position)

    def column(self, value: str) -> Float64:
        """Return a numeric column of the members, not to be written to."""
        return as_float64(self._column(value))

    def identities(self, value: str) -> Int64:
        """Return a column of identities of the members, not to be written to."""
        return as_int64(self._column(value))

    def _column(self, value: str) -> Column:
        if value not in self._columns:
            self._columns[value] = self._events.values[value].take(self.position)
        return self._columns[value]

    def reduce(self, function: np.ufunc, column: Float64) -> Float64:
        """Return `function` over each window; nan for an empty one."""
        result = np.full(len(self.count), np.nan)
        filled = self.count > 0
        if filled.any():
            starts = self.begins[filled]
            result[filled] = function.reduceat(column, starts)
        return result

    def with_value(self, value: str) -> "Members":
        """Return the members that have a value."""
        if value not in self._with_value:
            column = self._column(value)
            there = column != ABSENT if value in IDENTITIES else ~np.isnan(column)
            self._with_value[value] = None if there.all() else self.where(there)
        return self._with_value[value] or self

    def where(self, kept: npt.NDArray[np.bool_]) -> "Members":
        """Return the members for which `kept` is true."""
        row = self.row.compress(kept)
        count = np.bincount(row, minlength=len(self.count))
        return Members(self.position.compress(kept), row, count, self._events)

    def median(self, column: Float64) -> Float64:
        """Return the median of each window; nan for an empty one."""
        in_order = column[np.lexsort((column, self.row))]
        result = np.full(len(self.count), np.nan)
        filled = self.count > 0
        start = self.begins[filled]
        count = self.count[filled]
        low, high = in_order[start + (count - 1) // 2], in_order[start + count // 2]
        result[filled] = low + (high - low) / 2
        return result

    def distinct(self, value: str) -> Int64:
        """Return how many different identities each window holds."""
        # Sorting and comparing neighbours takes an eighth of what `numpy.unique` takes.
        code, known = pd.factorize(self.identities(value))
        pairs = np.sort(self.row * len(known) + code)
        first = pairs[np.diff(pairs, prepend=-1) != 0]
        return np.bincount(first // max(len(known), 1), minlength=len(self.count))


def _take_tail_off(begin: Int64, end: Int64, arrival: Int64, horizon: Int64) -> None:
    """Move each `end` back over events that had not arrived by then: often the moment's own."""
    if len(arrival) == 0:
        return
    looking = np.flatnonzero((end > begin) & (arrival.take(end - 1) > horizon))
    while len(looking):
        end[looking] -= 1
        looking = looking[end.take(looking) > begin.take(looking)]
        last = arrival.take(end.take(looking) - 1)
        looking = looking[last > horizon.take(looking)]


def _positions(start: Int64, end: Int64) -> Iterator[tuple[Int64, Int64, Int64]]:
    """Yield the positions of ranges, some ranges at a time.

    Yields
    ------
    ranges
        Which ranges, as indices.
    row, position
        For each position, the place in `ranges` of the range that it is of; and the position.
    """
    held = end - start
    for begin, stop in _runs(np.cumsum(held) // _MEMBERS_AT_ONCE):
        count = held[begin:stop]
        row = np.repeat(np.arange(stop - begin), count)
        first = start[begin:stop] - (np.cumsum(count) - count)
        yield np.arange(begin, stop), row, np.arange(len(row)) + np.repeat(first, count)


def _prefix(column: Int64) -> Int64:
    # Integers wrap around and differences come out right all the same: only a window's own sum
    # has to fit.
    so_far = np.zeros(len(column) + 1, dtype=np.int64)
    np.cumsum(column, out=so_far[1:])
    return so_far


def _runs(values: Int64) -> Iterator[tuple[int, int]]:
    if len(values) == 0:
        return
    cuts = np.flatnonzero(values[1:] != values[:-1]) + 1
    bounds = [0, *cuts.tolist(), len(values)]
    yield from pairwise(bounds)
