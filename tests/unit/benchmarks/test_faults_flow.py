"""When scores flow again is told by the transactions that were scored, not by any score."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from typing import cast

from confluent_kafka import Message
from faults.flow import Flow
from faults.flow import NoScores
import numpy as np
import orjson
import pytest

from fraudstream.features.sets import DEFAULT
from fraudstream.kafka.topics import Cluster
from fraudstream.stack.process import free_port


@dataclass
class Scored:
    """A message, as the client gives it."""

    appended_ms: int
    document: dict[str, Any]

    def timestamp(self) -> tuple[int, int]:
        return 2, self.appended_ms

    def value(self) -> bytes:
        return orjson.dumps(self.document)


def scored(
    appended_ms: int,
    second: int,
    name: str = "t",
    version: str = "1",
    features: dict[str, float | None] | None = None,
) -> Message:
    document = {
        "transaction_id": name,
        "event_time": f"1970-01-01T00:00:{second:02}Z",
        "model_version": version,
        "features": features,
    }
    return cast(Message, Scored(appended_ms, document))


@pytest.fixture
def flow() -> Iterator[Flow]:
    # Nobody is there: what comes is given by the tests.
    flow = Flow(Cluster(f"127.0.0.1:{free_port()}"), "scores", 2)
    yield flow
    flow.stop()


def test_a_score_of_an_old_transaction_does_not_count(flow: Flow) -> None:
    flow._take([scored(90_000, 10)])
    beats: list[int] = []
    with pytest.raises(NoScores, match="no transaction was scored that came after 20000"):
        flow.await_score_of(20_000, 0.2, lambda: beats.append(1))
    assert beats


def test_the_score_of_a_new_one_tells_when_it_was_appended(flow: Flow) -> None:
    flow._take([scored(90_000, 10), scored(91_000, 21), scored(91_500, 5)])
    assert flow.await_score_of(20_000, 0.2, lambda: None) == 91_000


def test_the_last_ones_of_a_load_are_awaited(flow: Flow) -> None:
    flow._take([scored(1, 1, "last-load-0")])
    with pytest.raises(NoScores, match="last-load-1"):
        flow.await_last("load", 2, 0.2)
    flow._take([scored(2, 1, "last-load-1")])
    flow.await_last("load", 2, 0.2)


def test_scores_are_counted_by_the_second(flow: Flow) -> None:
    flow._take([scored(1_100, 1), scored(1_900, 1), scored(2_000, 1, version="2")])
    assert flow.a_second == {1: 2, 2: 1}
    assert flow.versions == {"1", "2"}


def test_features_are_kept_of_those_scores_that_have_them(flow: Flow) -> None:
    names = DEFAULT.names
    served = dict.fromkeys(names, 1.0) | {names[1]: None}
    flow._take([scored(1, 1), scored(2, 1, features=served), scored(3, 1)])
    [row] = flow.features()
    assert row[0] == 1.0
    assert np.isnan(row[1])
    assert len(row) == len(names)
