"""Records to which something happened on the way: none breaks the decoder, none gets lost.

`benchmarks/fuzzing` does the same to a million.
"""

from collections.abc import Iterator
from random import Random
from typing import Any

from fuzzing import campaign
from fuzzing.campaign import judged_alone
from fuzzing.campaign import run_part
from fuzzing.mutations import MUTATIONS
from fuzzing.mutations import mutated
from hypothesis import HealthCheck
from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import orjson
import pytest

from fraudstream.inference import steps
from fraudstream.schema import decoding
from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_transactions
from fraudstream.schema.validation import LABEL
from fraudstream.schema.validation import TRANSACTION
from unit.schema.documents import label
from unit.schema.documents import transaction

_KINDS: dict[str, Any] = {
    TRANSACTION: (decode_transactions, orjson.dumps(transaction())),
    LABEL: (decode_labels, orjson.dumps(label())),
}
_rejected = steps._rejected
_APPENDED_MS = int(campaign.APPENDED.timestamp() * 1000)


@pytest.fixture(scope="module", autouse=True)
def _few_are_decoded_together_too() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "_MANY", 0)
        yield


@pytest.mark.parametrize("schema", _KINDS)
@settings(deadline=None, max_examples=3_000, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(list(MUTATIONS)), draw=st.randoms(use_true_random=False))
def test_a_mutated_record_is_judged_as_by_the_schema_alone_and_its_neighbours_stay(
    schema: str, name: str, draw: Random
) -> None:
    decode, whole = _KINDS[schema]
    value = MUTATIONS[name](whole, draw)
    decoded = decode([whole, value, whole], np.full(3, _APPENDED_MS))
    expected = judged_alone(value, schema)
    assert decoded.rows.tolist() == ([0, 2] if expected is None else [0, 1, 2])
    assert all(rejection.row == 1 and rejection.reason for rejection in decoded.rejections)
    if expected is not None:
        [row] = decoded.columns.slice(1, 1).to_pylist()
        assert row == dict.fromkeys(row) | expected


def test_each_mutation_changes_records_and_most_of_them_can_make_one_invalid() -> None:
    whole = _KINDS[TRANSACTION][1]
    harmless = set()
    for name, mutate in MUTATIONS.items():
        values = [mutate(whole, Random(f"{name}{n}")) for n in range(300)]
        assert len(set(values)) > 1 or values[0] is None
        if all(judged_alone(value, TRANSACTION) is not None for value in values):
            harmless.add(name)
    assert harmless == {"another order", "written otherwise"}


def test_a_campaign_finds_nothing_wrong_and_counts_every_record() -> None:
    found = run_part(seed=1, part=0, records=1_500, sample=0.2)
    assert found.wrong == []
    assert set(found.of) == set(MUTATIONS)
    fates = [found.count(fate) for fate in ("valid", "copies", "rejected")]
    assert sum(fates) == found.records == 1_500
    assert min(fates) > 0 or fates[1] == 0
    assert sum(found.reasons.values()) == fates[2]
    assert found.reasons["other"] == 0
    assert found.compared > 100


def test_the_same_seed_gives_the_same_records() -> None:
    whole = _KINDS[LABEL][1]
    first, again = ([mutated(whole, draw) for _ in range(500)] for draw in (Random(3), Random(3)))
    assert first == again


@pytest.mark.parametrize(
    ("room", "name", "wrong", "said"),
    [
        (steps, "masked", lambda value: value, "a card number in a dead letter"),
        (steps, "_rejected", lambda *rows: _rejected(*rows).slice(1), "lost"),
        (campaign, "holds_card_number", lambda value: False, "judged otherwise alone"),
    ],
    ids=["unmasked", "lost", "misjudged"],
)
def test_a_campaign_tells_what_is_wrong(
    monkeypatch: pytest.MonkeyPatch, room: Any, name: str, wrong: Any, said: str
) -> None:
    monkeypatch.setattr(room, name, wrong)
    found = run_part(seed=1, part=0, records=1_500, sample=1.0)
    assert any(each.startswith(said) for each in found.wrong)
