"""Check documents against the published JSON Schemas.

The schemas live in ``src/schemas`` and are the only description of the wire format. The hot path
checks with ``jsonschema-rs``, which compiles the same documents; the contract tests prove that it
agrees with ``jsonschema`` on generated documents.
"""

import functools
import importlib.resources
import json
import re
from typing import Any

import jsonschema
import jsonschema_rs
import orjson

from fraudstream.schema.card_numbers import holds_card_number

TRANSACTION = "transaction.v1"
LABEL = "label.v1"
PREDICTION = "prediction.v3"
#: What was written before predictions told their model's role, and before reasons had sentences; a
#: topic may still hold it.
EARLIER_PREDICTIONS = ("prediction.v2", "prediction.v1")
DEAD_LETTER = "dead_letter.v1"

#: What others write. In it, a field that looks like a card number is refused.
_INCOMING = (TRANSACTION, LABEL)

# Of a long text, so much of its beginning and of its end: of an error, that says what was expected.
_SHOWN_FIRST, _SHOWN_LAST = 80, 100
_CARD_NUMBER = re.compile(r"[0-9](?:[ -]?[0-9]){11,}")


class InvalidDocument(ValueError):
    """A record that is not JSON or breaks its schema; the message says where and why."""


@functools.cache
def load_schema(name: str) -> dict[str, Any]:
    """Return the JSON Schema called `name`, such as ``"transaction.v1"``.

    Raises
    ------
    LookupError
        If no schema of that name is published.

    Examples
    --------
    >>> load_schema("transaction.v1")["required"]
    ['transaction_id', 'event_time', 'card_id', 'merchant_id', 'amount']
    """
    source = importlib.resources.files("schemas") / f"{name}.json"
    try:
        schema: dict[str, Any] = json.loads(source.read_bytes())
    except FileNotFoundError as error:
        raise LookupError(f"no schema is called {name!r}: see src/schemas") from error
    return schema


class Validator:
    """Checks documents against one schema, formats included, and for card numbers.

    What looks like a card number is refused in transactions and labels, whatever the field: see
    `fraudstream.schema.card_numbers`.

    Parameters
    ----------
    name
        The schema's name, such as ``"label.v1"``.

    Examples
    --------
    >>> check = Validator("transaction.v1")
    >>> check.parse(b'{"transaction_id": "t1"}')
    Traceback (most recent call last):
    ...
    fraudstream.schema.validation.InvalidDocument: 'event_time' is a required property
    """

    def __init__(self, name: str) -> None:
        schema = load_schema(name)
        self.name = name
        self._compiled = jsonschema_rs.validator_for(schema, validate_formats=True)
        self._explaining = jsonschema.Draft202012Validator(
            schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
        )
        self._is_incoming = name in _INCOMING

    def is_valid(self, document: object) -> bool:
        """Return whether a document (a ``dict`` as JSON gives it) is valid, in microseconds."""
        try:
            fits = self._compiled.is_valid(document)
        except ValueError:
            # It is nested more deeply than the compiled validator goes.
            return False
        return fits and not (self._is_incoming and holds_card_number(document))

    def explain(self, document: object) -> str | None:
        """Return why `document` is invalid, in one line, or ``None`` if it is valid.

        Left out are the middle of a long text, and a run of digits that could be a card number.
        """
        if self._is_incoming and (place := _card_number_in(document)):
            return f"{place}: expected no card number, got what looks like one"
        try:
            if self._compiled.is_valid(document):
                return None
        except ValueError:
            return "expected a document of a few levels, got one that is nested too deeply"
        error = jsonschema.exceptions.best_match(self._explaining.iter_errors(document))
        if error is None:
            # NaN passes every comparison of Python, and a final line break its regular expressions.
            return "a number that JSON cannot represent, or text that ends in a line break"
        return _told(error)

    def parse(self, value: bytes | None) -> dict[str, Any]:
        """Decode and check one record.

        Raises
        ------
        InvalidDocument
            If `value` is absent, not JSON, or breaks the schema.
        """
        if value is None:
            raise InvalidDocument("expected a JSON document, the record has no value")
        try:
            document = orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise InvalidDocument(f"expected a JSON document: {_shorten(str(error))}") from error
        if not self.is_valid(document):
            raise InvalidDocument(self.explain(document))
        return document


@functools.cache
def validator(name: str) -> Validator:
    """Return the shared `Validator` of a schema; compiling one takes milliseconds."""
    return Validator(name)


def _card_number_in(document: object) -> str | None:
    """Return which field of a document looks like a card number; ``None`` where none does."""
    if not holds_card_number(document):
        return None
    if isinstance(document, dict):
        for name, value in document.items():
            if not holds_card_number(name) and holds_card_number(value):
                return _shorten(name) or "the document"
    return "the document"


def _told(error: jsonschema.ValidationError) -> str:
    field = ".".join(str(part) for part in error.absolute_path)
    if not field:
        return _shorten(error.message)
    if error.validator == "pattern":
        return f"{field}: expected a string that matches {error.validator_value}"
    return f"{field}: {_shorten(error.message)}"


def _shorten(text: str) -> str:
    first = _CARD_NUMBER.sub("…", next(iter(text.splitlines()), ""))
    if len(first) <= _SHOWN_FIRST + _SHOWN_LAST:
        return first
    return f"{first[:_SHOWN_FIRST]}…{first[-_SHOWN_LAST:]}"
