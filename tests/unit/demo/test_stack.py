"""Java, Spark and Kafka's jars are found, or said to be missing."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fraudstream.demo import stack
from fraudstream.demo.process import ProcessFailed
from fraudstream.demo.stack import java
from fraudstream.demo.stack import resolve_kafka
from fraudstream.demo.stack import spark_home


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
    monkeypatch.setattr(stack, "spark_home", lambda: home)
    return tmp_path


def ivy_does(java_home: Path, script: str) -> None:
    (java_home / "ivy").write_text(script)


def test_spark_home_is_the_package_that_carries_it() -> None:
    assert list((spark_home() / "jars").glob("ivy-*.jar"))


def test_a_missing_pyspark_says_what_it_is_needed_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack, "find_spec", lambda name: None)
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
        found = set(callers.map(resolve_kafka, [cache] * 8))
    assert [jar.name for jars in found for jar in jars.iterdir()] == ["k.jar"]
    assert (java_home / "calls").read_text() == "x\n"
    assert sorted(entry.name for entry in cache.iterdir()) == ["kafka-4.3.1", "kafka-4.3.1.lock"]


def test_a_failed_resolution_tells_why_and_leaves_nothing_that_looks_whole(
    java_home: Path,
) -> None:
    ivy_does(java_home, 'mkdir "$jars"; touch "$jars/k.jar"; echo UNRESOLVED; exit 1')
    cache = java_home / "cache"
    with pytest.raises(ProcessFailed, match=r"(?s)resolving Kafka's jars failed.*UNRESOLVED"):
        resolve_kafka(cache)
    assert [entry.name for entry in cache.iterdir()] == ["kafka-4.3.1.lock"]
    ivy_does(java_home, 'mkdir "$jars"; touch "$jars/k.jar"')
    assert resolve_kafka(cache).is_dir()


def test_a_spark_without_ivy_is_named(java_home: Path) -> None:
    (java_home / "spark" / "jars" / "ivy-2.5.3.jar").unlink()
    with pytest.raises(ProcessFailed, match=r"there is no ivy-\*.jar in .*spark/jars"):
        resolve_kafka(java_home / "cache")
