"""Named points of the job at which a process can be caught, so that it is killed just there.

The product knows nothing of them. The entry points of this benchmark, `faults.job` for the driver
and `faults.daemon` for Python workers, wrap a few of its functions before it begins. A wrapped
function asks whether a trap stands at its point, which is one failed rename; only where one does,
it says who it is and waits to be killed.
"""

from collections.abc import Callable
import functools
import os
from pathlib import Path
import time
from typing import Any

#: The variable by which the processes of the job find the folder of the traps.
FOLDER = "FAULTS_TRAPS"

BEFORE_SCORING = "before_scoring"
AFTER_SCORING = "after_scoring"
BEFORE_COMMIT = "before_commit"
AFTER_COMMIT = "after_commit"
DURING_SWAP = "during_swap"
DURING_STATE_WRITE = "during_state_write"
#: All of them.
POINTS = (
    BEFORE_SCORING,
    AFTER_SCORING,
    BEFORE_COMMIT,
    AFTER_COMMIT,
    DURING_SWAP,
    DURING_STATE_WRITE,
)

# Whoever is caught and forgotten goes on after this.
_PATIENCE_S = 60.0
_PROBE_S = 0.005

_Function = Callable[..., Any]


class Traps:
    """Traps of the job, set by who is outside of it.

    Parameters
    ----------
    folder
        Where they are set; made if absent.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     traps = Traps(Path(folder))
    ...     traps.set("before_commit")
    ...     traps.caught("before_commit") is None
    True
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def set(self, point: str) -> None:
        """Catch the next process that comes to `point`, and no other after it."""
        (self.folder / point).touch()

    def caught(self, point: str) -> int | None:
        """Return the process that waits at `point`, or ``None`` if none has come yet."""
        for caught in self.folder.glob(f"{point}.*"):
            return int(caught.suffix[1:])
        return None

    def clear(self, point: str) -> None:
        """Take the trap away; whoever is caught in it goes on."""
        for file in (self.folder / point, *self.folder.glob(f"{point}.*")):
            file.unlink(missing_ok=True)


def halt(point: str) -> None:
    """Wait here, if a trap stands at `point`, until it is taken away or this process is killed."""
    folder = os.environ[FOLDER]
    caught = f"{folder}/{point}.{os.getpid()}"
    try:
        # Of all processes that come to the point at once, one succeeds.
        os.rename(f"{folder}/{point}", caught)
    except FileNotFoundError:
        return
    deadline = time.monotonic() + _PATIENCE_S
    while os.path.exists(caught) and time.monotonic() < deadline:
        time.sleep(_PROBE_S)


def halting(
    function: _Function, *, before: str | None = None, after: str | None = None
) -> _Function:
    """Return `function` with points around it."""

    @functools.wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        if before is not None:
            halt(before)
        result = function(*arguments, **named)
        if after is not None:
            halt(after)
        return result

    return wrapped


def install_in_driver() -> None:
    """Put the points of the driver into this process."""
    from fraudstream.inference.registry import Registry

    # The new champion has been fetched, and neither checked nor moved to its place.
    _wrap(Registry, "fetch", after=DURING_SWAP)


@functools.cache
def install_in_worker() -> None:
    """Put the points of a Python worker into this process, once."""
    from fraudstream.inference import scoring
    from fraudstream.inference import sink
    from fraudstream.inference.embedded import EmbeddedStore
    from fraudstream.inference.shared import RedisStore

    # Tasks name it by its module, so that they find it wrapped.
    _wrap(scoring, "results", before=BEFORE_SCORING, after=AFTER_SCORING)

    class Producer(sink.Producer):  # type: ignore[name-defined]
        def commit_transaction(self, *arguments: Any) -> None:
            halt(BEFORE_COMMIT)
            super().commit_transaction(*arguments)
            halt(AFTER_COMMIT)

    sink.Producer = Producer  # type: ignore[attr-defined]
    # Called within the transaction of LMDB, when its writer's lock is held and a page is dirty.
    _wrap(EmbeddedStore, "_take", after=DURING_STATE_WRITE)
    # One store is not all that a task writes, and none is marked as whole yet.
    _wrap(RedisStore, "_take", after=DURING_STATE_WRITE)


def _wrap(owner: Any, name: str, *, before: str | None = None, after: str | None = None) -> None:
    setattr(owner, name, halting(getattr(owner, name), before=before, after=after))
