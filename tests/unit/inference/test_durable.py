"""What is on the disk before a batch is written elsewhere, and what of Spark's notes is dropped."""

import os
from pathlib import Path

import pytest

from fraudstream.inference.durable import drop_unsettled
from fraudstream.inference.durable import is_past
from fraudstream.inference.durable import settle_batch
from fraudstream.inference.durable import write_once
from fraudstream.inference.durable import write_whole


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of what has come to the disk, in this order."""
    names: list[str] = []

    def fsync(opened: int) -> None:
        names.append(Path(os.readlink(f"/proc/self/fd/{opened}")).name)

    monkeypatch.setattr(os, "fsync", fsync)
    return names


def notes(progress: Path, commits: dict[int, str], offsets: dict[int, str]) -> None:
    for name, contents in (("commits", commits), ("offsets", offsets)):
        (progress / name).mkdir(parents=True, exist_ok=True)
        for number, content in contents.items():
            (progress / name / str(number)).write_text(content)
            (progress / name / f".{number}.crc").write_text("crc")


def begin(progress: Path, content: str) -> None:
    (progress / "sources" / "0").mkdir(parents=True)
    for note in ("metadata", "sources/0/0"):
        (progress / note).write_text(content)


def left(progress: Path) -> dict[str, list[str]]:
    return {
        name: sorted(file.name for file in (progress / name).iterdir())
        for name in ("commits", "offsets")
    }


def test_of_a_batch_its_offsets_and_the_commit_before_it_come_to_the_disk(
    tmp_path: Path, synced: list[str]
) -> None:
    notes(tmp_path, {3: "v1", 4: "v1"}, {4: "v1", 5: "v1"})
    settle_batch(tmp_path, 5)
    assert synced == ["5", ".5.crc", "offsets", "4", ".4.crc", "commits"]


def test_a_batch_is_past_once_it_is_noted_as_done_or_its_notes_are_gone(tmp_path: Path) -> None:
    notes(tmp_path, {3: "v1", 4: "v1"}, {4: "v1", 5: "v1"})
    assert [is_past(tmp_path, batch) for batch in (3, 4, 5)] == [True, True, False]


def test_the_first_batch_has_none_before_it(tmp_path: Path, synced: list[str]) -> None:
    notes(tmp_path, {}, {0: "v1"})
    settle_batch(tmp_path, 0)
    assert synced == ["0", ".0.crc", "offsets"]


def test_with_the_first_batch_comes_where_it_begins(tmp_path: Path, synced: list[str]) -> None:
    notes(tmp_path, {}, {0: "v1"})
    begin(tmp_path, "v1")
    settle_batch(tmp_path, 0)
    assert synced[3:] == ["metadata", tmp_path.name, "0", "0"]


def test_a_document_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, synced: list[str]
) -> None:
    write_whole(tmp_path / "serving.json", {"a": 1})
    scratch, folder = synced
    assert (scratch.startswith("serving."), folder) == (True, tmp_path.name)
    assert (tmp_path / "serving.json").read_text() == '{"a":1}'
    assert [file.name for file in tmp_path.iterdir()] == ["serving.json"]


def test_of_those_who_write_a_document_once_the_first_one_does(tmp_path: Path) -> None:
    assert write_once(tmp_path / "owner.json", {"a": 1})
    assert not write_once(tmp_path / "owner.json", {"a": 2})
    assert (tmp_path / "owner.json").read_text() == '{"a":1}'
    assert [file.name for file in tmp_path.iterdir()] == ["owner.json"]


@pytest.mark.parametrize("content", ["", "\0\0\0"])
def test_notes_without_content_are_dropped_and_what_they_were_before_stays(
    tmp_path: Path, content: str
) -> None:
    notes(tmp_path, {3: "v1", 4: content}, {3: "v1", 4: "v1", 5: content})
    drop_unsettled(tmp_path)
    assert left(tmp_path) == {"commits": [".3.crc", "3"], "offsets": [".3.crc", ".4.crc", "3", "4"]}


def test_offsets_of_a_batch_that_had_not_begun_are_dropped_with_the_commit_before(
    tmp_path: Path,
) -> None:
    # Spark would go on with batch 5, and leave out what of batch 4 the state has not.
    notes(tmp_path, {3: "v1", 4: ""}, {4: "v1", 5: "v1"})
    drop_unsettled(tmp_path)
    assert left(tmp_path) == {"commits": [".3.crc", "3"], "offsets": [".4.crc", "4"]}


@pytest.mark.parametrize(("commits", "are_there"), [({}, False), ({0: "v1"}, True)])
def test_where_the_first_batch_begins_is_dropped_only_as_long_as_it_is_not_done(
    tmp_path: Path, commits: dict[int, str], are_there: bool
) -> None:
    notes(tmp_path, commits, {0: "v1"})
    begin(tmp_path, "")
    drop_unsettled(tmp_path)
    there = {(tmp_path / note).exists() for note in ("metadata", "sources/0/0")}
    assert there == {are_there}


def test_notes_whose_commits_are_gone_by_another_way_stay(tmp_path: Path) -> None:
    notes(tmp_path, {}, {6: "v1", 7: "v1"})
    drop_unsettled(tmp_path)
    assert left(tmp_path) == {"commits": [], "offsets": [".6.crc", ".7.crc", "6", "7"]}


def test_whole_notes_stay(tmp_path: Path) -> None:
    notes(tmp_path, {3: "v1", 4: "v1"}, {4: "v1", 5: "v1"})
    before = left(tmp_path)
    drop_unsettled(tmp_path)
    assert left(tmp_path) == before
    drop_unsettled(tmp_path / "a new stream has none")
