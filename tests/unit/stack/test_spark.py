"""A cluster that cannot start says why; one that is not there yet is not ready."""

from pathlib import Path
import socket
import threading

import pytest

from fraudstream.stack.process import ProcessFailed
from fraudstream.stack.spark import SparkCluster


def test_a_cluster_without_java_says_so_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    cluster = SparkCluster(tmp_path / "spark")
    with pytest.raises(ProcessFailed, match="no java in JAVA_HOME"), cluster:
        pass
    assert not (tmp_path / "spark").exists()


def test_before_the_start_no_worker_is_alive_and_a_stop_is_harmless(tmp_path: Path) -> None:
    cluster = SparkCluster(tmp_path)
    assert cluster.alive() == []
    cluster.stop()


@pytest.mark.parametrize(
    "said",
    [b"220 good day\r\n", b"HTTP/1.0 200 OK\r\n\r\n", b"HTTP/1.0 404 Not Found\r\n\r\n<html>"],
)
def test_a_listener_that_does_not_answer_like_a_master_is_not_ready(
    said: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setattr("fraudstream.stack.spark.free_port", lambda: port)
        cluster = SparkCluster(tmp_path)

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.recv(1_000)
                connection.sendall(said)

        answering = threading.Thread(target=answer)
        answering.start()
        assert cluster.alive() == []
        answering.join()
