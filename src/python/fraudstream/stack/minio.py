"""A real MinIO on this machine, without Docker: one server that speaks S3."""

import os
from pathlib import Path
import shutil

from fraudstream.stack.cache import made_once
from fraudstream.stack.process import Process
from fraudstream.stack.process import ProcessFailed
from fraudstream.stack.process import answers
from fraudstream.stack.process import free_port
from fraudstream.stack.process import run_to_end
from fraudstream.stack.s3 import ObjectStore
from fraudstream.stack.secrets import Secrets

# The end of the project's history, some months after its last release: with the fix of
# CVE-2025-62506, and as source only.
MINIO_VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"

_MODULE = f"github.com/minio/minio@{MINIO_VERSION}"
# Where Go's own archive is unpacked to, and PATH often does not reach.
_GO_FOLDER = "/usr/local/go/bin"


class MinioServer(Process):
    """A real MinIO that listens on 127.0.0.1 and keeps its buckets in a folder.

    Parameters
    ----------
    folder
        Takes its data and its log; made if absent. One that an earlier server has used goes on
        with that server's buckets.
    cache
        Keeps the program, between runs and between servers.
    secrets
        Holds or gets ``s3-access-key`` and ``s3-secret-key``, and both once more as ``s3.aws``.
    port
        Where to listen; 0 takes a free one.
    program
        A MinIO server that is there; else one is built, see `minio_program`.

    Attributes
    ----------
    store
        What clients need: an S3 server like any other.
    """

    def __init__(
        self,
        folder: Path,
        cache: Path,
        secrets: Secrets,
        port: int = 0,
        program: Path | None = None,
    ) -> None:
        self._port = port or free_port()
        self._folder = folder
        self._cache = cache
        self._secrets = secrets
        self._program = program
        self.store = ObjectStore(f"http://127.0.0.1:{self._port}", secrets.folder / "s3.aws")
        super().__init__(
            "MinIO",
            [],
            folder / "minio.log",
            {
                "MINIO_ROOT_USER_FILE": str(secrets.file("s3-access-key")),
                "MINIO_ROOT_PASSWORD_FILE": str(secrets.file("s3-secret-key")),
                # Its console would be one more port, and it looks for updates at its maker's.
                "MINIO_BROWSER": "off",
                "MINIO_UPDATE": "off",
            },
        )

    def start(self) -> None:
        """Build the program if need be, and start it.

        Raises
        ------
        ProcessFailed
            If it cannot be built.
        """
        keys = [self._secrets.read(f"s3-{part}-key") for part in ("access", "secret")]
        self._secrets.write(
            "s3.aws", "[default]\naws_access_key_id={}\naws_secret_access_key={}\n".format(*keys)
        )
        self._command = [
            *(str(self._program or minio_program(self._cache)), "server", "--quiet"),
            *("--address", f"127.0.0.1:{self._port}", str(self._folder / "data")),
        ]
        super().start()

    def is_ready(self) -> bool:
        """Return whether the server says that it can serve."""
        return answers(self._port, "/minio/health/ready")


def minio_program(cache: Path) -> Path:
    """Return the MinIO server, built from its pinned source once into `cache`; that takes minutes.

    Raises
    ------
    ProcessFailed
        If there is no Go to build with, or the build fails; the end of its log is told.
    """

    def build(scratch: Path) -> Path:
        run_to_end(
            "building MinIO",
            [_go(), "install", "-trimpath", "-ldflags=-s -w", _MODULE],
            scratch / "log",
            {"GOBIN": str(scratch)},
        )
        return scratch / "minio"

    return made_once(cache, f"minio-{MINIO_VERSION}", build)


def _go() -> str:
    found = shutil.which("go", path=os.pathsep.join([os.environ.get("PATH", ""), _GO_FOLDER]))
    if found is None:
        raise ProcessFailed(
            f"no go on PATH or in {_GO_FOLDER}: MinIO is built from source, so install Go 1.24 or "
            "newer, or name a MinIO server that is there with --minio"
        )
    return found
