"""The executors of a cluster are asked what they are, before the stream trusts them with work.

The question is put by the executors' JVMs to the Python that they are to start. It is no task of
Python: such a task would fail where the answer is "no", and Spark would try it again on a machine
where it is "yes".
"""

from collections.abc import Iterable
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import wait
from dataclasses import dataclass
import inspect
import json
from pathlib import Path
import threading
import time

from py4j.protocol import Py4JError  # pants: no-infer-dep (it comes with Spark)
from pyspark.sql import SparkSession
from pyspark.sql import functions as sf
import structlog

from fraudstream.inference.embedded import StateElsewhere

_POLL_S = 0.1
_MOST_TOLD = 3
#: Spark's own word for "17", which is not the "17.0.15" of ``java.version``.
_JAVA_VERSION = "java.specification.version"

# Reads what the JVM says of itself, and asks the Python. Whatever comes of it is one line, and
# success: so every executor answers, and no task is repeated elsewhere.
_ASK = """\
read -r java
said=$("$1" -c "$2" "$3" 2>&1)
code=$?
printf '%s\\t' "$(uname -n)" "$PPID" "$java" "$code"
printf '%s' "$said" | tail -c 1000 | tr '\\n\\t' '  '
echo
"""

log = structlog.get_logger()


class ExecutorsMissing(LookupError):
    """The cluster gave no executor in time, or took those away that it had given."""


class UnfitExecutors(ValueError):
    """An executor runs another Python or Java than the driver, or none that can do the work."""


@dataclass(frozen=True)
class Answer:
    """What an executor says of itself.

    Attributes
    ----------
    host
        The name of its machine, as the machine itself knows it.
    jvm
        The number of its process there.
    java
        The version of Java that it runs on, such as ``17``.
    code
        The exit code of its Python.
    said
        What that printed: `facts` as JSON where `code` is 0, else what is wrong.
    """

    host: str
    jvm: int
    java: str
    code: int
    said: str

    @classmethod
    def parse(cls, line: str) -> "Answer":
        r"""Return what a line of the question's output says.

        Examples
        --------
        >>> Answer.parse("w1\t99\t[17]\t127\tno such file ")
        Answer(host='w1', jvm=99, java='17', code=127, said='no such file')
        """
        host, jvm, java, code, said = line.split("\t", 4)
        return cls(host, int(jvm), java.strip("[]"), int(code), said.strip())

    def facts(self) -> dict[str, object]:
        """Return the `facts` of its Python; where that could run, warnings may precede them."""
        told: dict[str, object] = json.loads(self.said[self.said.rindex("{") :])
        return told


@dataclass(frozen=True)
class Driver:
    """What executors are compared with.

    Attributes
    ----------
    python, java
        Versions, such as ``3.11`` and ``17``.
    host, boot
        The name of its machine, and what tells one machine's run from any other's.
    """

    python: str
    java: str
    host: str
    boot: str


def facts(folder: str) -> dict[str, object]:
    """Return what the Python that runs this is, and whether it can write to a folder.

    It is sent as text to whatever Python an executor starts, and so is whole in itself, and
    written in what every version understands.
    """
    import importlib.util
    import os
    import socket
    import sys

    with open("/proc/sys/kernel/random/boot_id") as file:
        boot = file.read().strip()
    return {
        "python": f"{sys.version_info[0]}.{sys.version_info[1]}",
        "has_fraudstream": importlib.util.find_spec("fraudstream") is not None,
        "host": socket.gethostname(),
        "boot": boot,
        "can_write": os.access(folder, os.W_OK),
    }


def require_executors(
    spark: SparkSession, folder: Path | None, within_s: float, stop: threading.Event
) -> None:
    """Wait until the cluster has given executors, and see that each can do the stream's work.

    Executors that come later are not asked: of these, each task sees for itself that it is where
    the state is.

    Parameters
    ----------
    spark
        A session on a cluster.
    folder
        The checkpoint, where embedded state lies in it: executors have to be on this machine then.
        ``None`` where state is shared.
    within_s
        How long to wait, in seconds; a PEX is sent and unpacked in this time.
    stop
        Ends the wait when it is set, without an error.

    Raises
    ------
    ExecutorsMissing
        If none came, or not all answered.
    UnfitExecutors
        If one has another Python or Java, or a Python without fraudstream.
    StateElsewhere
        If one is on another machine, or may not write to `folder`.
    """
    context = spark.sparkContext
    master = str(context.master)
    own = facts(str(folder or Path()))
    java = context._jvm.java.lang.System.getProperty(_JAVA_VERSION)  # type: ignore[union-attr]
    driver = Driver(str(own["python"]), java, str(own["host"]), str(own["boot"]))
    until = time.monotonic() + within_s
    answers: dict[tuple[str, int], Answer] = {}
    while True:
        count = _registered(spark)
        if count and len(answers) >= count:
            log.info("executors", count=len(answers), python=driver.python, java=driver.java)
            return
        lines = _ask(spark, max(count, 1), folder or Path(), until, stop)
        if stop.is_set():
            return
        if lines is None:
            raise _missing(master, len(answers), _registered(spark), within_s)
        came = [Answer.parse(line) for line in lines]
        refuse_unfit(driver, came, context.pythonExec)
        if folder is not None:
            refuse_elsewhere(driver, came, folder)
        answers |= {(each.host, each.jvm): each for each in came}


def refuse_unfit(driver: Driver, answers: Iterable[Answer], python: str) -> None:
    """Refuse executors whose Python or Java is not the driver's.

    Parameters
    ----------
    driver, answers
        What is expected, and what came.
    python
        The Python that executors start, as it was named to them.

    Raises
    ------
    UnfitExecutors
        If there is one.
    """
    problems = []
    for each in answers:
        if each.java != driver.java:
            problems.append(f"{each.host} has Java {each.java}")
        if each.code != 0:
            problems.append(f"{each.host} cannot run {python} (exit code {each.code}): {each.said}")
        elif (version := each.facts()["python"]) != driver.python:
            problems.append(f"{each.host} has Python {version}")
        elif not each.facts()["has_fraudstream"]:
            problems.append(
                f"on {each.host}, {python} has no fraudstream in it (without PYSPARK_PYTHON, the "
                "PEX that runs here is sent)"
            )
    if problems:
        raise UnfitExecutors(
            f"expected Python {driver.python} and Java {driver.java} on every machine, as the "
            f"driver has them: {_some(problems)}"
        )


def refuse_elsewhere(driver: Driver, answers: Iterable[Answer], folder: Path) -> None:
    """Refuse executors that do not reach embedded state: it is on the driver's machine.

    Raises
    ------
    StateElsewhere
        If there is one.
    """
    elsewhere, locked_out = set(), set()
    for each in answers:
        found = each.facts()
        if (found["host"], found["boot"]) != (driver.host, driver.boot):
            elsewhere.add(str(found["host"]))
        elif not found["can_write"]:
            locked_out.add(str(found["host"]))
    if elsewhere:
        raise StateElsewhere(
            f"state is embedded, on {driver.host}, where the driver runs, and there are executors "
            f"on {_some(sorted(elsewhere))}: use workers on {driver.host} only, or a shared --state"
        )
    if locked_out:
        raise StateElsewhere(
            f"executors on {_some(sorted(locked_out))} may not write to {folder}: give a "
            "--checkpoint that the workers' user can write to, too"
        )


def _some(things: Sequence[str]) -> str:
    more = len(things) - _MOST_TOLD
    return "; ".join(things[:_MOST_TOLD]) + (f"; and {more} more" if more > 0 else "")


def _registered(spark: SparkSession) -> int:
    """Return how many executors the cluster has given; the driver is listed among them."""
    tracker = spark.sparkContext._jsc.sc().statusTracker()
    return len(tracker.getExecutorInfos()) - 1


def _ask(
    spark: SparkSession, count: int, folder: Path, until: float, stop: threading.Event
) -> list[str] | None:
    """Return the answers of `count` executors, or ``None`` if they did not come in time.

    Spark deals tasks out one to an executor before it begins again, so that idle executors get
    one each. A job also makes a cluster that scales with the work give its first executor.
    """
    program = f"from __future__ import annotations\nimport json\n{inspect.getsource(facts)}"
    program += "import sys\nprint(json.dumps(facts(sys.argv[1])))\n"
    java = sf.reflect(sf.lit("java.lang.System"), sf.lit("getProperty"), sf.lit(_JAVA_VERSION))
    asking = ["sh", "-c", _ASK, "sh", spark.sparkContext.pythonExec, program, str(folder)]
    piped = spark.range(0, count, 1, count).select(java)._jdf.toJavaRDD().pipe(asking)
    with ThreadPoolExecutor(1) as pool:
        answering = pool.submit(lambda: list(piped.collect()))
        while not answering.done() and time.monotonic() < until and not stop.is_set():
            wait([answering], _POLL_S)
        in_time = answering.done()
        while not answering.done():
            # Again and again, because the job may not have begun when it is told to end.
            spark.sparkContext.cancelAllJobs()
            wait([answering], _POLL_S)
    try:
        return answering.result() if in_time else None
    except Py4JError as error:
        raise ExecutorsMissing(
            f"{spark.sparkContext.master} ended the application while it waited for executors: "
            "the logs of the master tell why"
        ) from error


def _missing(master: str, answered: int, registered: int, within_s: float) -> ExecutorsMissing:
    if registered:
        return ExecutorsMissing(
            f"of {registered} executors {answered} answered within {within_s:.0f} s: look into "
            "their logs, or give --executor-timeout more seconds"
        )
    return ExecutorsMissing(
        f"{master} gave no executor within {within_s:.0f} s: it has no worker with a core and the "
        "memory of an executor to spare (spark.executor.memory, 1g unless set), or executors end "
        "as they start, and the workers' logs tell why; start workers, end other applications, or "
        "give --executor-timeout more seconds"
    )
