"""Records that are decoded many at a time give what each gives when it is parsed by itself."""

from collections.abc import Iterator
from datetime import UTC
from datetime import datetime
import json
import re
from typing import Any

from hypothesis import example
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import orjson
import pyarrow as pa
import pytest

from contract.drawn_documents import documents
from fraudstream.schema import decoding
from fraudstream.schema.columnar import _looks_plain
from fraudstream.schema.columnar import decode_plain
from fraudstream.schema.decoding import _LABEL_FIELDS
from fraudstream.schema.decoding import _TRANSACTION_FIELDS
from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_transactions
from fraudstream.schema.timestamps import to_us
from fraudstream.schema.validation import LABEL
from fraudstream.schema.validation import TRANSACTION
from fraudstream.schema.validation import InvalidDocument
from fraudstream.schema.validation import validator
from fraudstream.simulator.stream import Simulation
from fraudstream.simulator.world import WorldSpec

KINDS = {
    TRANSACTION: (decode_transactions, _TRANSACTION_FIELDS, ("event_time",)),
    LABEL: (decode_labels, _LABEL_FIELDS, ("event_time", "labelled_at")),
}
#: Later than any time on the wire.
LATE_MS = 2**43

VALID = orjson.dumps(
    {
        "transaction_id": "t1",
        "event_time": "2026-01-01T00:00:00Z",
        "card_id": "c1",
        "merchant_id": "m1",
        "amount": 9.5,
    }
)


@pytest.fixture(scope="module", autouse=True)
def _few_are_decoded_together_too() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "_MANY", 0)
        yield


def alone(schema: str, value: bytes | None) -> dict[str, Any] | None:
    """What one record is by itself: its columns, or ``None`` if it is not valid."""
    _, fields, times = KINDS[schema]
    try:
        document = validator(schema).parse(value)
    except InvalidDocument:
        return None
    row: dict[str, Any] = {}
    for name in fields.names:
        found = document.get(name)
        if name in times:
            row[f"{name}_us"] = to_us(datetime.fromisoformat(found))
        else:
            row[name] = found
    return row


def agree(schema: str, values: list[bytes | None]) -> None:
    decoded = KINDS[schema][0](values, np.full(len(values), LATE_MS))
    expected = [alone(schema, value) for value in values]
    valid = [row for row, found in enumerate(expected) if found is not None]
    assert decoded.rows.tolist() == valid
    assert decoded.columns.to_pylist() == [expected[row] for row in valid]
    assert [rejection.row for rejection in decoded.rejections] == sorted(
        set(range(len(values))) - set(valid)
    )


def written(document: Any) -> st.SearchStrategy[bytes]:
    """A document as one program or another writes it, mostly whole."""
    return st.sampled_from(
        [
            orjson.dumps(document),
            orjson.dumps(document, option=orjson.OPT_INDENT_2),
            json.dumps(document).encode(),
            json.dumps(document, ensure_ascii=False).encode("utf-8", "surrogatepass"),
            b" " + orjson.dumps(document) + b"\n",
            orjson.dumps(document)[:-1],
        ]
    )


@st.composite
def records(draw: st.DrawFn, schema: str) -> bytes | None:
    value = draw(written(draw(documents(schema))))
    if draw(st.integers(0, 3)) == 0 and value:
        # One byte is another: what a broken writer or a hostile one might send.
        place = draw(st.integers(0, len(value) - 1))
        byte = draw(st.sampled_from([*b'"{}[],:\\ \n0159-+.eEtnNI', 0, 127, 195, 255]))
        value = value[:place] + bytes([byte]) + value[place + 1 :]
    return value


@pytest.mark.parametrize("schema", [TRANSACTION, LABEL])
@settings(deadline=None)
@given(data=st.data())
def test_many_records_together_give_what_each_gives_alone(schema: str, data: st.DataObject) -> None:
    agree(schema, data.draw(st.lists(st.none() | records(schema), max_size=8)))


@settings(deadline=None)
@given(
    values=st.lists(
        st.none() | st.binary(max_size=4) | st.builds(lambda some: b"{%b}" % some, st.binary()),
        min_size=1,
        max_size=8,
    ),
    kind=st.sampled_from([pa.binary(), pa.large_binary()]),
    data=st.data(),
)
def test_a_line_looks_plain_by_its_bytes(
    values: list[bytes | None], kind: pa.DataType, data: st.DataObject
) -> None:
    begin = data.draw(st.integers(0, len(values) - 1))
    plain = re.compile(rb"\{[\x20-\x5b\x5d-\x7a|~]*\}")
    assert _looks_plain(pa.array(values, kind)[begin:]).tolist() == [
        value is not None and plain.fullmatch(value) is not None for value in values[begin:]
    ]


@settings(deadline=None)
@given(field=st.binary(max_size=24))
@example(b'"amount":1,"amount":2')
@example(b'"amount":NaN')
@example(b'"amount":1e999')
@example(b'"amount":-0')
@example(b'"amount":01')
@example(b'"amount":1}{"amount":2')
@example(b'"amount":0.1000000000000000055511151231257827')
@example(b'"amount":123456789012345678')
@example(b'"amount":"1"')
@example(b'"amount":null')
@example(b'"amount":1,"merchant_category":null')
@example(b'"amount":1,"merchant_category":5411')
@example(b'"amount":1,"channel":"boat"')
@example(b'"amount":1,"other":null')
@example(b'"amount":1,"device_id":"\\u0041"')
@example(b'"amount":1,"device_id":"4111111111111111"')
@example(b'"amount":1,"device_id":"pan:4111111111111111"')
@example(b'"amount":1,"device_id":"4111-1111-1111-1111"')
@example(b'"amount":1,"device_id":"4111-1111-1111-1112"')
@example(b'"amount":1,"device_id":"1-2-3-4-5-6-7"')
@example(b'"amount":1,"device_id":"' + b"x" * 64 + b'"')
@example(b'"amount":1,"device_id":"' + b"x" * 65 + b'"')
@example(b'"amount":1,"device_id":""')
@example(b'"amount":4111111111111111')
@example(b'"amount":1,"latitude":90.1')
@example(b'"amount":1,"latitude":48.4111111111111111')
def test_a_record_that_differs_in_one_field_is_judged_as_when_it_is_alone(field: bytes) -> None:
    value = VALID.replace(b'"amount":9.5', field)
    agree(TRANSACTION, [VALID, value, VALID])


@pytest.mark.parametrize(
    "moment",
    [
        "2026-02-30T00:00:00Z",
        "2025-02-29T00:00:00Z",
        "2024-02-29T23:59:59.999999Z",
        "1970-01-01T00:00:00.1Z",
        "2099-12-31T23:59:59.12345Z",
        "2026-01-01T00:00:60Z",
        "2026-01-01t00:00:00z",
        "2026-01-01 00:00:00Z",
    ],
)
def test_times_are_read_as_they_are_alone(moment: str) -> None:
    agree(TRANSACTION, [VALID, VALID.replace(b"2026-01-01T00:00:00Z", moment.encode())])


def test_two_objects_in_one_record_and_none_in_another_do_not_make_up_for_each_other() -> None:
    agree(TRANSACTION, [VALID + VALID, b"", VALID])
    agree(TRANSACTION, [VALID + b"\n" + VALID, b"  ", VALID])


def test_what_breaks_the_reader_takes_none_of_its_neighbours_along() -> None:
    wrong = VALID.replace(b"9.5", b'"9.5"')
    values = [wrong if place % 1_700 == 5 else VALID for place in range(5_000)]
    agree(TRANSACTION, values)


@pytest.mark.parametrize(
    "wrong", [VALID.replace(b"9.5", b'"9.5"'), VALID.replace(b"01-01", b"02-30")]
)
def test_what_breaks_the_reader_leaves_few_of_its_neighbours_to_be_parsed_alone(
    wrong: bytes,
) -> None:
    values = [wrong, *[VALID] * 4_999]
    _, fields, times = KINDS[TRANSACTION]
    plain = decode_plain(pa.array(values), TRANSACTION, fields, times)
    assert plain.rows.tolist() == list(range(1_250, 5_000))


@pytest.mark.parametrize("schema", [TRANSACTION, LABEL])
def test_what_the_simulator_writes_is_plain(schema: str) -> None:
    day = Simulation(WorldSpec(cards=300), datetime(2026, 1, 1, tzinfo=UTC)).day(0)
    drawn = day.transactions() if schema == TRANSACTION else day.labels()
    values = [orjson.dumps(each) for each in drawn]
    _, fields, times = KINDS[schema]
    plain = decode_plain(pa.array(values), schema, fields, times)
    assert plain.rows.tolist() == list(range(len(values)))
    agree(schema, values)
