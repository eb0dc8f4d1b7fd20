"""What is measured: the trainer's own way from topics to a data set, stage by stage."""

from collections.abc import Iterator
from contextlib import contextmanager
import os
from pathlib import Path
import re
import time
from typing import Any

from fraudstream.features.sets import DEFAULT
from fraudstream.kafka.reading import spans
from fraudstream.kafka.tables import read_topic
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_transactions
from fraudstream.trainer.dataset import build

_PEAK = re.compile(r"^VmHWM:\s+(\d+) kB$", re.MULTILINE)


def measure(bootstrap_servers: str) -> dict[str, Any]:
    """Read transactions and labels, build the default feature set, and tell what it took.

    Meant for a fresh process: peak memory is that of all it has done.

    Parameters
    ----------
    bootstrap_servers
        Of a broker whose topics are filled.

    Returns
    -------
    dict
        ``seconds`` and ``cpu_seconds`` by stage and as ``total``, ``peak_gb`` (10^9 bytes) after
        each stage and of all, and the data set's ``rows``, ``labels`` and ``features``.
    """
    cluster, topics = Cluster(bootstrap_servers), Topics()
    stages: dict[str, tuple[float, float, float]] = {}

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        begin, used = time.perf_counter(), _cpu_s()
        yield
        stages[name] = (time.perf_counter() - begin, _cpu_s() - used, _peak_gb())

    with stage("read transactions"):
        within = spans(cluster, topics.transactions)
        transactions = read_topic(
            cluster, topics.transactions, within, decode_transactions, lambda _: None
        )
    with stage("read labels"):
        within = spans(cluster, topics.labels)
        labels = read_topic(cluster, topics.labels, within, decode_labels, lambda _: None)
    with stage("build"):
        threads = len(os.sched_getaffinity(0))
        dataset = build(DEFAULT, transactions.columns, labels.columns, threads)
    totals = [sum(column) for column in zip(*stages.values(), strict=True)]
    return {
        "rows": len(dataset),
        "labels": len(labels.columns),
        "rejected": transactions.rejected + labels.rejected,
        "features": dataset.features.shape[1],
        "seconds": {name: round(told[0], 2) for name, told in stages.items()}
        | {"total": round(totals[0], 2)},
        "cpu_seconds": {name: round(told[1], 2) for name, told in stages.items()}
        | {"total": round(totals[1], 2)},
        "peak_gb": {name: round(told[2], 2) for name, told in stages.items()}
        | {"total": round(_peak_gb(), 2)},
    }


def _cpu_s() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def _peak_gb() -> float:
    # What getrusage tells would count the process that started this one, before it became this.
    found = _PEAK.search(Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 / 1e9 if found else float("nan")
