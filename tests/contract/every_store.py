"""Every kind of state, for the tests that hold each to the same contract."""

from collections.abc import Callable
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fraudstream.inference.embedded import EmbeddedState
from fraudstream.inference.shared import RedisServer
from fraudstream.inference.shared import SharedState
from fraudstream.inference.store import State
from fraudstream.stack import redis
from fraudstream.stack.secrets import Secrets

KINDS = ("embedded", "shared")

#: Makes a state of one stream; a name tells it from others of the same stream.
Make = Callable[[str], State]


@contextmanager
def every_store(kind: str, folder: Path) -> Iterator[Make]:
    """Yield what makes states of a kind."""
    if kind == "embedded":
        yield lambda name: EmbeddedState(folder / "state" / name)
    else:
        with redis_in(folder) as (server, _):
            yield lambda name: SharedState(server, "stream", "default.v1@0", name)


@contextmanager
def redis_in(folder: Path) -> Iterator[tuple[RedisServer, redis.RedisServer]]:
    """Start a Redis that asks for a password; yield how to reach it, and its process."""
    secrets = Secrets(folder / "secrets")
    with redis.RedisServer(folder / "redis", secrets) as process:
        url = f"redis://127.0.0.1:{process.port}/0"
        yield RedisServer.of(url, secrets.file("redis-password"), None), process
