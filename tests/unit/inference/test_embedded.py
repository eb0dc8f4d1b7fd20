"""Embedded state is seen by every process of the machine, and is not trusted when it is damaged."""

from dataclasses import replace
import os
import signal
import subprocess
import sys

import lmdb
import numpy as np
import orjson
import pytest

from fraudstream.inference import embedded
from fraudstream.inference.embedded import EmbeddedState
from fraudstream.inference.embedded import EmbeddedStore
from fraudstream.inference.embedded import Machine
from fraudstream.inference.embedded import StateElsewhere
from fraudstream.inference.embedded import StateNotWritten
from fraudstream.inference.store import Layout
from fraudstream.inference.store import StateLost

LAYOUT = Layout(numbers=("amount",), identities=())
KEYS = {key: f"card-{key}" for key in range(300)}


@pytest.fixture
def state(tmp_path):
    state = EmbeddedState(tmp_path / "state" / "one")
    state.create(-1)
    begun = state.begin(0)
    # Some keys with more than a page of records, as many cards have.
    key = np.sort(np.arange(9_000) % len(KEYS))
    records = LAYOUT.pack(key, key, key, {"transaction": key, "amount": key})
    for name in ("cards-0", "cards-1"):
        state.open(name, 0).append(0, KEYS, records)
    state.keep(0, begun)
    return state


def data_of(state, name="cards-1"):
    return state.folder / name / "data.mdb"


def test_a_second_process_sees_what_the_first_wrote(state):
    program = (
        "import sys, pathlib\n"
        "from fraudstream.inference.embedded import EmbeddedState\n"
        "from fraudstream.inference.store import Layout\n"
        "store = EmbeddedState(pathlib.Path(sys.argv[1])).open('cards-0', 1)\n"
        "layout = Layout(numbers=('amount',), identities=())\n"
        "print(store.read({42: 'card-42'}, layout)['transaction'].tolist())\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    said = subprocess.run(
        [sys.executable, "-c", program, str(state.folder)],
        capture_output=True,
        text=True,
        check=True,
        env=environment,
    )
    assert orjson.loads(said.stdout) == [42] * 30


def test_whole_state_has_no_flaw(state):
    assert state.flaw(0) is None


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.9])
def test_a_file_that_was_cut_is_a_flaw(state, share):
    file = data_of(state)
    os.truncate(file, int(file.stat().st_size * share))
    assert str(state.folder) in state.flaw(0)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 0.5, 0.75, 0.99])
def test_a_file_that_was_overwritten_is_a_flaw(state, share):
    file = data_of(state)
    begin = int(file.stat().st_size * share) // 4096 * 4096
    length = 8192 if share == 0 else 4096
    with file.open("r+b") as opened:
        opened.seek(begin)
        was = opened.read(length)
        opened.seek(begin)
        opened.write(np.random.default_rng(7).bytes(length))
    if not any(was):
        pytest.skip("nothing was written there")
    assert "damaged" in state.flaw(0)


def test_one_bit_of_what_is_held_is_a_flaw(state):
    file = data_of(state)
    content = bytearray(file.read_bytes())
    at = content.rindex((77).to_bytes(8, "little") * 2) + 5
    content[at] ^= 4
    file.write_bytes(content)
    assert "is not what was written" in state.flaw(0)


def flip(folder, name, byte):
    """Flip one bit of an entry, in a way that LMDB itself takes for a write like any other."""
    with (
        lmdb.open(str(folder), map_size=1 << 30) as environment,
        environment.begin(write=True) as at,
    ):
        entry = bytearray(at.get(name))
        entry[byte] ^= 16
        at.put(name, bytes(entry))


# Of recent records the head, those that were held and those that were added; of the bulk both ends.
@pytest.mark.parametrize(
    ("name", "byte"),
    [(b"few", at) for at in (0, 4, 12, 16, 20, 24, 28, 60, -1)]
    + [(b"many", 5), (b"many\x00", 0), (b"many\x00", 4), (b"many\x00", -1)],
)
def test_one_bit_of_any_part_of_an_entry_is_a_flaw(tmp_path, name, byte):
    key = np.array([1] + [2] * 200)
    records = LAYOUT.pack(key, key, key, {"transaction": key, "amount": key})
    store = EmbeddedStore(tmp_path)
    for batch in range(2):
        store.append(batch, {1: "few", 2: "many"}, records)
    assert store.flaw() is None
    store.close()
    flip(tmp_path, name, byte)
    assert f"what is held of {name!r} is not what was written" == EmbeddedStore(tmp_path).flaw()


def test_what_is_added_to_damaged_records_does_not_make_them_whole(tmp_path):
    key = np.array([1])
    records = LAYOUT.pack(key, key, key, {"transaction": key, "amount": key})
    store = EmbeddedStore(tmp_path)
    store.append(0, {1: "card"}, records)
    store.close()
    flip(tmp_path, b"card", -1)
    store = EmbeddedStore(tmp_path)
    for batch in range(1, 4):
        store.append(batch, {1: "card"}, records)
    assert "is not what was written" in store.flaw()


def test_a_store_that_is_gone_or_of_an_earlier_batch_is_a_flaw(state):
    before = data_of(state).read_bytes()
    begun = state.begin(1)
    state.open("cards-1", 1).append(1, {}, np.zeros(0, LAYOUT.dtype))
    state.keep(1, begun)
    data_of(state).write_bytes(before)
    assert "and had ended with 1" in state.flaw(1)
    data_of(state).unlink()
    assert f"{state.folder}/cards-1 is not there" in state.flaw(1)


@pytest.mark.parametrize("mark", [b"", b"{", b"[]", b"{}"])
def test_a_damaged_mark_is_a_flaw(state, mark):
    (state.folder / "mark.0.json").write_bytes(mark)
    assert "mark.0.json is damaged" in state.flaw(0)


def test_who_was_given_up_between_a_look_at_the_mark_and_setting_it_sets_nothing_back(
    state, monkeypatch
):
    begun = state.begin(1)
    stores = EmbeddedState._stores

    def frozen(self):
        # While it stands still here, another driver takes over and does three batches.
        found = stores(self)
        monkeypatch.setattr(EmbeddedState, "_stores", stores)
        for batch in (1, 2, 3):
            self.keep(batch, self.begin(batch))
        return found

    monkeypatch.setattr(EmbeddedState, "_stores", frozen)
    state.keep(1, begun)
    assert state.flaw(3) is None
    state.begin(4)


def test_marks_of_earlier_batches_do_not_pile_up(state):
    for batch in (1, 2, 3):
        state.keep(batch, state.begin(batch))
    assert [file.name for file in state.folder.glob("mark.*")] == ["mark.3.json"]


def test_what_was_not_settled_when_the_machine_ended_is_not_trusted(state, monkeypatch):
    later = Machine(state.machine.host, "a later run")
    monkeypatch.setattr(embedded, "this_machine", lambda: later)
    assert "the machine was restarted" in state.flaw(0)


def test_settled_state_outlives_the_machine_until_it_is_used_again(state, monkeypatch):
    state.settle()
    later = Machine(state.machine.host, "a later run")
    monkeypatch.setattr(embedded, "this_machine", lambda: later)
    after = replace(state, machine=later)
    assert after.flaw(0) is None
    after.begin(1)
    assert after.flaw(0) is None
    monkeypatch.setattr(embedded, "this_machine", lambda: state.machine)
    assert "the machine was restarted" in state.flaw(0)


def test_on_another_machine_it_is_not_opened(state):
    elsewhere = replace(state, machine=Machine("driver", "another-run"))
    with pytest.raises(StateElsewhere, match="use workers on driver only, or a shared --state"):
        elsewhere.open("cards-0", 1)


def test_a_state_that_was_removed_is_not_made_again(tmp_path):
    state = EmbeddedState(tmp_path / "state" / "one")
    with pytest.raises(StateLost, match="was removed"):
        state.open("cards-0", 1)
    assert not state.folder.exists()


def test_a_store_whose_writer_is_frozen_is_a_flaw(state, monkeypatch):
    program = (
        "import lmdb, os, signal, sys\n"
        "writing = lmdb.open(sys.argv[1], map_size=1 << 38).begin(write=True)\n"
        "os.kill(os.getpid(), signal.SIGSTOP)\n"
    )
    frozen = subprocess.Popen([sys.executable, "-c", program, str(data_of(state).parent)])
    try:
        seen = os.waitid(os.P_PID, frozen.pid, os.WSTOPPED | os.WEXITED)
        assert seen is not None
        assert seen.si_status == signal.SIGSTOP
        with monkeypatch.context() as impatient:
            impatient.setattr(embedded, "_SILENCE_S", 0.5)
            assert "is held: is a process that works with it frozen?" in state.flaw(0)
    finally:
        frozen.kill()
        frozen.wait()
    assert state.flaw(0) is None


def test_what_cannot_be_written_is_told_with_its_folder(tmp_path, monkeypatch):
    def full(store, transaction, batch):
        raise lmdb.DiskError("no room")

    store = EmbeddedStore(tmp_path)
    monkeypatch.setattr(EmbeddedStore, "_take", full)
    with pytest.raises(StateNotWritten, match=f"state in {tmp_path} could not be written: no room"):
        store.keep_clock(0, 1)
    store.close()


def test_an_error_of_the_embedded_store_while_it_is_read_is_a_flaw(tmp_path, monkeypatch):
    store = embedded.EmbeddedStore(tmp_path)
    store.close()
    with pytest.raises(lmdb.Error):
        store.last_batch()
    assert store.flaw()
