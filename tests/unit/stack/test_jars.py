"""Java, Spark and jars are found, or said to be missing."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fraudstream.stack import jars
from fraudstream.stack.jars import java
from fraudstream.stack.jars import resolve_jars
from fraudstream.stack.jars import spark_home
from fraudstream.stack.process import ProcessFailed


@pytest.fixture
def java_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home of Java whose launcher does what ``ivy`` in it says."""
    launcher = tmp_path / "java" / "bin" / "java"
    launcher.parent.mkdir(parents=True)
    # Ivy is told where to put the jars by its last argument.
    launcher.write_text(
        f'#!/bin/sh\nfor last in "$@"; do :; done\njars=$(dirname "$last") . \'{tmp_path}/ivy\'\n'
    )
    launcher.chmod(0o755)
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "java"))
    home = tmp_path / "spark"
    (home / "jars").mkdir(parents=True)
    (home / "jars" / "ivy-2.5.3.jar").touch()
    monkeypatch.setattr(jars, "spark_home", lambda: home)
    return tmp_path


def resolve_some(cache: Path) -> Path:
    return resolve_jars(cache, "some-1", ["org.example:some:1"])


def ivy_does(java_home: Path, script: str) -> None:
    (java_home / "ivy").write_text(script)


def test_spark_home_is_the_package_that_carries_it() -> None:
    assert list((spark_home() / "jars").glob("ivy-*.jar"))


def test_a_missing_pyspark_says_what_it_is_needed_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jars, "find_spec", lambda name: None)
    with pytest.raises(ProcessFailed, match="pyspark is not installed"):
        spark_home()


def test_java_is_taken_from_java_home_first(java_home: Path) -> None:
    assert java() == str(java_home / "java" / "bin" / "java")


def test_a_missing_java_is_told_with_the_place_that_was_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    with pytest.raises(ProcessFailed, match=r"no java in JAVA_HOME \(.*install Java 17 or 21"):
        java()
    monkeypatch.delenv("JAVA_HOME")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProcessFailed, match=r"no java on PATH, and JAVA_HOME is not set"):
        java()


def test_jars_are_resolved_once_however_many_ask(java_home: Path) -> None:
    ivy_does(java_home, f'echo x >> \'{java_home}/calls\'; mkdir "$jars"; touch "$jars/k.jar"')
    cache = java_home / "cache"
    with ThreadPoolExecutor(4) as callers:
        found = set(callers.map(resolve_some, [cache] * 8))
    assert [jar.name for folder in found for jar in folder.iterdir()] == ["k.jar"]
    assert (java_home / "calls").read_text() == "x\n"
    assert sorted(entry.name for entry in cache.iterdir()) == ["some-1", "some-1.lock"]


def test_a_failed_resolution_tells_why_and_leaves_nothing_that_looks_whole(
    java_home: Path,
) -> None:
    ivy_does(java_home, 'mkdir "$jars"; touch "$jars/k.jar"; echo UNRESOLVED; exit 1')
    cache = java_home / "cache"
    with pytest.raises(ProcessFailed, match=r"(?s)resolving some-1 failed.*UNRESOLVED"):
        resolve_some(cache)
    assert [entry.name for entry in cache.iterdir()] == ["some-1.lock"]
    ivy_does(java_home, 'mkdir "$jars"; touch "$jars/k.jar"')
    assert resolve_some(cache).is_dir()


def test_a_spark_without_ivy_is_named(java_home: Path) -> None:
    (java_home / "spark" / "jars" / "ivy-2.5.3.jar").unlink()
    with pytest.raises(ProcessFailed, match=r"there is no ivy-\*.jar in .*spark/jars"):
        resolve_some(java_home / "cache")
