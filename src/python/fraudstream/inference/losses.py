"""Records that are gone from a topic before the stream read them."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from fraudstream.kafka.reading import Span
from fraudstream.kafka.reading import spans
from fraudstream.kafka.topics import Cluster

#: Offsets by topic, then by partition.
Offsets = Mapping[str, Mapping[int, int]]


class ProgressDamaged(ValueError):
    """Spark's own notes of how far it has come cannot be read."""


class RecordsLost(ValueError):
    """A topic does not hold any more what the stream has still to read."""


@dataclass(frozen=True)
class Loss:
    """Offsets of one partition that are gone: from `first` to `last`.

    Examples
    --------
    >>> str(Loss("labels", 2, 10, 19))
    'labels, partition 2, offsets 10 to 19'
    """

    topic: str
    partition: int
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.topic}, partition {self.partition}, offsets {self.first} to {self.last}"


def find_losses(
    progress: Path, cluster: Cluster, topics: Iterable[str], *, skip_lost: bool = False
) -> list[Loss]:
    """Return what is gone of the topics since the stream read them last.

    Parameters
    ----------
    progress
        Where Spark writes down how far it has come; there may be nothing yet.
    cluster, topics
        What it reads.
    skip_lost
        Whether the stream may go on behind it.

    Raises
    ------
    ProgressDamaged
        See `next_offsets`.
    RecordsLost
        If anything is gone and may not be skipped: in one line, with each range and the way on.
        And if a topic ends before the place that the stream has come to: it was made anew, and
        what it holds has nothing to do with what was read.
    UnknownTopic, BrokerUnreachable
        See `fraudstream.kafka`.
    """
    due = next_offsets(progress)
    losses = missing(due, {topic: spans(cluster, topic) for topic in topics})
    if losses and not skip_lost:
        raise RecordsLost(
            f"{'; '.join(map(str, losses))}: gone before they were read, by the topic's retention "
            "or by hand; to go on behind them, start once with --skip-lost"
        )
    return losses


def missing(due: Offsets, there: Mapping[str, Sequence[Span]]) -> list[Loss]:
    """Return what is to be read and not there.

    Parameters
    ----------
    due
        The offset that comes next. Partitions that are not in it have not been read yet.
    there
        What each topic holds.

    Raises
    ------
    RecordsLost
        See `find_losses`.

    Examples
    --------
    >>> [str(loss) for loss in missing({"t": {0: 5, 1: 9}}, {"t": [Span(0, 7, 9), Span(1, 9, 9)]})]
    ['t, partition 0, offsets 5 to 6']
    """
    losses = []
    for topic, held in there.items():
        for span in held:
            begin = due.get(topic, {}).get(span.partition, span.low)
            if begin > span.high:
                raise RecordsLost(
                    f"{topic}, partition {span.partition}, ends at offset {span.high}, and the "
                    f"stream has read up to {begin}: the topic was made anew; give another "
                    "--checkpoint"
                )
            if begin < span.low:
                losses.append(Loss(topic, span.partition, begin, span.low - 1))
    return losses


def next_offsets(progress: Path) -> dict[str, dict[int, int]]:
    """Return the offsets from which a query of Spark goes on, as its checkpoint tells them.

    That is where its last finished batch ended. Before there is one, it is where the first batch
    began; and before that, nothing.

    Raises
    ------
    ProgressDamaged
        If what it has noted cannot be read, or does not tell.
    """
    finished = [int(file.name) for file in progress.glob("commits/*") if file.name.isdigit()]
    files = (
        [progress / "offsets" / str(max(finished))] if finished else progress.glob("sources/*/0")
    )
    found: dict[str, dict[int, int]] = {}
    for file in files:
        try:
            found.update(_noted(file.read_bytes()))
        except (OSError, ValueError) as error:
            raise _damaged(file) from error
    if finished and not found:
        raise _damaged(progress / "offsets" / str(max(finished)))
    return found


def _noted(content: bytes) -> Iterator[tuple[str, dict[int, int]]]:
    """Yield the offsets of each topic that one of Spark's notes tells."""
    # A version, what else Spark notes, and the offsets of each source; each in a line.
    for line in content.lstrip(b"\0").splitlines():
        document = orjson.loads(line) if line.startswith(b"{") else {}
        for topic, offsets in document.items():
            if isinstance(offsets, dict) and all(name.isdigit() for name in offsets):
                yield topic, {int(number): offset for number, offset in offsets.items()}


def _damaged(file: Path) -> ProgressDamaged:
    return ProgressDamaged(
        f"{file} does not say how far the stream has come: give another --checkpoint, with which "
        "it begins anew, and scores all again"
    )
