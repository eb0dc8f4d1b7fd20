"""Decode plain records many at a time, straight into columns.

A record is plain if it is a flat JSON object of printable ASCII, without escapes, whose fields pass
conditions that are sufficient for its schema and for holding no card number. That is how our own
producer writes. Of such a record the columns that come out are those that parsing and checking it
by itself would give. Whatever is not plain is left to just that: it may be valid all the same, and
only there the reason is told why it is not.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from fraudstream.schema.validation import load_schema

Mask = npt.NDArray[np.bool_]
Condition = Callable[[pa.ChunkedArray], pa.ChunkedArray]

#: Records parsed in one go. Where one of them breaks the reader, halves are tried, and of as few as
#: the second number none any more: these are left out.
_AT_ONCE, _LEFT_OUT = 16_000, 2_000

_OPENING, _CLOSING, _BACKSLASH = (np.uint8(ord(character)) for character in "{}\\")
_FIRST_PRINTABLE, _LAST_PRINTABLE = np.uint8(ord(" ")), np.uint8(ord("~"))

# Of an id. It begins by saying what may not be: RE2, which matches columns, has no such thing.
_ID = r"^(?![0-9]{12,19}$)[A-Za-z0-9_.:-]{1,64}$"
_ID_LENGTH = 64

# An id without so many digits and dashes in a row that they could be a card number, or be refused
# for being nothing else.
_PLAIN_ID = r"^(?:[0-9-]{0,11}[A-Za-z_.:])*[0-9-]{0,11}$"


@dataclass(frozen=True)
class Plain:
    """Some of the records that were given.

    Attributes
    ----------
    columns
        One row a plain record, as `with_times` gives them.
    rows
        ``int64``, the input row of each row of `columns`, increasing.
    """

    columns: pa.Table
    rows: npt.NDArray[np.int64]


def decode_plain(
    values: pa.BinaryArray | pa.LargeBinaryArray,
    schema: str,
    fields: pa.Schema,
    times: Sequence[str],
) -> Plain:
    """Decode those of some records that are plain.

    Parameters
    ----------
    values
        The records' values.
    schema
        Name of a schema of flat objects, such as ``"label.v1"``.
    fields
        A column for each of its properties: strings, ``float64`` or booleans.
    times
        Which of them are times.

    Examples
    --------
    >>> fields = pa.schema([
    ...     (name, pa.bool_() if name == "is_fraud" else pa.string())
    ...     for name in load_schema("label.v1")["properties"]])
    >>> value = (b'{"transaction_id": "t1", "card_id": "c1", "merchant_id": "m1", '
    ...          b'"event_time": "1970-01-01T00:00:00Z", "is_fraud": true, '
    ...          b'"labelled_at": "1970-01-01T00:00:01Z", "source": "replay"}')
    >>> values = pa.array([b"?", value])
    >>> plain = decode_plain(values, "label.v1", fields, ["event_time", "labelled_at"])
    >>> plain.rows.tolist(), plain.columns["labelled_at_us"].to_pylist()
    ([1], [1000000])
    """
    found = [(with_times(fields.empty_table(), times), np.zeros(0, dtype=np.int64))]
    for start in range(0, len(values), _AT_ONCE):
        some = values.slice(start, _AT_ONCE)
        looks_plain = _looks_plain(some)
        rows = np.flatnonzero(looks_plain) + start
        some = some if looks_plain.all() else some.filter(pa.array(looks_plain))
        found += _decoded(some, rows, schema, fields, times)
    columns = pa.concat_tables([table for table, _ in found]).combine_chunks()
    return Plain(columns, np.concatenate([rows for _, rows in found]))


def _looks_plain(values: pa.BinaryArray | pa.LargeBinaryArray) -> Mask:
    """Tell which values are an object without another inside, in one line of ASCII.

    That is what two JSON readers cannot see differently. Bytes and line breaks outside of it, and
    escapes, are what they may.
    """
    _, bounds, content = values.buffers()
    kind = np.int64 if pa.types.is_large_binary(values.type) else np.int32
    bound = np.frombuffer(bounds, kind)[values.offset : values.offset + len(values) + 1]
    text = np.frombuffer(content or b"", np.uint8)[bound[0] : bound[-1]]
    begin, end = bound[:-1] - bound[0], bound[1:] - bound[0]
    # A tombstone is null.
    plain = (end - begin >= 2) & values.is_valid().to_numpy(zero_copy_only=False)
    opening, closing = begin[plain], end[plain] - 1
    is_bracketed = (text[opening] == _OPENING) & (text[closing] == _CLOSING)
    plain[plain] = is_bracketed

    foreign = text - _FIRST_PRINTABLE > _LAST_PRINTABLE - _FIRST_PRINTABLE
    for character in (_OPENING, _CLOSING, _BACKSLASH):
        foreign |= text == character
    for own in (opening, closing):
        foreign[own[is_bracketed]] = False
    if foreign.any():
        plain[bound.searchsorted(np.flatnonzero(foreign) + bound[0], side="right") - 1] = False
    return plain


def _decoded(
    values: pa.BinaryArray | pa.LargeBinaryArray,
    rows: npt.NDArray[np.int64],
    schema: str,
    fields: pa.Schema,
    times: Sequence[str],
) -> Iterator[tuple[pa.Table, npt.NDArray[np.int64]]]:
    """Yield columns of those records that pass, and their rows; of half, where one breaks."""
    table = _parse(values, fields)
    if table is not None:
        passed = _passes(table, schema)
        try:
            columns = with_times(table if passed.all() else table.filter(pa.array(passed)), times)
        except pa.ArrowInvalid:
            # A time that looks like one, on the 30th of February.
            pass
        else:
            yield columns, rows[passed]
            return
    half = len(rows) // 2
    if half >= _LEFT_OUT // 2:
        yield from _decoded(values[:half], rows[:half], schema, fields, times)
        yield from _decoded(values[half:], rows[half:], schema, fields, times)


def with_times(columns: pa.Table, times: Sequence[str]) -> pa.Table:
    """Return columns with times as ``int64`` microseconds since the epoch, named ``*_us``.

    Raises
    ------
    pyarrow.ArrowInvalid
        If one is no time.

    Examples
    --------
    >>> with_times(pa.table({"at": ["1970-01-01T00:00:01Z"]}), ["at"]).to_pylist()
    [{'at_us': 1000000}]
    """
    for name in times:
        instants = columns[name].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
        place = columns.column_names.index(name)
        columns = columns.set_column(place, f"{name}_us", instants)
    return columns


def _parse(values: pa.BinaryArray | pa.LargeBinaryArray, fields: pa.Schema) -> pa.Table | None:
    """Return a row for each value, or ``None`` if any of them is more than the reader takes."""
    if not len(values):
        return None
    whole = pa.ListArray.from_arrays([0, len(values)], values)
    try:
        [lines] = pc.binary_join(whole, pa.scalar(b"\n", values.type))
        table = pyarrow.json.read_json(
            pa.BufferReader(lines.as_buffer()),
            pyarrow.json.ReadOptions(use_threads=False, block_size=lines.as_buffer().size + 1),
            pyarrow.json.ParseOptions(explicit_schema=fields, unexpected_field_behavior="error"),
        )
    except pa.ArrowInvalid:
        return None
    return table if len(table) == len(values) else None


def _passes(table: pa.Table, schema: str) -> Mask:
    passed = np.ones(len(table), dtype=bool)
    for name, rule in load_schema(schema)["properties"].items():
        column = table[name]
        valid = np.ones(len(table), dtype=bool)
        for condition in _conditions(schema, name):
            valid &= _true(condition(column))
        # Absent and null look alike here: only what may be null may be absent.
        passed &= valid | _true(column.is_null()) if _is_nullable(rule) else valid
    return passed


@cache
def _conditions(schema: str, name: str) -> tuple[Condition, ...]:
    """Return tests of a column's values that hold only where the rules of a property do."""
    return tuple(_from_rule(load_schema(schema)["properties"][name]))


def _from_rule(rule: dict[str, Any]) -> Iterator[Condition]:
    yield partial(pc.is_valid)
    if "enum" in rule:
        levels = [level for level in rule["enum"] if level is not None]
        yield partial(pc.is_in, value_set=pa.array(levels))
    if rule.get("pattern") == _ID:
        yield partial(pc.match_substring_regex, pattern=_PLAIN_ID)
        yield _has_length_of_id
    elif "pattern" in rule:
        yield partial(pc.match_substring_regex, pattern=rule["pattern"])
    if "number" in _types(rule):
        yield partial(pc.is_finite)
    if "minimum" in rule:
        yield partial(pc.less_equal, float(rule["minimum"]))
    if "maximum" in rule:
        yield partial(pc.greater_equal, float(rule["maximum"]))


def _has_length_of_id(column: pa.ChunkedArray) -> pa.ChunkedArray:
    length = pc.binary_length(column)
    return pc.and_(pc.greater(length, 0), pc.less_equal(length, _ID_LENGTH))


def _types(rule: dict[str, Any]) -> list[str]:
    types = rule.get("type", [])
    return [types] if isinstance(types, str) else types


def _is_nullable(rule: dict[str, Any]) -> bool:
    return "null" in _types(rule) or None in rule.get("enum", ())


def _true(column: pa.ChunkedArray | pa.Array) -> Mask:
    found: Mask = pc.fill_null(column, False).to_numpy(zero_copy_only=False).astype(bool)
    return found
