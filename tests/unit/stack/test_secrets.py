"""Secrets are made once, and are for their owner only from the first byte on."""

from pathlib import Path
import stat

from fraudstream.stack.secrets import Secrets
from fraudstream.stack.secrets import write_private


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def test_folder_and_files_are_for_their_owner_only(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path / "secrets")
    file = secrets.file("redis-password")
    assert (mode(secrets.folder), mode(file)) == (0o700, 0o600)
    assert mode(secrets.write("client.properties", "password=x")) == 0o600


def test_no_two_secrets_are_alike_and_each_stays(tmp_path: Path) -> None:
    secrets = Secrets(tmp_path)
    made = {name: secrets.read(name) for name in ("a", "b", "c")}
    assert len(set(made.values())) == 3
    assert {name: Secrets(tmp_path).read(name) for name in made} == made


def test_a_file_that_was_open_to_others_is_closed_when_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("old")
    file.chmod(0o644)
    assert write_private(file, "new") == file
    assert (file.read_text(), mode(file)) == ("new", 0o600)
    assert list(tmp_path.iterdir()) == [file]
