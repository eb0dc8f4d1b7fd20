"""The embedded store keeps what it is given, once, for as long as it is asked to."""

import numpy as np
import pytest

from fraudstream.inference.store import Buckets
from fraudstream.inference.store import EmbeddedStore
from fraudstream.inference.store import Layout
from fraudstream.inference.store import OlderBatch

LAYOUT = Layout(numbers=("amount",), identities=("device",))


@pytest.fixture
def store(tmp_path):
    return EmbeddedStore(tmp_path / "store")


def records(*rows):
    """Rows of key, time, arrival, transaction and amount."""
    key, time_us, arrival, transaction, amount = (np.array(c) for c in zip(*rows, strict=True))
    values = {
        "transaction": transaction,
        "amount": amount.astype(float),
        "device": np.full(len(key), 7),
    }
    return LAYOUT.pack(key, time_us, arrival, values)


def test_a_key_that_was_never_written_has_no_history(store):
    assert len(store.read({1: "card-1"}, LAYOUT)) == 0


def test_records_come_back_key_by_key_in_the_order_in_which_they_were_appended(store):
    some = records((2, 50, 0, 1, 9.5), (1, 40, 1, 2, 1.0), (2, 30, 2, 3, 2.0))
    store.append(0, {1: "one", 2: "two"}, some)
    back = store.read({2: "two", 1: "one"}, LAYOUT)
    assert back["transaction"].tolist() == [1, 3, 2]
    assert back["amount"].tolist() == [9.5, 2.0, 1.0]
    assert back["device"].tolist() == [7, 7, 7]


def test_what_is_not_kept_is_forgotten_and_an_emptied_key_with_it(store):
    both = records((1, 10, 0, 1, 1), (2, 20, 1, 2, 2))
    store.append(0, {1: "one", 2: "two"}, both)
    store.append(1, {1: "one", 2: "two"}, both[1:])
    assert store.read({1: "one", 2: "two"}, LAYOUT)["transaction"].tolist() == [2]


def test_other_keys_are_left_alone(store):
    store.append(0, {1: "one"}, records((1, 10, 0, 1, 1)))
    store.append(0, {2: "two"}, records((2, 99, 0, 2, 2)))
    assert store.read({1: "one"}, LAYOUT)["transaction"].tolist() == [1]


def test_what_is_older_than_the_last_batch_is_refused_and_changes_nothing(store):
    store.append(6, {1: "one"}, records((1, 10, 0, 1, 1)))
    store.keep_clock(7, 100)
    with pytest.raises(OlderBatch, match="expected batch 7 or a later one, got 6"):
        store.append(6, {1: "one"}, records((1, 10, 0, 2, 1)))
    with pytest.raises(OlderBatch, match="expected batch 7 or a later one, got 6"):
        store.keep_clock(6, 50)
    assert store.read({1: "one"}, LAYOUT)["transaction"].tolist() == [1]
    assert store.clock_before(8) == 100


def test_a_batch_that_is_repeated_may_write_again(store):
    for _ in range(2):
        store.append(6, {1: "one"}, records((1, 10, 0, 1, 1)))
    assert store.read({1: "one"}, LAYOUT)["transaction"].tolist() == [1]


def test_keys_lie_in_the_stores_of_their_buckets(tmp_path):
    stores = {}

    def bucket(number):
        if number not in stores:
            stores[number] = EmbeddedStore(tmp_path / str(number))
        return stores[number]

    all_of_them = Buckets(bucket)
    names = {1: "one", -1: "minus one", 17: "seventeen"}
    all_of_them.append(0, names, records((1, 1, 0, 7, 1), (-1, 2, 1, 8, 1), (17, 3, 2, 9, 1)))
    assert sorted(all_of_them.read(names, LAYOUT)["transaction"].tolist()) == [7, 8, 9]
    assert stores.keys() == {1, 15}
    assert stores[15].read({-1: "minus one"}, LAYOUT)["transaction"].tolist() == [8]
    assert len(all_of_them.read({}, LAYOUT)) == 0


def test_the_history_that_features_read_is_sorted_by_key_time_and_arrival():
    events = LAYOUT.events(records((2, 5, 0, 1, 1), (1, 9, 1, 2, 2), (1, 9, 0, 3, 3)))
    assert events.key.tolist() == [1, 1, 2]
    assert events.values["amount"].tolist() == [3, 2, 1]


def test_the_clock_is_the_one_before_the_batch_also_when_the_batch_is_repeated(store):
    assert store.clock_before(0) is None
    store.keep_clock(0, 100)
    store.keep_clock(1, 200)
    assert store.clock_before(1) == 100
    store.keep_clock(1, 200)
    assert store.clock_before(1) == 100
    assert store.clock_before(2) == 200


def test_a_second_process_sees_what_the_first_wrote(tmp_path, store):
    import subprocess
    import sys

    store.append(0, {1: "one"}, records((1, 10, 0, 42, 1)))
    program = (
        "import sys, pathlib\n"
        "from fraudstream.inference.store import EmbeddedStore, Layout\n"
        "store = EmbeddedStore(pathlib.Path(sys.argv[1]))\n"
        "layout = Layout(numbers=('amount',), identities=('device',))\n"
        "print(store.read({1: 'one'}, layout)['transaction'].tolist())\n"
    )
    import os

    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "store")],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert said.stdout.strip() == "[42]"
