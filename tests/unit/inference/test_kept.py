"""Models on this machine: what is noted of a batch stays as it was noted first."""

from fraudstream.features.sets import DEFAULT
from fraudstream.inference.kept import Kept

FIRST = {"models": {"champion": ["1", "aa"]}, "shards": 2}
LATER = {"models": {"champion": ["2", "bb"]}, "shards": 2}


def test_what_is_noted_of_a_batch_is_not_changed_by_another_driver(tmp_path):
    kept, other = Kept(tmp_path, DEFAULT), Kept(tmp_path, DEFAULT)
    assert kept.remembered(7) is None
    assert kept.remember(7, FIRST) == FIRST
    assert other.remember(7, LATER) == FIRST
    assert kept.remembered(7) == FIRST
    assert [file.name for file in (tmp_path / "batches").iterdir()] == ["7.json"]


def test_a_batch_of_long_ago_is_forgotten(tmp_path):
    kept = Kept(tmp_path, DEFAULT)
    for batch in range(30):
        kept.remember(batch, FIRST)
    assert kept.remembered(29) == FIRST
    assert kept.remembered(0) is None
