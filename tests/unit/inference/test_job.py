"""A checkpoint has one owner, and no batch is cut by a stop."""

from pathlib import Path
import threading

import pytest
from structlog.testing import capture_logs

from fraudstream.features.sets import DEFAULT
from fraudstream.inference import job
from fraudstream.inference.durable import write_once
from fraudstream.inference.embedded import EmbeddedState
from fraudstream.inference.job import Batches
from fraudstream.inference.job import ForeignState
from fraudstream.inference.job import Overtaken
from fraudstream.inference.job import StreamStopped
from fraudstream.inference.job import claim
from fraudstream.inference.metrics import Metrics
from fraudstream.inference.sink import Sink
from fraudstream.inference.tasks import Settings
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics

_DEADLINE_S = 10
NO_METRICS = Metrics(EmbeddedState(Path("nowhere")), lambda places: {})
SINK = Sink(Cluster("kafka:9092"), "stream", "scores")


class Records:
    """A batch of Spark, of which only its session is asked."""

    class sparkSession:  # noqa: N801 - Spark's name
        class sparkContext:  # noqa: N801
            defaultParallelism = 2  # noqa: N815

            @staticmethod
            def accumulator(value, param):
                return None


def running(checkpoint: Path) -> Settings:
    state = EmbeddedState(checkpoint / "state")
    state.create(-1)
    return Settings(Cluster("kafka:9092"), Topics(), checkpoint, DEFAULT, 1_000, 0.0, state)


class NoModel:
    """A champion that must not be asked."""

    def for_batch(self, batch, shards):
        raise AssertionError(f"batch {batch} is scored")


class Query:
    """A query whose stop waits for a batch that is being handed over, as Spark's does."""

    def __init__(self, hand_over=None):
        self.hand_over = hand_over
        self.stopped = False

    def stop(self):
        if self.hand_over is not None:
            self.hand_over.start()
            self.hand_over.join(_DEADLINE_S)
        self.stopped = self.hand_over is None or not self.hand_over.is_alive()


def test_a_checkpoint_can_be_claimed_again_by_its_owner(tmp_path):
    claim(tmp_path / "new", Topics())
    claim(tmp_path / "new", Topics())


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (Topics(transactions="others"), "belongs to transactions Vishwa.*not others"),
        (Topics(labels="others"), "belongs to labels fraud-labels, not others"),
    ],
)
def test_a_checkpoint_of_other_topics_is_refused(tmp_path, other, problem):
    claim(tmp_path, Topics())
    with pytest.raises(ForeignState, match=problem):
        claim(tmp_path, other)


def test_a_checkpoint_of_another_form_is_refused(tmp_path, monkeypatch):
    claim(tmp_path, Topics())
    monkeypatch.setattr(job, "_FORMAT", "later")
    with pytest.raises(ForeignState, match="belongs to format 3, not later: give another"):
        claim(tmp_path, Topics())


def test_state_without_an_owner_is_refused(tmp_path):
    claim(tmp_path, Topics())
    (tmp_path / "state").mkdir()
    (tmp_path / "owner.json").unlink()
    with pytest.raises(ForeignState, match=r"has no owner\.json, by which it would tell whose"):
        claim(tmp_path, Topics())


def test_topics_of_results_may_change(tmp_path):
    claim(tmp_path, Topics())
    claim(tmp_path, Topics(scores="elsewhere"))


def test_of_two_that_begin_at_once_both_have_one_name(tmp_path, monkeypatch):
    names = []

    def late(file, document):
        monkeypatch.undo()
        names.append(claim(tmp_path, Topics()))
        (tmp_path / "state").mkdir()
        write_once(file, document)

    monkeypatch.setattr(job, "write_once", late)
    names.append(claim(tmp_path, Topics()))
    assert names == [names[0]] * 2


def test_a_stream_keeps_its_name(tmp_path):
    name = claim(tmp_path / "one", Topics())
    assert claim(tmp_path / "one", Topics()) == name
    assert claim(tmp_path / "other", Topics()) != name


def test_after_a_stop_a_batch_is_left_to_the_next_run(tmp_path):
    batches = Batches(running(tmp_path), NoModel(), SINK, NO_METRICS)
    query = Query()
    batches.finish(query)
    assert query.stopped
    with pytest.raises(StreamStopped, match="batch 0 is left to the next run"):
        batches.process(Records, 0)


def test_a_batch_that_comes_in_the_midst_of_a_stop_does_not_hold_it_up(tmp_path):
    batches = Batches(running(tmp_path), NoModel(), SINK, NO_METRICS)
    refused = threading.Event()

    def hand_over():
        try:
            batches.process(Records, 0)
        except StreamStopped:
            refused.set()

    query = Query(threading.Thread(target=hand_over, daemon=True))
    batches.finish(query)
    assert query.stopped
    assert refused.is_set()


def test_a_stop_waits_for_the_batch_at_hand(tmp_path):
    scoring, go_on = threading.Event(), threading.Event()
    events = []

    class SlowModel:
        def for_batch(self, batch, shards):
            scoring.set()
            assert go_on.wait(_DEADLINE_S)
            events.append("scored")
            raise LookupError("far enough")

    class Watching(Query):
        def stop(self):
            events.append("stopped")

    batches = Batches(running(tmp_path), SlowModel(), SINK, NO_METRICS)

    def process():
        with pytest.raises(LookupError):
            batches.process(Records, 0)

    at_hand = threading.Thread(target=process)
    at_hand.start()
    assert scoring.wait(_DEADLINE_S)
    stopping = threading.Thread(target=batches.finish, args=(Watching(),))
    stopping.start()
    go_on.set()
    at_hand.join(_DEADLINE_S)
    stopping.join(_DEADLINE_S)
    assert events == ["scored", "stopped"]


class AnyModel:
    def for_batch(self, batch, shards):
        return None


def at_work(folder, monkeypatch, collect):
    """Have `collect` called, with the batches, in the midst of one of them."""
    batches = Batches(running(folder), AnyModel(), SINK, NO_METRICS)

    class Results:
        def collect(self):
            collect(batches)
            raise LookupError("far enough")

    monkeypatch.setattr(batches, "_results", lambda *_: Results())
    note(folder, "offsets")
    assert not batches.is_overtaken()
    with pytest.raises(LookupError, match="far enough"):
        batches.process(Records, 0)
    assert not batches.is_overtaken()


def note(folder, what):
    (folder / "progress" / what).mkdir(parents=True)
    (folder / "progress" / what / "0").write_text("v1")


def test_who_is_at_a_batch_that_another_one_has_done_is_overtaken(tmp_path, monkeypatch):
    told = []

    def collect(batches):
        told.append(batches.is_overtaken())
        note(tmp_path, "commits")
        told.append(batches.is_overtaken())

    at_work(tmp_path, monkeypatch, collect)
    assert told == [False, True]


def test_who_ends_a_batch_while_it_is_looked_for_is_not_overtaken(tmp_path, monkeypatch):
    told = []

    def collect(batches):
        def ends(progress, batch):
            batches._at_hand = None
            return True

        monkeypatch.setattr(job, "is_past", ends)
        told.append(batches.is_overtaken())

    at_work(tmp_path, monkeypatch, collect)
    assert told == [False]


def test_a_batch_that_is_cut_ends_by_saying_so(tmp_path, monkeypatch):
    cancelled = []

    class Spark:
        class sparkContext:  # noqa: N801 - Spark's name
            @staticmethod
            def cancelAllJobs():  # noqa: N802
                cancelled.append(True)

    def collect(batches):
        batches.cut(Spark)
        raise LookupError("a job was cancelled")

    with pytest.raises(Overtaken, match="another stream has done batch 0 of"):
        at_work(tmp_path, monkeypatch, collect)
    assert cancelled


class Challenger:
    version, digest = "2", "d" * 64


def test_a_challenger_that_does_not_score_all_is_told_of_once(tmp_path):
    batches = Batches(running(tmp_path), NoModel(), SINK, NO_METRICS)
    whole, part = ({"scores": 3, "shadow_scores": count} for count in (3, 2))
    with capture_logs() as told:
        batches._see_whether_fails(None, [part])
        batches._see_whether_fails(Challenger, [whole])
        assert told == []
        for _ in range(2):
            batches._see_whether_fails(Challenger, [whole, part])
    [line] = told
    assert (line["event"], line["version"], line["not_scored"]) == ("challenger fails", "2", 1)
