"""State for several machines: a Redis that all of them reach, and in it a hash for each store.

Redis keeps one log. What it loses in a crash is the end of that log, and so at first the mark,
which is written last: a state that has its mark is whole. Nothing is read from a state whose mark
is behind, since scores of too little history would be written for good.
"""

from collections.abc import Callable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from dataclasses import field
import functools
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from fraudstream.inference.bounds import Records
from fraudstream.inference.store import Layout
from fraudstream.inference.store import OlderBatch
from fraudstream.inference.store import PartitionStore
from fraudstream.inference.store import StateLost
from fraudstream.inference.store import by_key
from fraudstream.inference.store import older

if TYPE_CHECKING:
    import redis

_PREFIX = "fraudstream"
_CONNECT_S = 5.0
_ANSWER_S = 30.0
#: How many keys go into one command. Redis serves nobody else meanwhile: a few milliseconds.
_AT_ONCE = 5_000

_HEAD_BYTES = 12

# No name of a key begins like these: the schema sees to that.
_BATCH = b"\x00batch"
_CLOCK = b"\x00clock"
_CLOCK_BEFORE = b"\x00clock before"

# Every script begins like this. A task that was given up is refused in the same step in which it
# would write, so that there is no moment in between.
_TAKE = """\
local last = tonumber(redis.call('HGET', KEYS[1], '\\0batch'))
local batch = tonumber(ARGV[1])
if last and batch < last then return last end
redis.call('HSET', KEYS[1], '\\0batch', ARGV[1])
redis.call('SADD', KEYS[2], KEYS[1])
"""
# Before the records of a key: the batch that wrote last, and how many bytes had been there before.
# Names and what is added to each, in turn. What an earlier try of the batch has added goes first.
_APPEND = (
    _TAKE
    + """\
for i = 2, #ARGV, 2 do
  local held = redis.call('HGET', KEYS[1], ARGV[i])
  if held then
    local by, before = struct.unpack('>i8I4', held)
    held = string.sub(held, 13, by == batch and 12 + before or -1)
  end
  held = held or ''
  redis.call('HSET', KEYS[1], ARGV[i], struct.pack('>i8I4', batch, #held) .. held .. ARGV[i + 1])
end
"""
)
# Names, what is left of each, and what is added to it, in turn.
_REPLACE = (
    _TAKE
    + """\
for i = 2, #ARGV, 3 do
  local held, added = ARGV[i + 1], ARGV[i + 2]
  if #held + #added == 0 then
    redis.call('HDEL', KEYS[1], ARGV[i])
  else
    redis.call('HSET', KEYS[1], ARGV[i], struct.pack('>i8I4', batch, #held) .. held .. added)
  end
end
"""
)
# Only the last batch can be repeated: one earlier clock is enough.
_KEEP_CLOCK = (
    _TAKE
    + """\
local kept = redis.call('HGET', KEYS[1], '\\0clock')
if kept and tonumber(string.match(kept, '^(.-) ')) < batch then
  redis.call('HSET', KEYS[1], '\\0clock before', kept)
end
redis.call('HSET', KEYS[1], '\\0clock', ARGV[1] .. ' ' .. ARGV[2])
"""
)
# The run of the server is part of what is asked, in the step that sets the mark: a server that was
# started anew since the batch began may have lost what the batch had written.
_BEGIN = """\
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
return {run, redis.call('HGET', KEYS[1], '')}
"""
_KEEP = """\
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local reached = tonumber(redis.call('HGET', KEYS[1], ''))
if run ~= ARGV[2] or not reached then return 0 end
if reached > tonumber(ARGV[1]) then return 1 end
for _, store in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  redis.call('HSET', KEYS[1], store, redis.call('HGET', store, '\\0batch') or '')
end
redis.call('HSET', KEYS[1], '', ARGV[1])
return 1
"""


class BadStateAddress(ValueError):
    """What was given with --state is no address of a Redis."""


class StateUnreachable(ConnectionError):
    """Redis does not answer, or refuses what it is told."""


class UnfitRedis(ValueError):
    """Redis is set up so that it may lose what it was given."""


@dataclass(frozen=True)
class RedisServer:
    """A Redis, and how to be let in. It goes to the executors with each task.

    Parameters
    ----------
    url
        Such as ``redis://HOST:PORT/DATABASE``, or ``rediss://`` for TLS; without a password.
    password
        Of the user in `url`, or of the default one.
    authorities
        PEM of who signs its certificate; ``None`` for those that the system trusts.
    """

    url: str
    password: str | None = field(default=None, repr=False)
    authorities: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str, password: Path | None, authorities: Path | None) -> "RedisServer":
        """Return what an address and files say.

        Raises
        ------
        BadStateAddress
            If it is no address, or has a password in it.

        Examples
        --------
        >>> RedisServer.of("redis://state:6379/1", None, None)
        RedisServer(url='redis://state:6379/1')
        """
        try:
            parts = urlsplit(url)
            is_one = parts.scheme in ("redis", "rediss") and parts.hostname and parts.port != 0
            is_one = is_one and (parts.path in ("", "/") or parts.path[1:].isdecimal())
        except ValueError:
            is_one = False
        if not is_one or parts.query or parts.fragment:
            raise BadStateAddress(
                "--state: expected embedded, or redis://HOST:PORT/DATABASE, or rediss:// for TLS"
            )
        if parts.password is not None:
            raise BadStateAddress(
                "--state: a password in an address is shown to whoever lists processes: give it "
                "with --state-password-file"
            )
        return cls(
            url,
            None if password is None else password.read_text().strip(),
            None if authorities is None else authorities.read_text(),
        )

    def require_fit(self) -> None:
        """See that it answers, and keeps what it is given.

        Raises
        ------
        StateUnreachable, UnfitRedis
            If not.
        """
        with self.told():
            info: dict[str, Any] = _client(self).info()
        problems = []
        if info.get("maxmemory_policy") != "noeviction":
            problems.append(
                f"maxmemory-policy is {info.get('maxmemory_policy')}, by which it drops state when "
                "memory is short: set noeviction"
            )
        if not info.get("aof_enabled"):
            problems.append("it has no log on disk: set appendonly yes")
        if info.get("role") != "master":
            problems.append("it is a replica: name the one that it follows")
        if info.get("redis_mode") == "cluster":
            problems.append("it is a Redis Cluster, which is not supported: name a single Redis")
        if problems:
            raise UnfitRedis(f"the Redis at {self.url} cannot keep state: {'; '.join(problems)}")

    @contextmanager
    def told(self) -> Iterator[None]:
        """Make what Redis says in the block one line, with the address."""
        # Here and below: the client takes a while to load, and embedded state needs none.
        from redis.exceptions import RedisError

        try:
            yield
        except RedisError as error:
            raise StateUnreachable(f"state in Redis at {self.url}: {error}") from error


@functools.cache
def _client(server: RedisServer) -> "redis.Redis":
    """Return this process's client, whose connection is kept from task to task."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    tls = {"ssl_ca_data": server.authorities} if server.authorities else {}
    return redis.Redis.from_url(
        server.url,
        password=server.password,
        socket_connect_timeout=_CONNECT_S,
        socket_timeout=_ANSWER_S,
        # A connection that broke is tried again once: all that is written can be written twice.
        retry=Retry(NoBackoff(), 1),
        protocol=2,
        **tls,
    )


class RedisStore:
    """A `PartitionStore` in a hash of a Redis.

    Parameters
    ----------
    server
        Where.
    state
        The prefix of all keys of the state.
    name
        Of the store.
    batch
        Whose tasks ask: the state has to have its mark at the one before.
    """

    def __init__(self, server: RedisServer, state: str, name: str, batch: int) -> None:
        self._server = server
        self._state = state
        self._place = f"{state}:{name}"
        self._batch = batch

    def read(self, keys: Mapping[int, str], layout: Layout) -> Records:
        """See `Store.read`.

        Raises
        ------
        StateLost
            If what earlier batches have written is not there any more.
        """
        values = self._values(list(keys.values()))
        packed = b"".join(memoryview(value)[_HEAD_BYTES:] for value in values)
        return np.frombuffer(packed, dtype=layout.dtype)

    def append(self, batch: int, keys: Mapping[int, str], new: Records) -> None:
        """See `Store.append`."""
        self._write(_APPEND, batch, [(keys[key], added) for key, added in by_key(new).items()])

    def replace(self, batch: int, keys: Mapping[int, str], rest: Records, new: Records) -> None:
        """See `Store.replace`."""
        held, added = by_key(rest), by_key(new)
        told = [(name, held.get(key, b""), added.get(key, b"")) for key, name in keys.items()]
        self._write(_REPLACE, batch, told)

    def clock_before(self, batch: int) -> int | None:
        """See `Store.clock_before`."""
        last, *clocks = self._values([_BATCH, _CLOCK, _CLOCK_BEFORE])
        self._require_turn(last or None, batch)
        for packed in clocks:
            if packed:
                number, clock_us = packed.split()
                if int(number) < batch:
                    return int(clock_us)
        return None

    def keep_clock(self, batch: int, clock_us: int) -> None:
        """See `Store.keep_clock`."""
        self._take(_KEEP_CLOCK, batch, [clock_us])

    def _values(self, names: list[Any]) -> list[bytes]:
        """Return what the hash holds under some names; nothing is told by no bytes."""
        pipeline = _client(self._server).pipeline(transaction=False)
        pipeline.hget(_mark(self._state), "")
        for start in range(0, len(names), _AT_ONCE):
            pipeline.hmget(self._place, names[start : start + _AT_ONCE])
        with self._server.told():
            mark, *found = pipeline.execute()
        _require_mark(self._server, self._state, mark, self._batch)
        return [value or b"" for some in found for value in some]

    def _write(self, script: str, batch: int, told: Sequence[tuple[Any, ...]]) -> None:
        # At least one step, which takes the batch also where there is nothing to write.
        for start in range(0, max(len(told), 1), _AT_ONCE):
            some = told[start : start + _AT_ONCE]
            self._take(script, batch, [*chain.from_iterable(some)])

    def _take(self, script: str, batch: int, told: list[Any]) -> None:
        """Write in one step with the look at the batch that was there last."""
        with self._server.told():
            last = _script(self._server, script)(
                keys=[self._place, _stores(self._state)], args=[batch, *told]
            )
        self._require_turn(last, batch)

    def _require_turn(self, last: bytes | int | None, batch: int) -> None:
        if last is not None and batch < int(last):
            raise OlderBatch(older(f"{self._server.url}, {self._place}", int(last), batch))


@dataclass(frozen=True)
class SharedState:
    """A `State` in a Redis.

    Parameters
    ----------
    server
        Where.
    stream, feature_set
        The stream's name, and the identity of its feature set.
    name
        See `State.name`.
    """

    server: RedisServer
    stream: str
    feature_set: str
    name: str

    def open(self, name: str, batch: int) -> PartitionStore:
        """See `State.open`. That the state is there is seen when it is read."""
        return RedisStore(self.server, self._prefix, name, batch)

    def flaw(self, batch: int, sign: Callable[[], None] = lambda: None) -> str | None:
        """See `State.flaw`."""
        client = _client(self.server)
        with self.server.told():
            mark: dict[Any, Any] = client.hgetall(_mark(self._prefix))
            if b"" not in mark:
                return "it is not there"
            reached = int(mark.pop(b""))
            if reached < batch:
                return (
                    f"it ends with batch {reached}, and batch {batch} is done: Redis has lost its "
                    "last writes"
                )
            for store, number in mark.items():
                sign()
                last = client.hget(store.decode(), _BATCH)
                # Without a number where it was gone when the mark was set.
                if not number or last is None or int(last) < int(number):
                    return f"{store.decode()} is not what batch {reached} had left"
        return None

    def begin(self, batch: int) -> str:
        """See `State.begin`."""
        with self.server.told():
            run, mark = _script(self.server, _BEGIN)(keys=[_mark(self._prefix)])
        _require_mark(self.server, self._prefix, mark, batch)
        return str(run.decode())

    def keep(self, batch: int, begun: str) -> None:
        """See `State.keep`."""
        keys = [_mark(self._prefix), _stores(self._prefix)]
        with self.server.told():
            is_kept = _script(self.server, _KEEP)(keys=keys, args=[batch, begun])
        if not is_kept:
            raise StateLost(
                f"the Redis at {self.server.url} was started anew while batch {batch} was worked "
                "on, and may have lost what that had written: the batch has to be repeated"
            )

    def create(self, batch: int) -> None:
        """See `State.create`."""
        with self.server.told():
            _client(self.server).hset(_mark(self._prefix), "", str(batch))

    def settle(self) -> None:
        """See `State.settle`; Redis does so by itself, and what it loses is noticed."""

    def size(self) -> int:
        """See `State.size`: memory, as Redis estimates it from some of each store's keys."""
        client = _client(self.server)
        with self.server.told():
            pipeline = client.pipeline(transaction=False)
            for store in client.smembers(_stores(self._prefix)):
                pipeline.memory_usage(store)
            return sum(taken or 0 for taken in pipeline.execute())

    def remove_others(self) -> None:
        """See `State.remove_others`."""
        client = _client(self.server)
        with self.server.told():
            # The marks first: without one, who still works with the rest reads nothing of it.
            for name in (_mark("*"), "*"):
                for key in client.scan_iter(f"{_PREFIX}:{self.stream}:{name}", count=1_000):
                    if not key.startswith(f"{self._prefix}:".encode()):
                        client.unlink(key)

    @property
    def _prefix(self) -> str:
        return f"{_PREFIX}:{self.stream}:{self.feature_set}:{self.name}"


def _mark(state: str) -> str:
    return f"{state}:mark"


def _stores(state: str) -> str:
    return f"{state}:stores"


def _require_mark(server: RedisServer, state: str, mark: bytes | None, batch: int) -> None:
    if mark is None or int(mark) < batch - 1:
        reached = "gone" if mark is None else f"as it was after batch {int(mark)}"
        raise StateLost(
            f"state in Redis at {server.url} is {reached}, and batch {batch} is to come: it was "
            "removed, or Redis has lost its last writes; the next start builds it again from the "
            "topics"
        )


@functools.cache
def _script(server: RedisServer, text: str) -> Any:
    return _client(server).register_script(text)
