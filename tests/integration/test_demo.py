"""The demo by itself: with the real broker, and small programs in place of the apps."""

from collections.abc import Callable
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

import orjson
import pytest

from integration import apps
from integration import stand_ins

_DEADLINE_S = 180.0


class Demo:
    """A demo that runs in a process of its own, in a folder that nothing else uses."""

    def __init__(self, folder: Path, *options: str, fault: str = "") -> None:
        self.folder = folder
        self.report = folder / "report.json"
        self._shown = folder / "shown.txt"
        self.temporary = folder / "temporary"
        self.temporary.mkdir()
        programs = [
            f"--{name}={stand_ins.app(name, folder, fault)}"
            for name in ("producer", "trainer", "inference", "mlflow")
        ]
        with self._shown.open("wb") as shown:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "fraudstream.demo.main", *programs),
                    *("--rate", "50", "--report", str(self.report), *options),
                ],
                stderr=shown,
                stdin=subprocess.DEVNULL,
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join(sys.path),
                    "FRAUDSTREAM_CACHE": str(apps.cache()),
                    "TMPDIR": str(self.temporary),
                },
            )

    @property
    def shown(self) -> str:
        return self._shown.read_text()

    def work_file(self, name: str) -> Path | None:
        return next(self.temporary.glob(f"fraudstream-demo-*/{name}"), None)

    def await_condition(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, self.shown
            with pytest.raises(subprocess.TimeoutExpired):
                self.process.wait(0.1)

    def result(self) -> dict[str, Any]:
        return orjson.loads(self.report.read_bytes())

    def end(self) -> int:
        """Return the exit code, having seen that nothing is left behind."""
        code = self.process.wait(_DEADLINE_S)
        assert not list(self.temporary.iterdir())
        assert not [line for line in command_lines() if str(self.folder) in line]
        return code


def command_lines() -> list[str]:
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(process.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def test_a_whole_run_conserves_every_transaction_and_leaves_nothing_behind(tmp_path: Path) -> None:
    # Long enough for an alert to be seen while it runs.
    demo = Demo(tmp_path, "--seconds", "12")
    assert demo.end() == 0, demo.shown
    report = demo.result()
    live = report["transactions_produced"] - stand_ins.HISTORY
    assert report["history_transactions"] == stand_ins.HISTORY
    assert live > 20
    # The stand-in sends one broken record at its end.
    assert report["dead_letters"] == 1
    assert report["transactions_scored"] == report["transactions_produced"] - 1
    assert report["lost"] == report["duplicates"] == 0
    assert report["alert_precision"] == report["alert_recall"] == 1.0
    assert report["alerts"] == (live - 1 + 9) // 10
    assert report["model"] == {"name": "stand-in", "version": "4", "average_precision": 0.875}
    assert 0 <= report["latency_ms"]["p50"] <= report["latency_ms"]["p99"]
    assert 0 < report["first_alert_s"] < report["seconds"]["total"]
    stages = ["start", "history", "train", "backlog", "live", "drain", "report", "total"]
    assert list(report["seconds"]) == stages


def live_traffic(demo: Demo, of: bytes = b'"l-0"') -> Callable[[], bool]:
    def there_is() -> bool:
        truth = demo.work_file("truth.jsonl")
        return truth is not None and of in truth.read_bytes()

    return there_is


def test_ctrl_c_ends_the_live_traffic_with_a_report(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    demo.await_condition(live_traffic(demo))
    demo.process.send_signal(signal.SIGINT)
    assert demo.end() == 0, demo.shown
    assert demo.result()["lost"] == 0
    assert demo.result()["transactions_produced"] > stand_ins.HISTORY


def test_a_second_ctrl_c_ends_everything_without_a_report(tmp_path: Path) -> None:
    demo = Demo(tmp_path, fault="loss")
    demo.await_condition(live_traffic(demo, of=b'"l-8"'))
    while demo.process.poll() is None:
        demo.process.send_signal(signal.SIGINT)
        try:
            demo.process.wait(0.3)
        except subprocess.TimeoutExpired:
            continue
    assert demo.end() == 0, demo.shown
    assert not demo.report.exists()
    assert "Stopped before there was anything to report." in demo.shown


def test_ctrl_c_before_the_live_traffic_ends_everything(tmp_path: Path) -> None:
    demo = Demo(tmp_path, fault="slow-history")
    demo.await_condition(lambda: demo.work_file("history.log") is not None)
    demo.process.send_signal(signal.SIGTERM)
    assert demo.end() == 0, demo.shown
    assert not demo.report.exists()


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("train", ["trainer.pex train failed with exit code 1", "labels are missing"]),
        ("inference", ["inference.pex run ended with exit code 1", "the job broke down"]),
        ("live", ["producer.pex simulate failed with exit code 1", "the traffic broke down"]),
        ("stop", ["inference.pex run did not stop well", "the job could not stop"]),
        ("mlflow", ["MLflow ended with exit code 1", "the database is locked"]),
    ],
)
def test_a_failing_program_is_named_with_the_end_of_its_log(
    tmp_path: Path, fault: str, told: list[str]
) -> None:
    demo = Demo(tmp_path, "--seconds", "2", fault=fault)
    assert demo.end() == 1, demo.shown
    for part in told:
        assert part in demo.shown
    assert "Traceback" not in demo.shown
    assert not demo.report.exists()


def test_a_transaction_that_is_scored_twice_fails_the_demo(tmp_path: Path) -> None:
    demo = Demo(tmp_path, "--seconds", "2", fault="repetition")
    assert demo.end() == 1, demo.shown
    assert demo.result()["duplicates"] == 1
    assert "0 transactions were lost and 1 scored twice" in demo.shown
