"""Passwords as files: made at random when first asked for, kept, readable by their owner only."""

import os
from pathlib import Path
import secrets

# Hexadecimal digits need no quoting in any of the files that a password ends up in. Twenty-four
# bytes are more than anyone can guess.
_BYTES = 24


class Secrets:
    """A folder of secrets, one a file.

    Parameters
    ----------
    folder
        Made if absent, for its owner only. What it holds is never made anew: the services that
        were set up with it would not know.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     secrets = Secrets(Path(folder) / "secrets")
    ...     made = secrets.read("redis-password")
    ...     made == Secrets(Path(folder) / "secrets").read("redis-password"), len(made)
    (True, 48)
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.folder = folder

    def file(self, name: str) -> Path:
        """Return the file of the secret `name`, which is made if absent."""
        file = self.folder / name
        if not file.exists():
            write_private(file, secrets.token_hex(_BYTES))
        return file

    def read(self, name: str) -> str:
        """Return the secret `name`, which is made if absent."""
        return self.file(name).read_text()

    def write(self, name: str, content: str) -> Path:
        """Write a file that holds secrets in the form that some program wants; return it."""
        return write_private(self.folder / name, content)


def write_private(file: Path, content: str) -> Path:
    """Write a file whole or not at all, readable and writable by its owner only, and return it."""
    scratch = file.with_name(f".{file.name}.{os.getpid()}")
    # It is closed to others from its first byte on.
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as new:
        new.write(content)
    return scratch.replace(file)
