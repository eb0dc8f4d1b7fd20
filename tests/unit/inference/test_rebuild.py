"""When state is taken as it is, when it is built again, and what stands in the way of that."""

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from fraudstream.features.definitions import FeatureSet
from fraudstream.features.sets import DEFAULT
from fraudstream.inference import rebuild
from fraudstream.inference.embedded import close_all
from fraudstream.inference.generations import Generations
from fraudstream.inference.losses import ProgressDamaged
from fraudstream.inference.losses import RecordsLost
from fraudstream.inference.rebuild import CheckpointInUse
from fraudstream.inference.rebuild import Done
from fraudstream.inference.rebuild import at_work
from fraudstream.inference.rebuild import done
from fraudstream.inference.rebuild import rebuilt
from fraudstream.inference.rebuild import remove_spilled
from fraudstream.inference.rebuild import with_state
from fraudstream.inference.shared import RedisServer
from fraudstream.inference.store import StateLost
from fraudstream.inference.tasks import Settings
from fraudstream.kafka.reading import Records
from fraudstream.kafka.reading import Span
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics

TOPICS = Topics("transactions", "labels")


@pytest.fixture
def generations(tmp_path: Path) -> Generations:
    return Generations(tmp_path, "stream", DEFAULT.identity, None)


@pytest.fixture
def settings(tmp_path: Path, generations: Generations) -> Iterator[Settings]:
    yield Settings(Cluster("none:1"), TOPICS, tmp_path, DEFAULT, 0, 0.0, generations.new())
    close_all()


@contextmanager
def silent(what: str, total: float) -> Iterator[Callable[[float], None]]:
    yield lambda amount: None


def commit(settings: Settings, batch: int, offsets: list[str] | None = None) -> None:
    """Write what Spark writes of a batch."""
    sources = ['{"transactions":{"0":7,"1":9}}', '{"labels":{"0":0}}']
    for name, lines in (
        ("offsets", ["v1", '{"batchWatermarkMs":0}', *(offsets or sources)]),
        ("commits", ["v1", '{"nextBatchWatermarkMs":0}']),
    ):
        (settings.progress / name).mkdir(parents=True, exist_ok=True)
        (settings.progress / name / str(batch)).write_text("\n".join(lines))
        (settings.progress / name / f".{batch}.crc").write_bytes(b"crc")


@pytest.fixture
def empty_topics(monkeypatch):
    """Topics as long as Spark has noted, in which nothing is valid."""
    monkeypatch.setattr(rebuild, "spans", lambda cluster, topic: [Span(0, 0, 7), Span(1, 0, 9)])
    monkeypatch.setattr(rebuild, "read", lambda cluster, topic, within: iter(()))


def test_before_the_first_batch_nothing_is_done(settings):
    assert done(settings.progress) == Done(-1, {})


def test_what_is_done_is_what_spark_has_committed(settings):
    for batch in (9, 10):
        commit(settings, batch)
    (settings.progress / "commits" / "10").unlink()
    offsets = {"transactions": {0: 7, 1: 9}, "labels": {0: 0}}
    assert done(settings.progress) == Done(9, offsets)


@pytest.mark.parametrize("sources", [["{"], ["7"], ['{"transactions":7}'], ['{"t":{"x":"y"}}']])
def test_progress_that_cannot_be_read_is_refused(settings, sources):
    commit(settings, 3, sources)
    with pytest.raises(ProgressDamaged, match="offsets/3 does not say how far the stream has come"):
        done(settings.progress)


def test_progress_without_the_offsets_of_its_last_batch_is_refused(settings):
    commit(settings, 3)
    (settings.progress / "offsets" / "3").unlink()
    with pytest.raises(ProgressDamaged):
        done(settings.progress)


def test_a_new_stream_begins_with_empty_state(settings, generations, tmp_path):
    begun = with_state(settings, generations, silent)
    assert begun.state.flaw(-1) is None
    assert with_state(settings, generations, silent).state == begun.state
    assert [entry.name for entry in (tmp_path / "state").iterdir()] == [begun.state.name]


def test_whole_state_is_taken_as_it_is(settings, generations):
    begun = with_state(settings, generations, silent)
    begun.state.keep(0, begun.state.begin(0))
    commit(settings, 0)
    assert with_state(settings, generations, silent).state == begun.state


def test_a_stream_that_looks_through_its_state_is_seen_to_live(settings, generations):
    with_state(settings, generations, silent)
    assert not settings.alive.exists()
    with_state(settings, generations, silent)
    assert settings.alive.exists()


@pytest.mark.usefixtures("empty_topics")
def test_state_that_is_behind_is_built_again_and_what_was_there_is_removed(
    settings, generations, tmp_path
):
    begun = with_state(settings, generations, silent)
    commit(settings, 0)
    (tmp_path / "state" / "left-over.of-an-earlier-form").mkdir()
    after = with_state(settings, generations, silent)
    assert after.state != begun.state
    assert after.state.flaw(0) is None
    assert [entry.name for entry in (tmp_path / "state").iterdir()] == [after.state.name]


@pytest.mark.usefixtures("empty_topics")
def test_state_of_another_feature_set_is_built_again(settings, generations, tmp_path):
    begun = with_state(settings, generations, silent)
    other = FeatureSet("default", 2, DEFAULT.features)
    later = Generations(tmp_path, "stream", other.identity, None)
    after = with_state(replace(settings, feature_set=other), later, silent)
    assert after.state != begun.state
    assert generations.current() == f"it is of the feature set {other.identity}"


def test_state_in_another_place_is_not_taken(settings, generations, tmp_path):
    with_state(settings, generations, silent)
    server = RedisServer("redis://state:6379/0")
    elsewhere = Generations(tmp_path, "stream", DEFAULT.identity, server)
    assert elsewhere.current() == "it is in another place (embedded)"


def test_a_state_of_another_form_is_built_again(settings, generations, tmp_path):
    begun = with_state(settings, generations, silent)
    choice = orjson.loads((tmp_path / "state.json").read_bytes())
    del choice["form"]
    (tmp_path / "state.json").write_bytes(orjson.dumps(choice))
    assert generations.current() == "it is of form 1, and this version keeps form 3"
    assert with_state(settings, generations, silent).state != begun.state


@pytest.mark.parametrize("choice", [b"", b"{", b"[]", b"{}"])
def test_without_knowing_which_state_is_the_current_one_another_is_built(
    settings, generations, choice, tmp_path
):
    begun = with_state(settings, generations, silent)
    (tmp_path / "state.json").write_bytes(choice)
    assert "state.json is damaged" in generations.current()
    assert with_state(settings, generations, silent).state != begun.state


def test_a_rebuild_that_is_cut_short_is_not_taken_for_whole(settings, generations, monkeypatch):
    commit(settings, 0)
    monkeypatch.setattr(rebuild, "spans", lambda cluster, topic: [Span(0, 0, 7), Span(1, 0, 9)])
    monkeypatch.setattr(rebuild, "read", lambda cluster, topic, within: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        with_state(settings, generations, silent)
    assert generations.current() == "there is none"


def test_what_nothing_can_go_on_from_is_gone_before_room_is_taken_for_another_state(
    settings, generations, monkeypatch, tmp_path
):
    # Where there is room for one state only, it would never be built again.
    begun = with_state(settings, generations, silent)
    (tmp_path / "state" / "left-over.of-a-rebuild-that-was-killed").mkdir()
    commit(settings, 0)
    there = []

    def read(cluster: Cluster, topic: str, within: list[Span]) -> Iterator[Records]:
        there.append({entry.name for entry in (tmp_path / "state").iterdir()})
        return iter(())

    monkeypatch.setattr(rebuild, "spans", lambda cluster, topic: [Span(0, 0, 7), Span(1, 0, 9)])
    monkeypatch.setattr(rebuild, "read", read)
    after = with_state(settings, generations, silent)
    assert after.state != begun.state
    assert there == [{after.state.name}] * len(there) != []


def test_a_state_that_is_to_be_kept_meanwhile_outlives_a_rebuild_that_fails(
    settings, generations, monkeypatch, tmp_path
):
    begun = with_state(settings, generations, silent)
    begun.state.keep(0, begun.state.begin(0))
    commit(settings, 0)
    monkeypatch.setattr(rebuild, "spans", lambda cluster, topic: [Span(0, 0, 7), Span(1, 0, 9)])
    monkeypatch.setattr(rebuild, "read", lambda cluster, topic, within: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        rebuilt(settings, generations, done(settings.progress), silent, begun.state, keep=True)
    assert with_state(settings, generations, silent).state == begun.state


def test_a_state_that_another_driver_has_chosen_meanwhile_is_not_removed(settings, generations):
    before = with_state(settings, generations, silent)
    other = with_state(replace(settings), generations, silent)
    assert before.state == other.state
    chosen = generations.new()
    chosen.create(-1)
    generations.choose(chosen)
    with pytest.raises(StateLost, match="another driver has built a state"):
        rebuilt(settings, generations, done(settings.progress), silent, before.state)
    assert generations.current() == chosen
    assert chosen.flaw(-1) is None


def test_topics_that_do_not_reach_as_far_any_more_are_refused(settings, generations, monkeypatch):
    commit(settings, 0)
    monkeypatch.setattr(rebuild, "spans", lambda cluster, topic: [Span(0, 0, 6), Span(1, 0, 9)])
    with pytest.raises(
        RecordsLost,
        match="transactions, partition 0, ends at offset 6, and the stream has read up to 7",
    ):
        with_state(settings, generations, silent)


def test_what_a_topic_has_lost_is_told_and_the_rest_is_read(
    settings, generations, monkeypatch, capsys
):
    read = []

    def note(within: list[Span]) -> Iterator[Records]:
        read.append(within)
        return iter(())

    monkeypatch.setattr(rebuild, "spans", lambda cluster, topic: [Span(0, 8, 8), Span(1, 2, 9)])
    monkeypatch.setattr(rebuild, "read", lambda cluster, topic, within: note(within))
    so_far = Done(0, {"transactions": {0: 7, 1: 9}})
    rebuilt(settings, generations, so_far, silent, "there is none")
    assert read == [[Span(0, 7, 7), Span(1, 2, 9)]]
    said = "".join(capsys.readouterr())
    assert said.count("has lost its beginning") == 2


def test_two_streams_may_work_with_a_checkpoint_and_who_has_to_be_alone_may_not(tmp_path):
    by_a_stream = pytest.raises(CheckpointInUse, match="a stream runs with")
    with at_work(tmp_path), at_work(tmp_path), by_a_stream, at_work(tmp_path, alone=True):
        pass
    by_a_rebuild = pytest.raises(CheckpointInUse, match="`rebuild-state` runs")
    with at_work(tmp_path, alone=True), by_a_rebuild, at_work(tmp_path):
        pass


def test_what_a_killed_spark_left_is_removed_unless_another_stream_may_need_it(settings):
    left = settings.spill / "blockmgr-1"
    left.mkdir(parents=True)
    with at_work(settings.checkpoint):
        remove_spilled(settings)
        assert left.exists()
    remove_spilled(settings)
    assert not left.exists()
    remove_spilled(settings)


def test_a_state_names_itself_in_the_checkpoint(settings, generations, tmp_path):
    begun = with_state(settings, generations, silent)
    assert orjson.loads((tmp_path / "state.json").read_bytes()) == {
        "name": begun.state.name,
        "form": 3,
        "feature_set": DEFAULT.identity,
        "place": "embedded",
    }
