"""Spark's daemon of Python workers, with named points at which a worker can be caught.

Spark is told of it by its setting ``spark.python.daemon.module``.
"""

import socket

from faults.points import install_in_worker
from pyspark import daemon

_worker = daemon.worker


def worker(sock: socket.socket, authenticated: bool) -> int:
    """Begin as a worker; the fork is behind us, and nothing of the task is loaded yet."""
    install_in_worker()
    return _worker(sock, authenticated)


if __name__ == "__main__":
    daemon.worker = worker
    daemon.manager()
