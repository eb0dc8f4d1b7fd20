"""What the state step of a batch costs with either store: embedded, and in a real Redis."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
import json
import os
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from time import process_time
from typing import Any

import click
import numpy as np
import redis
from rich.console import Console
from rich.table import Table

from fraudstream.cli.console import progress_bar
from fraudstream.cli.console import run
from fraudstream.features.history import Int64
from fraudstream.features.sets import DEFAULT
from fraudstream.inference.bounds import Records
from fraudstream.inference.embedded import EmbeddedState
from fraudstream.inference.shared import RedisServer
from fraudstream.inference.shared import SharedState
from fraudstream.inference.steps import layout_of
from fraudstream.inference.store import Buckets
from fraudstream.inference.store import State
from fraudstream.inference.store import StateLost
from fraudstream.stack import redis as stack
from fraudstream.stack.secrets import Secrets

LAYOUT = layout_of(DEFAULT, "card")
FILLED_AT_ONCE = 50_000


class Measured:
    """A state under measurement, and what it has cost, in seconds by what was done."""

    def __init__(self, state: State, client: Any) -> None:
        self.state = state
        self.client = client
        self.seconds: dict[str, list[float]] = {}
        state.create(-1)

    def write(self, batch: int, key: Int64, records: Records) -> None:
        """Do what a batch does with some cards: read all that is known, and add to it."""
        store = Buckets(partial(self._bucket, batch))
        names = {each: f"card-{each:07}" for each in np.unique(key).tolist()}
        begun = self.state.begin(batch)
        self._timed("read", lambda: store.read(names, LAYOUT))
        self._timed("write", lambda: store.append(batch, names, records))
        self._timed("mark", lambda: self.state.keep(batch, begun))

    def check(self, batch: int) -> None:
        """Look through the whole state, as a stream does that starts."""
        if (flaw := self._timed("check", lambda: self.state.flaw(batch))) is not None:
            raise StateLost(flaw)

    def _bucket(self, batch: int, number: int) -> Any:
        return self.state.open(f"by-card-{number}", batch)

    def _timed(self, what: str, act: Any) -> Any:
        server, cpu, wall = self._server_s(), process_time(), perf_counter()
        result = act()
        spent = {
            "wall": perf_counter() - wall,
            "cpu": process_time() - cpu,
            "server": self._server_s() - server,
        }
        for kind, seconds in spent.items():
            self.seconds.setdefault(f"{what}_{kind}", []).append(seconds)
        return result

    def _server_s(self) -> float:
        if self.client is None:
            return 0.0
        told = self.client.info("cpu")
        return float(told["used_cpu_user"]) + float(told["used_cpu_sys"])


def drawn(key: Int64, batch: int) -> Records:
    """Return one event of each card."""
    columns = dict.fromkeys(("transaction", *LAYOUT.numbers, *LAYOUT.identities), key + batch)
    return LAYOUT.pack(key, key + batch, key + batch, columns)


@contextmanager
def both_stores(folder: Path) -> Iterator[dict[str, Measured]]:
    """Yield a new state of each kind."""
    secrets = Secrets(folder / "secrets")
    with stack.RedisServer(folder / "redis", secrets) as process:
        url = f"redis://127.0.0.1:{process.port}/0"
        server = RedisServer.of(url, secrets.file("redis-password"), None)
        client = redis.Redis.from_url(url, password=server.password)
        yield {
            "embedded": Measured(EmbeddedState(folder / "state" / "one"), None),
            "redis": Measured(SharedState(server, "stream", DEFAULT.identity, "one"), client),
        }


def report(cards: int, events: int, rows: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Fill both stores, then measure batches in turns, so that a busy moment strikes both."""
    with both_stores(folder) as stores:
        begins = range(0, cards, FILLED_AT_ONCE)
        with progress_bar("filling", total=len(begins) * len(stores)) as advance:
            for batch, begin in enumerate(begins):
                some = np.arange(begin, min(begin + FILLED_AT_ONCE, cards))
                for store in stores.values():
                    store.write(batch, some, drawn(np.repeat(some, events), batch))
                    advance(1)
        draw = np.random.default_rng(0)
        for store in stores.values():
            store.seconds.clear()
        with progress_bar("measuring", total=repeats * len(stores)) as advance:
            for batch in range(len(begins), len(begins) + repeats):
                some = draw.choice(cards, rows, replace=False)
                for store in stores.values():
                    store.write(batch, some, drawn(some, batch))
                    advance(1)
        for store in stores.values():
            store.check(len(begins) + repeats - 1)
        found = {
            name: {what: round(median(s) * 1000, 2) for what, s in sorted(store.seconds.items())}
            for name, store in stores.items()
        }
    return {
        "cards": cards,
        "events_per_card": events,
        "bytes_per_event": LAYOUT.dtype.itemsize,
        "rows": rows,
        "repeats": repeats,
        "cpus": os.cpu_count(),
        "ms": found,
    }


@click.command()
@click.option("--cards", type=click.IntRange(10), default=1_000_000, show_default=True)
@click.option("--events", type=click.IntRange(1), default=8, show_default=True, help="Of a card.")
@click.option("--rows", type=click.IntRange(1), default=10_000, show_default=True, help="A batch.")
@click.option("--repeats", type=click.IntRange(1), default=15, show_default=True)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the report."
)
def main(cards: int, events: int, rows: int, repeats: int, json_file: Path | None) -> None:
    """Measure reading, writing and marking of a batch's cards: medians, CPU and wall time.

    And a check of the whole state, once, as at the start of a stream; a child of this process does
    it for the embedded one, so that only its wall time counts.

    The cards of a batch are drawn from all. The server's CPU is what Redis says of itself.
    """
    with TemporaryDirectory() as folder:
        result = report(cards, events, rows, repeats, Path(folder))
    table = Table("ms a batch", *result["ms"], title=f"{rows:,} of {cards:,} cards")
    for what in result["ms"]["redis"]:
        table.add_row(what, *(f"{of[what]:.1f}" for of in result["ms"].values()))
    Console().print(table)
    if json_file is not None:
        json_file.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    run(main)
