"""A real MinIO on this machine, without Docker: one server that speaks S3."""

from http import HTTPStatus
from http.client import HTTPConnection
import os
from pathlib import Path
import shutil

from fraudstream.stack.cache import made_once
from fraudstream.stack.process import Process
from fraudstream.stack.process import ProcessFailed
from fraudstream.stack.process import free_port
from fraudstream.stack.process import run_to_end
from fraudstream.stack.s3 import ObjectStore
from fraudstream.stack.secrets import Secrets

MINIO_RELEASE = "RELEASE.2025-10-15T17-29-55Z"

# The module's version of that release: the last one, with the fix of CVE-2025-62506. It exists as
# source only.
_MODULE = "github.com/minio/minio@v0.0.0-20251015172955-9e49d5e7a648"
# Where Go's own archive is unpacked to, and PATH often does not reach.
_GO_FOLDER = "/usr/local/go/bin"


class MinioServer(Process):
    """A real MinIO that listens on 127.0.0.1 and keeps its buckets in a folder.

    Parameters
    ----------
    program
        The server, such as `minio_program` returns.
    folder
        Takes its data and its log; made if absent. One that an earlier server has used goes on
        with that server's buckets.
    secrets
        Holds or gets ``s3-access-key`` and ``s3-secret-key``, and both once more as ``s3.aws``.
    port
        Where to listen; 0 takes a free one.

    Attributes
    ----------
    store
        What clients need: an S3 server like any other.
    """

    def __init__(self, program: Path, folder: Path, secrets: Secrets, port: int = 0) -> None:
        self._port = port or free_port()
        access_key, secret_key = (secrets.read(f"s3-{part}-key") for part in ("access", "secret"))
        credentials = secrets.write(
            "s3.aws",
            f"[default]\naws_access_key_id={access_key}\naws_secret_access_key={secret_key}\n",
        )
        self.store = ObjectStore(f"http://127.0.0.1:{self._port}", credentials)
        super().__init__(
            "MinIO",
            [
                *(str(program), "server", "--address", f"127.0.0.1:{self._port}"),
                *("--quiet", str(folder / "data")),
            ],
            folder / "minio.log",
            {
                "MINIO_ROOT_USER_FILE": str(secrets.file("s3-access-key")),
                "MINIO_ROOT_PASSWORD_FILE": str(secrets.file("s3-secret-key")),
                # Its console would be one more port, and it looks for updates at its maker's.
                "MINIO_BROWSER": "off",
                "MINIO_UPDATE": "off",
            },
        )

    def is_ready(self) -> bool:
        """Return whether the server says that it can serve."""
        connection = HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", "/minio/health/ready")
            return connection.getresponse().status == HTTPStatus.OK
        except OSError:
            return False
        finally:
            connection.close()


def minio_program(cache: Path) -> Path:
    """Return the MinIO server, built from its pinned source once into `cache`; that takes minutes.

    Raises
    ------
    ProcessFailed
        If there is no Go to build with, or the build fails; the end of its log is told.
    """

    def build(scratch: Path) -> Path:
        run_to_end(
            f"building MinIO {MINIO_RELEASE}",
            [_go(), "install", "-trimpath", "-ldflags=-s -w", _MODULE],
            scratch / "log",
            {"GOBIN": str(scratch)},
        )
        return scratch / "minio"

    return made_once(cache, f"minio-{MINIO_RELEASE}", build)


def _go() -> str:
    found = shutil.which("go", path=os.pathsep.join([os.environ.get("PATH", ""), _GO_FOLDER]))
    if found is None:
        raise ProcessFailed(
            f"no go on PATH or in {_GO_FOLDER}: MinIO is built from source, so install Go 1.24 or "
            "newer, or name a MinIO server that is there with --minio"
        )
    return found
