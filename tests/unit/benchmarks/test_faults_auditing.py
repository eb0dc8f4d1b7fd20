"""Scores are spoiled in one way each, and the rest of them is left as it was."""

from typing import Any

from faults import auditing
from faults.auditing import CORRUPTIONS
from faults.auditing import AuditBlind
from faults.auditing import Score
import pytest

SCORES: list[Score] = [
    (number % 4, {"transaction_id": f"t{number}", "score": number / 10 + 0.1, "is_alert": False})
    for number in range(5)
]
NOTHING: dict[str, Any] = {
    **dict.fromkeys(("missing", "duplicate", "conflicting", "foreign", "differing"), 0),
    "not_compared": 0,
    "findings": [],
}


def test_each_spoils_one_score_and_leaves_what_was_read_alone() -> None:
    before = [(partition, dict(score)) for partition, score in SCORES]
    spoiled = {kind: spoil(SCORES) for kind, (spoil, _) in CORRUPTIONS.items()}
    assert before == SCORES
    assert {kind: len(scores) for kind, scores in spoiled.items()} == {
        "missing": 4,
        "duplicate": 6,
        "conflicting": 6,
        "differing": 5,
        "foreign": 6,
    }
    for scores in spoiled.values():
        assert [score for score in SCORES if score not in scores] in ([], SCORES[:1])


@pytest.mark.parametrize("kind", CORRUPTIONS)
def test_an_audit_that_sees_nothing_or_something_else_is_told(kind: str) -> None:
    _, expected = CORRUPTIONS[kind]
    auditing._require(kind, {**NOTHING, **dict.fromkeys(expected, 1)}, expected)
    for told in (NOTHING, {**NOTHING, **dict.fromkeys(expected, 1), "missing": 1, "foreign": 1}):
        with pytest.raises(AuditBlind, match=f"{kind}: expected the findings"):
            auditing._require(kind, told, expected)
