"""Recorded transactions: a CSV or Parquet file whose columns are mapped to the schema's fields."""

from collections.abc import Callable
from collections.abc import Mapping
from datetime import UTC
from datetime import datetime
from datetime import timedelta
import math
from pathlib import Path
from typing import Any

from arro3.core import DataType
from arro3.core import Field
from arro3.core import Schema
from arro3.core import Table
from arro3.io import infer_csv_schema
from arro3.io import read_csv
from arro3.io import read_parquet
import numpy as np
import numpy.typing as npt

from fraudstream.producer.agenda import Agenda
from fraudstream.producer.agenda import Kind
from fraudstream.schema.timestamps import duration_us
from fraudstream.schema.timestamps import format_us
from fraudstream.schema.timestamps import to_us
from fraudstream.schema.validation import TRANSACTION
from fraudstream.schema.validation import load_schema

_PARQUET_MAGIC = b"PAR1"
_TIME = "event_time"
# Stands for a time that could not be read. No time on the wire is so early.
_NO_TIME = np.iinfo(np.int64).min
_VERDICTS = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


class UnreadableRecording(ValueError):
    """A file that is no CSV or Parquet file, or a damaged one."""


class MissingColumn(LookupError):
    """A column that the file lacks, or a field that the schema lacks."""


class Recording:
    """The transactions of a file, and their labels if a column holds the verdicts.

    Every column is read as text, whatever its type in the file, and each field is then read from
    its text. A value that cannot be read is left as it is, so that its row becomes a dead letter
    with the reason. Empty text and nulls are absent values. A time without a zone is UTC.

    Parameters
    ----------
    file
        Ends in ``.parquet``, or in ``.csv`` with a line of column names.
    columns
        For fields whose column has another name, that name. A field that is in neither `columns`
        nor `constants` is taken from the column of its own name, if there is one.
    constants
        The value, as text, of a field that is the same in all rows.
    label
        The column of the verdicts: 1 or true is a fraud. A row without a verdict has no label.
        ``None``: the file has no labels.
    label_delay
        How long after its transaction a label is known.

    Raises
    ------
    UnreadableRecording
        If the file cannot be read, is empty, or holds no time that can be read.
    MissingColumn
        If a column or field that is named does not exist, or a required field has no column.
    """

    def __init__(
        self,
        file: Path,
        columns: Mapping[str, str],
        constants: Mapping[str, str],
        label: str | None = None,
        label_delay: timedelta = timedelta(days=7),
    ) -> None:
        names, read = _open(file)
        used = _match(file, names, columns, constants, label)
        table = read()
        if not table.num_rows:
            raise UnreadableRecording(f"{file}: holds no row")
        self._text = {
            field: table[column].cast(DataType.string()).combine_chunks()
            for field, column in used.items()
        }
        self._verdict = (
            None if label is None else table[label].cast(DataType.string()).combine_chunks()
        )
        self._constants = {field: _FIELDS[field](text) for field, text in constants.items()}
        self._label_delay_us = duration_us(label_delay)
        if _TIME in self._text:
            times = [_read_time(text) for text in self._text[_TIME].to_pylist()]
        else:
            times = [_read_time(constants[_TIME])] * table.num_rows
        self._time_us = np.array(times, dtype=np.int64)
        if not (self._time_us != _NO_TIME).any():
            raise UnreadableRecording(f"{file}: no row has a time in {used.get(_TIME, _TIME)!r}")
        self._due_us = _fill(self._time_us)

    def __len__(self) -> int:
        return len(self._time_us)

    @property
    def in_order(self) -> bool:
        """Whether the file is sorted by event time; `agenda` is in any case."""
        return bool((np.diff(self._due_us) >= 0).all())

    def agenda(self) -> Agenda:
        """Return all transactions, and the labels known by the time of the last of them.

        A row whose time cannot be read is due with the row before it.
        """
        rows = np.arange(len(self))
        entries = {Kind.TRANSACTION: (self._due_us, rows)}
        if self._verdict is not None:
            known_us = self._due_us + self._label_delay_us
            labelled = np.array([text not in (None, "") for text in self._verdict.to_pylist()])
            labelled &= known_us <= self._due_us.max()
            entries[Kind.LABEL] = (known_us[labelled], rows[labelled])
        return Agenda.of(self, entries)

    def transactions(self, rows: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        """Return the transactions of `rows`, in their order; absent optional fields left out."""
        names = [name for name in _FIELDS if name in self._text or name in self._constants]
        columns = [self._field(name, rows) for name in names]
        # An absent required field stays, as null, so that the refusal says which it is.
        optional = set(names) - set(load_schema(TRANSACTION)["required"])
        return [
            {
                name: value
                for name, value in zip(names, values, strict=True)
                if value is not None or name not in optional
            }
            for values in zip(*columns, strict=True)
        ]

    def labels(self, rows: npt.NDArray[np.int64]) -> list[dict[str, Any]]:
        """Return the labels of `rows`, in their order."""
        fields = [
            self._field(name, rows) for name in ("transaction_id", "card_id", "merchant_id", _TIME)
        ]
        verdicts = None if self._verdict is None else self._verdict.take(rows).to_pylist()
        labelled_at = format_us(self._due_us[rows] + self._label_delay_us)
        return [
            {
                "transaction_id": transaction_id,
                "card_id": card_id,
                "merchant_id": merchant_id,
                "event_time": event_time,
                "is_fraud": _VERDICTS.get(verdict.strip().lower(), verdict),
                "labelled_at": known,
                "source": "replay",
            }
            for transaction_id, card_id, merchant_id, event_time, verdict, known in zip(
                *fields, verdicts or [], labelled_at, strict=True
            )
        ]

    def _field(self, name: str, rows: npt.NDArray[np.int64]) -> list[Any]:
        if name == _TIME:
            return self._times(rows)
        if name in self._constants:
            return [self._constants[name]] * len(rows)
        return [_FIELDS[name](text) for text in self._text[name].take(rows).to_pylist()]

    def _times(self, rows: npt.NDArray[np.int64]) -> list[str | None]:
        times: list[str | None] = list(format_us(self._due_us[rows]))
        # What could not be read stays as it is, for the refusal to tell.
        for place in np.flatnonzero(self._time_us[rows] == _NO_TIME).tolist():
            times[place] = self._text[_TIME].take(rows[place : place + 1]).to_pylist()[0]
        return times


def _as_text(text: str | None) -> str | None:
    return text or None


def _as_number(text: str | None) -> float | str | None:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    # In data frames, nan is how an absent number is written.
    return None if math.isnan(number) else number


def _as_category(text: str | None) -> str | None:
    # Kept as numbers, categories such as 0742 have lost their zeros.
    return text.zfill(4) if text else None


def _reader(field: str, rule: Mapping[str, Any]) -> Callable[[str | None], Any]:
    if field == "merchant_category":
        return _as_category
    return _as_number if "number" in rule.get("type", ()) else _as_text


_FIELDS = {
    field: _reader(field, rule) for field, rule in load_schema(TRANSACTION)["properties"].items()
}


def _read_time(text: str | None) -> int:
    try:
        moment = datetime.fromisoformat((text or "").strip())
        return to_us(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    except ValueError:
        return _NO_TIME


def _fill(time_us: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the times, unreadable ones replaced by the last before them, or else by the first.

    Examples
    --------
    >>> _fill(np.array([_NO_TIME, 5, _NO_TIME, 7])).tolist()
    [5, 5, 5, 7]
    """
    known = time_us != _NO_TIME
    last = np.maximum.accumulate(np.where(known, np.arange(len(time_us)), -1))
    filled: npt.NDArray[np.int64] = time_us[np.where(last < 0, np.argmax(known), last)]
    return filled


def _open(file: Path) -> tuple[list[str], Callable[[], Table]]:
    """Return the names of the columns, and a function that reads the file."""
    if file.suffix == ".parquet":
        with file.open("rb") as start:
            begins = start.read(len(_PARQUET_MAGIC))
            start.seek(-min(len(_PARQUET_MAGIC), file.stat().st_size), 2)
            ends = start.read()
        # The reader panics, rather than raises, where these are missing.
        if begins != _PARQUET_MAGIC or ends != _PARQUET_MAGIC:
            raise UnreadableRecording(f"{file}: expected a whole Parquet file, this is not one")
        reader = read_parquet(file)
        return list(reader.schema.names), reader.read_all
    if file.suffix == ".csv":
        names = list(infer_csv_schema(file, has_header=True, max_records=0).names)
        schema = Schema([Field(name, DataType.string(), nullable=True) for name in names])

        def read() -> Table:
            try:
                return read_csv(file, schema, has_header=True).read_all()
            except Exception as error:
                # The reader has no error class of its own.
                raise UnreadableRecording(f"{file}: {str(error).split('error: ')[-1]}") from error

        return names, read
    raise UnreadableRecording(f"{file}: expected a file that ends in .csv or .parquet")


def _match(
    file: Path,
    names: list[str],
    columns: Mapping[str, str],
    constants: Mapping[str, str],
    label: str | None,
) -> dict[str, str]:
    """Return the column of each field that has one."""
    has = f"{file} has the columns {', '.join(names) or '(none)'}"
    for field in (*columns, *constants):
        if field not in _FIELDS:
            raise MissingColumn(
                f"a transaction has no field {field!r}; its fields are {', '.join(_FIELDS)}"
            )
    for field in set(columns) & set(constants):
        raise MissingColumn(f"{field!r} is both mapped and set: give one of --map and --set")
    for column in (*columns.values(), *([label] if label else [])):
        if column not in names:
            raise MissingColumn(f"no column {column!r}: {has}")
    used = {
        field: columns.get(field, field)
        for field in _FIELDS
        if field not in constants and columns.get(field, field) in names
    }
    for field in load_schema(TRANSACTION)["required"]:
        if field not in used and field not in constants:
            raise MissingColumn(
                f"no column {field!r}: {has}; name the one that holds it with --map {field}=COLUMN"
            )
    return used
