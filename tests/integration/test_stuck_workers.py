"""As the stream sets Spark up, a worker that hangs is killed and its task given to another."""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
import os
from pathlib import Path
import sys
import threading

import pyarrow as pa
from pyspark.sql import SparkSession
import pytest

from fraudstream.inference.session import session
from fraudstream.stack.jars import spark_home
from integration import apps

#: Longer than an honest task of this test takes, with the start of its worker.
_PATIENCE_S = 15


@pytest.fixture
def spark(monkeypatch: pytest.MonkeyPatch) -> Iterator[SparkSession]:
    # What a session sets for its own process must not outlive the test.
    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    monkeypatch.setenv("SPARK_HOME", str(spark_home()))
    spark = session("local[2]", apps.cache(), 2, _PATIENCE_S, {})
    yield spark
    spark.stop()


def hanging_once(folder: Path) -> Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    """Return a task that notes its worker and, the first time in each partition, never ends."""

    def task(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            if batch.num_rows:
                noted = folder / str(batch["id"][0].as_py())
                is_first = not noted.exists()
                with noted.open("a") as lines:
                    lines.write(f"{os.getpid()}\n")
                if is_first:
                    threading.Event().wait()
            yield batch

    return task


def test_a_worker_that_hangs_is_killed_and_its_task_repeated(
    spark: SparkSession, tmp_path: Path
) -> None:
    rows = spark.range(0, 10, 1, 2).mapInArrow(hanging_once(tmp_path), "id long").collect()
    assert sorted(row["id"] for row in rows) == list(range(10))
    tries = [[int(pid) for pid in file.read_text().split()] for file in tmp_path.iterdir()]
    assert len(tries) == 2
    for hung, then in tries:
        assert hung != then
        assert not Path(f"/proc/{hung}").exists()
