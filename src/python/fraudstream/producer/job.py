"""A run of the producer: an agenda sent to its end or until told to stop, and reported."""

from collections.abc import Callable
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict
from dataclasses import dataclass
from datetime import UTC
from datetime import datetime
from datetime import timedelta
from pathlib import Path
import time
from typing import Any

import click
import orjson

from fraudstream.cli.console import progress_bar
from fraudstream.cli.stopping import stop_requests
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.producer.agenda import Agenda
from fraudstream.producer.agenda import Kind
from fraudstream.producer.agenda import Pace
from fraudstream.producer.delivery import Account
from fraudstream.producer.delivery import Delivery
from fraudstream.producer.resuming import Position
from fraudstream.producer.sending import send
from fraudstream.producer.traffic import Days
from fraudstream.schema.timestamps import duration_us
from fraudstream.schema.timestamps import from_us

_DAY_US = duration_us(timedelta(days=1))


class NotAcknowledged(ConnectionError):
    """Some records were sent and never confirmed."""


@dataclass(frozen=True)
class Job:
    """What to send, how fast, and how to show how far it is.

    Attributes
    ----------
    name, total, progress
        Of the progress bar: its title, its end, and how far a part that was sent brings it.
    agendas, pace, limit_s
        See `fraudstream.producer.sending.send`.
    position
        Notes how far the job has come.
    """

    name: str
    agendas: Iterable[Agenda]
    pace: Pace
    total: float | None
    progress: Callable[[Agenda], float]
    limit_s: float | None = None
    position: Position | None = None


def count_events(sent: Agenda) -> float:
    """Measure progress in transactions."""
    return float(sent.is_event.sum())


def days_passed(start_us: int) -> Callable[[Agenda], float]:
    """Measure progress in days of event time since `start_us`."""
    reached = 0.0

    def passed(sent: Agenda) -> float:
        nonlocal reached
        days = (int(sent.due_us[-1]) - start_us) / _DAY_US
        # In sixteenths, which add up exactly: the last transaction of a day counts as its end.
        before, reached = reached, round(days * 16) / 16
        return reached - before

    return passed


def run_job(
    job: Job,
    cluster: Cluster,
    topics: Topics,
    timeout: timedelta,
    truth: Path | None = None,
    *,
    as_json: bool,
) -> int | None:
    """Send a job to its end or until told to stop, and report; a loss is no success.

    Parameters
    ----------
    job
        What to send.
    cluster, topics, timeout
        See `Delivery`.
    truth
        A file that takes what each transaction was; only simulated ones know it.
    as_json
        Whether the report goes to stdout as JSON, or to stderr for people.

    Returns
    -------
    int or None
        When the last entry that was sent was due, in event time, microseconds since the epoch.

    Raises
    ------
    NotAcknowledged
        If a record was sent and not confirmed.
    """
    began = time.monotonic()
    events = labels = 0
    last_us: int | None = None
    with ExitStack() as stack:
        stop = stack.enter_context(stop_requests())
        delivery = Delivery(cluster, topics, lambda: datetime.now(UTC), stop, timeout)
        lines = None if truth is None else stack.enter_context(truth.open("wb"))

        def sent(part: Agenda) -> None:
            nonlocal events, labels, last_us
            if not len(part):
                return
            events += int(part.is_event.sum())
            labels += int(part.is_label.sum())
            last_us = int(part.due_us[-1])
            advance(job.progress(part))
            if job.position is not None:
                job.position.note(last_us)
            if lines is not None and isinstance(part.source, Days):
                rows = part.row[part.kind == Kind.TRANSACTION]
                lines.writelines(orjson.dumps(row) + b"\n" for row in part.source.truth(rows))
                lines.flush()

        with progress_bar(job.name, job.total) as advance:
            send(job.agendas, job.pace, delivery, stop, sent=sent, limit_s=job.limit_s)
            account = delivery.close()
        if job.position is not None and not account.failed:
            job.position.keep()
    report = {
        **asdict(account),
        "events": events,
        "labels": labels,
        "until": None if last_us is None else from_us(last_us).isoformat(),
        "seconds": round(time.monotonic() - began, 3),
    }
    if as_json:
        click.echo(orjson.dumps(report))
    else:
        _show(report)
    require_no_loss(account)
    return last_us


def require_no_loss(account: Account) -> None:
    """Raise `NotAcknowledged` if a record was sent and not confirmed."""
    if account.failed:
        raise NotAcknowledged(
            f"{sum(account.failed.values()):,} records were not acknowledged: {account.failure}"
        )


def _show(report: dict[str, Any]) -> None:
    for topic, count in sorted(report["acknowledged"].items()):
        click.echo(f"{topic}: {count:,} acknowledged", err=True)
    for topic, count in sorted(report["refused"].items()):
        click.echo(f"{topic}: {count:,} refused, kept as dead letters", err=True)
    if report["refusal"]:
        click.echo(f"the first refusal: {report['refusal']}", err=True)
    for topic, count in sorted(report["failed"].items()):
        click.echo(f"{topic}: {count:,} NOT acknowledged", err=True)
    rate = report["events"] / max(report["seconds"], 1e-9)
    click.echo(
        f"{report['events']:,} transactions in {report['seconds']:.1f} s ({rate:,.0f}/s), "
        f"until {report['until'] or 'none was due'}",
        err=True,
    )
