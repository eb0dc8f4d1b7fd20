"""A disk of its own, where one can be had."""

from pathlib import Path
import subprocess

from faults import volume
from faults.volume import NoVolume
from faults.volume import Volume
from faults.volume import mounted
import pytest


def test_a_disk_that_is_full_takes_nothing_until_it_is_emptied(tmp_path: Path) -> None:
    try:
        with mounted(tmp_path / "disk", 64) as disk:
            file = tmp_path / "disk" / "file"
            file.write_bytes(b"before")
            disk.fill()
            with pytest.raises(OSError, match="No space left on device"):
                file.write_bytes(b"x" * 100_000)
            disk.empty()
            file.write_bytes(b"x" * 100_000)
    except NoVolume:
        pytest.skip("only root may mount")
    assert not (tmp_path / "disk" / "file").exists()


class Contended(Volume):
    """A disk on which somebody else has written just after it was asked for its room."""

    def __init__(self, folder: Path, told: int) -> None:
        super().__init__(folder)
        self._told = [told]

    def _free(self) -> int:
        return self._told.pop() if self._told else super()._free()


def test_room_that_somebody_else_took_meanwhile_is_not_missed(tmp_path: Path) -> None:
    try:
        with mounted(tmp_path / "disk", 64):
            Contended(tmp_path / "disk", 128 << 20).fill()
            with pytest.raises(OSError, match="No space left on device"):
                (tmp_path / "disk" / "file").write_bytes(b"x" * 100_000)
            with pytest.raises(OSError, match="Invalid argument"):
                Contended(tmp_path / "disk", -1).fill()
    except NoVolume:
        pytest.skip("only root may mount")


def test_who_may_not_mount_is_told_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = subprocess.CompletedProcess([], 1, "", "mount: must be superuser\n")
    monkeypatch.setattr(volume, "_run", lambda *command: refused)
    with (
        pytest.raises(NoVolume, match="must be superuser; run as root"),
        mounted(tmp_path / "disk", 64),
    ):
        pass
