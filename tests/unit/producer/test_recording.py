"""A recorded file becomes transactions and labels, whatever its columns are called."""

from datetime import UTC
from datetime import datetime
from datetime import timedelta
from pathlib import Path
from typing import Any
from typing import Literal

from arro3.core import Array
from arro3.core import DataType
from arro3.core import Table
from arro3.io import write_parquet
import numpy as np
import pytest

from fraudstream.producer.recording import MissingColumn
from fraudstream.producer.recording import Recording
from fraudstream.producer.recording import UnreadableRecording
from fraudstream.schema.validation import LABEL
from fraudstream.schema.validation import TRANSACTION
from fraudstream.schema.validation import validator

_HEAD = "transaction_id,event_time,card_id,merchant_id,amount,is_fraud\n"


def csv(folder: Path, text: str) -> Path:
    file = folder / "payments.csv"
    file.write_text(text)
    return file


def parquet(folder: Path, **columns: Any) -> Path:
    file = folder / "payments.parquet"
    write_parquet(Table.from_pydict(columns), file)
    return file


def whole_numbers(*values: int) -> Array:
    return Array.from_numpy(np.array(values, dtype=np.int64))


def times(*moments: datetime, unit: Literal["s", "ms", "us", "ns"] = "ms") -> Array:
    us = [int(moment.timestamp() * 1e6) for moment in moments]
    return whole_numbers(*us).cast(DataType.timestamp("us")).cast(DataType.timestamp(unit))


def read(file: Path, **options: Any) -> list[dict[str, Any]]:
    return Recording(file, **{"columns": {}, "constants": {}, **options}).agenda().documents()


def test_columns_of_the_schemas_names_need_no_map(tmp_path: Path) -> None:
    assert read(csv(tmp_path, _HEAD + "t1,2020-01-01T00:00:00Z,c1,m1,9.5,0\n")) == [
        {
            "transaction_id": "t1",
            "event_time": "2020-01-01T00:00:00.000000Z",
            "card_id": "c1",
            "merchant_id": "m1",
            "amount": 9.5,
        }
    ]


def test_columns_of_other_names_are_mapped_and_numbers_become_tokens(tmp_path: Path) -> None:
    file = parquet(
        tmp_path,
        id=whole_numbers(1),
        event_time=times(datetime(2020, 1, 1, tzinfo=UTC)),
        customer=whole_numbers(596),
        terminal=whole_numbers(3156),
        amount=Array.from_numpy(np.array([57.16])),
        mcc=whole_numbers(742),
    )
    columns = {"transaction_id": "id", "card_id": "customer", "merchant_id": "terminal"}
    (document,) = read(file, columns=columns | {"merchant_category": "mcc"})
    assert validator(TRANSACTION).explain(document) is None
    assert document["card_id"] == "596"
    assert document["merchant_category"] == "0742"
    assert document["amount"] == 57.16


def test_a_constant_stands_in_every_row(tmp_path: Path) -> None:
    file = csv(tmp_path, _HEAD + "t1,2020-01-01,c1,m1,1,0\nt2,2020-01-02,c1,m1,2,0\n")
    documents = read(file, constants={"currency": "EUR", "amount": "3.5"})
    assert [(each["currency"], each["amount"]) for each in documents] == [("EUR", 3.5)] * 2


def test_even_the_time_may_be_a_constant(tmp_path: Path) -> None:
    file = csv(tmp_path, "transaction_id,card_id,merchant_id,amount\nt1,c1,m1,2\n")
    (document,) = read(file, constants={"event_time": "2020-01-01"})
    assert document["event_time"] == "2020-01-01T00:00:00.000000Z"


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2020-01-01T00:00:00Z", "2020-01-01T00:00:00.000000Z"),
        ("2020-01-01 00:00:00.5", "2020-01-01T00:00:00.500000Z"),
        ("2020-01-01T01:00:00+01:00", "2020-01-01T00:00:00.000000Z"),
        ("2020-01-01", "2020-01-01T00:00:00.000000Z"),
    ],
)
def test_times_are_read_with_their_zone_and_as_utc_without(
    tmp_path: Path, text: str, time: str
) -> None:
    (document,) = read(csv(tmp_path, _HEAD + f"t1,{text},c1,m1,1,0\n"))
    assert document["event_time"] == time


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_any_unit_are_read(tmp_path: Path, unit: Literal["s", "ms", "us", "ns"]) -> None:
    file = parquet(
        tmp_path,
        transaction_id=whole_numbers(1),
        event_time=times(datetime(2020, 1, 1, 1, 2, 3, tzinfo=UTC), unit=unit),
        card_id=whole_numbers(1),
        merchant_id=whole_numbers(1),
        amount=whole_numbers(1),
    )
    (document,) = read(file)
    assert document["event_time"] == "2020-01-01T01:02:03.000000Z"


def test_a_file_in_another_order_is_sorted_by_event_time(tmp_path: Path) -> None:
    rows = "t1,2020-01-03,c1,m1,1,0\nt2,2020-01-01,c1,m1,1,0\nt3,2020-01-02,c1,m1,1,0\n"
    recording = Recording(csv(tmp_path, _HEAD + rows), {}, {})
    assert not recording.in_order
    documents = recording.agenda().documents()
    assert [each["transaction_id"] for each in documents] == ["t2", "t3", "t1"]


def test_a_file_in_order_stays_as_it_is(tmp_path: Path) -> None:
    rows = "t2,2020-01-01,c1,m1,1,0\nt1,2020-01-01,c1,m1,1,0\n"
    recording = Recording(csv(tmp_path, _HEAD + rows), {}, {})
    assert recording.in_order
    assert [each["transaction_id"] for each in recording.agenda().documents()] == ["t2", "t1"]


def test_labels_follow_when_they_would_have_become_known(tmp_path: Path) -> None:
    rows = "t1,2020-01-01,c1,m1,1,1\nt2,2020-01-03,c2,m2,1,0\nt3,2020-01-05,c1,m1,1,0\n"
    documents = read(csv(tmp_path, _HEAD + rows), label="is_fraud", label_delay=timedelta(days=2))
    assert [(each["transaction_id"], "is_fraud" in each) for each in documents] == [
        ("t1", False),
        ("t2", False),
        ("t1", True),
        ("t3", False),
        ("t2", True),
    ]
    assert documents[2] == {
        "transaction_id": "t1",
        "card_id": "c1",
        "merchant_id": "m1",
        "event_time": "2020-01-01T00:00:00.000000Z",
        "is_fraud": True,
        "labelled_at": "2020-01-03T00:00:00.000000Z",
        "source": "replay",
    }
    assert all(validator(LABEL).is_valid(each) for each in documents if "is_fraud" in each)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("1", True),
        ("0", False),
        ("true", True),
        ("False", False),
        ("1.0", True),
        ("maybe", "maybe"),
    ],
)
def test_verdicts_are_read_or_left_for_the_schema_to_refuse(
    tmp_path: Path, text: str, verdict: object
) -> None:
    file = csv(tmp_path, _HEAD + f"t1,2020-01-01,c1,m1,1,{text}\n")
    _, label = read(file, label="is_fraud", label_delay=timedelta(0))
    assert label["is_fraud"] == verdict


def test_a_row_without_a_verdict_has_no_label(tmp_path: Path) -> None:
    file = csv(tmp_path, _HEAD + "t1,2020-01-01,c1,m1,1,\n")
    assert len(read(file, label="is_fraud", label_delay=timedelta(0))) == 1


def test_without_a_label_column_there_are_no_labels(tmp_path: Path) -> None:
    recording = Recording(csv(tmp_path, _HEAD + "t1,2020-01-01,c1,m1,1,1\n"), {}, {})
    assert not recording.agenda().is_label.any()
    assert recording.labels(np.array([], dtype=np.int64)) == []


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ("t1,2020-01-02,c1,m1,much,0", "amount"),
        ("t1,2020-01-02,c1,m1,,0", "amount"),
        ("t1,2020-01-02,c1,m1,nan,0", "amount"),
        ("t1,2020-01-02,,m1,1,0", "card_id"),
        ("t1,2020-01-02,4111111111111111,m1,1,0", "card_id"),
        ("t1,yesterday,c1,m1,1,0", "event_time"),
        ("t1,,c1,m1,1,0", "event_time"),
    ],
)
def test_what_cannot_be_read_is_left_for_the_schema_to_refuse(
    tmp_path: Path, row: str, field: str
) -> None:
    good = "t0,2020-01-01,c1,m1,1,0"
    first, broken = read(csv(tmp_path, f"{_HEAD}{good}\n{row}\n"))
    assert validator(TRANSACTION).is_valid(first)
    assert str(validator(TRANSACTION).explain(broken)).startswith(f"{field}: ")


def test_absent_optional_values_are_left_out(tmp_path: Path) -> None:
    file = csv(
        tmp_path,
        "transaction_id,event_time,card_id,merchant_id,amount,latitude,country,extra\n"
        "t1,2020-01-01,c1,m1,1,nan,,x\n",
    )
    (document,) = read(file)
    assert sorted(document) == ["amount", "card_id", "event_time", "merchant_id", "transaction_id"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, r"no column 'card_id': .* has the columns id, event_time, .*--map card_id=COLUMN"),
        ({"columns": {"card_id": "card"}}, r"no column 'card': .* has the columns id,"),
        ({"label": "fraud"}, r"no column 'fraud': .* has the columns id,"),
        ({"columns": {"card": "customer"}}, r"has no field 'card'; its fields are transaction_id,"),
        ({"constants": {"iban": "x"}}, r"has no field 'iban'"),
        (
            {"columns": {"card_id": "customer"}, "constants": {"card_id": "x"}},
            r"'card_id' is both mapped and set",
        ),
    ],
)
def test_what_is_missing_is_named_with_what_there_is(
    tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    file = csv(tmp_path, "id,event_time,customer,merchant_id,amount\n1,2020-01-01,c1,m1,1\n")
    columns = {"transaction_id": "id", **options.pop("columns", {})}
    with pytest.raises(MissingColumn, match=said):
        read(file, columns=columns, **options)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "payments.xlsx"
    file.write_text("")
    with pytest.raises(UnreadableRecording, match=r"ends in \.csv or \.parquet"):
        read(file)


@pytest.mark.parametrize("content", [b"", b"PAR", b"PAR1 cut off", b"no parquet at all"])
def test_a_damaged_parquet_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "payments.parquet"
    file.write_bytes(content)
    with pytest.raises(UnreadableRecording, match="whole Parquet file"):
        read(file)


def test_a_damaged_csv_file_is_refused_with_the_line(tmp_path: Path) -> None:
    file = csv(tmp_path, _HEAD + "t1,2020-01-01,c1,m1,1,0\nt2,2020-01-01,c1,m1,1,0,surplus\n")
    with pytest.raises(UnreadableRecording, match=r"line 3, expected 6 got 7"):
        read(file)


@pytest.mark.parametrize("rows", ["", "t1,yesterday,c1,m1,1,0\n"], ids=["no rows", "no times"])
def test_a_file_without_a_single_time_is_refused(tmp_path: Path, rows: str) -> None:
    with pytest.raises(UnreadableRecording, match="no row"):
        read(csv(tmp_path, _HEAD + rows))


def test_an_empty_file_has_no_columns(tmp_path: Path) -> None:
    with pytest.raises(MissingColumn, match=r"has the columns \(none\)"):
        read(csv(tmp_path, ""))
