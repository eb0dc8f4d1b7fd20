"""The PEX files that ship: each runs, is as small as promised, and carries only what is its own."""

import os
from pathlib import Path
import subprocess
import zipfile

import pytest

MEGABYTE = 1_000_000
HEAVY = {
    *("torch", "pyspark", "mlflow", "mlflow_skinny", "onnxruntime", "pyarrow", "pandas"),
    *("lmdb", "redis"),
}


def carried(pex: str) -> set[str]:
    """Names of the distributions inside, as their wheels are called."""
    with zipfile.ZipFile(pex) as archive:
        parts = [name.split("/") for name in archive.namelist() if name.startswith(".deps/")]
    return {part[1].split("-")[0].lower() for part in parts if len(part) > 1 and part[1]}


@pytest.mark.parametrize(
    ("pex", "own"),
    [
        ("producer.pex", set()),
        ("inference.pex", {"mlflow_skinny", "onnxruntime", "pyarrow", "pandas", "lmdb", "redis"}),
        ("inference-local.pex", HEAVY - {"torch", "mlflow"}),
        ("trainer.pex", HEAVY - {"pyspark", "mlflow", "lmdb", "redis"}),
    ],
)
def test_a_pex_carries_the_heavy_libraries_that_are_its_own_and_no_other(pex, own):
    assert carried(pex) & HEAVY == own


@pytest.mark.parametrize(("pex", "megabytes"), [("producer.pex", 40), ("inference.pex", 200)])
def test_a_pex_is_no_larger_than_promised(pex, megabytes):
    assert Path(pex).stat().st_size <= megabytes * MEGABYTE


@pytest.mark.parametrize(
    ("pex", "teaches"),
    [
        ("producer.pex", ["simulate", "replay", "topics"]),
        ("trainer.pex", ["train", "evaluate", "promote", "shadow", "models"]),
        ("inference-local.pex", ["run"]),
        ("inference.pex", ["run", "audit", "rebuild-state"]),
    ],
)
def test_a_pex_runs_and_its_help_names_its_commands(pex, teaches, tmp_path):
    said = run(pex, "--help", tmp_path=tmp_path)
    assert said.returncode == 0, said.stderr
    for command in teaches:
        assert command in said.stdout


@pytest.mark.parametrize(
    ("pex", "arguments"),
    [
        ("producer.pex", ["simulate", "--days", "1", "--cards", "100"]),
        ("trainer.pex", ["train"]),
        ("inference.pex", ["run", "--checkpoint", "checkpoint"]),
    ],
)
def test_without_a_broker_a_pex_says_so_in_one_line(pex, arguments, tmp_path):
    said = run(pex, *arguments, "--bootstrap-servers", "127.0.0.1:9", tmp_path=tmp_path)
    assert said.returncode == 1
    error = said.stderr.strip().splitlines()[-1]
    assert error.startswith("error: no Kafka broker answers at 127.0.0.1:9")
    assert "Traceback" not in said.stderr


def run(pex: str, *arguments: str, tmp_path: Path) -> subprocess.CompletedProcess:
    # The cache of unpacked PEXes is the user's: it is what makes a second start quick.
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", str(tmp_path))}
    return subprocess.run(
        [str(Path(pex).resolve()), *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
