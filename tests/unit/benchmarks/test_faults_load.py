"""What the load sends is what a campaign promises: repeats, late ones, poison, and labels."""

from collections import Counter
from datetime import UTC
from datetime import datetime

from faults.load import Load
from faults.load import Message
import numpy as np
import pytest

from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_transactions
from fraudstream.schema.timestamps import to_us

NOW_US = to_us(datetime(2026, 3, 1, tzinfo=UTC))
SECOND_US = 1_000_000


@pytest.fixture(scope="module")
def messages() -> list[Message]:
    load = Load(seed=1, cards=500, run="x")
    return [m for second in range(40) for m in load.draw(500, NOW_US + second * SECOND_US)]


def of(messages: list[Message], *kinds: str) -> list[bytes | None]:
    return [message.value for message in messages if message.kind in kinds]


def decoded(values: list[bytes | None]) -> Counter[str]:
    appended_ms = np.full(len(values), (NOW_US + 40 * SECOND_US) // 1000)
    found = decode_transactions(values, appended_ms)
    return Counter(valid=len(found.columns), refused=len(found.rejections))


def test_the_shares_are_those_that_were_promised(messages: list[Message]) -> None:
    kinds = Counter(message.kind for message in messages)
    events = kinds.total() - kinds["labels"]
    assert events == 20_000
    assert kinds["duplicates"] / events == pytest.approx(0.05, abs=0.006)
    assert kinds["late"] / events == pytest.approx(0.05, abs=0.006)
    assert kinds["poison"] / events == pytest.approx(0.01, abs=0.003)
    assert kinds["labels"] > 200


def test_all_poison_is_refused_and_nothing_else(messages: list[Message]) -> None:
    assert decoded(of(messages, "poison"))["valid"] == 0
    assert decoded(of(messages, "transactions", "late", "duplicates"))["refused"] == 0


def test_labels_are_valid(messages: list[Message]) -> None:
    values = of(messages, "labels")
    found = decode_labels(values, np.full(len(values), (NOW_US + 40 * SECOND_US) // 1000))
    assert len(found.columns) == len(values)


def test_a_duplicate_is_a_transaction_once_more_and_nothing_else_comes_twice(
    messages: list[Message],
) -> None:
    sent = Counter(of(messages, "transactions", "late"))
    assert set(sent.values()) == {1}
    assert set(of(messages, "duplicates")) <= set(sent)


def test_late_ones_are_behind_the_clock(messages: list[Message]) -> None:
    values = of(messages, "late")
    found = decode_transactions(values, np.full(len(values), NOW_US // 1000)).columns
    behind_us = NOW_US + 40 * SECOND_US - found["event_time_us"].to_numpy()
    assert behind_us.min() > 60 * SECOND_US


def test_equal_seeds_draw_alike() -> None:
    first, again = (list(Load(3, 50, "x").draw(200, NOW_US)) for _ in range(2))
    assert first == again
