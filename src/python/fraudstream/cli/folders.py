"""Where this user keeps what is ours."""

import os
from pathlib import Path


def default_cache() -> Path:
    """Return where this user keeps what can be fetched again.

    That is ``fraudstream`` in ``XDG_CACHE_HOME``, which is ``~/.cache`` if it is not set.
    """
    return _folder("XDG_CACHE_HOME", ".cache")


def default_state() -> Path:
    """Return where this user keeps what must not be lost.

    That is ``fraudstream`` in ``XDG_STATE_HOME``, which is ``~/.local/state`` if it is not set.
    """
    return _folder("XDG_STATE_HOME", ".local/state")


def _folder(variable: str, usual: str) -> Path:
    home = os.environ.get(variable)
    return (Path(home) if home else Path.home() / usual) / "fraudstream"
