"""One contract for every store and every state: the embedded one, and one in a real Redis."""

from collections.abc import Iterator
from itertools import count
from typing import Any

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest

from contract.every_store import KINDS
from contract.every_store import Make
from contract.every_store import every_store
from fraudstream.inference.bounds import Records
from fraudstream.inference.store import Buckets
from fraudstream.inference.store import Layout
from fraudstream.inference.store import OlderBatch
from fraudstream.inference.store import PartitionStore
from fraudstream.inference.store import State
from fraudstream.inference.store import StateLost

LAYOUT = Layout(numbers=("amount",), identities=("device",))
VALUES = ("transaction", "amount", "device")
_NUMBERS = count()


@pytest.fixture(scope="module", params=KINDS)
def make(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Make]:
    with every_store(request.param, tmp_path_factory.mktemp("states")) as make:
        yield make


@pytest.fixture
def state(make: Make) -> State:
    state = make(f"s{next(_NUMBERS)}")
    state.create(-1)
    return state


@pytest.fixture
def store(state: State) -> PartitionStore:
    return state.open("cards-0", 0)


def records(*rows: tuple[float, ...]) -> Records:
    """Rows of key, time, arrival, transaction and amount."""
    key, time_us, arrival, transaction, amount = (np.array(c) for c in zip(*rows, strict=True))
    values = {
        "transaction": transaction,
        "amount": amount.astype(float),
        "device": np.full(len(key), 7),
    }
    return LAYOUT.pack(key, time_us, arrival, values)


def transactions(store: PartitionStore, keys: dict[int, str]) -> list[int]:
    found: list[int] = store.read(keys, LAYOUT)["transaction"].tolist()
    return found


# --- stores --------------------------------------------------------------------------------------


def test_a_key_that_was_never_written_has_no_history(store: PartitionStore) -> None:
    assert len(store.read({1: "card-1"}, LAYOUT)) == 0
    assert len(store.read({}, LAYOUT)) == 0


def test_records_come_back_key_by_key_in_the_order_in_which_they_were_appended(
    store: PartitionStore,
) -> None:
    some = records((2, 50, 0, 1, 9.5), (1, 40, 1, 2, 1.0), (2, 30, 2, 3, 2.0))
    store.append(0, {1: "one", 2: "two"}, some)
    back = store.read({2: "two", 1: "one"}, LAYOUT)
    assert back["transaction"].tolist() == [1, 3, 2]
    assert back["amount"].tolist() == [9.5, 2.0, 1.0]
    assert back["device"].tolist() == [7, 7, 7]


def test_what_a_batch_adds_comes_behind_what_is_held(store: PartitionStore) -> None:
    store.append(0, {1: "one", 2: "two"}, records((1, 50, 0, 1, 1), (2, 20, 1, 2, 2)))
    store.append(1, {1: "one"}, records((1, 10, 2, 3, 3), (1, 15, 3, 4, 4)))
    assert transactions(store, {1: "one", 2: "two"}) == [1, 3, 4, 2]


def test_what_a_batch_adds_takes_the_place_of_what_it_had_added_before(
    state: State, store: PartitionStore
) -> None:
    store.append(0, {1: "one"}, records((1, 10, 0, 1, 1)))
    for again in (store, state.open("cards-0", 0), store):
        again.append(1, {1: "one"}, records((1, 20, 1, 2, 2), (1, 30, 2, 3, 3)))
        assert transactions(store, {1: "one"}) == [1, 2, 3]


def test_only_what_is_left_of_a_key_is_held_and_what_is_new(store: PartitionStore) -> None:
    one = {1: "one"}
    four = records(*((1, at, at, at, 1.0) for at in range(4)))
    store.append(0, one, four[:3])
    for _ in range(2):
        store.replace(1, one, four[1:3], four[3:])
        assert transactions(store, one) == [1, 2, 3]
    store.append(1, one, four[3:])
    assert transactions(store, one) == [1, 2, 3]


def test_a_key_of_which_nothing_is_left_is_forgotten(store: PartitionStore) -> None:
    both = records((1, 10, 0, 1, 1), (2, 20, 1, 2, 2))
    store.append(0, {1: "one", 2: "two"}, both)
    store.replace(1, {1: "one"}, both[:0], both[:0])
    assert transactions(store, {1: "one", 2: "two"}) == [2]


def test_a_long_history_comes_back_whole_whatever_is_repeated(store: PartitionStore) -> None:
    one, added = {1: "one"}, 7
    for batch in range(300):
        numbers = range(batch * added, (batch + 1) * added)
        for _ in range(1 + batch % 3):
            store.append(batch, one, records(*((1, n, n, n, 1.0) for n in numbers)))
    assert transactions(store, one) == list(range(300 * added))
    held = store.read(one, LAYOUT)
    for _ in range(2):
        store.replace(300, one, held[50:-2], held[-2:])
        assert transactions(store, one) == list(range(50, 300 * added))
    store.append(301, one, held[:1])
    store.append(301, one, held[1:2])
    assert transactions(store, one) == [*range(50, 300 * added), 1]


@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.booleans(),
            st.dictionaries(st.integers(1, 3), st.tuples(st.integers(0, 40), st.integers(0, 40))),
        ),
        max_size=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_a_store_holds_what_a_model_of_it_holds(make: Make, steps: list[Any]) -> None:
    """A step: whether it repeats the batch, whether it replaces, and how much of which keys."""
    state = make(f"s{next(_NUMBERS)}")
    state.create(10_000)
    store, number = state.open("cards-0", 0), count()
    names = {key: f"card-{key}" for key in (1, 2, 3)}
    # Of each key what earlier batches have left, and what the present one has added.
    held: dict[int, list[int]] = {key: [] for key in names}
    added: dict[int, list[int]] = {key: [] for key in names}
    batch = 0
    for repeats, replaces, counts in steps:
        if not repeats:
            batch += 1
            held = {key: held[key] + added[key] for key in names}
            added = {key: [] for key in names}
        for key, (left, new) in counts.items():
            if replaces:
                held[key] = held[key][:left]
            # Of a key of which nothing is told nothing changes.
            if replaces or new:
                added[key] = [next(number) for _ in range(new)]
        told = {key: names[key] for key in counts}
        fresh = numbered({key: added[key] for key, (_, new) in counts.items() if new})
        if replaces:
            store.replace(batch, told, numbered({key: held[key] for key in counts}), fresh)
        else:
            store.append(batch, told, fresh)
        assert transactions(store, names) == [n for key in names for n in held[key] + added[key]]


def numbered(each: dict[int, list[int]]) -> Records:
    rows = [(key, n, n, n, 1.0) for key, numbers in each.items() for n in numbers]
    return records(*rows) if rows else np.zeros(0, LAYOUT.dtype)


def test_other_keys_and_other_stores_are_left_alone(state: State, store: PartitionStore) -> None:
    store.append(0, {1: "one"}, records((1, 10, 0, 1, 1)))
    store.append(0, {2: "two"}, records((2, 99, 0, 2, 2)))
    state.open("cards-1", 0).append(0, {1: "one"}, records((1, 10, 0, 3, 1)))
    assert transactions(store, {1: "one"}) == [1]


def test_of_very_many_keys_each_comes_back_and_each_can_be_forgotten(
    store: PartitionStore,
) -> None:
    keys = {key: f"card-{key}" for key in range(12_000)}
    every = np.arange(len(keys))
    store.append(0, keys, LAYOUT.pack(every, every, every, dict.fromkeys(VALUES, every)))
    assert transactions(store, keys) == every.tolist()
    some = {key: keys[key] for key in range(0, len(keys), 2)}
    store.replace(1, some, store.read({}, LAYOUT), store.read({}, LAYOUT))
    assert transactions(store, keys) == every[1::2].tolist()


def test_names_are_told_apart_whatever_is_in_them(store: PartitionStore) -> None:
    names = ["m", "m:1", "m.1", "m-1", "m_1", "batch", "clock", "m/labels"]
    for key, name in enumerate(names):
        store.append(0, {key: name}, records((key, 1, 1, key, 1)))
    store.keep_clock(0, 7)
    assert transactions(store, dict(enumerate(names))) == list(range(len(names)))


def test_what_is_older_than_the_last_batch_is_refused_and_changes_nothing(
    state: State, store: PartitionStore
) -> None:
    state.create(7)
    store.append(6, {1: "one"}, records((1, 10, 0, 1, 1)))
    store.keep_clock(7, 100)
    with pytest.raises(OlderBatch, match="expected batch 7 or a later one, got 6"):
        store.append(6, {1: "one"}, records((1, 10, 0, 2, 1)))
    with pytest.raises(OlderBatch, match="expected batch 7 or a later one, got 6"):
        store.append(6, {1: "one"}, records((1, 10, 0, 2, 1))[:0])
    with pytest.raises(OlderBatch, match="expected batch 7 or a later one, got 6"):
        store.replace(6, {1: "one"}, store.read({}, LAYOUT), store.read({}, LAYOUT))
    with pytest.raises(OlderBatch, match="expected batch 7 or a later one, got 6"):
        store.keep_clock(6, 50)
    with pytest.raises(OlderBatch, match="expected batch 7 or a later one, got 6"):
        store.clock_before(6)
    assert transactions(store, {1: "one"}) == [1]
    assert store.clock_before(8) == 100


def test_batches_may_have_numbers_below_zero(store: PartitionStore) -> None:
    store.append(-2, {1: "one"}, records((1, 10, 0, 1, 1)))
    store.keep_clock(-2, 100)
    store.keep_clock(-1, 200)
    with pytest.raises(OlderBatch, match="expected batch -1 or a later one, got -2"):
        store.append(-2, {1: "one"}, records((1, 10, 0, 2, 1)))
    with pytest.raises(OlderBatch, match="expected batch -1 or a later one, got -2"):
        store.clock_before(-2)
    assert [store.clock_before(batch) for batch in (-1, 0)] == [100, 200]
    store.keep_clock(0, 300)
    with pytest.raises(OlderBatch, match="expected batch 0 or a later one, got -1"):
        store.keep_clock(-1, 200)
    with pytest.raises(OlderBatch, match="expected batch 0 or a later one, got -1"):
        store.clock_before(-1)


def test_the_clock_is_the_one_before_the_batch_also_when_the_batch_is_repeated(
    store: PartitionStore,
) -> None:
    assert store.clock_before(0) is None
    store.keep_clock(0, 100)
    store.keep_clock(1, 1_800_000_000_000_001)
    assert store.clock_before(1) == 100
    store.keep_clock(1, 1_800_000_000_000_001)
    assert store.clock_before(1) == 100
    assert store.clock_before(2) == 1_800_000_000_000_001


def test_keys_lie_in_the_stores_of_their_buckets(state: State) -> None:
    all_of_them = Buckets(lambda number: state.open(f"by-merchant-{number}", 0))
    names = {1: "one", -1: "minus one", 17: "seventeen"}
    all_of_them.append(0, names, records((1, 1, 0, 7, 1), (-1, 2, 1, 8, 1), (17, 3, 2, 9, 1)))
    assert sorted(all_of_them.read(names, LAYOUT)["transaction"].tolist()) == [7, 8, 9]
    fifteen = state.open("by-merchant-15", 0)
    assert transactions(fifteen, {-1: "minus one", 1: "one"}) == [8]
    assert len(all_of_them.read({}, LAYOUT)) == 0
    nothing = fifteen.read({}, LAYOUT)
    all_of_them.replace(0, {-1: "minus one", 17: "seventeen"}, nothing, nothing)
    assert all_of_them.read(names, LAYOUT)["transaction"].tolist() == [7]


# --- states --------------------------------------------------------------------------------------


def write(state: State, batch: int, transaction: int, name: str = "cards-0") -> None:
    begun = state.begin(batch)
    store = state.open(name, batch)
    store.append(batch, {1: "one"}, records((1, 10, 0, transaction, 1)))
    state.keep(batch, begun)


def test_a_state_that_was_never_created_is_not_there(make: Make) -> None:
    state = make(f"s{next(_NUMBERS)}")
    assert state.flaw(-1) == "it is not there"
    with pytest.raises(StateLost):
        state.begin(0)
    with pytest.raises(StateLost):
        state.open("cards-0", 0).read({1: "one"}, LAYOUT)


def test_a_state_has_no_flaw_while_it_is_not_behind_what_is_done(make: Make) -> None:
    name = f"s{next(_NUMBERS)}"
    state = make(name)
    state.create(-1)
    write(state, 0, 5)
    write(state, 1, 6)
    # As a program that starts finds it.
    found = make(name)
    assert found.name == name
    assert found.flaw(0) is None
    assert found.flaw(1) is None
    assert "it ends with batch 1, and batch 2 is done" in str(found.flaw(2))
    assert transactions(found.open("cards-0", 2), {1: "one"}) == [5, 6]


def test_a_state_that_is_looked_through_gives_signs(state: State) -> None:
    write(state, 0, 5)
    signs: list[str] = []
    assert state.flaw(0, lambda: signs.append("a sign")) is None
    assert signs


def test_a_batch_begins_only_when_the_one_before_is_done(state: State) -> None:
    write(state, 0, 5)
    state.begin(0)
    state.begin(1)
    with pytest.raises(StateLost):
        state.begin(2)


def test_a_mark_is_not_set_back_by_a_driver_that_was_given_up(state: State) -> None:
    begun = state.begin(0)
    write(state, 0, 5)
    write(state, 1, 6)
    state.keep(0, begun)
    assert state.flaw(1) is None
    state.begin(2)


def test_a_settled_state_goes_on(state: State) -> None:
    write(state, 0, 5)
    state.settle()
    assert state.flaw(0) is None
    write(state, 1, 6)
    assert transactions(state.open("cards-0", 2), {1: "one"}) == [5, 6]


def test_a_state_of_more_is_larger(make: Make) -> None:
    small, large = (make(f"s{next(_NUMBERS)}") for _ in range(2))
    for state, keys in ((small, 1), (large, 20_000)):
        state.create(-1)
        kept = records(*((key, 1, 1, key, 1.0) for key in range(keys)))
        state.open("cards-0", 0).append(0, {key: f"card-{key}" for key in range(keys)}, kept)
    held = 20_000 * LAYOUT.dtype.itemsize
    assert 0 < small.size() < held <= large.size() < 10 * held


def test_what_earlier_states_have_left_is_removed_and_nothing_else(make: Make) -> None:
    old, new = (make(f"s{next(_NUMBERS)}") for _ in range(2))
    for state in (old, new):
        state.create(-1)
        write(state, 0, 5)
    new.remove_others()
    assert old.flaw(-1) == "it is not there"
    assert new.flaw(0) is None
    with pytest.raises(StateLost):
        old.begin(1)
