"""The report counts what the topics hold, on topics made by hand."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from fraudstream.demo.main import explained
from fraudstream.demo.report import Ledger
from fraudstream.demo.report import Truth
from fraudstream.demo.report import precision_and_recall
from fraudstream.demo.report import report
from fraudstream.demo.report import transaction_key
from fraudstream.kafka.reading import Records

_TOPIC = "transactions"


def records(*values: bytes | None, at_ms: int = 0, offset: int = 0) -> Records:
    count = len(values)
    return Records(
        np.zeros(count, dtype=np.int64),
        np.arange(offset, offset + count, dtype=np.int64),
        np.full(count, at_ms, dtype=np.int64),
        list(values),
    )


def transactions(*keys: str, at_ms: int = 0, offset: int = 0) -> Records:
    values = [orjson.dumps({"transaction_id": key, "amount": 1}) for key in keys]
    return records(*values, at_ms=at_ms, offset=offset)


def scores(*keys: str, at_ms: int = 0) -> Records:
    values = [
        orjson.dumps({"transaction_id": key, "model_name": "m", "model_version": "3"})
        for key in keys
    ]
    return records(*values, at_ms=at_ms)


def dead_letter(original: bytes, offset: int | None, topic: str = _TOPIC) -> bytes:
    return orjson.dumps(
        {
            "original": base64.b64encode(original).decode(),
            "topic": topic,
            "partition": None if offset is None else 0,
            "offset": offset,
        }
    )


def alert(key: str) -> bytes:
    return orjson.dumps(
        {
            "transaction_id": key,
            "event_time": "2026-01-01T00:00:00Z",
            "card_id": "card-1",
            "merchant_id": "merchant-1",
            "amount": 812.4,
            "score": 0.97,
            "reasons": [{"group": "amount", "sentence": "Amount is 812.40; usual is 31.20"}],
        }
    )


def outcome(ledger: Ledger, is_fraud: dict[str, bool] | None = None) -> dict[str, Any]:
    return report(
        ledger,
        is_fraud or {},
        average_precision=0.9,
        seconds={},
        history_transactions=0,
        first_alert_s=None,
    )


def counts(ledger: Ledger) -> tuple[int, int, int, int, int]:
    told = outcome(ledger)
    return (
        told["transactions_produced"],
        told["transactions_scored"],
        told["dead_letters"],
        told["lost"],
        told["duplicates"],
    )


def test_every_transaction_scored_once_is_conserved() -> None:
    ledger = Ledger()
    ledger.add_transactions(transactions("a", "b"))
    ledger.add_scores(scores("b", "a"))
    assert counts(ledger) == (2, 2, 0, 0, 0)
    assert ledger.lag == 0


def test_one_without_score_or_dead_letter_is_lost() -> None:
    ledger = Ledger()
    ledger.add_transactions(transactions("a", "b", "c"))
    ledger.add_scores(scores("b"))
    assert counts(ledger) == (3, 1, 0, 2, 0)
    assert ledger.lag == 2


def test_a_transaction_sent_twice_counts_once() -> None:
    ledger = Ledger()
    ledger.add_transactions(transactions("a", "a"))
    ledger.add_scores(scores("a"))
    assert counts(ledger) == (1, 1, 0, 0, 0)


def test_two_scores_of_one_transaction_are_a_duplicate() -> None:
    ledger = Ledger()
    ledger.add_transactions(transactions("a", "b"))
    ledger.add_scores(scores("a", "b"))
    ledger.add_scores(scores("a", "a"))
    assert counts(ledger) == (2, 2, 0, 0, 1)


def test_a_score_of_something_that_was_never_produced_is_not_counted_as_scored() -> None:
    ledger = Ledger()
    ledger.add_transactions(transactions("a"))
    ledger.add_scores(scores("z"))
    assert counts(ledger) == (1, 0, 0, 1, 0)


@pytest.mark.parametrize("broken", [b"?", b"[]", b'"a"', b'{"transaction_id": 5}', b"{}"])
def test_a_broken_record_is_settled_by_the_dead_letter_of_its_place(broken: bytes) -> None:
    ledger = Ledger()
    ledger.add_transactions(records(broken, broken, offset=7))
    assert ledger.lag == 2
    ledger.add_dead_letters(records(dead_letter(broken, 7)), _TOPIC)
    assert counts(ledger) == (2, 0, 1, 1, 0)
    ledger.add_dead_letters(records(dead_letter(broken, 8)), _TOPIC)
    assert counts(ledger) == (2, 0, 2, 0, 0)


def test_a_tombstone_is_known_by_its_place() -> None:
    assert transaction_key(None, 2, 5) == "partition 2, offset 5"


def test_a_refused_transaction_with_an_id_is_known_by_it() -> None:
    bad = b'{"transaction_id": "a", "amount": -1}'
    ledger = Ledger()
    ledger.add_dead_letters(records(dead_letter(bad, 0)), _TOPIC)
    ledger.add_transactions(records(bad))
    assert counts(ledger) == (1, 0, 1, 0, 0)
    assert ledger.lag == 0


def test_one_that_is_both_scored_and_refused_counts_as_scored() -> None:
    ledger = Ledger()
    ledger.add_transactions(transactions("a"))
    ledger.add_transactions(records(b'{"transaction_id": "a", "amount": -1}', offset=1))
    ledger.add_scores(scores("a"))
    ledger.add_dead_letters(
        records(dead_letter(b'{"transaction_id": "a", "amount": -1}', 1)), _TOPIC
    )
    assert counts(ledger) == (1, 1, 0, 0, 0)


def test_dead_letters_of_other_topics_and_of_the_producer_are_left_out() -> None:
    ledger = Ledger()
    ledger.add_transactions(transactions("a"))
    original = b'{"transaction_id": "a"}'
    letters = records(dead_letter(original, 0, topic="labels"), dead_letter(original, None))
    ledger.add_dead_letters(letters, _TOPIC)
    assert counts(ledger) == (1, 0, 0, 1, 0)


def test_the_order_of_arrival_does_not_matter() -> None:
    ledger = Ledger()
    ledger.add_scores(scores("a"))
    ledger.add_transactions(transactions("a"))
    assert ledger.lag == 0
    assert counts(ledger) == (1, 1, 0, 0, 0)


def test_latency_runs_from_the_first_append_to_the_first_score() -> None:
    ledger = Ledger()
    ledger.add_transactions(transactions("a", at_ms=1_000))
    ledger.add_transactions(transactions("a", at_ms=5_000))
    ledger.add_transactions(transactions("b", at_ms=2_000))
    ledger.add_scores(scores("a", at_ms=1_700))
    ledger.add_scores(scores("a", at_ms=9_000))
    assert ledger.latencies_ms(["a", "b", "z"]).tolist() == [700]
    told = outcome(ledger, {"a": False, "b": False})
    assert told["latency_ms"] == {"p50": 700.0, "p99": 700.0}


def test_alerts_are_judged_on_the_live_traffic_alone() -> None:
    ledger = Ledger()
    ledger.add_transactions(transactions("old", "a", "b", "c", "d"))
    ledger.add_scores(scores("old", "a", "b", "c"))
    ledger.add_alerts(records(*map(alert, ("old", "a", "b", "a"))))
    told = outcome(ledger, {"a": True, "b": False, "c": True, "d": True})
    assert told["alerts"] == 2
    assert told["alert_precision"] == 0.5
    assert told["alert_recall"] == pytest.approx(1 / 3)
    assert told["model"] == {"name": "m", "version": "3", "average_precision": 0.9}


def test_the_latest_live_alerts_are_told_with_their_reasons() -> None:
    ledger = Ledger()
    ledger.add_alerts(records(*map(alert, ("a", "b", "old", "c", "d"))))
    told = outcome(ledger, {"a": True, "b": False, "c": True, "d": True})["latest_alerts"]
    assert [each["transaction_id"] for each in told] == ["d", "c", "b"]
    assert told[2] == {
        "transaction_id": "b",
        "event_time": "2026-01-01T00:00:00Z",
        "card_id": "card-1",
        "merchant_id": "merchant-1",
        "amount": 812.4,
        "score": 0.97,
        "is_fraud": False,
        "reasons": ["Amount is 812.40; usual is 31.20"],
    }
    assert explained({"latest_alerts": told[2:]}) == [
        "812.40 by card-1 at merchant-1, score 0.97, no fraud:",
        "  1. Amount is 812.40; usual is 31.20",
    ]


def test_an_empty_run_has_no_figures_to_divide() -> None:
    told = outcome(Ledger())
    assert told["alert_precision"] is None
    assert told["alert_recall"] is None
    assert told["latency_ms"] == {"p50": None, "p99": None}
    assert told["model"]["name"] is None


def test_frauds_without_any_alert_are_all_missed() -> None:
    assert precision_and_recall([], {"a": True}) == (None, 0.0)


def test_the_truth_is_read_as_it_is_written_line_by_line(tmp_path: Path) -> None:
    file = tmp_path / "truth.jsonl"
    truth = Truth(file)
    truth.refresh()
    assert truth.is_fraud == {}
    lines = [
        orjson.dumps({"transaction_id": key, "is_fraud": key == "b", "pattern": None}) + b"\n"
        for key in "abc"
    ]
    file.write_bytes(lines[0] + lines[1][:10])
    truth.refresh()
    assert truth.is_fraud == {"a": False}
    file.write_bytes(b"".join(lines))
    truth.refresh()
    assert truth.is_fraud == {"a": False, "b": True, "c": False}
