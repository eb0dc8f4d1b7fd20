"""The view shows what the ledger holds."""

import io

import numpy as np
import orjson
import pytest
from rich.console import Console

from fraudstream.demo.report import Ledger
from fraudstream.demo.view import Alert
from fraudstream.demo.view import LiveView
from fraudstream.demo.view import Snapshot
from fraudstream.demo.view import newest
from fraudstream.demo.view import render
from fraudstream.kafka.reading import Records

_NEWEST = (
    "  alert: 1,234.50 by card-1[bold] at merchant-2, score 0.99; Amount 912.53 is 9.3 times "
    "[the card's] mean; 412 km from the place of the last transaction"
)


def records(*documents: dict[str, object], at_ms: int = 0) -> Records:
    count = len(documents)
    return Records(
        np.zeros(count, dtype=np.int64),
        np.arange(count, dtype=np.int64),
        np.full(count, at_ms, dtype=np.int64),
        [orjson.dumps(document) for document in documents],
    )


def prediction(key: str) -> dict[str, object]:
    return {
        "transaction_id": key,
        "event_time": "2026-01-02T03:04:05.678901Z",
        "card_id": "card-1[bold]",
        "merchant_id": "merchant-2",
        "amount": 1234.5,
        "score": 0.987,
        "model_name": "m",
        "model_version": "1",
        "reasons": [
            {"group": "card", "sentence": "Amount 912.53 is 9.3 times [the card's] mean"},
            {"group": "place", "sentence": "412 km from the place of the last transaction"},
        ],
    }


def ledger() -> Ledger:
    made = Ledger()
    made.add_transactions(records({"transaction_id": "a"}, {"transaction_id": "b"}, at_ms=1_000))
    made.add_scores(records(prediction("a"), at_ms=1_250))
    made.add_alerts(records(prediction("a"), prediction("of-history")))
    return made


def console(terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=160, color_system=None)


def text(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def test_a_snapshot_counts_traffic_alerts_and_the_frauds_among_them() -> None:
    with LiveView(console(terminal=False)) as view:
        shown = view.show(ledger(), {"a": True, "b": True})
    assert (shown.produced, shown.scored, shown.lag) == (2, 1, 1)
    assert (shown.p50_ms, shown.p99_ms) == (250.0, 250.0)
    assert (shown.alert_count, shown.fraud_count) == (1, 1)
    assert [alert.document["transaction_id"] for alert in shown.alerts] == ["a"]
    assert shown.produced_per_s == 2 * shown.scored_per_s > 0


def test_rates_are_of_the_last_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("fraudstream.demo.view.time.monotonic", lambda: now)
    with LiveView(console(terminal=False)) as view:
        now = 102.0
        assert view.show(ledger(), {}).produced_per_s == 1.0
        now = 120.0
        assert view.show(ledger(), {}).produced_per_s == 0.0


def test_where_there_is_no_terminal_a_line_is_printed_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr("fraudstream.demo.view.time.monotonic", lambda: now)
    to = console(terminal=False)
    with LiveView(to) as view:
        for moment in (101.0, 104.0, 105.5, 106.0, 111.0):
            now = moment
            view.show(ledger(), {})
    assert text(to).splitlines() == [
        "live 6 s: in 0/s, scored 0/s, lag 1, latency 250 ms (p99 250 ms), 1 alerts, 0 frauds",
        _NEWEST,
        "live 11 s: in 0/s, scored 0/s, lag 1, latency 250 ms (p99 250 ms), 1 alerts, 0 frauds",
        _NEWEST,
    ]


def test_on_a_terminal_the_view_moves_in_place() -> None:
    to = console(terminal=True)
    with LiveView(to) as view:
        view.show(ledger(), {})
    assert "Latest alerts" in text(to)


def test_alerts_are_shown_with_card_merchant_amount_score_reasons_and_truth() -> None:
    alerts = tuple(Alert(prediction("a"), truth) for truth in (True, False, None))
    to = console(terminal=False)
    to.print(render(Snapshot(1.0, 9, 9, 0, 1.0, 1.0, 5.0, 6.0, alerts, 3, 1)))
    rows = [row for row in text(to).splitlines() if "merchant-2" in row]
    assert [next(v for v in ("yes", "no", "?") if f" {v} " in row) for row in rows] == [
        "yes",
        "no",
        "?",
    ]
    for part in ("2026-01-02 03:04:05", "card-1[bold]", "1,234.50", "0.99", "9.3 times"):
        assert part in rows[0]


def test_all_reasons_of_the_newest_alert_are_told_and_one_of_each_other() -> None:
    alerts = tuple(Alert(prediction(key), None) for key in ("a", "b"))
    to = console(terminal=False)
    to.print(render(Snapshot(1.0, 9, 9, 0, 1.0, 1.0, 5.0, 6.0, alerts, 2, 0)))
    assert text(to).count("412 km from the place of the last transaction") == 1
    assert "1. Amount 912.53 is 9.3 times [the card's] mean" in text(to)
    assert "2. 412 km from" in text(to)


def test_an_alert_without_a_reason_is_shown_too() -> None:
    document = {**prediction("a"), "reasons": []}
    snapshot = Snapshot(1.0, 9, 9, 0, 1.0, 1.0, 5.0, 6.0, (Alert(document, None),), 1, 0)
    to = console(terminal=False)
    to.print(render(snapshot))
    assert "merchant-2" in text(to)
    assert "Why the newest" not in text(to)


def test_before_the_first_alert_there_is_no_newest() -> None:
    assert newest(Snapshot(1.0, 9, 9, 0, 1.0, 1.0, 5.0, 6.0, (), 0, 0)) == []
