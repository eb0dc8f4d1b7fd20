"""Decode records of a topic into columns, checking each once.

What is not a valid record is returned as a `Rejection`, never raised and never dropped: the
trainer counts rejections, the stream sends them to the dead letters. Both call the functions
here, so that they agree on what a valid record is.
"""

from collections.abc import Iterable
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraudstream.schema.columnar import Plain
from fraudstream.schema.columnar import decode_plain
from fraudstream.schema.columnar import with_times
from fraudstream.schema.timestamps import CLOCK_TOLERANCE
from fraudstream.schema.timestamps import duration_us
from fraudstream.schema.validation import EARLIER_PREDICTIONS
from fraudstream.schema.validation import LABEL
from fraudstream.schema.validation import PREDICTION
from fraudstream.schema.validation import TRANSACTION
from fraudstream.schema.validation import InvalidDocument
from fraudstream.schema.validation import validator

#: Values of records, as they were read or as a column.
Values: TypeAlias = Sequence[bytes | None] | pa.BinaryArray | pa.LargeBinaryArray

#: From so many records on it pays to set up what decodes them together.
_MANY = 300

_TRANSACTION_FIELDS = pa.schema(
    [
        ("transaction_id", pa.string()),
        ("event_time", pa.string()),
        ("card_id", pa.string()),
        ("merchant_id", pa.string()),
        ("merchant_category", pa.string()),
        ("amount", pa.float64()),
        ("currency", pa.string()),
        ("channel", pa.string()),
        ("latitude", pa.float64()),
        ("longitude", pa.float64()),
        ("country", pa.string()),
        ("device_id", pa.string()),
    ]
)
_LABEL_FIELDS = pa.schema(
    [
        ("transaction_id", pa.string()),
        ("card_id", pa.string()),
        ("merchant_id", pa.string()),
        ("event_time", pa.string()),
        ("is_fraud", pa.bool_()),
        ("labelled_at", pa.string()),
        ("source", pa.string()),
    ]
)

# Without features and reasons, which nobody reads in bulk.
_PREDICTION_FIELDS = pa.schema(
    [
        ("transaction_id", pa.string()),
        ("event_time", pa.string()),
        ("card_id", pa.string()),
        ("merchant_id", pa.string()),
        ("amount", pa.float64()),
        ("score", pa.float64()),
        ("threshold", pa.float64()),
        ("is_alert", pa.bool_()),
        ("is_late", pa.bool_()),
        ("role", pa.string()),
        ("model_name", pa.string()),
        ("model_version", pa.string()),
        ("model_digest", pa.string()),
        ("feature_set", pa.string()),
    ]
)


@dataclass(frozen=True)
class Rejection:
    """A record that cannot be used: its place among the input, and why."""

    row: int
    reason: str


@dataclass(frozen=True)
class Decoded:
    """Columns of the valid records, and what was wrong with the others.

    Attributes
    ----------
    columns
        One row a valid record. Times are ``int64`` columns named ``*_us``; absent values are null.
    rows
        ``int64``, the input row of each row of `columns`, increasing.
    rejections
        The other input rows, increasing.
    """

    columns: pa.Table
    rows: npt.NDArray[np.int64]
    rejections: list[Rejection]


def decode_transactions(values: Values, appended_ms: npt.NDArray[np.int64]) -> Decoded:
    """Decode records of the topic of transactions.

    Parameters
    ----------
    values
        The records' values; one of Arrow's columns is not copied.
    appended_ms
        ``int64``, milliseconds since the epoch when the broker appended each record. An event
        time more than `CLOCK_TOLERANCE` later is refused.

    Examples
    --------
    >>> value = (b'{"transaction_id": "t1", "event_time": "1970-01-01T00:00:01Z", '
    ...          b'"card_id": "c1", "merchant_id": "m1", "amount": 9.5}')
    >>> decoded = decode_transactions([value, b"?"], np.array([1_000, 1_000]))
    >>> decoded.columns["event_time_us"].to_pylist(), decoded.columns["amount"].to_pylist()
    ([1000000], [9.5])
    >>> [(r.row, r.reason.split(":")[0]) for r in decoded.rejections]
    [(1, 'expected a JSON document')]
    """
    return _decode_flat(values, appended_ms, TRANSACTION, _TRANSACTION_FIELDS, ("event_time",))


def decode_labels(values: Values, appended_ms: npt.NDArray[np.int64]) -> Decoded:
    """Decode records of the topic of labels; see `decode_transactions`."""
    times = ("event_time", "labelled_at")
    return _decode_flat(values, appended_ms, LABEL, _LABEL_FIELDS, times)


def decode_predictions(
    values: Sequence[bytes | None], appended_ms: npt.NDArray[np.int64]
) -> Decoded:
    """Decode records of the topics of scores and alerts, also of versions before the present.

    See `decode_transactions`. In the column ``role``, what tells none is of the champion.
    """
    versions = (PREDICTION, *EARLIER_PREDICTIONS)
    times = ("event_time",)
    rows = range(len(values))
    table, index, rejections = _decode_each(rows, values, versions, _PREDICTION_FIELDS, times)
    role = table.column_names.index("role")
    table = table.set_column(role, "role", pc.fill_null(table["role"], "champion"))
    return _refuse_future(table, index, rejections, appended_ms, times)


def _decode_flat(
    values: Values,
    appended_ms: npt.NDArray[np.int64],
    schema: str,
    fields: pa.Schema,
    times: tuple[str, ...],
) -> Decoded:
    """Decode records of a schema of flat objects: plain ones many at a time, others one by one."""
    column = values if isinstance(values, pa.Array) else pa.array(values, pa.binary())
    plain = Plain(with_times(fields.empty_table(), times), np.zeros(0, dtype=np.int64))
    if len(column) >= _MANY:
        plain = decode_plain(column, schema, fields, times)
        if len(plain.rows) == len(column):
            return _refuse_future(plain.columns, plain.rows, [], appended_ms, times)
    left = np.setdiff1d(np.arange(len(column)), plain.rows, assume_unique=True)
    alone = column.take(pa.array(left)).to_pylist()
    table, index, rejections = _decode_each(left.tolist(), alone, (schema,), fields, times)
    index = np.concatenate([plain.rows, index])
    order = np.argsort(index)
    table = pa.concat_tables([plain.columns, table]).take(pa.array(order))
    return _refuse_future(table, index[order], rejections, appended_ms, times)


def _decode_each(
    rows: Sequence[int],
    values: Iterable[bytes | None],
    versions: Sequence[str],
    fields: pa.Schema,
    times: tuple[str, ...],
) -> tuple[pa.Table, npt.NDArray[np.int64], list[Rejection]]:
    """Decode records one by one; `rows` says where among the input each is."""
    documents: list[dict[str, Any]] = []
    valid: list[int] = []
    rejections: list[Rejection] = []
    for row, value in zip(rows, values, strict=True):
        try:
            documents.append(_parse(value, versions))
            valid.append(row)
        except InvalidDocument as error:
            rejections.append(Rejection(row, str(error)))
    columns = {
        field.name: pa.array([document.get(field.name) for document in documents], field.type)
        for field in fields
    }
    return with_times(pa.table(columns), times), np.array(valid, dtype=np.int64), rejections


def _refuse_future(
    table: pa.Table,
    index: npt.NDArray[np.int64],
    rejections: list[Rejection],
    appended_ms: npt.NDArray[np.int64],
    times: tuple[str, ...],
) -> Decoded:
    latest_us = np.asarray(appended_ms)[index] * 1000 + duration_us(CLOCK_TOLERANCE)
    possible = np.ones(len(index), dtype=bool)
    for name in times:
        possible &= table[f"{name}_us"].to_numpy() <= latest_us
    if not possible.all():
        minutes = CLOCK_TOLERANCE // timedelta(minutes=1)
        reason = f"{' or '.join(times)}: expected at most {minutes} min after the append time"
        rejections += [Rejection(int(row), reason) for row in index[~possible]]
        rejections.sort(key=lambda rejection: rejection.row)
        table = table.filter(pa.array(possible))
        index = index[possible]
    return Decoded(table, index, rejections)


def _parse(value: bytes | None, versions: Sequence[str]) -> dict[str, Any]:
    """Return a document that is valid by one of the versions; the first says why one is not."""
    latest, *earlier = versions
    try:
        return validator(latest).parse(value)
    except InvalidDocument:
        for name in earlier:
            try:
                return validator(name).parse(value)
            except InvalidDocument:
                continue
        raise


def concatenate(parts: Sequence[Decoded], lengths: Sequence[int]) -> Decoded:
    """Join parts that were decoded one after another; `lengths` counts the input rows of each."""
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    return Decoded(
        pa.concat_tables([part.columns for part in parts]),
        np.concatenate([part.rows + start for part, start in zip(parts, starts, strict=True)]),
        [
            Rejection(rejection.row + int(start), rejection.reason)
            for part, start in zip(parts, starts, strict=True)
            for rejection in part.rejections
        ],
    )


def dictionary_codes(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return a string column as integer codes (-1 for null) and the strings that they stand for.

    Examples
    --------
    >>> codes, names = dictionary_codes(pa.chunked_array([["b", None, "b"]]))
    >>> codes.tolist(), names
    ([0, -1, 0], ['b'])
    """
    encoded = column.combine_chunks().dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy().astype(np.int64)
    return codes, encoded.dictionary.to_pylist()
