"""What the benchmark of the stream tells follows from what it saw."""

import doctest
import os
from pathlib import Path
import pickle
import subprocess
import sys

import numpy as np
import pytest
from stream import measuring
from stream import plan
from stream import running
from stream.bench import created
from stream.main import compare
from stream.measuring import Drained
from stream.measuring import Load
from stream.measuring import drained
from stream.measuring import ratio
from stream.peers import our_sources
from stream.report import picture
from stream.report import tables
from stream.running import Cost
from stream.running import TooSlow
from stream.running import processor_s
from stream.scorer import Memory

from fraudstream.inference.embedded import EmbeddedStore
from fraudstream.inference.store import Layout
from fraudstream.kafka.topics import Topics
from fraudstream.kafka.topics import UnknownTopic
from fraudstream.stack.process import ProcessFailed
from unit.awaiting import await_that


@pytest.mark.parametrize("module", [measuring, plan, running])
def test_examples_run(module):
    assert doctest.testmod(module).failed == 0


@pytest.mark.parametrize("batch", [100, 5_000])
def test_a_rate_is_that_of_whole_batches(batch):
    load = Load(batch, warm_up=2, measured=4)
    # A batch takes a second, and all of it appears at its end.
    appended_ms = np.repeat(np.arange(1, 7) * 1_000, batch)
    at_s = np.arange(0.0, 10.0)
    found = drained(load, appended_ms, Cost(at_s, at_s * 2))
    assert found.rows_s == pytest.approx(batch, rel=0.01)
    assert found.cpu_us == pytest.approx(2e6 / batch, rel=0.01)


def test_the_few_records_left_over_for_a_batch_of_their_own_are_not_measured():
    load = Load(1_000, warm_up=1, measured=2)
    appended_ms = np.repeat([1_000, 2_000, 3_000, 4_000], [1_000, 1_000, 995, 5])
    at_s = np.arange(0.0, 10.0)
    found = drained(load, appended_ms, Cost(at_s, at_s))
    assert found.rows_s == pytest.approx(1_000, rel=0.01)


def test_who_runs_ahead_is_measured_from_its_first_results_on():
    # It writes a batch, works on all others for eight seconds, and writes them together.
    load = Load(1_000, warm_up=2, measured=3)
    appended_ms = np.repeat([1_000, 9_000], [1_000, 4_000])
    at_s = np.arange(0.0, 10.0)
    found = drained(load, appended_ms, Cost(at_s, at_s), runs_ahead=True)
    assert found.rows_s == pytest.approx(500, rel=0.01)
    assert found.cpu_us == pytest.approx(2_000, rel=0.01)


def test_who_could_run_ahead_and_does_not_is_measured_as_others_are():
    load = Load(1_000, warm_up=2, measured=3)
    appended_ms = np.arange(5_000)
    cost = Cost(np.arange(0.0, 10.0), np.arange(0.0, 10.0))
    assert drained(load, appended_ms, cost, runs_ahead=True) == drained(load, appended_ms, cost)


def test_what_takes_less_than_the_clock_can_tell_has_taken_a_millisecond():
    cost = Cost(np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    assert drained(Load(10, 1, 1), np.full(20, 500), cost).rows_s == pytest.approx(10_000)


def test_a_ratio_is_taken_in_each_round():
    # The second round had half of the machine: that says nothing of who is faster.
    ours = [Drained(rate, 0.0) for rate in (100.0, 50.0, 100.0)]
    theirs = [Drained(rate, 0.0) for rate in (200.0, 100.0, 200.0)]
    assert ratio(ours, theirs) == 0.5


def test_a_slow_contender_has_as_many_batches_of_fewer_events():
    assert Load(50_000, 3, 6).scaled(0.01) == Load(500, 3, 6)


class Track:
    """A bench on which everyone does a thousand a second, but for those named."""

    def __init__(self, **failures):
        self.failures = failures
        self.asked = []

    def backlog(self, name, *settings):
        return name

    def drain(self, name, source, load):
        self.asked.append(name)
        if name in self.failures:
            raise self.failures[name]
        return Drained(1_000.0, 20.0)


def test_who_fails_is_told_with_the_reason_and_not_asked_again():
    track = Track(
        bytewax=ProcessFailed("installing bytewax failed; the end of its log:\na\nno wheel"),
        pyflink=TooSlow("pyflink ended"),
    )
    names = ["fraudstream", "passthrough", "bytewax", "pyflink"]
    told = compare(track, names, Load(10, 1, 2), rounds=2)
    assert told["not_run"] == {
        "bytewax": "installing bytewax failed; the end of its log: no wheel",
        "pyflink": "pyflink ended",
    }
    assert told["ratios"] == {"passthrough": 1.0}
    assert told["rows_s"] == {"fraudstream": 1_000, "passthrough": 1_000}
    assert track.asked == [*names, *names[:2]]


REPORT = {
    "rounds": 1,
    "contenders": {"fraudstream": {"rows_s": 100, "cpu_us_per_event": 2.0}},
    "ratios": {},
    "not_run": {"pathway": "no wheel"},
    "cards": {"10000": 90, "1000000": 80},
    "partitions": {"1": 50, "2": 100},
    "latency_ms": {
        load: {"p50": 1.0, "p99": 2.0, "p99.9": 3.0} for load in ("25", "75", "passthrough_25")
    },
}


@pytest.mark.parametrize("without", [(), ("cards",), ("cards", "partitions", "latency_ms")])
def test_what_was_measured_has_a_table_and_a_place_in_the_picture(tmp_path, without):
    report = REPORT | {part: {} for part in without}
    picture(report, tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert len(tables(report)) == 4 - len(without)


class Slow:
    """A cluster that has created topics some questions before it knows them."""

    def __init__(self, questions):
        self.questions = questions

    def create_topics(self, topics, partitions):
        pass

    def require_topics(self, names):
        self.questions -= 1
        if self.questions > 0:
            raise UnknownTopic(", ".join(names))


def test_a_topic_is_used_when_the_broker_knows_it():
    cluster = Slow(questions=3)
    created(cluster, Topics("a", "b", "c", "d", "e"), 4)
    assert cluster.questions == 0


def test_a_topic_that_the_broker_never_knows_is_told():
    with pytest.raises(UnknownTopic, match="a, b"):
        created(Slow(questions=1_000), Topics("a", "b", "c", "d", "e"), 4, within_s=0.0)


def test_a_process_that_ends_while_it_is_looked_at_has_used_nothing(monkeypatch):
    def gone(file):
        raise ProcessLookupError(file)

    monkeypatch.setattr(Path, "read_text", gone)
    assert processor_s(os.getpid()) == 0.0


BUSY = "import time\nwhile time.process_time() < 0.5: pass\n"


def test_what_children_have_used_is_counted_also_when_they_are_gone():
    parent = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {BUSY!r}])\ninput()"
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE) as process:
        await_that(lambda: processor_s(process.pid) >= 0.5)
        process.kill()


def test_a_store_in_memory_gives_what_the_embedded_one_gives(tmp_path):
    layout = Layout(("amount",), ())
    records = np.zeros(6, layout.dtype)
    records["key"], records["amount"] = [1, 2, 1, 3, 2, 1], np.arange(6)
    names = {1: "a", 2: "b", 3: "c", 4: "d"}
    memory, embedded = Memory(), EmbeddedStore(tmp_path)
    for store in (memory, embedded):
        store.append(0, names, records)
        store.append(1, names, records[:1])
        store.replace(2, {2: "b", 3: "c"}, records[:0], records[1:2])
        store.keep_clock(2, 7)
    again = pickle.loads(pickle.dumps(memory))  # noqa: S301
    assert np.array_equal(again.read(names, layout), embedded.read(names, layout))
    assert again.clock_before(3) == embedded.clock_before(3) == 7


def test_a_peer_is_given_our_sources_alone():
    roots = our_sources().split(os.pathsep)
    assert not [root for root in roots if "site-packages" in root]
    assert any(os.path.isdir(f"{root}/fraudstream") for root in roots)
