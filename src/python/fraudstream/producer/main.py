"""``producer.pex``: simulated or recorded card transactions to Kafka."""

import base64
from collections import Counter
from dataclasses import asdict
from datetime import UTC
from datetime import datetime
from datetime import timedelta
import itertools
from pathlib import Path
from typing import Any

import click
import orjson
from rich.console import Console
from rich.table import Table

from fraudstream.cli.console import Duration
from fraudstream.cli.console import Moment
from fraudstream.cli.console import debug_option
from fraudstream.cli.console import option
from fraudstream.cli.console import progress_bar
from fraudstream.cli.console import run
from fraudstream.cli.console import stderr
from fraudstream.cli.stopping import stop_requests
from fraudstream.kafka.acls import give
from fraudstream.kafka.acls import grants
from fraudstream.kafka.acls import principals
from fraudstream.kafka.options import kafka_options
from fraudstream.kafka.reading import read
from fraudstream.kafka.reading import spans
from fraudstream.kafka.topics import Cluster
from fraudstream.kafka.topics import Topics
from fraudstream.producer.agenda import ConstantRate
from fraudstream.producer.agenda import FullSpeed
from fraudstream.producer.agenda import NeverAhead
from fraudstream.producer.agenda import Pace
from fraudstream.producer.agenda import Scaled
from fraudstream.producer.agenda import first_events
from fraudstream.producer.dead_letters import DeadLetter
from fraudstream.producer.dead_letters import judge
from fraudstream.producer.delivery import DELIVERY_TIMEOUT
from fraudstream.producer.delivery import Delivery
from fraudstream.producer.job import Job
from fraudstream.producer.job import count_events
from fraudstream.producer.job import days_passed
from fraudstream.producer.job import require_no_loss
from fraudstream.producer.job import run_job
from fraudstream.producer.recording import Recording
from fraudstream.producer.resuming import HistoryFirst
from fraudstream.producer.resuming import Position
from fraudstream.producer.resuming import after
from fraudstream.producer.traffic import Dirt
from fraudstream.producer.traffic import Traffic
from fraudstream.schema.timestamps import duration_us
from fraudstream.schema.timestamps import to_us
from fraudstream.simulator.stream import Simulation
from fraudstream.simulator.world import WorldSpec

_DAY = timedelta(days=1)
_DAY_US = duration_us(_DAY)
_DEFAULT_DAYS = 30
_DEFAULT_RATE = 200.0
_OF_LIVE = ("after_days", "rate", "resume", "seconds", "events")
_USED_TOPICS = ("transactions", "labels", "dead_letters")


class FutureTime(ValueError):
    """Transactions would be dated in the future."""


class _Pair(click.ParamType):
    name = "name=value"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, str]:
        """Read two texts on both sides of ``=``; the option's metavar says what they are."""
        if isinstance(value, tuple):
            return value
        name, equals, content = value.partition("=")
        if not (name and equals and content):
            self.fail(f"expected {param.metavar}, got {value!r}", param, ctx)
        return name, content


class _Speed(click.ParamType):
    name = "speed"

    def convert(self, value: Any, param: Any, ctx: Any) -> Pace:
        """Read ``full``, ``real``, or a factor such as ``60x``."""
        if value == "full":
            return FullSpeed()
        if value == "real":
            return Scaled(1)
        try:
            factor = float(value.removesuffix("x"))
        except ValueError:
            factor = 0
        if not 0 < factor < float("inf"):
            self.fail(f"expected full, real, or a factor such as 60x, got {value!r}", param, ctx)
        return Scaled(factor)


_SHARE = click.FloatRange(0, 1)
_timeout_option = option(
    "--delivery-timeout",
    type=click.FloatRange(1, 3600),
    default=DELIVERY_TIMEOUT.total_seconds(),
    metavar="SECONDS",
    help="Give up when a record is not acknowledged for so long.",
)
_json_option = option("--json", "as_json", is_flag=True, help="Print the report as JSON on stdout.")


@click.group()
def producer() -> None:
    """Send card transactions and their labels to Kafka.

    Begin with `topics`. Then `simulate` a history, and go on with `simulate --live`; or `replay` a
    file of your own. Everything is checked against the published schemas first: what breaks one
    goes to the topic of dead letters, with the reason.
    """


@producer.command()
@kafka_options()
@option("--partitions", type=click.IntRange(1), default=4, help="Partitions of each topic.")
@option("--replication", type=click.IntRange(1), default=1, help="Copies of each record.")
@option(
    "--acls",
    is_flag=True,
    help="Also give each role what its program needs, on a broker that refuses all else.",
)
@option(
    "--principal",
    "chosen",
    type=_Pair(),
    multiple=True,
    metavar="ROLE=PRINCIPAL",
    help="With --acls: who a role is.  [default: User: and the role's name]  Repeatable.",
)
@option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@_json_option
@debug_option
def topics(
    *,
    cluster: Cluster,
    topics: Topics,
    partitions: int,
    replication: int,
    acls: bool,
    chosen: tuple[tuple[str, str], ...],
    dry_run: bool,
    as_json: bool,
    debug: bool,
) -> None:
    """Create the topics that do not exist yet, and leave the others as they are.

    With --acls, also grant the roles producer, trainer and inference the rights that they do not
    have yet. Needs the properties of a super user of the broker:

    \b
      producer.pex topics --acls --kafka-config admin.properties --principal trainer=User:alice

    Nothing is ever taken away: neither a topic nor a right.
    """
    if chosen and not acls:
        raise click.UsageError("--principal is for --acls")
    who = principals(chosen)
    created = cluster.create_topics(topics, partitions, replication, dry_run=dry_run)
    wanted = grants(topics) if acls else []
    granted = give(cluster, wanted, who, dry_run=dry_run) if acls else []
    if as_json:
        rights = [
            {**grant.document(), "principal": who[grant.role], "is_new": grant in granted}
            for grant in wanted
        ]
        report = {"created": created, "topics": topics.names(), "acls": rights, "dry_run": dry_run}
        click.echo(orjson.dumps(report))
        return
    would = "would be " if dry_run else ""
    for name in topics.names():
        click.echo(f"{name}: {f'{would}created' if name in created else 'exists'}", err=True)
    for grant in wanted:
        state = f"{would}granted" if grant in granted else "is so"
        click.echo(f"{grant} ({who[grant.role]}): {state}", err=True)


@producer.command()
@kafka_options(*_USED_TOPICS)
@option("--cards", default=WorldSpec.cards, help="How many cards there are.")
@option("--seed", default=WorldSpec.seed, help="The same seed gives the same traffic.")
@option("--days", type=click.IntRange(1), default=_DEFAULT_DAYS, help="Days of history.")
@option("--start", type=Moment(), help="When the history begins.  [default: --days before its end]")
@option("--end", type=Moment(), help="When the history ends.  [default: last midnight, UTC]")
@option(
    "--account-takeover-rate",
    default=WorldSpec.account_takeover_rate,
    help="Share of transactions made from stolen accounts.",
)
@option(
    "--card-testing-rate",
    default=WorldSpec.card_testing_rate,
    help="Share made in trying out stolen cards.",
)
@option(
    "--merchant-collusion-rate",
    default=WorldSpec.merchant_collusion_rate,
    help="Share made up by crooked merchants.",
)
@option(
    "--geo-anomaly-rate", default=WorldSpec.geo_anomaly_rate, help="Share made with cloned cards."
)
@option("--duplicates", type=_SHARE, default=0.0, help="Share sent twice.")
@option("--late", type=_SHARE, default=0.0, help="Share held back for minutes to hours.")
@option(
    "--malformed",
    type=_SHARE,
    default=0.0,
    help="Share followed by a garbled copy, which ends as a dead letter.",
)
@option("--live", is_flag=True, help="Go on after a history, at a constant rate.")
@option(
    "--after-days",
    type=click.IntRange(0),
    default=0,
    help="With --live: days of history that have been sent, from --start on.",
)
@option(
    "--rate",
    type=click.FloatRange(0, min_open=True),
    default=_DEFAULT_RATE,
    help="With --live: transactions per second.",
)
@option(
    "--resume",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="With --live: note here how far it has come, and go on from there. What the file does not "
    "know to be sent of the history of --after-days is sent first.",
)
@option("--seconds", type=click.FloatRange(0, min_open=True), help="With --live: end after this.")
@option("--events", type=click.IntRange(1), help="With --live: end after so many transactions.")
@option(
    "--truth",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    metavar="FILE",
    help="Write what each transaction was, one JSON document a line.",
)
@_timeout_option
@_json_option
@debug_option
@click.pass_context
def simulate(
    context: click.Context,
    *,
    cluster: Cluster,
    topics: Topics,
    cards: int,
    seed: int,
    days: int,
    start: datetime | None,
    end: datetime | None,
    account_takeover_rate: float,
    card_testing_rate: float,
    merchant_collusion_rate: float,
    geo_anomaly_rate: float,
    duplicates: float,
    late: float,
    malformed: float,
    live: bool,
    after_days: int,
    rate: float,
    resume: Path | None,
    seconds: float | None,
    events: int | None,
    truth: Path | None,
    delivery_timeout: float,
    as_json: bool,
    debug: bool,
) -> None:
    """Send simulated transactions: a history as fast as possible, or live traffic.

    A history of 45 days, then live traffic that goes on where it has ended:

    \b
      producer.pex simulate --start 2026-01-01T00:00:00Z --days 45
      producer.pex simulate --start 2026-01-01T00:00:00Z --live --after-days 45

    Both as one run, which can be stopped and started again:

    \b
      producer.pex simulate --start 2026-01-01T00:00:00Z --live --after-days 45 --resume position

    Simulated time runs with the transactions, so at most rates faster than the clock. Should it
    reach the present, it goes on at the clock's pace: no transaction is dated in the future. A
    label is sent when it becomes known in simulated time, up to seven days after its transaction;
    those that a history leaves open are sent by the live traffic after it.
    """
    _refuse_mixture(context, live)
    now = datetime.now(UTC)
    if start is None:
        end = end or now.replace(hour=0, minute=0, second=0, microsecond=0)
        start = end - days * _DAY
    ends = start + (after_days if live else days) * _DAY
    if ends > now:
        what = "the live traffic would begin" if live else "the history would end"
        raise FutureTime(f"{what} at {ends.isoformat()}, in the future: choose an earlier --start")
    spec = WorldSpec(
        cards=cards,
        seed=seed,
        account_takeover_rate=account_takeover_rate,
        card_testing_rate=card_testing_rate,
        merchant_collusion_rate=merchant_collusion_rate,
        geo_anomaly_rate=geo_anomaly_rate,
    )
    traffic = Traffic(
        Simulation(spec, start), Dirt(repeated=duplicates, late=late, garbled=malformed)
    )
    if live:
        agendas = traffic.days(after_days)
        pace = NeverAhead(ConstantRate(rate), to_us(now))
        position = None
        if resume is not None:
            position = Position(resume)
            agendas = traffic.days(_day_of(position.reached_us, to_us(start)))
            agendas = after(agendas, position.reached_us)
        until_us = run_job(
            Job(
                "live traffic",
                agendas if events is None else first_events(agendas, events),
                pace if resume is None else HistoryFirst(pace, to_us(ends)),
                total=events or (None if seconds is None else round(seconds * rate)),
                progress=count_events,
                limit_s=seconds,
                position=position,
            ),
            cluster,
            topics,
            timedelta(seconds=delivery_timeout),
            truth,
            as_json=as_json,
        )
        if until_us is not None and pace.has_slowed(until_us):
            click.echo(
                "simulated time reached the present, and went on at the clock's pace: "
                "for the full rate, begin earlier",
                err=True,
            )
    else:
        click.echo(f"simulating {days} days from {start.isoformat()}", err=True)
        run_job(
            Job(
                "history",
                itertools.islice(traffic.days(), days),
                FullSpeed(),
                total=days,
                progress=days_passed(to_us(start)),
            ),
            cluster,
            topics,
            timedelta(seconds=delivery_timeout),
            truth,
            as_json=as_json,
        )


def _refuse_mixture(context: click.Context, live: bool) -> None:
    """Refuse flags that the chosen kind of simulation would ignore."""

    def given(name: str) -> bool:
        source = context.get_parameter_source(name)
        return source is click.core.ParameterSource.COMMANDLINE

    for name in ("days", "end") if live else _OF_LIVE:
        if given(name):
            raise click.UsageError(
                f"--{name.replace('_', '-')} is for "
                f"{'a history, not for --live' if live else '--live'}"
            )
    if live and context.params["start"] is None:
        raise click.UsageError("--live needs --start, the time at which the history began")
    if given("start") and given("end"):
        raise click.UsageError("give --start or --end, not both: --days says how long it is")


@producer.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@kafka_options(*_USED_TOPICS)
@option(
    "--map",
    "columns",
    type=_Pair(),
    multiple=True,
    metavar="FIELD=COLUMN",
    help="The column that holds a field, where it has another name. Repeatable.",
)
@option(
    "--set",
    "constants",
    type=_Pair(),
    multiple=True,
    metavar="FIELD=VALUE",
    help="The value of a field that no column holds, such as currency=EUR. Repeatable.",
)
@option("--label", metavar="COLUMN", help="The column that says which were frauds: 1 or true.")
@option(
    "--label-delay",
    type=Duration(),
    default="7d",
    help="How long after its transaction a label is known.",
)
@option(
    "--speed",
    type=_Speed(),
    default="full",
    metavar="full|real|60x",
    help="As fast as possible, as it happened, or that many times as fast.",
)
@_timeout_option
@_json_option
@debug_option
def replay(
    *,
    file: Path,
    cluster: Cluster,
    topics: Topics,
    columns: tuple[tuple[str, str], ...],
    constants: tuple[tuple[str, str], ...],
    label: str | None,
    label_delay: timedelta,
    speed: Pace,
    delivery_timeout: float,
    as_json: bool,
    debug: bool,
) -> None:
    """Send the transactions of FILE (.csv or .parquet), in the order of their event times.

    A field of the schema is taken from the column of its own name, or from the one that --map
    names. Required are transaction_id, event_time, card_id, merchant_id and amount.

    \b
      producer.pex replay payments.csv --map card_id=customer --map event_time=paid_at \\
        --set currency=EUR --label is_fraud --speed 60x

    Labels are sent between the transactions, when they would have become known. Those that would
    have become known after the last transaction are not sent.
    """
    with stderr.status(f"reading {file.name}"):
        recording = Recording(file, dict(columns), dict(constants), label, label_delay)
    if not recording.in_order:
        click.echo(f"{file} is not in the order of event time: it has been sorted", err=True)
    agenda = recording.agenda()
    run_job(
        Job(f"replaying {file.name}", [agenda], speed, len(recording), count_events),
        cluster,
        topics,
        timedelta(seconds=delivery_timeout),
        as_json=as_json,
    )


@producer.command("dead-letters")
@kafka_options(*_USED_TOPICS)
@click.option(
    "--reason", "holding", default="", metavar="TEXT", help="Only those whose reason holds TEXT."
)
@click.option(
    "--resend", is_flag=True, help="Send the records that would be taken by now to their topics."
)
@_timeout_option
@_json_option
@debug_option
def dead_letters(
    *,
    cluster: Cluster,
    topics: Topics,
    holding: str,
    resend: bool,
    delivery_timeout: float,
    as_json: bool,
    debug: bool,
) -> None:
    """Show the records that were refused, and whether they would be taken by now.

    A record may have become valid: by a newer schema, or because it was dated ahead of its time.
    --resend sends such records to the topic that they were meant for. Doing so again is harmless:
    a repeated transaction gets no second score. Their dead letters stay where they are.

    \b
      producer.pex dead-letters --reason event_time --resend

    With --json, each is a line with the whole record, as base64; those sent are told so.

    What was refused can hold what should never have been sent, so that on a secured broker none of
    the programs' roles may read it: give the properties of an administrator.
    """
    letters = [each for each in _letters(cluster, topics) if holding in each.reason]
    sendable = [letter for letter in letters if letter.still_wrong is None] if resend else []
    sent = sendable[: _resend(sendable, cluster, topics, timedelta(seconds=delivery_timeout))]
    if as_json:
        for letter in letters:
            original = base64.b64encode(letter.original).decode()
            document = {**asdict(letter), "original": original, "is_sent": letter in sent}
            click.echo(orjson.dumps(document))
    else:
        _show_letters(letters)
    if resend:
        click.echo(f"{len(sent):,} of {len(letters):,} records sent", err=True)


def _resend(letters: list[DeadLetter], cluster: Cluster, topics: Topics, timeout: timedelta) -> int:
    if not letters:
        return 0
    with stop_requests() as stop, progress_bar("sending", len(letters)) as advance:
        delivery = Delivery(cluster, topics, lambda: datetime.now(UTC), stop, timeout)
        documents = [letter.document() for letter in letters]
        taken = delivery.deliver(documents, [each.topic == topics.labels for each in letters])
        account = delivery.close()
        advance(taken)
    require_no_loss(account)
    return taken


def _letters(cluster: Cluster, topics: Topics) -> list[DeadLetter]:
    within = spans(cluster, topics.dead_letters)
    found: list[DeadLetter] = []
    total = sum(span.high - span.low for span in within)
    with progress_bar(f"reading {topics.dead_letters}", total) as advance:
        for records in read(cluster, topics.dead_letters, within):
            found += judge(records.values, topics, datetime.now(UTC))
            advance(len(records))
    # As they came: what is sent again keeps the order that it had. What was never in a topic has
    # no place in it, and comes first.
    return sorted(found, key=lambda letter: (letter.topic, letter.place))


def _show_letters(letters: list[DeadLetter]) -> None:
    counts = Counter(
        (letter.stage, letter.topic, letter.reason, letter.still_wrong or "would be taken")
        for letter in letters
    )
    table = Table("records", "refused by", "meant for", "because", "now", title="dead letters")
    for (stage, topic, why, today), count in counts.most_common():
        table.add_row(f"{count:,}", stage, topic, why, "the same" if today == why else today)
    Console().print(table)


def _day_of(reached_us: int | None, start_us: int) -> int:
    return 0 if reached_us is None else max(0, (reached_us - start_us) // _DAY_US)


if __name__ == "__main__":
    run(producer)
