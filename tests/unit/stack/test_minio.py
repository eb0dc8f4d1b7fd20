"""A MinIO server is built once, or said to be missing what it is built with."""

from pathlib import Path

import pytest

from fraudstream.stack import minio
from fraudstream.stack.minio import MINIO_VERSION
from fraudstream.stack.minio import minio_program
from fraudstream.stack.process import ProcessFailed


def go_does(folder: Path, does: str, patch: pytest.MonkeyPatch) -> None:
    launcher = folder / "bin" / "go"
    launcher.parent.mkdir(exist_ok=True)
    launcher.write_text(f"#!/bin/sh\n{does}\n")
    launcher.chmod(0o755)
    patch.setenv("PATH", f"{launcher.parent}:/usr/bin:/bin")


def test_it_is_built_from_its_pinned_source_into_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_does(tmp_path, 'echo "$@" >"$GOBIN/minio"', monkeypatch)
    built = minio_program(tmp_path / "cache")
    assert built.read_text().endswith(f"github.com/minio/minio@{MINIO_VERSION}\n")
    go_does(tmp_path, "exit 1", monkeypatch)
    assert minio_program(tmp_path / "cache") == built


def test_a_failed_build_tells_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_does(tmp_path, "echo no such module >&2; exit 1", monkeypatch)
    with pytest.raises(ProcessFailed, match=r"(?s)building MinIO failed.*no such module"):
        minio_program(tmp_path)


def test_a_missing_go_says_what_to_install_or_to_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(minio, "_GO_FOLDER", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProcessFailed, match=r"no go on PATH.*install Go 1.24.*--minio"):
        minio_program(tmp_path / "cache")
