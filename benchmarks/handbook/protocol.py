"""The book's prequential protocol: folds of training, delay and test, and what is measured.

A fold is told by the day on which its seven days of training begin. Seven days follow in which no
label is known yet, then the seven days of the test. Cards known as compromised are left out of
the test: those with a fraud in the training days and, on each day of the test, those with a fraud
since then that is older than the label delay. (Le Borgne et al., "Reproducible Machine Learning
for Credit Card Fraud Detection", 2022, sections 5.3 and 5.4.)
"""

from dataclasses import dataclass
from datetime import UTC
from datetime import datetime
from datetime import timedelta

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from fraudstream.trainer.evaluate import Judged
from fraudstream.trainer.evaluate import average_precision
from fraudstream.trainer.evaluate import card_precision
from handbook.data import History

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]

#: How long the book trains, how long a label takes, and how long is tested.
TRAINING_DAYS = 7
DELAY_DAYS = 7
TEST_DAYS = 7

#: Where training begins, in the folds that figures are told of and in those for every choice.
TEST_FOLDS = ("2018-07-25", "2018-08-01", "2018-08-08", "2018-08-15")
VALIDATION_FOLDS = ("2018-06-20", "2018-06-27", "2018-07-04", "2018-07-11")

#: The figures of merit, by the names of the report.
METRICS = ("average_precision", "auc_roc", "card_precision_100")

_DAY_US = timedelta(days=1) // timedelta(microseconds=1)


class FoldMissing(ValueError):
    """The data does not reach over a fold, or one of its parts lacks a class."""


@dataclass(frozen=True)
class Fold:
    """Rows of a `History`, in order of time.

    Attributes
    ----------
    training, test
        ``int64``: positions of the rows.
    test_day
        ``int64``, shape of `test`: day of the test, from 0 on.
    """

    training: Int64
    test: Int64
    test_day: Int64


def fold(history: History, train_start: str, train_days: int | None = TRAINING_DAYS) -> Fold:
    """Part the rows of one fold.

    Parameters
    ----------
    history
        All transactions.
    train_start
        The fold's name: the first of its seven days of training, such as ``"2018-07-25"``, UTC.
    train_days
        How long training is. It ends on the same day whatever its length, so that the test is the
        same; ``None`` takes all from the first transaction on.

    Raises
    ------
    FoldMissing
        If the data does not reach from the first day of training to the last of the test, or
        training or test lack frauds or legitimate transactions.
    """
    since = datetime.fromisoformat(train_start).replace(tzinfo=UTC) - datetime.fromtimestamp(0, UTC)
    day = history.time_us // _DAY_US - since // timedelta(days=1)
    test_begins = TRAINING_DAYS + DELAY_DAYS
    first = day.min() if train_days is None else TRAINING_DAYS - train_days
    if day.min() > min(first, 0) or day.max() < test_begins + TEST_DAYS - 1:
        raise FoldMissing(
            f"fold {train_start}: expected transactions on each of its days, "
            f"{_date(history, first - day[0])} to "
            f"{_date(history, test_begins + TEST_DAYS - 1 - day[0])}, got some from "
            f"{_date(history, 0)} to {_date(history, day[-1] - day[0])}"
        )
    training = np.flatnonzero((day >= first) & (day < TRAINING_DAYS))
    test = np.flatnonzero((day >= test_begins) & (day < test_begins + TEST_DAYS))
    known = history.is_fraud & (day >= 0)
    cards, card = np.unique(history.card, return_inverse=True)
    compromised = np.full(len(cards), np.iinfo(np.int64).max)
    np.minimum.at(compromised, card[known], day[known])
    test = test[compromised[card[test]] >= day[test] - DELAY_DAYS]
    for name, rows in (("training", training), ("test", test)):
        frauds = np.count_nonzero(history.is_fraud[rows])
        if not 0 < frauds < len(rows):
            raise FoldMissing(
                f"fold {train_start}: expected frauds and legitimate transactions in its {name}, "
                f"got {frauds} and {len(rows) - frauds}"
            )
    return Fold(training, test, day[test] - test_begins)


def thinned(history: History, training: Int64, at_most: int | None, seed: int) -> Int64:
    """Return the rows of `training` with a fraud, and `at_most` of the others, drawn by `seed`.

    ``None``: all of them.
    """
    is_fraud = history.is_fraud[training]
    legitimate = training[~is_fraud]
    if at_most is None or len(legitimate) <= at_most:
        return training
    drawn = np.random.default_rng(seed).choice(legitimate, at_most, replace=False)
    return np.sort(np.concatenate([training[is_fraud], drawn]))


def measure(history: History, part: Fold, score: Float64) -> dict[str, float]:
    """Return the `METRICS` of scores, one for each row of the test."""
    rows = Judged(
        score=score,
        is_fraud=history.is_fraud[part.test],
        amount=history.amount[part.test],
        day=part.test_day,
        card=history.card[part.test],
        # These have left the test altogether.
        compromised=np.zeros(len(part.test), dtype=np.bool_),
    )
    return {
        "average_precision": average_precision(rows),
        "auc_roc": float(roc_auc_score(rows.is_fraud, rows.score)),
        "card_precision_100": card_precision(rows, 100),
    }


def _date(history: History, day: int) -> str:
    moment = datetime.fromtimestamp(int(history.time_us[0]) / 1e6, UTC) + timedelta(days=int(day))
    return f"{moment:%Y-%m-%d}"
