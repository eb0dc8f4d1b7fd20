"""Card numbers where only tokens should be: found in documents, masked in bytes.

What looks like one are 13 to 19 digits that pass the Luhn check and begin as an issuer's do, with
no letter or digit beside them: bare, or in groups of 3 to 6 with a space or a dash between two.
Digits within a hash are none, nor are the usual bare numbers that pass the check by chance: times
since the epoch and dates (which begin with 1 or 20), and counts with leading zeros.
"""

from collections.abc import Iterator
import re

#: Matches in every text that holds a card number, and in few others. RE2 takes it too.
CANDIDATE = r"[0-9](?:[ -]?[0-9]){12}"

_CANDIDATE = re.compile(CANDIDATE)
_RUN = re.compile(rb"[0-9](?:[ -]?[0-9]){12,}")
_GROUP = re.compile(rb"[0-9]+")
# Of those that begin with 1, cards of airlines have 15 digits, times since the epoch 13, 16 or 19.
_ISSUED = re.compile(rb"[3-9]|2[1-9]|1[0-9]{14}$")
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)
_LENGTHS = range(13, 20)
_GROUP_LENGTHS = range(3, 7)
_MOST_GROUPS = _LENGTHS[-1] // _GROUP_LENGTHS[0]
_NUMBERS = range(10 ** (_LENGTHS[0] - 1), 10 ** _LENGTHS[-1])
_SHOWN = 4
_DOUBLED = bytes.maketrans(b"0123456789", b"0246813579")


def holds_card_number(value: object) -> bool:
    """Return whether anything in a decoded JSON value, names of fields included, looks like one.

    Examples
    --------
    >>> holds_card_number("paid by 4111-1111-1111-1111"), holds_card_number(4111111111111111)
    (True, True)
    >>> holds_card_number("4111111111111112"), holds_card_number("a4111111111111111")
    (False, False)
    """
    # No recursion: what was sent may be nested more deeply than Python calls can be.
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, str):
            if _CANDIDATE.search(one) and any(_card_numbers(one.encode(errors="replace"))):
                return True
        elif isinstance(one, dict):
            left += one.keys()
            left += one.values()
        elif isinstance(one, list):
            left += one
        elif isinstance(one, float):
            left += [int(one)] if one.is_integer() else []
        elif isinstance(one, int) and one in _NUMBERS:
            left.append(str(one))
    return False


def masked(original: bytes) -> bytes:
    """Return bytes with each card number in them masked, but for its last four digits.

    They need not be JSON. Where they are, digits behind a decimal point are no card number, and
    characters may be written as escapes: those are written out where something was masked.

    Examples
    --------
    >>> masked(b'{"card_id": "4111 1111 1111 1111", "amount": 9.5')
    b'{"card_id": "**** **** **** 1111", "amount": 9.5'
    """
    text = _ESCAPE.sub(_written_out, original) if b"\\" in original else original
    seen = _ESCAPE.sub(_blanked, text) if b"\\" in text else text
    hidden = bytearray(text)
    for begin, end in _card_numbers(seen, is_json=True):
        digits = [place for place in range(begin, end) if text[place : place + 1].isdigit()]
        for place in digits[:-_SHOWN]:
            hidden[place] = ord("*")
    return original if hidden == text else bytes(hidden)


def _card_numbers(text: bytes, is_json: bool = False) -> Iterator[tuple[int, int]]:
    """Yield where each card number begins and ends; two may share some of their digits."""
    quotes = counted = 0
    for run in _RUN.finditer(text):
        begin, end = run.span()
        groups = [group.span() for group in _GROUP.finditer(text, begin, end)]
        if is_json:
            quotes += text.count(b'"', counted, begin)
            counted = begin
        is_number = is_json and quotes % 2 == 0
        if text[begin - 1 : begin].isalnum() or (is_number and _is_fraction(text, begin)):
            del groups[0]
        if text[end : end + 1].isalnum():
            del groups[-1:]
        for first in range(len(groups)):
            yield from _beginning_with(text, groups[first : first + _MOST_GROUPS])


def _beginning_with(text: bytes, groups: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield where the card numbers begin and end that begin with the first group."""
    start, end = groups[0]
    length = end - start
    if _is_card_number(text[start:end]):
        yield start, end
    for begin, end in groups[1:] if length in _GROUP_LENGTHS else ():
        if end - begin not in _GROUP_LENGTHS:
            return
        length += end - begin
        if length in _LENGTHS and _is_card_number(text[start:end].translate(None, b" -")):
            yield start, end


def _is_card_number(digits: bytes) -> bool:
    if len(digits) not in _LENGTHS or not _ISSUED.match(digits):
        return False
    # By Luhn's check: from the right, every second digit counts double.
    backwards = digits[::-1]
    total = sum(backwards[::2]) + sum(backwards[1::2].translate(_DOUBLED))
    return (total - ord("0") * len(digits)) % 10 == 0


def _is_fraction(text: bytes, begin: int) -> bool:
    """Return whether the digits from a place on stand behind a decimal point."""
    return begin >= 2 and text[begin - 1] == ord(".") and text[begin - 2 : begin - 1].isdigit()


def _written_out(escape: re.Match[bytes]) -> bytes:
    """Return the character of an escape where it matters here: a letter, digit, space or dash."""
    character = chr(int(escape[1] or b"0", 16))
    is_plain = character.isascii() and (character.isalnum() or character in " -")
    return character.encode() if is_plain else escape[0]


def _blanked(escape: re.Match[bytes]) -> bytes:
    return bytes(len(escape[0]))
