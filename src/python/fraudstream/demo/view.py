"""What the demo shows of the live traffic."""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
import time
from types import TracebackType
from typing import Any
from typing import Self

from rich.console import Console
from rich.console import Group
from rich.console import RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from fraudstream.demo.report import Ledger
from fraudstream.demo.report import percentiles_ms

_ALERTS_SHOWN = 6
_RATE_OVER_S = 5.0
_LINE_EVERY_S = 5.0
# Latency is shown as of the latest scores, so that it tells how things are and not how they were.
_LATENCY_OVER = 2_000


@dataclass(frozen=True)
class Alert:
    """One alert, with the truth about it: ``None`` while it is not known."""

    document: Mapping[str, Any]
    is_fraud: bool | None


@dataclass(frozen=True)
class Snapshot:
    """The live traffic at one moment.

    Attributes
    ----------
    elapsed_s
        Seconds of live traffic so far.
    produced, scored, lag
        Transactions produced; scored; with neither a score nor a dead letter yet.
    produced_per_s, scored_per_s
        Over the last five seconds.
    p50_ms, p99_ms
        From a transaction's append to its score's, of the latest scores; ``None`` before the
        first.
    alerts
        The latest alerts, newest first.
    alert_count, fraud_count
        Alerts so far, and how many of them are known to be frauds.
    """

    elapsed_s: float
    produced: int
    scored: int
    lag: int
    produced_per_s: float
    scored_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    alerts: tuple[Alert, ...]
    alert_count: int
    fraud_count: int


class LiveView:
    """Shows the live traffic: in place on a terminal, elsewhere a line every few seconds.

    Parameters
    ----------
    console
        Where.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False) if console.is_terminal else None
        self._started = time.monotonic()
        self._next_line = self._started + _LINE_EVERY_S
        self._seen: deque[tuple[float, int, int]] = deque([(self._started, 0, 0)])

    def show(self, ledger: Ledger, is_fraud: Mapping[str, bool]) -> Snapshot:
        """Show how things are now.

        Parameters
        ----------
        ledger
            Of the live traffic.
        is_fraud
            The truth, as far as it is known.

        Returns
        -------
        Snapshot
            What was shown.
        """
        now = time.monotonic()
        snapshot = self._snapshot(ledger, is_fraud, now)
        if self._live is not None:
            self._live.update(render(snapshot), refresh=True)
        elif now >= self._next_line:
            self._next_line = now + _LINE_EVERY_S
            for text in (line(snapshot), *newest(snapshot)):
                self._console.print(text, highlight=False, markup=False, soft_wrap=True)
        return snapshot

    def _snapshot(self, ledger: Ledger, is_fraud: Mapping[str, bool], now: float) -> Snapshot:
        produced = len(ledger.transactions)
        scored = len(ledger.scores)
        while len(self._seen) > 1 and self._seen[0][0] < now - _RATE_OVER_S:
            self._seen.popleft()
        then, produced_then, scored_then = self._seen[0]
        self._seen.append((now, produced, scored))
        span_s = max(now - then, 1e-9)
        latency = percentiles_ms(
            ledger.latencies_ms(islice(reversed(ledger.scores), _LATENCY_OVER))
        )
        # An alert on history may be read after the live traffic began.
        alerts = [
            Alert(document, is_fraud.get(key))
            for key, document in ledger.alerts.items()
            if key in ledger.transactions
        ]
        return Snapshot(
            elapsed_s=now - self._started,
            produced=produced,
            scored=scored,
            lag=ledger.lag,
            produced_per_s=(produced - produced_then) / span_s,
            scored_per_s=(scored - scored_then) / span_s,
            p50_ms=latency["p50"],
            p99_ms=latency["p99"],
            alerts=tuple(reversed(alerts[-_ALERTS_SHOWN:])),
            alert_count=len(alerts),
            fraud_count=sum(alert.is_fraud is True for alert in alerts),
        )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.stop()


def line(snapshot: Snapshot) -> str:
    """Return the traffic in one line; the frauds are those among the alerts.

    Examples
    --------
    >>> line(Snapshot(5.0, 1000, 990, 10, 200.0, 198.0, 850.0, 1200.0, (), 4, 3))
    'live 5 s: in 200/s, scored 198/s, lag 10, latency 850 ms (p99 1,200 ms), 4 alerts, 3 frauds'
    """
    return (
        f"live {snapshot.elapsed_s:.0f} s: in {snapshot.produced_per_s:.0f}/s, "
        f"scored {snapshot.scored_per_s:.0f}/s, lag {snapshot.lag:,}, "
        f"latency {_ms(snapshot.p50_ms)} (p99 {_ms(snapshot.p99_ms)}), "
        f"{snapshot.alert_count:,} alerts, {snapshot.fraud_count:,} frauds"
    )


def newest(snapshot: Snapshot) -> list[str]:
    """Return the newest alert and why it is one, in one line; nothing before the first."""
    return [
        f"  alert: {document['amount']:,.2f} by {document['card_id']} at "
        f"{document['merchant_id']}, score {document['score']:.2f}; "
        + "; ".join(sentences(document))
        for document in (alert.document for alert in snapshot.alerts[:1])
    ]


def render(snapshot: Snapshot) -> RenderableType:
    """Return the traffic as a panel for a terminal.

    The figures, the latest alerts with the strongest reason of each, and all reasons of the newest.
    """
    table = Table(expand=True, title="Latest alerts", title_justify="left")
    table.add_column("Time", no_wrap=True)
    table.add_column("Card", no_wrap=True)
    table.add_column("Merchant", no_wrap=True)
    table.add_column("Amount", justify="right", no_wrap=True)
    table.add_column("Score", justify="right", no_wrap=True)
    table.add_column("Fraud?", justify="center", no_wrap=True)
    table.add_column("Strongest reason", ratio=1)
    for alert in snapshot.alerts:
        document = alert.document
        table.add_row(
            document["event_time"][:19].replace("T", " "),
            Text(document["card_id"]),
            Text(document["merchant_id"]),
            f"{document['amount']:,.2f}",
            f"{document['score']:.2f}",
            _VERDICT[alert.is_fraud],
            Text(next(iter(sentences(document)), "-")),
        )
    reasons = [
        Text(f"  {number}. {sentence}")
        for alert in snapshot.alerts[:1]
        for number, sentence in enumerate(sentences(alert.document), start=1)
    ]
    return Group(
        Text(line(snapshot), style="bold"),
        table,
        *([Text("Why the newest is one:"), *reasons] if reasons else []),
        Text("Ctrl-C ends it.", style="dim"),
    )


_VERDICT = {True: "[red]yes", False: "no", None: "[dim]?"}


def sentences(document: Mapping[str, Any]) -> list[str]:
    """Return the reasons of an alert in words, strongest first.

    Examples
    --------
    >>> sentences({"reasons": [{"sentence": "6 transactions of this card in the last hour"}]})
    ['6 transactions of this card in the last hour']
    """
    return [reason["sentence"] for reason in document["reasons"]]


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f} ms"
