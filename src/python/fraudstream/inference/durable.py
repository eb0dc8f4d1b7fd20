"""What outlives the end of the machine, and not only that of a process.

Kafka may be elsewhere: what a batch has written to it stays when this machine loses its power. So
what the batch is has to be on this machine's disk before.
"""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
from uuid import uuid4

import orjson
import structlog

log = structlog.get_logger()


def sync(*paths: Path) -> None:
    """Wait until files, or the names in folders, are on the disk."""
    for path in paths:
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def write_whole(file: Path, document: object) -> None:
    """Write a JSON document: whatever ends us leaves the old one or the new one, never half."""
    with _on_disk(file, document) as scratch:
        scratch.replace(file)
    sync(file.parent)


def write_once(file: Path, document: object) -> bool:
    """Write a JSON document where there is none, and tell whether there was none.

    Of those who try at the same time, one does.
    """
    with _on_disk(file, document) as scratch:
        try:
            os.link(scratch, file)
            was_none = True
        except FileExistsError:
            was_none = False
    sync(file.parent)
    return was_none


@contextmanager
def _on_disk(file: Path, document: object) -> Iterator[Path]:
    """Have a document on the disk for the block, under a name that nobody else gives."""
    scratch = file.with_suffix(f".{uuid4().hex[:8]}.new")
    try:
        scratch.write_bytes(orjson.dumps(document))
        sync(scratch)
        yield scratch
    finally:
        scratch.unlink(missing_ok=True)


def settle_batch(progress: Path, batch: int) -> None:
    """Wait until Spark's notes are on the disk: of which records a batch is, and of the one before.

    Parameters
    ----------
    progress
        Spark's folder of a query.
    batch
        Its number. Nothing of it has been written yet.
    """
    notes = [progress / "offsets" / str(batch), progress / "commits" / str(batch - 1)]
    if batch == 0:
        # Who the query is, and where the first batch begins.
        notes += [progress / "metadata", *progress.glob("sources/*/0")]
    for note in notes:
        if there := [file for file in (note, _checksum_of(note)) if file.exists()]:
            sync(*there, note.parent)


def is_past(progress: Path, batch: int) -> bool:
    """Tell whether a batch that has begun is done, by Spark's notes; they are removed later."""
    is_noted = (progress / "offsets" / str(batch)).exists()
    return not is_noted or (progress / "commits" / str(batch)).exists()


def drop_unsettled(progress: Path) -> None:
    """Remove notes of Spark's that never came to the disk, by which no query would start.

    A machine that loses its power can leave files without content. What they were of had not
    begun, as `settle_batch` sees to, or had been written and is repeated without effect.
    """
    # In this order: a driver that was given up, and does not know it yet, may go on meanwhile.
    offsets, commits = (_by_number(progress / name) for name in ("offsets", "commits"))
    while commits and _is_empty(commits[max(commits)]):
        _drop(commits.pop(max(commits)))
    following = max(commits, default=-1) + 1
    last = max(offsets, default=-1)
    # Of the batch after one that is not done, or without content.
    if last == following + 1 or (last == following and _is_empty(offsets[last])):
        _drop(offsets[last])
    if following == 0:
        for note in (progress / "metadata", *progress.glob("sources/*/0")):
            if note.exists() and _is_empty(note):
                _drop(note)


def _by_number(folder: Path) -> dict[int, Path]:
    return {int(note.name): note for note in folder.glob("*") if note.name.isdigit()}


def _is_empty(note: Path) -> bool:
    return not note.read_bytes().strip(b"\0")


def _drop(note: Path) -> None:
    log.warning("a note of Spark's did not come to the disk, and is removed", file=str(note))
    for file in (note, _checksum_of(note)):
        file.unlink(missing_ok=True)


def _checksum_of(note: Path) -> Path:
    return note.with_name(f".{note.name}.crc")
