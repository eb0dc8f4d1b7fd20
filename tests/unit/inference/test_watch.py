"""Looks for new models, beside the batches and before the first."""

import threading
import time

import pytest
from structlog.testing import capture_logs

from fraudstream.inference.champion import await_first
from fraudstream.inference.champion import watched
from unit.inference.shelves import TRAFFIC

_DEADLINE_S = 10.0


def test_a_watch_sees_a_new_champion_beside_the_batches_whatever_went_wrong_before(shelf, serving):
    looks = []
    bearing = shelf.bearing

    def faulty(*aliases):
        looks.append(aliases)
        if len(looks) == 1:
            raise RuntimeError("a defect")
        return bearing(*aliases)

    shelf.set(bearing=faulty)
    shelf.add("2", seed=1)
    deadline = time.monotonic() + _DEADLINE_S
    with capture_logs() as lines, watched(serving, every_s=0.01):
        while serving.current().version != "2":
            assert time.monotonic() < deadline
    assert lines[0]["event"] == "look for models failed"


@pytest.mark.parametrize("scored", [True, False])
def test_the_first_look_comes_after_the_first_scores_or_when_none_come(
    scored, shelf, serving, started
):
    restarted = started()
    asked = threading.Event()

    def look(*aliases):
        asked.set()
        return {}

    shelf.set(bearing=look)
    with watched(restarted, every_s=0.01, first_s=_DEADLINE_S if scored else 2.0):
        assert not asked.wait(0.1)
        if scored:
            restarted.saw(TRAFFIC[:1])
        assert asked.wait(_DEADLINE_S / 2)


@pytest.fixture
def slow_look(serving, shelf):
    """A registry that waits: events of having been asked, of what it waits for, and of its end."""
    asked, answer, over = (threading.Event() for _ in range(3))

    def look(*aliases):
        asked.set()
        answer.wait(_DEADLINE_S)
        over.set()
        return {}

    shelf.set(bearing=look)
    return asked, answer, over


def test_a_look_that_waits_for_a_registry_holds_up_no_batch_and_the_end_no_longer_than_that(
    slow_look, serving
):
    asked, answer, over = slow_look
    with watched(serving, patience_s=0.01):
        assert asked.wait(_DEADLINE_S)
        assert serving.for_batch(0, 2).champion.version == "1"
    assert not over.is_set()
    answer.set()


def test_the_look_at_hand_is_over_when_the_watch_is(slow_look, serving):
    # Else a process may end in the middle of it, and wait for what its libraries do there.
    asked, answer, over = slow_look
    with watched(serving):
        assert asked.wait(_DEADLINE_S)
        # By now the end of the block can be waiting for the look, and not the other way round.
        threading.Timer(0.1, answer.set).start()
    assert over.is_set()


def test_a_stream_that_waits_for_its_first_model_gets_it_when_it_comes(shelf, started):
    looks = []

    def look(*aliases):
        looks.append(shelf.aliases.get("champion"))
        shelf.set(reachable=len(looks) > 1)
        if len(looks) == 3:
            shelf.add("1")

    bundle = await_first(started(), threading.Event(), look, probe_s=0.01)
    assert bundle is not None
    assert bundle.version == "1"
    assert looks == [None, None, None]


def test_a_stream_that_waits_for_its_first_model_passes_over_one_that_is_refused(shelf, started):
    shelf.add("1")
    (shelf.folder / "1" / "manifest.json").write_text("{}")
    looks = []

    def look(*aliases):
        looks.append(shelf.aliases["champion"])
        if len(looks) == 3:
            shelf.add("2")

    bundle = await_first(started(), threading.Event(), look, probe_s=0.01)
    assert bundle is not None
    assert bundle.version == "2"


def test_a_stream_that_waits_for_its_first_model_can_be_stopped(started):
    stop = threading.Event()
    assert await_first(started(), stop, stop.set) is None
