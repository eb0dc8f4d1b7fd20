"""Documents by the schemas, drawn at random: as they should be, and nearly so."""

from datetime import datetime
from typing import Any

from hypothesis import strategies as st

from fraudstream.schema.validation import load_schema

_TEXTS = st.one_of(
    st.text(max_size=30),
    # Texts near the edges of the patterns: ids, card numbers, times, codes.
    st.from_regex(r"[A-Za-z0-9_.:-]{0,70}", fullmatch=True),
    st.from_regex(r"[0-9]{10,20}", fullmatch=True),
    st.from_regex(
        r"(19|20|21)[0-9]{2}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-6][0-9](\.[0-9]{1,7})?"
        r"(Z|z|\+00:00)?",
        fullmatch=True,
    ),
    st.from_regex(r"[0-9]{3,5}|[A-Za-z]{2,4}", fullmatch=True),
    st.sampled_from(["card_present", "online", "atm", "no_dispute", "replay", "producer"]),
).filter(lambda text: not text.endswith("\n"))
_NUMBERS = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0, -0.0, 1e9, 1e9 + 1, 90, 90.1, -180, -180.5, 1.0]),
)
#: Any JSON.
VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=4,
)


def valid_values(rule: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Return values that one field of our schemas mostly takes; what is invalid is no harm."""
    if "enum" in rule:
        return st.sampled_from(rule["enum"])
    if rule.get("format") == "date-time":
        return st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 31)).map(
            lambda moment: f"{moment.isoformat()}Z"
        )
    types = rule.get("type", [])
    plain = {
        "string": st.from_regex(rule.get("pattern", r"^[a-z]{1,9}$"), fullmatch=True).filter(
            lambda text: not text.endswith("\n")
        ),
        "number": st.floats(
            rule.get("minimum"), rule.get("maximum"), allow_nan=False, allow_infinity=False
        ),
        "integer": st.integers(rule.get("minimum", 0), 2**40),
        "boolean": st.booleans(),
        "null": st.none(),
        "array": st.lists(VALUES, max_size=3),
        "object": st.dictionaries(_TEXTS, VALUES, max_size=3),
    }
    return st.one_of([plain[name] for name in ([types] if isinstance(types, str) else types)])


@st.composite
def documents(draw: st.DrawFn, schema: str) -> Any:
    """Draw a document: as it should be, or with fields lost, changed and added."""
    properties = load_schema(schema)["properties"]
    document = {name: draw(valid_values(rule)) for name, rule in properties.items()}
    for name in draw(st.lists(st.sampled_from(sorted(properties)), max_size=3)):
        if draw(st.booleans()):
            document.pop(name, None)
        else:
            document[name] = draw(VALUES)
    if draw(st.integers(0, 9)) == 0:
        document[draw(_TEXTS)] = draw(VALUES)
    return document
