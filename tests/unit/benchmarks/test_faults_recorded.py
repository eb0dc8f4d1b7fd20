"""A recording is sent in parts, and how far the stream has come is read from its checkpoint."""

import itertools
from pathlib import Path

from faults.campaign import CampaignFailed
from faults.points import DURING_SWAP
from faults.processes import descendants
from faults.recorded import kill_job
from faults.recorded import kill_points
from faults.recorded import parts
from faults.services import JOB
from faults.services import Supervisor
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fraudstream.stack.process import Process
from unit.awaiting import await_that


def test_parts_hold_the_first_rows_once_and_in_order(tmp_path: Path) -> None:
    pq.write_table(pa.table({"transaction_id": range(100)}), tmp_path / "all.parquet")
    files = parts(tmp_path / "all.parquet", 90, 4, tmp_path / "parts")
    ids = [pq.read_table(file)["transaction_id"].to_pylist() for file in files]
    assert list(itertools.chain(*ids)) == list(range(90))
    assert [len(part) for part in ids] == [22, 23, 22, 23]


def test_a_recording_of_too_few_rows_is_told(tmp_path: Path) -> None:
    pq.write_table(pa.table({"transaction_id": range(100)}), tmp_path / "all.parquet")
    with pytest.raises(CampaignFailed, match=r"expected 101 rows .* there are 100"):
        parts(tmp_path / "all.parquet", 101, 4, tmp_path / "parts")


def test_the_job_is_killed_where_the_seed_says_and_at_no_point_that_a_batch_has_not() -> None:
    assert kill_points(12, 7) == kill_points(12, 7)
    assert any(kill_points(5, seed) != kill_points(5, 0) for seed in range(1, 5))
    assert DURING_SWAP not in kill_points(12, 7)


def test_the_job_is_killed_with_all_that_it_has_started_and_not_started_again(
    tmp_path: Path,
) -> None:
    supervisor = Supervisor()
    try:
        # As Spark's daemon does, a child leads a process group of its own.
        tree = ["sh", "-c", "setsid sleep 600 & sleep 600"]
        supervisor.keep(JOB, lambda number: Process("the job", tree, tmp_path / f"{number}.log"))
        job = supervisor.running(JOB)
        await_that(lambda: [each.name for each in descendants(job.pid)].count("sleep") == 2)
        children = descendants(job.pid)
        kill_job(supervisor)
        assert all(child.is_gone for child in children)
        assert not job.running
        assert supervisor.starts(JOB) == 1
    finally:
        supervisor.stop()
