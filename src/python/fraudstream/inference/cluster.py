"""What has to be there before Spark starts: a Spark, a Java, a master, and a Python to send.

Nothing here imports pyspark before it has been found.
"""

from collections.abc import Mapping
import os
from pathlib import Path
import re
import shutil
import socket
import sys

_CONNECT_S = 5.0
_STANDALONE = re.compile(r"spark://([^,/\s]+:\d+(?:,[^,/\s]+:\d+)*)")


class SparkMissing(LookupError):
    """No Spark was found to run on."""


class JavaMissing(LookupError):
    """No Java was found for Spark to run on."""


class BadMaster(ValueError):
    """The address of a standalone master is not written as Spark takes it."""


class MasterUnreachable(ConnectionError):
    """No Spark master answered at the address, or none that took the application."""


def find_spark(home: str | None) -> None:
    """Make pyspark importable.

    Parameters
    ----------
    home
        Folder of the Spark to use; ``None`` for the one that is installed, or in the PEX.

    Raises
    ------
    SparkMissing
        If there is none.
    """
    if home:
        archives = sorted(Path(home).glob("python/lib/py4j-*-src.zip"))
        if not archives:
            raise SparkMissing(f"expected a Spark at {home}: it has no python/lib/py4j-*-src.zip")
        sys.path[:0] = [str(Path(home) / "python" / "lib" / "pyspark.zip"), str(archives[0])]
        os.environ["SPARK_HOME"] = home
    try:
        import pyspark  # noqa: F401
    except ImportError as error:
        raise SparkMissing(
            "Spark is not in this PEX: set SPARK_HOME or --spark-home to a Spark 4.2, "
            "or run inference-local.pex, which carries it"
        ) from error


def require_java(environment: Mapping[str, str]) -> None:
    """See that there is the Java that Spark's scripts will start.

    Parameters
    ----------
    environment
        Variables of this process.

    Raises
    ------
    JavaMissing
        If there is none.
    """
    home = environment.get("JAVA_HOME")
    path = str(Path(home) / "bin") if home else environment.get("PATH", os.defpath)
    if shutil.which("java", path=path) is None:
        where = f"in JAVA_HOME ({home})" if home else "on PATH, and JAVA_HOME is not set"
        raise JavaMissing(f"no java {where}: install Java 17 or 21")


def require_master(master: str) -> None:
    """See that something listens at the address of a standalone master; others are Spark's to find.

    Spark itself would try for a minute, and end with a stack trace.

    Parameters
    ----------
    master
        As ``spark-submit`` takes it. Of several standalone masters one has to answer.

    Raises
    ------
    MasterUnreachable
        If nothing answers.
    BadMaster
        If it begins like the address of a standalone master, and goes on differently.

    Examples
    --------
    >>> require_master("local[2]")
    >>> require_master("spark://somewhere")
    Traceback (most recent call last):
    fraudstream.inference.cluster.BadMaster: --master: expected spark://HOST:PORT, got spark://somewhere
    """
    if not master.startswith("spark:"):
        return
    found = _STANDALONE.fullmatch(master)
    if found is None:
        raise BadMaster(f"--master: expected spark://HOST:PORT, got {master}")
    if not any(_answers(address) for address in found[1].split(",")):
        raise MasterUnreachable(
            f"no Spark master answers at {master}: start it, or name another with --master"
        )


def _answers(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT_S).close()
    except (OSError, OverflowError):
        return False
    return True


def for_executors(master: str, environment: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return the Python that executors start, and the settings by which they get it.

    Parameters
    ----------
    master
        As ``spark-submit`` takes it.
    environment
        Variables of this process. ``PYSPARK_PYTHON`` names a Python that is on every machine
        already, such as the one of a PEX that was unpacked into their image; nothing is sent
        then. ``PEX`` is the PEX that this process runs from, if it does: on a cluster it is sent
        to every executor, and is their Python.

    Returns
    -------
    python
        For ``PYSPARK_PYTHON``.
    settings
        Of Spark.

    Examples
    --------
    >>> for_executors("local[2]", {"PEX": "/srv/inference.pex"})[0] == sys.executable
    True
    >>> python, settings = for_executors("spark://m:7077", {"PEX": "/srv/inference.pex"})
    >>> python, settings["spark.files"]
    ('./inference.pex', '/srv/inference.pex')
    """
    # A PEX has an entry point: with this variable it is a Python interpreter instead.
    as_python = {"spark.executorEnv.PEX_INTERPRETER": "1"}
    chosen = environment.get("PYSPARK_PYTHON")
    if chosen:
        return chosen, as_python
    pex = environment.get("PEX")
    if master.startswith("local") or pex is None:
        return sys.executable, {}
    # Spark follows a link, and names the file on executors as it is called there.
    sent = Path(pex).resolve()
    return f"./{sent.name}", {**as_python, "spark.files": str(sent)}
