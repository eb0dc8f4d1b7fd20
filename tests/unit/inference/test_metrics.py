"""What Prometheus is told: counts of batches, how things stand, and nothing of a transaction."""

from typing import NamedTuple
from urllib.request import urlopen

import numpy as np
from prometheus_client import CollectorRegistry
import pytest

from fraudstream.inference.champion import Pin
from fraudstream.inference.embedded import EmbeddedState
from fraudstream.inference.metrics import Metrics
from fraudstream.inference.metrics import PortTaken
from fraudstream.inference.metrics import served
from fraudstream.inference.progress import Ends
from fraudstream.inference.progress import Progress
from fraudstream.inference.shared import StateUnreachable
from fraudstream.inference.tally import LATENCY_BOUNDS_S
from fraudstream.inference.tally import WRITTEN
from fraudstream.inference.tally import Tally
from fraudstream.inference.tally import reason_class
from fraudstream.kafka.topics import Cluster
from fraudstream.model.bundle import load_bundle
from fraudstream.schema.decoding import decode_transactions
from fraudstream.stack.process import free_port
from unit.model.example_bundles import TINY
from unit.model.example_bundles import write_tiny


class Version(NamedTuple):
    """All that is asked of a model here."""

    version: str


PIN = Pin(Version("7"), None, 2)


def written(shard=0, was_there=False, at_ms=1_000.0, **counts):
    return Tally(**counts).written(shard, 1, was_there, at_ms).to_pylist()[0]


@pytest.fixture
def metrics(tmp_path):
    return Metrics(EmbeddedState(tmp_path), lambda places: {}, clock=lambda: 100.0)


def value(metrics, name, **labels):
    registry = CollectorRegistry(auto_describe=False)
    registry.register(metrics)
    return registry.get_sample_value(f"fraudstream_{name}", labels)


def test_what_the_shards_of_batches_tell_is_added_up(metrics):
    one = written(0, scores=3, alerts=1, dead_letters={"future_time": 2})
    two = written(1, scores=4, dead_letters={"future_time": 1, "not_json": 5})
    metrics.add_batch([one, two], PIN, 0.5, {"reading": 1.0})
    metrics.add_batch([one], PIN._replace(champion=Version("8")), 0.25, {"reading": 1.5})
    assert value(metrics, "scores_total", role="champion", version="7") == 7
    assert value(metrics, "scores_total", role="champion", version="8") == 3
    assert value(metrics, "alerts_total", role="champion", version="7") == 1
    assert value(metrics, "dead_letters_total", reason="future_time") == 5
    assert value(metrics, "dead_letters_total", reason="not_json") == 5
    assert value(metrics, "batches_total") == 2
    assert value(metrics, "batches_repeated_total") == 0
    assert value(metrics, "batch_seconds_total") == 0.75
    # Spark has added these up already.
    assert value(metrics, "stage_seconds_total", stage="reading") == 1.5


def test_what_a_challenger_scores_is_told_apart(metrics):
    row = written(scores=3, alerts=1, shadow_scores=2, shadow_alerts=2)
    metrics.add_batch([row], PIN._replace(challenger=Version("8")), 0.5, {})
    assert value(metrics, "scores_total", role="champion", version="7") == 3
    assert value(metrics, "scores_total", role="challenger", version="8") == 2
    assert value(metrics, "alerts_total", role="challenger", version="8") == 2


def test_a_batch_of_which_something_was_there_counts_as_repeated_and_its_results_count(metrics):
    metrics.add_batch([written(0, True, scores=3), written(1, scores=4)], PIN, 0.5, {})
    assert value(metrics, "batches_repeated_total") == 1
    assert value(metrics, "scores_total", role="champion", version="7") == 7


def test_a_batch_without_results_is_a_batch(metrics):
    metrics.add_batch([], PIN, 0.5, {})
    assert value(metrics, "batches_total") == 1


def test_latencies_run_from_append_to_commit_and_are_counted_up_to_each_bound(metrics):
    appended = np.array([900, 400, -999_000])
    metrics.add_batch([written(scores=3, appended_ms=[appended])], PIN, 0.5, {})
    assert value(metrics, "latency_seconds_bucket", le="0.1") == 1
    assert value(metrics, "latency_seconds_bucket", le="0.75") == 2
    assert value(metrics, "latency_seconds_bucket", le=str(LATENCY_BOUNDS_S[-1])) == 2
    assert value(metrics, "latency_seconds_bucket", le="+Inf") == 3
    assert value(metrics, "latency_seconds_count") == 3
    assert value(metrics, "latency_seconds_sum") == pytest.approx(0.1 + 0.6 + 1000)


def test_lag_is_what_lies_between_what_was_read_and_the_end_as_it_is_now(tmp_path):
    ends = {("transactions", 0): 12, ("transactions", 1): 5}
    asked = []

    def now(places):
        asked.append(places)
        return {place: ends[place] for place in places}

    metrics = Metrics(EmbeddedState(tmp_path), now)
    metrics.add_records({"transactions": 9}, {("transactions", 0): 5, ("transactions", 1): 4})
    metrics.add_records({"transactions": 1}, {("transactions", 1): 5})
    assert value(metrics, "lag_records", topic="transactions", partition="0") == 7
    assert value(metrics, "lag_records", topic="transactions", partition="1") == 0
    ends["transactions", 0] = 20
    assert value(metrics, "lag_records", topic="transactions", partition="0") == 15
    assert value(metrics, "records_total", topic="transactions") == 10
    assert asked[0] == [("transactions", 0), ("transactions", 1)]


def test_a_kafka_that_does_not_answer_leaves_lag_untold(monkeypatch):
    monkeypatch.setattr("fraudstream.inference.progress._TIMEOUT_S", 0.1)
    ends = Ends(Cluster(f"127.0.0.1:{free_port()}"))
    assert ends([("transactions", 0)]) == {}


def test_what_spark_says_of_a_batch_is_taken_over(metrics):
    class Source:
        def __init__(self, end, rows):
            self.endOffset, self.numInputRows = end, rows

    class Event:
        class progress:  # noqa: N801 - Spark's name
            sources = (Source('{"tx": {"0": 5, "1": 7}}', 9), Source('{"labels": {"0": 3}}', 3))

    listener = Progress(metrics)
    listener.onQueryStarted(None)
    listener.onQueryProgress(Event)
    listener.onQueryTerminated(None)
    assert value(metrics, "records_total", topic="tx") == 9
    assert value(metrics, "records_total", topic="labels") == 3


def test_the_models_at_work_are_told_with_their_age_and_refused_ones_are_counted(metrics, tmp_path):
    digest = write_tiny(tmp_path / "bundle")
    metrics.serves("champion", load_bundle(tmp_path / "bundle", TINY, "3"), since_s=40.0)
    labels = {"model": "tiny-detector", "version": "3", "digest": digest}
    assert value(metrics, "model_info", role="champion", **labels) == 1
    assert value(metrics, "model_age_seconds", role="champion") == 60
    metrics.serves("champion", None, 0.0)
    assert value(metrics, "model_age_seconds", role="champion") is None
    metrics.refused("champion", "golden rows")
    assert value(metrics, "models_refused_total", role="champion", check="golden rows") == 1


def test_the_size_of_the_state_is_what_its_files_take_on_disk(metrics, tmp_path):
    assert value(metrics, "state_bytes") == 0
    (tmp_path / "0").mkdir()
    with (tmp_path / "0" / "data.mdb").open("wb") as sparse:
        sparse.truncate(1 << 30)
        sparse.write(b"x" * 4096)
    assert 4096 <= value(metrics, "state_bytes") < 1 << 20


def test_of_a_state_out_of_reach_no_size_is_told_and_all_else_is(tmp_path):
    class Far(EmbeddedState):
        def size(self):
            raise StateUnreachable("no answer")

    metrics = Metrics(Far(tmp_path), lambda places: {})
    assert value(metrics, "state_bytes") is None
    assert value(metrics, "batches_total") == 0


def test_metrics_are_served_while_the_block_runs(metrics):
    port = free_port()
    with served(metrics, "127.0.0.1", port):
        told = urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5).read().decode()
        assert "fraudstream_batches_total 0.0" in told
        with (
            pytest.raises(PortTaken, match=f"127.0.0.1:{port} .*another --metrics-port"),
            served(metrics, "127.0.0.1", port),
        ):
            pass
    with pytest.raises(OSError, match="refused"):
        urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5)


def test_without_a_port_nothing_is_served(metrics, monkeypatch):
    monkeypatch.setattr("fraudstream.inference.metrics.start_http_server", None)
    with served(metrics, "127.0.0.1", 0):
        pass


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, "not_json"),
        (b"?", "not_json"),
        (b"{}", "missing_field"),
        (b"[]", "other"),
        (b'{"transaction_id": "t", "event_time": "2026-01-01T00:00:00Z", "card_id": "c", '
         b'"merchant_id": "m", "amount": -1}', "invalid_value"),
        (b'{"transaction_id": "t", "event_time": "2026-01-01T00:00:00Z", "card_id": "c", '
         b'"merchant_id": "m", "amount": 1, "x": 1}', "unknown_field"),
        (b'{"transaction_id": "t", "event_time": "2026-01-01T00:00:00Z", "card_id": "c", '
         b'"merchant_id": "m", "amount": 1}', "future_time"),
    ],
)  # fmt: skip
def test_a_reason_is_of_one_of_a_few_kinds(value, kind):
    [rejection] = decode_transactions([value], np.array([0])).rejections
    assert reason_class(rejection.reason) == kind


def test_the_row_that_a_shard_sends_back_has_its_schema():
    row = Tally(scores=1, appended_ms=[np.array([1])]).written(0, 1, False, 2.0)
    assert row.schema == WRITTEN
