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
from fraudstream.demo.view import reasons
from fraudstream.demo.view import render
from fraudstream.kafka.reading import Records


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
            {"group": "card", "feature": "amount_sum", "value": 912.53, "contribution": 0.4},
            {"group": "place", "feature": "distance_km", "value": None, "contribution": 0.1},
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
        "live 11 s: in 0/s, scored 0/s, lag 1, latency 250 ms (p99 250 ms), 1 alerts, 0 frauds",
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
    for part in ("2026-01-02 03:04:05", "card-1[bold]", "1,234.50", "0.99", "amount_sum = 912.5"):
        assert part in rows[0]


def test_an_absent_value_among_the_reasons_says_so() -> None:
    assert reasons(prediction("a")) == "amount_sum = 912.5, distance_km = absent"
