"""What can happen to a record on its way: bytes that are damaged, and documents that are wrong.

Each mutation takes a record's value and a source of chance, and gives another value; most of them
are not valid any more, some are. `None` is a record without a value.
"""

from collections.abc import Callable
import json
from random import Random
from typing import Any

import orjson

Mutation = Callable[[bytes, Random], bytes | None]
_OfDocument = Callable[[dict[str, Any], Random], bytes]

#: A number that networks publish for tests; it is nobody's.
CARD_NUMBER = "4111111111111111"

_DEEPEST = 3_000
_LONG, _LONGEST = 1_000, 50_000

_OTHERS: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**9 + 1, -(10**18), "", "x", "9.5", "é", "\U0001f4b3", [], {},
    [1], {"a": 1}, "\n", "c1\n", "c1\x00", " c1", "c/1", "x" * 64, "x" * 65, "0" * 12, "9" * 20,
)  # fmt: skip
_NUMBERS = (
    "NaN", "Infinity", "-Infinity", "nan", "1e400", "-1e400", "1e-400", "-0", "-0.0", "01", "+1",
    "1.", ".5", "0x10", "1e", "9" * 30, "9" * 400, "0." + "1" * 40, "1e9", "1000000000.0000001",
    "18446744073709551616", "9007199254740993", "1_000", "1,5",
)  # fmt: skip
_TIMES = (
    "2099-12-31T23:59:59.999999Z", "2100-01-01T00:00:00Z", "9999-12-31T23:59:59Z",
    "1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z", "0000-00-00T00:00:00Z", "2026-02-30T00:00:00Z",
    "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T23:59:60Z", "2026-01-01T00:00:00",
    "2026-01-01T00:00:00+01:00", "2026-01-01t00:00:00z", "2026-01-01 00:00:00Z", "2026-01-01",
    "2026-01-01T00:00:00.1234567Z", "2026-01-01T00:00:00.Z", "-2026-01-01T00:00:00Z", "1767225600",
    "\uff12\uff10\uff12\uff16-01-01T00:00:00Z",
)  # fmt: skip
_CARD_NUMBERS: tuple[Any, ...] = (
    CARD_NUMBER, int(CARD_NUMBER), float(CARD_NUMBER), "4111 1111 1111 1111", "3782-822463-10005",
    f"pan:{CARD_NUMBER}", f"a.{CARD_NUMBER}.b", "x_4111-1111-1111-1111", f"1.{CARD_NUMBER}",
    f"x{CARD_NUMBER}", CARD_NUMBER[:-1] + "2", [CARD_NUMBER], {CARD_NUMBER: 1},
)  # fmt: skip
_BROKEN_UTF8 = (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82", b"\x80")
_ESCAPES = (b"\\ud800", b"\\udc00\\ud800", b"\\u0000", b"\\x41", b"\\u00zz", b"\\u0041", b"\\")
_BEFORE = (
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\x00\x00\x00\x00\x05",
    b" \r\n\t",
    b"\x1f\x8b",
    b")]}'\n",
)


# --- bytes ---------------------------------------------------------------------------------------


def _flipped(value: bytes, draw: Random) -> bytes:
    place = draw.randrange(len(value) or 1)
    changed = bytes([value[place] ^ (1 << draw.randrange(8))]) if value else b"\x00"
    return value[:place] + changed + value[place + 1 :]


def _replaced(value: bytes, draw: Random) -> bytes:
    place = draw.randrange(len(value) or 1)
    # Mostly what means something to a reader of JSON.
    byte = draw.choice([*b'"{}[],:\\ \n0159-+.eEtnNI', 0, 127, 195, 255])
    return value[:place] + bytes([byte]) + value[place + 1 :]


def _inserted(value: bytes, draw: Random) -> bytes:
    place = draw.randint(0, len(value))
    return value[:place] + draw.randbytes(draw.randint(1, 8)) + value[place:]


def _cut_out(value: bytes, draw: Random) -> bytes:
    begin = draw.randint(0, len(value))
    return value[:begin] + value[begin + draw.randint(1, 16) :]


def _repeated(value: bytes, draw: Random) -> bytes:
    begin, end = sorted(draw.randint(0, len(value)) for _ in range(2))
    return value[:end] + value[begin:end] + value[end:]


def _truncated(value: bytes, draw: Random) -> bytes:
    return value[: draw.randint(0, len(value))]


def _noise(value: bytes, draw: Random) -> bytes:
    return draw.randbytes(draw.randint(0, len(value)))


def _without_value(value: bytes, draw: Random) -> None:
    return None


def _with_broken_utf8(value: bytes, draw: Random) -> bytes:
    return _with(value, draw, _BROKEN_UTF8)


def _with_escape(value: bytes, draw: Random) -> bytes:
    return _with(value, draw, _ESCAPES)


def _with(value: bytes, draw: Random, texts: tuple[bytes, ...]) -> bytes:
    # Behind a quotation mark, so most often within a text.
    places = [place + 1 for place, byte in enumerate(value) if byte == ord('"')] or [0]
    place = draw.choice(places)
    return value[:place] + draw.choice(texts) + value[place:]


def _behind_a_mark(value: bytes, draw: Random) -> bytes:
    return draw.choice(_BEFORE) + value


def _twice(value: bytes, draw: Random) -> bytes:
    return value + draw.choice((b"", b"\n", b",", b" ")) + value


def _nested(value: bytes, draw: Random) -> bytes:
    depth = draw.randint(1, _DEEPEST)
    opening, closing = draw.choice(((b"[", b"]"), (b'{"a":', b"}")))
    return opening * depth + value + closing * draw.choice((depth, depth, depth - 1, 0))


# --- documents -----------------------------------------------------------------------------------


def _without_field(document: dict[str, Any], draw: Random) -> bytes:
    del document[draw.choice(list(document))]
    return orjson.dumps(document)


def _with_field_twice(document: dict[str, Any], draw: Random) -> bytes:
    name = draw.choice(list(document))
    again = json.dumps({name: draw.choice((document[name], *_OTHERS))}).encode()
    before, behind = draw.choice(((again, orjson.dumps(document)), (orjson.dumps(document), again)))
    return before[:-1] + b"," + behind[1:]


def _with_other_name(document: dict[str, Any], draw: Random) -> bytes:
    name = draw.choice(list(document))
    other = draw.choice((name.upper(), f"{name} ", "is_fraud", "", "é", "x" * 300, "__proto__"))
    return orjson.dumps({other if key == name else key: document[key] for key in document})


def _with_more_fields(document: dict[str, Any], draw: Random) -> bytes:
    more = {f"extra_{n}": draw.choice(_OTHERS) for n in range(draw.choice((1, 1, 2, 500)))}
    return json.dumps({**document, **more}).encode()


def _in_another_order(document: dict[str, Any], draw: Random) -> bytes:
    names = list(document)
    draw.shuffle(names)
    return orjson.dumps({name: document[name] for name in names})


def _written_otherwise(document: dict[str, Any], draw: Random) -> bytes:
    ascii_only = draw.random() < 0.5
    text = json.dumps(document, ensure_ascii=ascii_only, indent=draw.choice((None, 0, 4, "\t")))
    name = draw.choice(list(document))
    spelled = "".join(f"\\u{ord(character):04x}" for character in name)
    return text.replace(f'"{name}"', f'"{spelled}"').encode()


def _with_other_value(document: dict[str, Any], draw: Random) -> bytes:
    return json.dumps({**document, draw.choice(list(document)): draw.choice(_OTHERS)}).encode()


def _with_odd_number(document: dict[str, Any], draw: Random) -> bytes:
    return _with_literal(document, draw, draw.choice(_NUMBERS))


def _with_odd_time(document: dict[str, Any], draw: Random) -> bytes:
    times = [name for name in document if name in ("event_time", "labelled_at")]
    return orjson.dumps({**document, draw.choice(times or ["event_time"]): draw.choice(_TIMES)})


def _with_long_text(document: dict[str, Any], draw: Random) -> bytes:
    text = draw.choice(("x", "é", "\\", '"', "4111 ", "\x00")) * draw.randint(60, _LONG)
    if draw.random() < 0.01:
        text *= _LONGEST // _LONG
    return orjson.dumps({**document, draw.choice(list(document)): text})


def _with_deep_value(document: dict[str, Any], draw: Random) -> bytes:
    depth = draw.randint(1, _DEEPEST)
    opening, closing = draw.choice((("[", "]"), ('{"a":', "}")))
    return _with_literal(document, draw, opening * depth + "1" + closing * depth)


def _with_card_number(document: dict[str, Any], draw: Random) -> bytes:
    if draw.random() < 0.1:
        return json.dumps({**document, CARD_NUMBER: 1}).encode()
    name, number = draw.choice(list(document)), draw.choice(_CARD_NUMBERS)
    text = json.dumps({**document, name: number})
    if draw.random() < 0.2:
        text = text.replace("1111", "\\u00311\\u003111")
    return text.encode()


def _with_literal(document: dict[str, Any], draw: Random, literal: str) -> bytes:
    name = draw.choice(list(document))
    text = orjson.dumps({**document, name: "?"})
    return text.replace(b'"?"', literal.encode())


def _of_document(change: _OfDocument) -> Mutation:
    def mutate(value: bytes, draw: Random) -> bytes | None:
        try:
            document = orjson.loads(value)
        except orjson.JSONDecodeError:
            document = None
        # What another mutation has broken already is only broken further.
        if not isinstance(document, dict) or not document:
            return _flipped(value, draw)
        try:
            return change(document, draw)
        except (TypeError, RecursionError):
            # It is nested too deeply to be written again.
            return _flipped(value, draw)

    return mutate


#: By name; in this order, so that a seed means the same.
MUTATIONS: dict[str, Mutation] = {
    "bit flipped": _flipped,
    "byte replaced": _replaced,
    "bytes inserted": _inserted,
    "bytes cut out": _cut_out,
    "bytes repeated": _repeated,
    "truncated": _truncated,
    "noise": _noise,
    "no value": _without_value,
    "invalid UTF-8": _with_broken_utf8,
    "escape, surrogate": _with_escape,
    "BOM, other mark": _behind_a_mark,
    "sent twice in one": _twice,
    "nested": _nested,
    "field dropped": _of_document(_without_field),
    "field twice": _of_document(_with_field_twice),
    "field renamed": _of_document(_with_other_name),
    "more fields": _of_document(_with_more_fields),
    "another order": _of_document(_in_another_order),
    "written otherwise": _of_document(_written_otherwise),
    "other value": _of_document(_with_other_value),
    "NaN, odd number": _of_document(_with_odd_number),
    "odd time": _of_document(_with_odd_time),
    "long text": _of_document(_with_long_text),
    "deep value": _of_document(_with_deep_value),
    "card number": _of_document(_with_card_number),
}


def mutated(value: bytes, draw: Random) -> tuple[bytes | None, str]:
    """Return a value to which one thing happened, now and then two, and the name of the first."""
    first = draw.choice(list(MUTATIONS))
    changed = MUTATIONS[first](value, draw)
    if changed is not None and draw.random() < 0.1:
        changed = MUTATIONS[draw.choice(list(MUTATIONS))](changed, draw)
    return changed, first
