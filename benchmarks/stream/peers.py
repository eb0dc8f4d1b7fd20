"""Environments of their own for libraries that are no part of fraudstream."""

import hashlib
from importlib.util import find_spec
import os
from pathlib import Path
import sys

from fraudstream.stack.cache import made_once
from fraudstream.stack.process import run_to_end

_REQUIREMENTS = Path(__file__).parent / "requirements"


def python_of(peer: str, cache: Path) -> Path:
    """Return the Python of a peer's environment, which is made the first time.

    Raises
    ------
    ProcessFailed
        If what it requires cannot be installed together on this Python.
    """
    texts = [(_REQUIREMENTS / f"{name}.txt").read_bytes() for name in ("ours", peer)]
    digest = hashlib.sha256(b"".join(texts)).hexdigest()[:12]

    def install(scratch: Path) -> Path:
        made, log = scratch / "environment", scratch / "log"
        venv = [sys.executable, "-m", "venv", str(made)]
        run_to_end(f"making an environment for {peer}", venv, log)
        pip = [str(made / "bin" / "python"), "-m", "pip", "install", "--quiet"]
        required = str(_REQUIREMENTS / f"{peer}.txt")
        run_to_end(f"installing {peer}", [*pip, "-r", required], log)
        return made

    return made_once(cache, f"benchmark-{peer}-{digest}", install) / "bin" / "python"


def our_sources() -> str:
    """Return where our own modules lie, for ``PYTHONPATH``: without any library of our own."""
    roots = {Path(folder).parent for name in _OURS for folder in _folders(name)}
    return os.pathsep.join(sorted(map(str, roots)))


_OURS = ("fraudstream", "schemas", "stream")


def _folders(package: str) -> list[str]:
    found = find_spec(package)
    return [] if found is None else list(found.submodule_search_locations or ())
