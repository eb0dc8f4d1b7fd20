"""The compiled validator of the hot path and ``jsonschema`` agree on which documents are valid.

Left out are two kinds of value on which Python's own rules differ from those of JSON Schema, and on
both of which the compiled validator is the stricter: NaN and infinities, which are not JSON, and
text that ends in a line break, before which Python's ``$`` matches too.
"""

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import jsonschema
import orjson
import pytest

from contract.drawn_documents import VALUES
from contract.drawn_documents import documents
from fraudstream.schema.validation import DEAD_LETTER
from fraudstream.schema.validation import EARLIER_PREDICTIONS
from fraudstream.schema.validation import LABEL
from fraudstream.schema.validation import PREDICTION
from fraudstream.schema.validation import TRANSACTION
from fraudstream.schema.validation import load_schema
from fraudstream.schema.validation import validator

_SCHEMAS = (TRANSACTION, LABEL, PREDICTION, *EARLIER_PREDICTIONS, DEAD_LETTER)


def agree(schema: str, document: object) -> bool:
    """Return whether both validators give the same answer for a document."""
    reference = jsonschema.Draft202012Validator(
        load_schema(schema), format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    compiled = validator(schema)
    expected = reference.is_valid(document)
    return compiled.is_valid(document) == expected == (compiled.explain(document) is None)


@pytest.mark.parametrize("schema", _SCHEMAS)
@settings(deadline=None)
@given(data=st.data())
def test_both_give_the_same_answer_for_documents_like_ours(
    schema: str, data: st.DataObject
) -> None:
    assert agree(schema, data.draw(documents(schema)))


@pytest.mark.parametrize("schema", _SCHEMAS)
@settings(deadline=None)
@given(document=VALUES)
def test_both_give_the_same_answer_for_any_json(schema: str, document: object) -> None:
    assert agree(schema, document)


@pytest.mark.parametrize("schema", _SCHEMAS)
@settings(deadline=None)
@given(data=st.data())
def test_what_went_over_the_wire_is_judged_like_what_was_sent(
    schema: str, data: st.DataObject
) -> None:
    document = data.draw(documents(schema))
    assert validator(schema).is_valid(document) == validator(schema).is_valid(
        orjson.loads(orjson.dumps(document))
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "c1\n"])
def test_where_they_differ_the_compiled_one_is_the_stricter(value: object) -> None:
    field = "card_id" if isinstance(value, str) else "amount"
    document = {
        "transaction_id": "t1",
        "event_time": "2026-01-01T00:00:00Z",
        "card_id": "c1",
        "merchant_id": "m1",
        "amount": 1.0,
        field: value,
    }
    assert not validator(TRANSACTION).is_valid(document)
