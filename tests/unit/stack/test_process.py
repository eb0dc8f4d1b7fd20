"""Programs are started, awaited and stopped, and nothing is left behind."""

from functools import partial
import os
from pathlib import Path
import signal
import socket
import subprocess
import sys
import time

import pytest

from fraudstream.stack.process import Process
from fraudstream.stack.process import ProcessFailed
from fraudstream.stack.process import free_port
from fraudstream.stack.process import last_lines

_DEADLINE_S = 20.0


class NeverReady(Process):
    def is_ready(self) -> bool:
        return False


class ReadyWithFile(Process):
    def is_ready(self) -> bool:
        return self.log.exists() and self.log.read_text().endswith("ready\n")


def shell(script: str) -> list[str]:
    return ["sh", "-c", script]


def ended(number: int) -> bool:
    """Return whether a process has ended; one that only waits to be reaped has."""
    try:
        state = Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"


def await_end(number: int) -> bool:
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        if ended(number):
            return True
        os.sched_yield()
    return False


def test_output_and_errors_go_to_the_log(tmp_path: Path) -> None:
    with Process("talker", shell("echo out; echo err >&2"), tmp_path / "log") as talker:
        assert talker.wait(_DEADLINE_S) == 0
    assert sorted((tmp_path / "log").read_text().split()) == ["err", "out"]


def test_output_goes_to_a_file_of_its_own_where_one_is_named(tmp_path: Path) -> None:
    output = tmp_path / "output"
    command = shell("echo out; echo err >&2")
    with Process("talker", command, tmp_path / "log", output=output) as talker:
        assert talker.wait(_DEADLINE_S) == 0
    assert output.read_text() == "out\n"
    assert (tmp_path / "log").read_text() == "err\n"


def test_our_own_settings_and_imports_are_not_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FRAUDSTREAM_SECONDS", "9")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    monkeypatch.setenv("PEX_EXTRA_SYS_PATH", "/nowhere")
    monkeypatch.setenv("FRAUDSTREAM_CACHE", "/cache")
    log = tmp_path / "log"
    with Process("env", ["env"], log, {"FRAUDSTREAM_RATE": "5"}) as process:
        assert process.wait(_DEADLINE_S) == 0
    names = {line.split("=")[0] for line in log.read_text().splitlines()}
    assert {"FRAUDSTREAM_CACHE", "FRAUDSTREAM_RATE", "PATH"} <= names
    assert not {"FRAUDSTREAM_SECONDS", "PYTHONPATH", "PEX_EXTRA_SYS_PATH"} & names


def test_a_program_that_does_not_exist_is_named(tmp_path: Path) -> None:
    process = Process("ghost", [str(tmp_path / "ghost")], tmp_path / "log")
    with pytest.raises(ProcessFailed, match=r"ghost could not be started: .*No such file"):
        process.start()
    assert process.stop() is None


def test_one_that_ends_early_tells_the_end_of_its_log(tmp_path: Path) -> None:
    script = "for line in $(seq 40); do echo line $line; done; exit 3"
    process = NeverReady("early", shell(script), tmp_path / "log")
    with pytest.raises(ProcessFailed) as failure, process:
        pass
    first, *told = str(failure.value).splitlines()
    assert first == "early ended with exit code 3; the end of its log:"
    assert told == [f"line {number}" for number in range(26, 41)]


def test_one_that_is_not_ready_in_time_is_stopped(tmp_path: Path) -> None:
    process = NeverReady("slow", ["sleep", "600"], tmp_path / "log")
    process.wait_ready = partial(process.wait_ready, 0.2)  # type: ignore[method-assign]
    with pytest.raises(ProcessFailed, match="slow was not ready after 0 s"), process:
        pass
    assert not process.running


def test_readiness_is_awaited(tmp_path: Path) -> None:
    with ReadyWithFile("ready", shell("echo ready; sleep 600"), tmp_path / "log") as process:
        assert process.running


def test_waiting_for_one_that_was_never_started_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed, match="has not been started"):
        Process("idle", ["true"], tmp_path / "log").wait()
    with pytest.raises(ProcessFailed, match="has not been started"):
        Process("idle", ["true"], tmp_path / "log").pid  # noqa: B018


def test_the_number_of_a_program_is_its_own(tmp_path: Path) -> None:
    with Process("teller", shell("echo $$"), tmp_path / "log") as teller:
        assert teller.wait(_DEADLINE_S) == 0
        assert int((tmp_path / "log").read_text()) == teller.pid


def test_waiting_gives_up_at_the_timeout(tmp_path: Path) -> None:
    with Process("sleeper", ["sleep", "600"], tmp_path / "log") as sleeper:
        assert sleeper.wait(0.05) is None


def test_a_stopped_program_may_end_in_its_own_way(tmp_path: Path) -> None:
    script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
    process = ReadyWithFile("polite", shell(script), tmp_path / "log")
    process.start()
    process.wait_ready()
    assert process.stop() == 0
    assert last_lines(tmp_path / "log", 1) == "bye"


def test_one_that_will_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    script = "trap '' TERM; sleep 600 & echo $!; echo ready; while :; do sleep 600; done"
    process = ReadyWithFile("stubborn", shell(script), tmp_path / "log")
    process.start()
    process.wait_ready()
    child = int((tmp_path / "log").read_text().split()[0])
    assert process.stop(timeout_s=0.2) == -signal.SIGKILL
    assert await_end(child)


def test_children_do_not_outlive_a_program_that_ended_by_itself(tmp_path: Path) -> None:
    process = Process("parent", shell("sleep 600 & echo $!"), tmp_path / "log")
    process.start()
    assert process.wait(_DEADLINE_S) == 0
    child = int((tmp_path / "log").read_text())
    assert not ended(child)
    process.stop()
    assert await_end(child)


def test_stopping_twice_is_harmless(tmp_path: Path) -> None:
    process = Process("sleeper", ["sleep", "600"], tmp_path / "log")
    process.start()
    assert process.stop() == -signal.SIGTERM
    assert process.stop() == -signal.SIGTERM


def test_nothing_outlives_us_even_if_we_are_killed(tmp_path: Path) -> None:
    ours = (
        "import sys, time\n"
        f"sys.path[:] = {sys.path!r}\n"
        "from pathlib import Path\n"
        "from fraudstream.stack.process import Process\n"
        "command = ['sh', '-c', 'sleep 600 & echo $!; echo $$; wait']\n"
        f"Process('orphan', command, Path({str(tmp_path / 'log')!r})).start()\n"
        "print('started', flush=True)\n"
        "sys.stdin.read()\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", ours], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert parent.stdout is not None
    assert parent.stdout.readline() == b"started\n"
    deadline = time.monotonic() + _DEADLINE_S
    while len(numbers := (tmp_path / "log").read_text().split()) < 2:
        assert time.monotonic() < deadline
        os.sched_yield()
    parent.kill()
    parent.communicate()
    assert all(await_end(int(number)) for number in numbers)


def test_an_empty_or_absent_log_says_so(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "x.log") == "(x.log is empty)"
    (tmp_path / "x.log").write_text("\n")
    assert last_lines(tmp_path / "x.log") == "(x.log is empty)"


def test_a_free_port_is_one_that_can_be_bound() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", free_port()))


def test_no_free_port_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        monkeypatch.setattr("random.sample", lambda population, k: [port])
        with pytest.raises(ProcessFailed, match="no free TCP port"):
            free_port()
