"""State in a real Redis: who is let in, what is refused, and what is noticed when it loses some."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC
from datetime import datetime
from pathlib import Path
import pickle
import socket
import ssl
import threading
from typing import Any

import numpy as np
import pytest
import redis

from contract.every_store import redis_in
from fraudstream.inference.shared import BadStateAddress
from fraudstream.inference.shared import RedisServer
from fraudstream.inference.shared import SharedState
from fraudstream.inference.shared import StateUnreachable
from fraudstream.inference.shared import UnfitRedis
from fraudstream.inference.store import Layout
from fraudstream.inference.store import StateLost
from fraudstream.stack import redis as stack
from fraudstream.stack.certificates import issue
from fraudstream.stack.process import free_port

LAYOUT = Layout(numbers=("amount",), identities=())


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[RedisServer, stack.RedisServer]]:
    with redis_in(tmp_path) as running:
        yield running


@pytest.fixture
def server(running: tuple[RedisServer, stack.RedisServer]) -> RedisServer:
    return running[0]


@pytest.fixture
def client(server: RedisServer) -> Any:
    return redis.Redis.from_url(server.url, password=server.password)


@pytest.fixture
def state(server: RedisServer) -> SharedState:
    state = SharedState(server, "stream", "default.v1@0", "one")
    state.create(-1)
    begun = state.begin(0)
    key = np.arange(3)
    records = LAYOUT.pack(key, key, key, {"transaction": key, "amount": key})
    state.open("cards-0", 0).append(0, {0: "c0", 1: "c1", 2: "c2"}, records)
    state.keep(0, begun)
    return state


# --- who is let in, and by what ------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    [
        "somewhere",
        "http://state:6379",
        "redis://",
        "redis://state:port",
        "redis://state:6379/one",
        "redis://state:6379/0?password=x",
        "redis://[state",
    ],
)
def test_what_is_no_address_of_a_redis_is_refused(address: str) -> None:
    with pytest.raises(BadStateAddress, match="expected embedded, or redis://HOST:PORT/DATABASE"):
        RedisServer.of(address, None, None)


def test_a_password_in_the_address_is_refused_and_not_quoted() -> None:
    with pytest.raises(BadStateAddress, match="--state-password-file") as refusal:
        RedisServer.of("redis://me:hidden@state:6379/0", None, None)
    assert "hidden" not in str(refusal.value)


def test_a_password_is_not_shown_but_goes_to_the_executors(server: RedisServer) -> None:
    assert server.password
    assert server.password not in repr(server)
    sent = pickle.dumps(server)
    assert pickle.loads(sent).password == server.password  # noqa: S301 - our own


def test_a_wrong_password_is_told_in_one_line(server: RedisServer) -> None:
    for password in (None, "wrong"):
        with pytest.raises(StateUnreachable, match=f"state in Redis at {server.url}: ") as refusal:
            replace(server, password=password).require_fit()
        assert "\n" not in str(refusal.value)


def test_a_user_with_no_more_rights_than_are_needed_does_all(
    server: RedisServer, client: Any
) -> None:
    client.execute_command(
        *[
            "ACL",
            "SETUSER",
            "stream",
            "on",
            ">hidden",
            "~fraudstream:*",
            "+@all",
            "-@dangerous",
            "+info",
        ]
    )
    url = server.url.replace("//", "//stream@")
    state = SharedState(RedisServer(url, "hidden"), "stream", "default.v1@0", "one")
    state.server.require_fit()
    state.create(-1)
    begun = state.begin(0)
    store = state.open("cards-0", 0)
    key = np.arange(3)
    store.append(0, {0: "a"}, LAYOUT.pack(key, key, key, {"transaction": key, "amount": key})[:1])
    store.keep_clock(0, 7)
    state.keep(0, begun)
    assert state.flaw(0) is None
    assert state.size() > 0
    state.remove_others()
    other = SharedState(RedisServer(url, "hidden"), "stream", "default.v1@0", "two")
    other.remove_others()
    assert state.flaw(0) == "it is not there"


def test_no_redis_is_told_in_one_line() -> None:
    nobody = RedisServer(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(StateUnreachable, match="Connection refused"):
        nobody.require_fit()


@contextmanager
def behind_tls(port: int, folder: Path) -> Iterator[tuple[int, str]]:
    """Speak TLS for a Redis that cannot; yield the port, and who signs its certificate."""
    issued = issue("state", ["127.0.0.1"], datetime.now(UTC))
    (folder / "server.pem").write_text(issued.server)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "server.pem")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def forward(source: socket.socket, to: socket.socket) -> None:
            while some := source.recv(65_536):
                to.sendall(some)

        def serve() -> None:
            while True:
                try:
                    plain, _ = listening.accept()
                except OSError:
                    return
                try:
                    client = context.wrap_socket(plain, server_side=True)
                except OSError:
                    continue
                behind = socket.create_connection(("127.0.0.1", port))
                for pair in ((client, behind), (behind, client)):
                    threading.Thread(target=forward, args=pair, daemon=True).start()

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1], issued.authority
        listening.shutdown(socket.SHUT_RDWR)


def test_tls_is_spoken_and_the_certificate_is_checked(
    running: tuple[RedisServer, stack.RedisServer], tmp_path: Path
) -> None:
    server, process = running
    with behind_tls(process.port, tmp_path) as (port, authority):
        hidden = replace(server, url=f"rediss://127.0.0.1:{port}/0", authorities=authority)
        hidden.require_fit()
        with pytest.raises(StateUnreachable, match="CERTIFICATE_VERIFY_FAILED"):
            replace(hidden, authorities=None).require_fit()


# --- what may lose state -------------------------------------------------------------------------


def test_a_redis_that_keeps_what_it_is_given_is_fit(server: RedisServer) -> None:
    server.require_fit()


@pytest.mark.parametrize(
    ("setting", "value", "problem"),
    [
        ("maxmemory-policy", "allkeys-lru", "maxmemory-policy is allkeys-lru, .* set noeviction"),
        ("appendonly", "no", "it has no log on disk: set appendonly yes"),
    ],
)
def test_a_redis_that_could_drop_state_is_refused(
    server: RedisServer, client: Any, setting: str, value: str, problem: str
) -> None:
    client.config_set(setting, value)
    with pytest.raises(UnfitRedis, match=problem):
        server.require_fit()


def test_a_replica_is_refused(server: RedisServer, client: Any) -> None:
    client.replicaof("127.0.0.1", free_port())
    with pytest.raises(UnfitRedis, match="it is a replica"):
        server.require_fit()


def test_a_full_redis_refuses_to_write_and_keeps_what_it_has(
    state: SharedState, client: Any
) -> None:
    client.config_set("maxmemory", 1)
    key = np.zeros(1, np.int64)
    records = LAYOUT.pack(key, key, key, {"transaction": key, "amount": key})
    with pytest.raises(StateUnreachable, match="maxmemory"):
        state.open("cards-0", 1).append(1, {0: "c0"}, records)
    assert state.flaw(0) is None


# --- what is noticed -----------------------------------------------------------------------------


def test_state_outlives_a_restart_of_redis(
    running: tuple[RedisServer, stack.RedisServer], state: SharedState
) -> None:
    running[1].stop()
    running[1].start()
    running[1].wait_ready()
    assert state.flaw(0) is None
    assert len(state.open("cards-0", 1).read({1: "c1"}, LAYOUT)) == 1


def test_a_batch_in_which_redis_was_restarted_is_not_taken_as_done(
    running: tuple[RedisServer, stack.RedisServer], state: SharedState
) -> None:
    begun = state.begin(1)
    running[1].stop()
    running[1].start()
    running[1].wait_ready()
    with pytest.raises(StateLost, match="was started anew while batch 1 was worked on"):
        state.keep(1, begun)
    assert state.flaw(0) is None
    assert "ends with batch 0" in str(state.flaw(1))
    # So it is repeated.
    state.keep(1, state.begin(1))
    assert state.flaw(1) is None


def test_nothing_is_read_or_begun_once_the_last_writes_are_lost(
    state: SharedState, client: Any
) -> None:
    later = state.begin(1)
    state.keep(1, later)
    [mark] = client.keys("*:mark")
    # As a log leaves it that has lost its end.
    client.hset(mark, "", "0")
    store = state.open("cards-0", 2)
    for asked in (
        lambda: store.read({1: "c1"}, LAYOUT),
        lambda: store.clock_before(2),
        lambda: state.begin(2),
    ):
        with pytest.raises(StateLost, match="is as it was after batch 0, and batch 2 is to come"):
            asked()
    assert "it ends with batch 0, and batch 1 is done" in str(state.flaw(1))


def test_nothing_is_read_begun_or_kept_once_all_is_gone(state: SharedState, client: Any) -> None:
    begun = state.begin(1)
    client.flushall()
    for asked in (
        lambda: state.open("cards-0", 1).read({1: "c1"}, LAYOUT),
        lambda: state.begin(1),
        lambda: state.keep(1, begun),
    ):
        with pytest.raises(StateLost):
            asked()
    assert state.flaw(0) == "it is not there"


def test_a_store_that_was_removed_is_a_flaw(state: SharedState, client: Any) -> None:
    [place] = client.keys("*:cards-0")
    client.delete(place)
    assert "cards-0 is not what batch 0 had left" in str(state.flaw(0))
    # The next mark is set without its number.
    state.keep(1, state.begin(1))
    assert "cards-0 is not what batch 1 had left" in str(state.flaw(1))


def test_keys_are_named_by_stream_and_feature_set(state: SharedState, client: Any) -> None:
    client.set("not ours", "1")
    names = {key.decode() for key in client.keys("fraudstream:*")}
    assert names == {
        f"fraudstream:stream:default.v1@0:one:{name}" for name in ("mark", "stores", "cards-0")
    }
    SharedState(state.server, "stream", "default.v2@1", "two").remove_others()
    assert client.keys("*") == [b"not ours"]
