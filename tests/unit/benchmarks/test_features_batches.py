"""A batch of the benchmark adds one event to what is held of each of its cards."""

from pathlib import Path

from features.incremental import BATCH
from features.incremental import Batches

from fraudstream.features.sets import HANDBOOK
from fraudstream.inference.steps import layout_of


def test_a_batch_adds_an_event_to_each_card_and_nothing_else(tmp_path: Path) -> None:
    filled = []
    batches = Batches(tmp_path, BATCH, 2, filled.append)
    assert sum(filled) == BATCH
    assert set(batches.work_off()) == {"read", "features", "read and features", "write"}
    batches.work_off()
    held = batches.store.read({1: "card-00000001"}, layout_of(HANDBOOK, "card"))
    assert len(held) == 2 + 2
