"""What is fetched or built once, and kept."""

from collections.abc import Callable
import fcntl
from pathlib import Path
import tempfile


def made_once(cache: Path, name: str, make: Callable[[Path], Path]) -> Path:
    """Return the entry `name` of a cache: a file or folder that is made the first time.

    Callers in other processes wait for the first. What was interrupted or has failed leaves
    nothing that looks whole.

    Parameters
    ----------
    cache
        A folder that is kept; made if absent.
    name
        Of the entry. It names a version, because what is there is never made anew.
    make
        Makes it in an empty folder that it is given, and returns where it lies.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> def make(scratch: Path) -> Path:
    ...     print("making")
    ...     (scratch / "made").write_text("whole")
    ...     return scratch / "made"
    >>> with TemporaryDirectory() as folder:
    ...     made_once(Path(folder), "it-1", make).read_text()
    ...     made_once(Path(folder), "it-1", make).read_text()
    making
    'whole'
    'whole'
    """
    entry = cache / name
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not entry.exists():
            with tempfile.TemporaryDirectory(prefix="making-", dir=cache) as scratch:
                make(Path(scratch)).rename(entry)
    return entry
