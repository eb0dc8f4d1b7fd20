"""Records become columns, and what is not a record becomes a rejection."""

from datetime import UTC
from datetime import datetime
from datetime import timedelta

import numpy as np
import orjson
import pyarrow as pa

from fraudstream.schema.decoding import concatenate
from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_predictions
from fraudstream.schema.decoding import decode_transactions
from fraudstream.schema.decoding import dictionary_codes
from fraudstream.schema.timestamps import CLOCK_TOLERANCE
from fraudstream.schema.timestamps import to_us
from unit.schema.documents import label
from unit.schema.documents import prediction
from unit.schema.documents import transaction

_APPENDED = datetime(2026, 2, 1, tzinfo=UTC)


def appended(count: int, moment: datetime = _APPENDED) -> np.ndarray:
    return np.full(count, to_us(moment) // 1000)


def test_every_field_of_a_transaction_has_its_column() -> None:
    decoded = decode_transactions([orjson.dumps(transaction())], appended(1))
    expected = transaction()
    expected["event_time_us"] = to_us(datetime.fromisoformat(expected.pop("event_time")))
    assert decoded.columns.to_pylist() == [expected]
    assert decoded.rows.tolist() == [0]
    assert decoded.rejections == []


def test_every_field_of_a_label_has_its_column() -> None:
    decoded = decode_labels([orjson.dumps(label())], appended(1))
    expected = label()
    for name in ("event_time", "labelled_at"):
        expected[f"{name}_us"] = to_us(datetime.fromisoformat(expected.pop(name)))
    assert decoded.columns.to_pylist() == [expected]


def test_every_field_of_a_prediction_but_features_and_reasons_has_its_column() -> None:
    decoded = decode_predictions([orjson.dumps(prediction())], appended(1))
    expected = prediction()
    expected["event_time_us"] = to_us(datetime.fromisoformat(expected.pop("event_time")))
    del expected["features"], expected["reasons"]
    assert decoded.columns.to_pylist() == [expected]


def test_predictions_of_versions_before_are_read_too_as_the_champions() -> None:
    reason = {"group": "amount", "feature": "amount", "value": 9.5, "contribution": 0.1}
    told = {"usual": 3.0, "usual_of": "all", "sentence": "Amount is 9.50; usual is 3.00"}
    earlier = [
        prediction(reasons=reasons)
        for reasons in ([reason], [reason | told], [{**reason, "sentence": "Half of it"}], [told])
    ]
    for each in earlier:
        del each["role"]
    present = [prediction(reasons=[reason | told], role=r) for r in ("champion", "challenger", "x")]
    decoded = decode_predictions(list(map(orjson.dumps, earlier + present)), appended(7))
    assert decoded.rows.tolist() == [0, 1, 4, 5]
    assert decoded.columns["role"].to_pylist() == ["champion"] * 3 + ["challenger"]
    assert [rejection.row for rejection in decoded.rejections] == [2, 3, 6]
    assert "is a required property" in decoded.rejections[0].reason


def test_absent_fields_are_null() -> None:
    document = {
        name: transaction()[name]
        for name in ("transaction_id", "event_time", "card_id", "merchant_id", "amount")
    }
    decoded = decode_transactions([orjson.dumps(document)], appended(1))
    assert decoded.columns["latitude"].null_count == 1
    assert decoded.columns["device_id"].null_count == 1


def test_records_that_cannot_be_used_are_told_by_their_row() -> None:
    values = [b"?", orjson.dumps(transaction()), None, orjson.dumps(transaction(amount=-1))]
    decoded = decode_transactions(values, appended(4))
    assert decoded.rows.tolist() == [1]
    assert [rejection.row for rejection in decoded.rejections] == [0, 2, 3]
    assert "amount" in decoded.rejections[2].reason


def test_an_event_time_may_be_ahead_of_the_broker_by_the_tolerance_and_no_more() -> None:
    limit = _APPENDED + CLOCK_TOLERANCE
    times = [limit.isoformat(), (limit + timedelta(microseconds=1)).isoformat()]
    values = [orjson.dumps(transaction(event_time=time.replace("+00:00", "Z"))) for time in times]
    decoded = decode_transactions([b"?", *values], appended(3))
    assert decoded.rows.tolist() == [1]
    assert [rejection.row for rejection in decoded.rejections] == [0, 2]
    assert decoded.rejections[1].reason.startswith("event_time: expected at most 5 min after")


def test_a_label_from_the_future_is_refused() -> None:
    value = orjson.dumps(label(labelled_at="2026-03-01T00:00:00Z"))
    decoded = decode_labels([value], appended(1))
    assert [rejection.row for rejection in decoded.rejections] == [0]


def test_no_records_give_empty_columns() -> None:
    decoded = decode_transactions([], appended(0))
    assert decoded.columns.num_rows == 0
    assert "event_time_us" in decoded.columns.column_names


def test_joined_parts_count_their_rows_through() -> None:
    parts = [[b"?", orjson.dumps(transaction())], [orjson.dumps(transaction()), b"?"]]
    joined = concatenate(
        [decode_transactions(part, appended(len(part))) for part in parts],
        [len(part) for part in parts],
    )
    assert joined.rows.tolist() == [1, 2]
    assert [rejection.row for rejection in joined.rejections] == [0, 3]
    assert joined.columns.num_rows == 2


def test_codes_stand_for_the_strings_in_every_chunk() -> None:
    codes, names = dictionary_codes(pa.chunked_array([["a", None], ["b", "a"]]))
    assert [None if code < 0 else names[code] for code in codes] == ["a", None, "b", "a"]
