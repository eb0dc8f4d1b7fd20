"""A small disk of its own, that can be filled without hurting anybody else."""

from collections.abc import Iterator
from contextlib import contextmanager
import errno
import os
from pathlib import Path
import subprocess


class NoVolume(ValueError):
    """The system lets us mount no file system."""


class Volume:
    """A file system in memory of a limited size; `mounted` makes it."""

    def __init__(self, folder: Path) -> None:
        self._ballast = folder / "ballast"
        self._folder = folder

    def fill(self) -> None:
        """Leave no room on it, not for a single byte."""
        with self._ballast.open("wb") as ballast:
            while free := self._free():
                try:
                    os.posix_fallocate(ballast.fileno(), os.fstat(ballast.fileno()).st_size, free)
                except OSError as error:
                    # Somebody else has written meanwhile: there is less room by now, or none.
                    if error.errno != errno.ENOSPC:
                        raise

    def empty(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)

    def _free(self) -> int:
        told = os.statvfs(self._folder)
        return told.f_bfree * told.f_frsize


@contextmanager
def mounted(folder: Path, megabytes: int) -> Iterator[Volume]:
    """Mount a file system in memory for the length of the block.

    Raises
    ------
    NoVolume
        If we may not.
    """
    folder.mkdir(parents=True)
    told = _run("mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "fraudstream", str(folder))
    if told.returncode:
        raise NoVolume(
            f"a disk that can be full could not be mounted: {told.stderr.strip()}; "
            "run as root, or leave it out with --without disk_full"
        )
    try:
        yield Volume(folder)
    finally:
        # Whoever is still there keeps it busy; then it goes when they do.
        _run("umount", "--lazy", str(folder)).check_returncode()


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)
