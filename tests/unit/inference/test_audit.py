"""The audit finds nothing wrong with what is right, and names what is not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from fraudstream.inference.audit import Audit
from fraudstream.inference.audit import Results
from fraudstream.inference.audit import audit
from fraudstream.inference.audit import differing

TOPIC = "transactions"
CARDS = 7


class Topics:
    """What the topics hold after a stream that did all right: a hundred transactions, two copies,
    four records that are not valid, and one in ten an alert."""

    def __init__(self) -> None:
        number = np.arange(100)
        card = number % CARDS
        self.transactions = pd.DataFrame(
            {
                "card_id": [f"c{n}" for n in card],
                "transaction_id": [f"t{n}" for n in number],
                "partition": card % 2,
                "offset": 2 * number,
            }
        )
        copies = self.transactions.iloc[[3, 40]].assign(offset=[301, 303])
        self.scores = pd.DataFrame(
            {
                "card_id": self.transactions["card_id"],
                "transaction_id": self.transactions["transaction_id"],
                "score": number / 100,
                "model_digest": "d" * 64,
                "is_alert": number >= 90,
                "role": "champion",
            }
        )
        # A challenger has scored some, and sees more alerts.
        in_shadow = self.scores.iloc[20:60].assign(
            role="challenger", model_digest="c" * 64, score=0.7, is_alert=True
        )
        self.transactions = pd.concat([self.transactions, copies], ignore_index=True)
        self.alerts = self.scores[self.scores["is_alert"]].reset_index(drop=True)
        self.scores = pd.concat([self.scores, in_shadow], ignore_index=True)
        self.refused = pd.DataFrame(
            {
                "topic": [TOPIC, TOPIC, TOPIC, "labels"],
                "partition": [0, 0, 1, 0],
                "offset": [5, 77, 9, 2],
            }
        )
        self.letters = self.refused.copy()

    def audit(self) -> Audit:
        """Hold the results against the rest."""
        scores, alerts, letters = (
            pa.Table.from_pandas(each, preserve_index=False)
            for each in (self.scores, self.alerts, self.letters)
        )
        return audit(
            TOPIC,
            pa.Table.from_pandas(self.transactions, preserve_index=False),
            pa.Table.from_pandas(self.refused, preserve_index=False),
            Results(scores, alerts, letters),
        )


def without(frame: pd.DataFrame, row: int) -> pd.DataFrame:
    """Drop a row."""
    return frame.drop(index=row).reset_index(drop=True)


def again(frame: pd.DataFrame, row: int, **changed: Any) -> pd.DataFrame:
    """Append a row once more, with some columns changed."""
    return pd.concat([frame, frame.iloc[[row]].assign(**changed)], ignore_index=True)


def test_what_is_right_is_clean_and_counted() -> None:
    found = Topics().audit()
    assert found.is_clean
    assert not found.pending
    assert (found.transactions, found.copies, found.scores, found.alerts) == (100, 2, 100, 10)
    assert (found.refused, found.dead_letters, found.shadow_scores) == (4, 4, 40)


CORRUPTED: dict[str, tuple[str, str, Callable[[Topics], dict[str, pd.DataFrame]]]] = {
    "a score is lost": ("missing", "c3/t3", lambda t: {"scores": without(t.scores, 3)}),
    "an alert is lost": ("missing", "c4/t95", lambda t: {"alerts": without(t.alerts, 5)}),
    "a dead letter is lost": (
        "missing",
        "transactions[0]@5",
        lambda t: {"letters": without(t.letters, 0)},
    ),
    "a score is there twice": ("duplicate", "c3/t3", lambda t: {"scores": again(t.scores, 3)}),
    "an alert is there twice": ("duplicate", "c4/t95", lambda t: {"alerts": again(t.alerts, 5)}),
    "a dead letter is there twice": (
        "duplicate",
        "labels[0]@2",
        lambda t: {"letters": again(t.letters, 3)},
    ),
    "two scores of one transaction differ": (
        "conflicting",
        "c3/t3",
        lambda t: {"scores": again(t.scores, 3, score=0.5)},
    ),
    "two models scored one transaction": (
        "conflicting",
        "c3/t3",
        lambda t: {"scores": again(t.scores, 3, model_digest="e" * 64)},
    ),
    "a challenger's score is there twice": (
        "duplicate",
        "c6/t20",
        lambda t: {"scores": again(t.scores, 100)},
    ),
    "two challengers scored one transaction": (
        "conflicting",
        "c6/t20",
        lambda t: {"scores": again(t.scores, 100, model_digest="e" * 64)},
    ),
    "a challenger's score has no transaction": (
        "foreign",
        "c6/other",
        lambda t: {"scores": again(t.scores, 100, transaction_id="other")},
    ),
    "a challenger's score is among the alerts": (
        "foreign",
        "c6/t20",
        lambda t: {"alerts": pd.concat([t.alerts, t.scores.iloc[[100]]], ignore_index=True)},
    ),
    "the champion's score is lost where a challenger's is there": (
        "missing",
        "c6/t20",
        lambda t: {"scores": without(t.scores, 20)},
    ),
    "an alert says another score": (
        "conflicting",
        "c4/t95",
        lambda t: {
            "alerts": t.alerts.assign(score=np.where(t.alerts.index == 5, 1.0, t.alerts["score"]))
        },
    ),
    "a score has no transaction": (
        "foreign",
        "c3/other",
        lambda t: {"scores": again(t.scores, 3, transaction_id="other")},
    ),
    "a score is of another card": (
        "foreign",
        "c9/t3",
        lambda t: {"scores": again(t.scores, 3, card_id="c9")},
    ),
    "an alert is none by its score": (
        "foreign",
        "c3/t3",
        lambda t: {"alerts": pd.concat([t.alerts, t.scores.iloc[[3]]], ignore_index=True)},
    ),
    "a dead letter is about a valid record": (
        "foreign",
        "transactions[0]@6",
        lambda t: {"letters": again(t.letters, 0, offset=6)},
    ),
}


@pytest.mark.parametrize("what", CORRUPTED)
def test_corrupted_output_is_named_and_nothing_else_is(what: str) -> None:
    kind, name, corrupt = CORRUPTED[what]
    topics = Topics()
    vars(topics).update(corrupt(topics))
    found = topics.audit()
    assert [(finding.kind, finding.what) for finding in found.findings] == [(kind, name)]
    assert found.counts()[kind] == sum(found.counts().values()) == 1


def test_what_the_stream_has_not_come_to_is_pending_until_it_has_ended() -> None:
    topics = Topics()
    # The last two transactions of partition 0 and the last bad record of partition 1.
    last = [row for row in range(90, 100) if row % CARDS % 2 == 0][-2:]
    topics.scores = topics.scores.drop(index=last)
    topics.alerts = topics.alerts[~topics.alerts["transaction_id"].isin([f"t{n}" for n in last])]
    topics.refused.loc[2, "offset"] = topics.letters.loc[2, "offset"] = 999
    topics.letters = topics.letters.drop(index=2)
    found = topics.audit()
    assert found.is_clean
    assert len(found.pending) == 3
    assert found.ended().counts()["missing"] == 3


def test_empty_topics_are_clean() -> None:
    topics = Topics()
    for name, frame in vars(topics).items():
        setattr(topics, name, frame.iloc[:0])
    assert topics.audit().is_clean


def test_a_score_that_a_replay_does_not_give_is_named() -> None:
    scores = pa.Table.from_pandas(Topics().scores)
    replayed = scores["score"].to_numpy() + 1e-9
    assert differing("scores", scores, replayed) == []
    replayed[7] += 1e-3
    replayed[8] = np.nan
    [found] = differing("scores", scores, replayed)
    assert (found.kind, found.what) == ("differing", "c0/t7")
