"""What looks like a card number is found and masked; what does not is left alone."""

from collections.abc import Callable
import json
import re
from typing import Any

from hypothesis import assume
from hypothesis import example
from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import orjson
import pytest

from fraudstream.schema.card_numbers import holds_card_number
from fraudstream.schema.card_numbers import masked
from fraudstream.schema.validation import LABEL
from fraudstream.schema.validation import TRANSACTION
from fraudstream.schema.validation import load_schema
from fraudstream.schema.validation import validator
from fraudstream.simulator.stream import Names
from fraudstream.simulator.world import WorldSpec
from fraudstream.simulator.world import build_world
from unit.schema.documents import transaction

# Of the networks' own documents for testers.
_PUBLISHED = [
    "4222222222222",
    "30569309025904",
    "378282246310005",
    "5555555555554444",
    "2223003122003222",
    "6011111111111117",
    "3530111333300000",
    "6304000000000000000",
]


def check_digit(digits: str) -> str:
    """What makes digits pass the Luhn check, by another way of counting."""
    doubled = [int(d) * (2 - place % 2) for place, d in enumerate(reversed(digits))]
    return str(-sum(d // 10 + d % 10 for d in doubled) % 10)


@st.composite
def card_numbers(draw: st.DrawFn) -> str:
    digits = draw(st.from_regex(r"([3-9]|2[1-9])[0-9]{11,17}", fullmatch=True).map(str))
    assume(12 <= len(digits) <= 18)
    return digits + check_digit(digits)


def grouped(digits: str, mark: str) -> str:
    """Return digits in groups of four; one that were too short is joined to the last."""
    groups = re.findall("....", digits)
    rest = digits[4 * len(groups) :]
    return mark.join([*groups, rest] if len(rest) > 2 else [*groups[:-1], groups[-1] + rest])


@pytest.mark.parametrize("number", _PUBLISHED)
def test_numbers_that_networks_publish_for_tests_are_found(number: str) -> None:
    assert holds_card_number(number)
    assert masked(number.encode()) == b"*" * (len(number) - 4) + number[-4:].encode()


@given(number=card_numbers(), mark=st.sampled_from(["", " ", "-"]), around=st.sampled_from("_:. é"))
def test_card_numbers_are_found_in_groups_and_among_other_text(
    number: str, mark: str, around: str
) -> None:
    text = f"a{around}{grouped(number, mark) if mark else number}{around}b"
    assert holds_card_number(text)
    assert holds_card_number([{"deep": text}])
    hidden = masked(text.encode()).decode()
    assert not holds_card_number(hidden)
    assert len(hidden) == len(text)
    assert re.sub("[^0-9]", "", hidden) == number[-4:]


@given(number=card_numbers(), wrong=st.integers(1, 9))
def test_what_fails_the_check_is_left_alone(number: str, wrong: int) -> None:
    other = number[:-1] + str((int(number[-1]) + wrong) % 10)
    assert not holds_card_number(other)
    assert masked(other.encode()) == other.encode()


@pytest.mark.parametrize(
    "text",
    [
        "a4111111111111111",
        "4111111111111111f",
        "d41111111-1111-1111-1111-1111111111115e",
        "0000000000000000",
        "0004111111111111111",
        # Times since the epoch in milli-, micro- and nanoseconds, and dates: each passes the check.
        "1767225600004",
        "1767225600000002",
        "1767225600000000007",
        "20260131235957",
        # A group of twelve digits, or of eight, is of a random id and of no card.
        "411111111111-1111",
        "41111111-1111-1111",
        "4111 1111",
        "41111111111111111111111",
    ],
)
def test_what_passes_the_check_by_chance_is_no_card_number(text: str) -> None:
    assert not holds_card_number(text)
    assert masked(text.encode()) == text.encode()


def test_ids_of_chance_are_hardly_ever_refused() -> None:
    drawn = np.random.default_rng(7)
    ids = [drawn.bytes(16).hex() for _ in range(100_000)]
    ids += [f"{x[:8]}-{x[8:12]}-4{x[13:16]}-a{x[17:20]}-{x[20:]}" for x in ids]
    assert sum(map(holds_card_number, ids)) == 0


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_no_id_of_the_simulator_is_refused(seed: int) -> None:
    names = Names(build_world(WorldSpec(cards=50, seed=seed)))
    numbers = np.random.default_rng(seed).integers(0, 2**40, 200_000)
    devices = names.devices(np.random.default_rng(seed).integers(0, 2**48, 200_000))
    assert not any(map(holds_card_number, [*names.transactions(numbers), *devices]))


@pytest.mark.parametrize("schema", [TRANSACTION, LABEL])
@given(data=st.data())
def test_only_an_id_can_fit_the_schema_and_hold_a_card_number(
    schema: str, data: st.DataObject
) -> None:
    # Where records come by the many, only ids are searched: see `columnar._PLAIN_ID`.
    for name, rule in load_schema(schema)["properties"].items():
        if "enum" in rule:
            assert not holds_card_number(rule["enum"])
        elif "pattern" in rule and not name.endswith("_id"):
            assert not holds_card_number(data.draw(st.from_regex(rule["pattern"])))
        else:
            assert rule.get("maximum", 0) < 10**12


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        (b'{"amount": 4111111111111111}', b'{"amount": ************1111}'),
        (b'{"amount": -4111111111111111.0e1}', b'{"amount": -************1111.0e1}'),
        (b'{"a": "1.4111111111111111"}', b'{"a": "1.************1111"}'),
        (b'{"a": "4\\u003111111111111111"}', b'{"a": "************1111"}'),
        (b'{"a": "4111\\u00201111\\u002d1111 1111"}', b'{"a": "**** ****-**** 1111"}'),
        (b'{"a": "\\n4111111111111111\\t"}', b'{"a": "\\n************1111\\t"}'),
        (b'{"a": "\\u00e94111111111111111"}', b'{"a": "\\u00e9************1111"}'),
        (b'{"a": "\\"4111111111111111\\""}', b'{"a": "\\"************1111\\""}'),
        (b"\xff\x004111111111111111\x00", b"\xff\x00************1111\x00"),
        (b"4111111111111111", b"************1111"),
        (b"4111 1111 1111 1111 4111 1111 1111 1111", b"**** **** **** 1111 **** **** **** 1111"),
        # Which of the two is meant cannot be told: nothing is left of one but its last digits.
        (b"4111 2222 3333 0008 0002", b"**** **** **** **** 0002"),
        (b"4111 1111 1111 1111 12/28", b"**** **** **** 1111 12/28"),
        (b"x4111 4111 1111 1111 1111x 1", b"x4111 4111 1111 1111 1111x 1"),
        (b"x111 4111 1111 1111 1111 111x", b"x111 **** **** **** 1111 111x"),
        (b"", b""),
    ],
)
def test_bytes_are_masked_whatever_they_are(original: bytes, expected: bytes) -> None:
    assert masked(original) == expected


@pytest.mark.parametrize(
    "original",
    [
        b'{"latitude":48.4111111111111111,"longitude":-1.4111111111111111}',
        b'{"a":"1","latitude":48.4111111111111111e-3}',
        b'{"a":"\\u00414111111111111111"}',
        b'{"a":"\\\\u0034111111111111111"}',
        b'{"a":"\\u0061", "b": "\\ud83d\\ude00"}',
    ],
)
def test_what_is_no_card_number_stays_as_it_came(original: bytes) -> None:
    assert masked(original) == original


_TEXTS = st.one_of(
    st.text(max_size=12),
    card_numbers(),
    st.text("0123456789 -.x", max_size=24),
    st.tuples(st.text('ax1.-:,é\\"\n', max_size=3), card_numbers(), st.text(max_size=2)).map(
        "".join
    ),
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats(-1e9, 1e9) | st.integers(0, 2**62) | _TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
    max_leaves=5,
)
_WRITERS: list[Callable[[Any], bytes]] = [
    orjson.dumps,
    lambda document: json.dumps(document).encode(),
    lambda document: orjson.dumps(document, option=orjson.OPT_INDENT_2),
]


@given(document=_VALUES, write=st.sampled_from(_WRITERS))
@example(document=["1.4111111111111111", 0.4111111111111111], write=orjson.dumps)
def test_a_document_holds_a_card_number_exactly_if_masking_it_changes_a_byte(
    document: Any, write: Callable[[Any], bytes]
) -> None:
    assert (masked(write(document)) != write(document)) == holds_card_number(document)


@given(document=_VALUES, write=st.sampled_from(_WRITERS))
def test_nothing_is_left_to_mask_in_what_was_masked(
    document: Any, write: Callable[[Any], bytes]
) -> None:
    once = masked(write(document))
    assert masked(once) == once
    try:
        read = orjson.loads(once)
    except orjson.JSONDecodeError:
        return
    assert not holds_card_number(read)


@given(field=st.sampled_from(list(transaction())), number=card_numbers())
def test_a_record_that_was_masked_is_never_valid(field: str, number: str) -> None:
    once = masked(orjson.dumps(transaction(**{field: number})))
    assert not validator(TRANSACTION).is_valid(orjson.loads(once))


def test_it_takes_no_long_time_over_what_is_made_to_last() -> None:
    # Each takes milliseconds; were the work to grow with the square of the length, minutes.
    for hostile in (b"1234 " * 200_000, b"0.1111111111111 " * 60_000, b"\\u0034" * 150_000):
        assert masked(b"x" + hostile) != b""


def test_numbers_that_are_no_numbers_of_cards_are_passed_over() -> None:
    assert not holds_card_number([float("nan"), float("inf"), 1e300, 10**5000, True, None])


def test_deep_nesting_is_no_matter() -> None:
    deep: Any = "4111111111111111"
    for _ in range(100_000):
        deep = [deep]
    found = holds_card_number(deep)
    # Taken apart by hand: Python would take it apart by recursion.
    while isinstance(deep, list):
        deep = deep[0]
    assert found
