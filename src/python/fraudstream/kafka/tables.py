"""What a topic holds, as columns."""

from collections.abc import Callable
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraudstream.kafka.reading import Records
from fraudstream.kafka.reading import Span
from fraudstream.kafka.reading import TopicChanged
from fraudstream.kafka.reading import read
from fraudstream.kafka.topics import Cluster
from fraudstream.schema.decoding import Decoded

Int64 = npt.NDArray[np.int64]

Decode = Callable[[list[bytes | None], Int64], Decoded]
Advance = Callable[[float], None]


@dataclass(frozen=True)
class Topic:
    """What a topic held when it was read.

    Attributes
    ----------
    columns
        The valid records, decoded, with ``partition``, ``offset`` and ``appended_ms`` (``int64``).
    spans
        From where to where it was read.
    refused
        ``partition`` and ``offset`` (``int64``) of the records that were not valid.
    """

    columns: pa.Table
    spans: list[Span]
    refused: pa.Table

    @property
    def rejected(self) -> int:
        """How many records were not valid, and so are not in `columns`."""
        return len(self.refused)


def read_topic(
    cluster: Cluster,
    topic: str,
    within: list[Span],
    decode: Decode,
    advance: Advance,
    every_offset: bool = True,
) -> Topic:
    """Read a topic between two offsets of each partition, decoding as records arrive.

    Parameters
    ----------
    cluster, topic
        Where to read.
    within
        From where to where, as `fraudstream.kafka.reading.spans` noted it.
    decode
        One of `fraudstream.schema.decoding`.
    advance
        Called with the number of records that were read since the last call.
    every_offset
        Whether every offset has to give a record. In a topic that a transactional producer
        writes, some offsets are no records.

    Raises
    ------
    TopicChanged
        If an offset gives no record, and every one has to. A model that was trained on fewer
        would look like any other, so that is an error.
    UnknownTopic, BrokerUnreachable
        See `fraudstream.kafka`.
    """
    promised = sum(span.high - span.low for span in within)
    parts = [_located(decode([], np.empty(0, np.int64)), *3 * (np.empty(0, np.int64),))]
    refused = [_places(*2 * (np.empty(0, np.int64),))]
    came = 0
    for records in _ahead(read(cluster, topic, within)):
        decoded = decode(records.values, records.appended_ms)
        parts.append(_located(decoded, records.partition, records.offset, records.appended_ms))
        rows = [rejection.row for rejection in decoded.rejections]
        refused.append(_places(records.partition[rows], records.offset[rows]))
        came += len(records)
        advance(len(records))
    if every_offset and came != promised:
        raise TopicChanged(
            f"{topic}: expected {promised} records between its first and end offsets, got {came}; "
            "was it compacted, or written by a transactional producer?"
        )
    return Topic(pa.concat_tables(parts), within, pa.concat_tables(refused))


def _ahead(parts: Iterator[Records]) -> Iterator[Records]:
    """Yield what `parts` yields, fetching the next while the last is worked on.

    Both spend most of their time outside of Python, where they do not wait for each other.
    """
    with ThreadPoolExecutor(1, "read") as reader:
        following = reader.submit(next, parts, None)
        while (part := following.result()) is not None:
            following = reader.submit(next, parts, None)
            yield part


def _located(decoded: Decoded, partition: Int64, offset: Int64, appended_ms: Int64) -> pa.Table:
    columns = decoded.columns
    for name, values in (
        ("partition", partition),
        ("offset", offset),
        ("appended_ms", appended_ms),
    ):
        columns = columns.append_column(name, pa.array(values[decoded.rows]))
    return columns


def _places(partition: Int64, offset: Int64) -> pa.Table:
    return pa.table({"partition": partition, "offset": offset})
