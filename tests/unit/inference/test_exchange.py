"""Blocks: what goes into them comes out of them, at the shard that it is for."""

import numpy as np
import pyarrow as pa
import pytest

from fraudstream.inference.exchange import BLOCKS
from fraudstream.inference.exchange import received
from fraudstream.inference.exchange import sent

SCHEMA = pa.schema(
    [
        ("bucket", pa.int32()),
        ("name", pa.string()),
        ("values", pa.list_(pa.float64())),
        ("is_late", pa.bool_()),
    ]
)


def rows(buckets):
    return pa.record_batch(
        [
            buckets,
            [None if n % 3 == 0 else "é" * n for n in range(len(buckets))],
            [[float(n), None] for n in range(len(buckets))],
            [n % 2 == 0 for n in range(len(buckets))],
        ],
        schema=SCHEMA,
    )


def blocks(batches, shards, most=1 << 20):
    return list(sent(iter, shards, most)(batches))


def out_of(some):
    return pa.Table.from_batches(received(iter)(some), SCHEMA)


@pytest.mark.parametrize("most", [1, 100, 1 << 20])
@pytest.mark.parametrize("shards", [1, 2, 7])
def test_each_row_comes_out_at_its_shard_in_the_order_in_which_it_went_in(shards, most):
    draw = np.random.default_rng(0)
    batches = [rows(draw.integers(0, 64, size=size).tolist()) for size in (40, 1, 25)]
    came = blocks(batches, shards, most)
    whole = pa.Table.from_batches(batches)
    for shard in range(shards):
        mine = [block for block in came if block["shard"].to_pylist() == [shard]]
        is_mine = whole["bucket"].to_numpy() % shards == shard
        assert out_of(mine) == whole.filter(pa.array(is_mine))


def test_a_block_is_no_larger_than_asked_unless_one_row_is():
    [large] = rows([5]).to_pylist()
    large["name"] = "x" * 10_000
    batch = pa.RecordBatch.from_pylist([*rows([5] * 50).to_pylist(), large], SCHEMA)
    sizes = [some.nbytes for some in received(iter)(blocks([batch], 2, 500))]
    assert sorted(size > 500 for size in sizes) == [False] * (len(sizes) - 1) + [True]


def test_what_has_no_row_makes_no_block():
    assert blocks([], 2) == blocks([rows([])], 2) == []
    assert out_of([]).num_rows == out_of(BLOCKS.empty_table().to_batches()).num_rows == 0


def test_numbers_lie_where_a_processor_wants_them_wherever_the_block_began():
    [block] = blocks([rows([4, 4, 4])], 1)
    content = block["rows"][0].as_py()
    # One byte in front moves all that follows.
    moved = pa.record_batch([[0, 0], [b"x", content]], schema=BLOCKS).slice(1)
    [came] = received(iter)([moved])
    assert came["bucket"].to_numpy().flags.aligned
    assert came["values"].flatten().to_numpy(zero_copy_only=False).flags.aligned
    assert came == rows([4, 4, 4])
