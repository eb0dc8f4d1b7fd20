"""What breaks a schema is refused with a reason; what fits it passes."""

from typing import Any

import orjson
import pytest

from fraudstream.schema.validation import LABEL
from fraudstream.schema.validation import PREDICTION
from fraudstream.schema.validation import TRANSACTION
from fraudstream.schema.validation import InvalidDocument
from fraudstream.schema.validation import load_schema
from fraudstream.schema.validation import validator
from unit.schema.documents import label
from unit.schema.documents import prediction
from unit.schema.documents import transaction


def test_a_full_transaction_is_valid() -> None:
    assert validator(TRANSACTION).explain(transaction()) is None


def test_a_full_label_is_valid() -> None:
    assert validator(LABEL).explain(label()) is None


def test_only_id_time_card_merchant_and_amount_are_required() -> None:
    required = ("transaction_id", "event_time", "card_id", "merchant_id", "amount")
    assert validator(TRANSACTION).is_valid({name: transaction()[name] for name in required})
    for name in required:
        rest = {key: value for key, value in transaction().items() if key != name}
        assert validator(TRANSACTION).explain(rest) == f"'{name}' is a required property"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"amount": "9.5"}, "amount: '9.5' is not of type 'number'"),
        ({"amount": -1}, "amount: -1 is less than the minimum of 0"),
        ({"amount": float("nan")}, "a number that JSON cannot represent"),
        ({"card_id": "c1\n"}, "a number that JSON cannot represent, or text that ends in a line"),
        ({"card_id": ""}, "card_id: expected a string that matches"),
        ({"card_id": "4" * 16}, "card_id: expected a string that matches"),
        ({"event_time": "2026-01-01T00:00:00+01:00"}, "event_time: expected a string that matches"),
        ({"event_time": "2026-02-30T00:00:00Z"}, "event_time: '2026-02-30T00:00:00Z' is not a"),
        ({"channel": "fax"}, "channel: 'fax' is not one of"),
        ({"latitude": 91}, "latitude: 91 is greater than the maximum of 90"),
        ({"is_fraud": True}, "Additional properties are not allowed ('is_fraud' was unexpected)"),
    ],
)
def test_the_reason_names_the_field_and_what_was_expected(
    changes: dict[str, Any], reason: str
) -> None:
    assert str(validator(TRANSACTION).explain(transaction(**changes))).startswith(reason)


_CARD_NUMBERS = ["4111111111111111", "4111 1111 1111 1111", "of 4111-1111-1111-1111"]


@pytest.mark.parametrize("number", [*_CARD_NUMBERS, 4111111111111111, 4111111111111111.0])
@pytest.mark.parametrize("field", list(transaction()))
def test_a_field_of_a_transaction_that_looks_like_a_card_number_is_named(
    field: str, number: object
) -> None:
    reason = f"{field}: expected no card number, got what looks like one"
    document = transaction(**{field: number})
    assert not validator(TRANSACTION).is_valid(document)
    assert validator(TRANSACTION).explain(document) == reason
    with pytest.raises(InvalidDocument, match=reason):
        validator(TRANSACTION).parse(orjson.dumps(document))


def test_a_card_number_within_an_id_that_fits_the_schema_is_refused() -> None:
    for field in ("transaction_id", "card_id", "merchant_id"):
        document = label(**{field: "pan:4111-1111-1111-1111"})
        assert not validator(LABEL).is_valid(document)
        assert str(validator(LABEL).explain(document)).startswith(f"{field}: expected no card")


@pytest.mark.parametrize(
    ("document", "place"),
    [
        (transaction(more={"of": [{"4111111111111111": 1}]}), "more"),
        ({"4111111111111111": 1}, "the document"),
        ({"": "4111111111111111"}, "the document"),
        ({"\n": "4111111111111111"}, "the document"),
        ({"a\nb": "4111111111111111"}, "a"),
        ("4111111111111111", "the document"),
        ([4111111111111111], "the document"),
    ],
)
def test_a_card_number_is_found_wherever_it_is(document: object, place: str) -> None:
    told = f"{place}: expected no card number, got what looks like one"
    assert validator(TRANSACTION).explain(document) == told


def test_what_we_write_ourselves_is_not_searched_for_card_numbers() -> None:
    assert validator(PREDICTION).is_valid(prediction(model_version="4111111111111111"))


@pytest.mark.parametrize("number", ["4111111111111112", "4111 1111 1111 1112", 4111111111111112])
@pytest.mark.parametrize("field", ["amount", "card_id", "channel", "merchant_category"])
def test_a_reason_never_shows_what_could_be_a_card_number(field: str, number: object) -> None:
    reason = validator(TRANSACTION).explain(transaction(**{field: number}))
    assert reason is not None
    assert "111" not in reason


def test_a_reason_is_one_short_line() -> None:
    reason = validator(TRANSACTION).explain(transaction(channel="x\n" * 1000))
    assert reason is not None
    assert len(reason) < 250
    assert "\n" not in reason
    assert reason.endswith("is not one of ['card_present', 'online', 'atm', None]")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "the record has no value"),
        (b"", "expected a JSON document"),
        (b"{", "expected a JSON document"),
        (b"\xff", "expected a JSON document"),
        (b"[]", "is not of type 'object'"),
        (b"{}", "is a required property"),
        (b"[" * 2_000, "expected a JSON document"),
        *((b'{"amount":' + b"[" * n + b"]" * n + b"}", "nested too deeply") for n in (300, 1_000)),
        (
            b"[" * 1_000 + b"4111111111111111" + b"]" * 1_000,
            "the document: expected no card number",
        ),
    ],
)
def test_a_record_that_is_no_document_is_refused(value: bytes | None, reason: str) -> None:
    with pytest.raises(InvalidDocument, match=reason):
        validator(TRANSACTION).parse(value)


def test_a_valid_record_is_decoded() -> None:
    assert validator(TRANSACTION).parse(orjson.dumps(transaction())) == transaction()


def test_a_schema_that_is_not_published_is_named() -> None:
    with pytest.raises(LookupError, match=r"'transaction\.v0'"):
        load_schema("transaction.v0")


def test_a_validator_is_compiled_once() -> None:
    assert validator(LABEL) is validator(LABEL)
