"""What is kept of a key is bounded, and is all that anybody may still ask for."""

from dataclasses import replace

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pyarrow as pa

from fraudstream.features.history import ABSENT
from fraudstream.features.sets import DEFAULT
from fraudstream.inference.bounds import Bound
from fraudstream.inference.embedded import EmbeddedStore
from fraudstream.inference.steps import HANDED_ON
from fraudstream.inference.steps import TRANSACTION
from fraudstream.inference.steps import key_step
from fraudstream.inference.steps import layout_of

PLACES = np.dtype([(name, "i8") for name in ("key", "time_us", "arrival", "transaction")])


def latest(records, horizon, most):
    """The transactions that a moment of this horizon sees of a key, the obvious way."""
    arrived = [r for r in records.tolist() if r[2] <= horizon]
    arrived.sort(key=lambda r: (r[1], r[2], r[3]))
    return {r[3] for r in arrived[-most:]}


@st.composite
def streams(draw):
    """Batches of one key's events, as (time, arrival), that arrive one after the other."""
    arrival = 0
    batches = []
    for _ in range(draw(st.integers(1, 6))):
        batch = []
        for _ in range(draw(st.integers(1, 8))):
            arrival += draw(st.integers(0, 3))
            batch.append((arrival - draw(st.sampled_from([0, 0, 0, 1, 9])), arrival))
        batches.append(batch)
    return batches


@settings(max_examples=300, deadline=None)
@given(streams(), st.integers(1, 6), st.integers(0, 3))
def test_who_comes_next_or_again_finds_the_latest_events(batches, most, lag):
    every = np.zeros(0, PLACES)
    held = every
    is_exact = True
    for batch in batches:
        new = np.array(
            [(7, time, arrival, len(every) + n) for n, (time, arrival) in enumerate(batch)], PLACES
        )
        every = np.concatenate([every, new])
        before, after = int(new["arrival"].min()) - lag, int(new["arrival"].max()) - lag
        both = np.concatenate([held, new])
        is_new = np.arange(len(both)) >= len(held)
        order = np.argsort(both, order=["time_us", "arrival", "transaction"])
        both, is_new = both[order], is_new[order]
        kept = both[Bound(most, -1_000, before, after).kept(both, is_new)]
        again = np.concatenate([kept[np.isin(kept["transaction"], held["transaction"])], new])
        # Past the documented bound, where more come within the lag, nothing is promised any more.
        is_exact &= (every["arrival"] > before).sum() <= most
        for found in (both, again):
            for horizon in (new["arrival"] - lag).tolist() if is_exact else ():
                assert latest(found, horizon, most) == latest(every, horizon, most)
        assert len(kept) <= 4 * most
        held = kept


def test_a_key_with_few_events_keeps_them_all():
    few = np.array([(1, n, n, n) for n in range(5)], PLACES)
    assert Bound(5, 0, 2, 3).kept(few, few["arrival"] > 2).all()


def test_what_is_too_old_is_not_kept_however_few_there_are():
    few = np.array([(1, n, n, n) for n in range(5)], PLACES)
    assert Bound(5, 3).kept(few, few["arrival"] > 2).tolist() == [False] * 3 + [True] * 2


def test_a_merchant_with_a_million_events_an_hour_does_not_grow_without_end(tmp_path):
    most = 1_000
    bounded = replace(DEFAULT, most_events=most)
    store = EmbeddedStore(tmp_path)
    layout = layout_of(bounded, "merchant")
    sizes = []
    for batch in range(5):
        key_step(bounded, "merchant", sold(batch * 4_000, 4_000), batch, store)
        sizes.append(store.read({1: "m1"}, layout).nbytes)
    # 278 transactions a second: some 2,780 are within the lag of ten seconds.
    assert max(sizes) <= 4 * most * layout.dtype.itemsize
    assert sizes[-1] <= sizes[2]


def sold(first: int, count: int) -> pa.Table:
    """Transactions of one merchant, a million an hour, as the first step hands them on."""
    number = np.arange(first, first + count)
    time_us = 1_800_000_000_000_000 + number * 3_600
    columns = {
        "kind": np.full(count, TRANSACTION),
        "partition": number % 4,
        "offset": number // 4,
        "transaction_id": [f"t{n}" for n in number],
        "card_id": [f"c{n % 5_000}" for n in number],
        "merchant_id": ["m1"] * count,
        "event_time_us": time_us,
        "clock_us": time_us,
        "amount": number % 90 + 1.0,
        "features": [[]] * count,
        "transaction_identity": number + 1,
        "card_identity": number % 5_000 + 1,
        "merchant_identity": np.full(count, 1),
        **{f"{name}_identity": np.full(count, ABSENT) for name in ("device", "country", "channel")},
    }
    return pa.table(
        [
            pa.array(columns[f.name], f.type) if f.name in columns else pa.nulls(count, f.type)
            for f in HANDED_ON
        ],
        schema=HANDED_ON,
    )
