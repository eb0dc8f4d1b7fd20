"""Rows on their way from one step to the next: in blocks, of which Spark sees a shard and bytes.

Spark moves rows one by one: out of Arrow's columns into rows of its own, through a shuffle, and
into columns again. All that it has to know of them is the shard that they go to. So they travel as
blocks: the rows of one shard, in the form in which Arrow writes them.
"""

from collections.abc import Callable
from collections.abc import Iterable
from collections.abc import Iterator
from itertools import pairwise
from typing import TypeVar

import numpy as np
import pyarrow as pa

#: What Spark sees of rows that are handed on.
BLOCKS = pa.schema([("shard", pa.int32()), ("rows", pa.binary())])

# Spark holds a few blocks at once, and a block whole.
_MOST_BYTES = 8 * 1024 * 1024
# What Spark hands over begins anywhere; numpy and Arrow want numbers where a processor does.
_ALIGNED = pa.ipc.IpcReadOptions(ensure_alignment=pa.ipc.Alignment.DataTypeSpecific)

_Batches = Iterable[pa.RecordBatch]
_Out = TypeVar("_Out")


def sent(
    task: Callable[[_Batches], Iterator[pa.RecordBatch]], shards: int, most: int = _MOST_BYTES
) -> Callable[[_Batches], Iterator[pa.RecordBatch]]:
    """Return a task that yields, as `BLOCKS`, what another yields.

    Parameters
    ----------
    task
        Yields rows with a column ``bucket``.
    shards
        Over how many shards buckets are spread: by the remainder.
    most
        Bytes. A block of more is cut, down to a single row.

    Examples
    --------
    >>> rows = pa.record_batch({"bucket": [3, 1, 2, 3], "offset": range(4)})
    >>> blocks = list(sent(iter, shards=2)([rows]))
    >>> [block["shard"].to_pylist() for block in blocks]
    [[0], [1]]
    >>> [some["offset"].to_pylist() for some in received(iter)(blocks)]
    [[2], [0, 1, 3]]
    """

    def in_blocks(batches: _Batches) -> Iterator[pa.RecordBatch]:
        for rows in task(batches):
            for shard, part in by_shard(rows, shards):
                for some in _cut(part, most):
                    yield pa.record_batch([[shard], [_written(some)]], schema=BLOCKS)

    return in_blocks


def received(
    task: Callable[[_Batches], Iterator[_Out]],
) -> Callable[[_Batches], Iterator[_Out]]:
    """Return a task that does with `BLOCKS` what another does with the rows in them; see `sent`."""

    def out_of_blocks(batches: _Batches) -> Iterator[_Out]:
        return task(_read(block) for batch in batches for block in batch["rows"])

    return out_of_blocks


def by_shard(rows: pa.RecordBatch, shards: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Yield the rows of each shard that has any, in the order in which they came; see `sent`.

    Examples
    --------
    >>> rows = pa.record_batch({"bucket": [3, 1, 2], "offset": range(3)})
    >>> [(shard, part["offset"].to_pylist()) for shard, part in by_shard(rows, 2)]
    [(0, [2]), (1, [0, 1])]
    """
    shard = rows["bucket"].to_numpy() % shards
    order = np.argsort(shard, kind="stable")
    grouped = rows.take(pa.array(order))
    ends = np.cumsum(np.bincount(shard, minlength=shards)).tolist()
    for number, (begin, end) in enumerate(pairwise([0, *ends])):
        if end > begin:
            yield number, grouped.slice(begin, end - begin)


def _cut(rows: pa.RecordBatch, most: int) -> Iterator[pa.RecordBatch]:
    if rows.nbytes <= most or rows.num_rows == 1:
        yield rows
        return
    half = rows.num_rows // 2
    yield from _cut(rows.slice(0, half), most)
    yield from _cut(rows.slice(half), most)


def _written(rows: pa.RecordBatch) -> bytes:
    to = pa.BufferOutputStream()
    with pa.ipc.new_stream(to, rows.schema) as stream:
        stream.write_batch(rows)
    written: bytes = to.getvalue().to_pybytes()
    return written


def _read(block: pa.BinaryScalar) -> pa.RecordBatch:
    with pa.ipc.open_stream(block.as_buffer(), options=_ALIGNED) as stream:
        return stream.read_next_batch()
