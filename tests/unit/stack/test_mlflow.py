"""The MLflow server's administrator is told when the server does not do what it is asked."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from http.server import HTTPServer
from pathlib import Path
import threading

import pytest

from fraudstream.stack.mlflow import Backend
from fraudstream.stack.mlflow import MlflowRefused
from fraudstream.stack.mlflow import MlflowServer
from fraudstream.stack.process import ProcessFailed
from fraudstream.stack.secrets import Secrets


class _Forbidding(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(403)
        self.end_headers()

    do_POST = do_GET  # noqa: N815


@pytest.fixture
def forbidding() -> Iterator[int]:
    """Return the port of a server that forbids everything."""
    with HTTPServer(("127.0.0.1", 0), _Forbidding) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_a_user_who_is_not_made_is_an_error(tmp_path: Path, forbidding: int) -> None:
    backend = Backend("postgresql://nowhere", "s3://bucket", {}, Secrets(tmp_path / "secrets"))
    server = MlflowServer(["mlflow"], tmp_path, forbidding, backend)
    with pytest.raises(MlflowRefused, match="refused to make the user trainer: status 403"):
        server.provide("trainer")
    assert not server.is_ready()


def test_a_server_that_asks_nobody_for_a_name_has_no_users(tmp_path: Path) -> None:
    with pytest.raises(ProcessFailed, match="without a backend"):
        MlflowServer(["mlflow"], tmp_path).provide("trainer")
