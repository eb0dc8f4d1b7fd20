"""How the models did in earnest: scores that were served, judged by the labels that came since."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import replace
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from fraudstream.model.bundle import CHALLENGER
from fraudstream.model.bundle import CHAMPION
from fraudstream.schema.decoding import dictionary_codes
from fraudstream.schema.timestamps import duration_us
from fraudstream.schema.timestamps import from_us
from fraudstream.trainer.dataset import NEVER
from fraudstream.trainer.dataset import Labelled
from fraudstream.trainer.dataset import join
from fraudstream.trainer.evaluate import judge
from fraudstream.trainer.evaluate import metrics

Mask = npt.NDArray[np.bool_]

_DAY_US = duration_us(timedelta(days=1))


class NothingToEvaluate(ValueError):
    """The topics hold no scored transaction that is old enough."""


@dataclass(frozen=True)
class Served(Labelled):
    """Transactions with their labels and their scores, one row a transaction and role.

    Attributes
    ----------
    score
        ``float64``.
    is_alert
        ``bool``.
    role, version, digest
        Whether the model was champion or challenger then, its version, and its bundle's digest; one
        string a row.
    threshold
        ``float64``, that of the model version.
    """

    score: npt.NDArray[np.float64]
    is_alert: Mask
    role: npt.NDArray[np.object_]
    version: npt.NDArray[np.object_]
    digest: npt.NDArray[np.object_]
    threshold: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Period:
    """The transactions that are judged, by event time t: ``begin_us <= t < end_us``.

    Attributes
    ----------
    begin_us, end_us
        Microseconds since the epoch.
    label_delay
        A label counts if it was known so long after the end. What comes later would judge the
        same transactions differently from one evaluation to the next.
    """

    begin_us: int
    end_us: int
    label_delay: timedelta

    @property
    def known_until_us(self) -> int:
        """Until when a label has to be known to count."""
        return self.end_us + duration_us(self.label_delay)


@dataclass(frozen=True)
class Verdict:
    """How one model version did in a period.

    Attributes
    ----------
    role, version, digest
        Which one; one that was challenger before it was champion is told of twice.
    metrics
        ``scored``, ``unlabelled``, ``alerts_scored`` count all its transactions of the period,
        those without a label, and all its alerts. The others are those of
        `fraudstream.trainer.evaluate.metrics`, of the labelled transactions; they are absent
        where frauds or legitimate transactions are missing among these.
    """

    role: str
    version: str
    digest: str
    metrics: dict[str, float]


def served(scores: pa.Table, labels: pa.Table) -> Served:
    """Join decoded scores with decoded labels.

    Parameters
    ----------
    scores, labels
        `fraudstream.trainer.dataset.Topic.columns` of the two topics, the scores of one model.

    Returns
    -------
    Served
        Of repeated scores of a transaction in one role, and of repeated labels, the first to
        arrive counts. A champion's and a challenger's of one transaction are two.
    """
    of_roles = [scores.filter(pc.equal(scores["role"], role)) for role in (CHAMPION, CHALLENGER)]
    joins = [join(each, labels) for each in of_roles]
    rows = pa.concat_tables(
        [each.take(pa.array(one.first)) for each, one in zip(of_roles, joins, strict=True)]
    )
    return Served(
        event_time_us=rows["event_time_us"].to_numpy(),
        # Each join has numbers of its own for the cards.
        card=dictionary_codes(rows["card_id"])[0],
        amount=rows["amount"].to_numpy(),
        is_fraud=np.concatenate([one.is_fraud for one in joins]),
        known_us=np.concatenate([one.known_us for one in joins]),
        duplicates=len(scores) - len(rows),
        score=rows["score"].to_numpy(),
        is_alert=rows["is_alert"].to_numpy(),
        role=rows["role"].to_numpy(),
        version=rows["model_version"].to_numpy(),
        digest=rows["model_digest"].to_numpy(),
        threshold=rows["threshold"].to_numpy(),
    )


def of_model(scores: pa.Table, name: str) -> tuple[pa.Table, dict[str, int]]:
    """Return the scores of the model called `name`, and how many there are of each other one."""
    mine = scores.filter(pc.equal(scores["model_name"], name))
    others = Counter(scores["model_name"].to_pylist())
    others.pop(name, None)
    return mine, dict(others)


def choose_period(
    rows: Served, label_delay: timedelta, length: timedelta, end_us: int | None = None
) -> Period:
    """Return the latest period that can be judged, or the one that ends at `end_us`.

    Parameters
    ----------
    rows
        All that was served. Time is what they and their labels show, not what a clock says: so a
        recorded or simulated past is judged like the present.
    label_delay
        Within it labels arrive: a transaction that is not so old is not judged.
    length
        How long the period is.
    end_us
        When it ends; ``None``: at the last midnight (UTC) that is old enough, so that all
        evaluations of one day are of one period.

    Raises
    ------
    NothingToEvaluate
        If the topics do not reach far enough.
    """
    if not len(rows):
        raise NothingToEvaluate(
            "nothing to evaluate: the topic of scores has none of this model; "
            "run the stream (`inference.pex run`) first, or name another with --model-name"
        )
    known = rows.known_us != NEVER
    latest_us = max(int(rows.event_time_us.max()), int(rows.known_us[known].max(initial=0)))
    old_enough_us = latest_us - duration_us(label_delay) + 1
    if end_us is None:
        end_us = old_enough_us // _DAY_US * _DAY_US
    elif end_us > old_enough_us:
        raise NothingToEvaluate(
            f"expected an --until at least {label_delay / timedelta(days=1):.1f} d before the "
            f"latest time that the topics show, {_told(latest_us)}, got {_told(end_us)}: "
            "labels are still arriving; choose an earlier one, or a shorter --label-delay"
        )
    period = Period(end_us - duration_us(length), end_us, label_delay)
    if not _within(rows, period).any():
        raise NothingToEvaluate(
            f"nothing to evaluate: no transaction from {_told(period.begin_us)} to "
            f"{_told(period.end_us)} was scored, and the topics show times from "
            f"{_told(int(rows.event_time_us.min()))} to {_told(latest_us)}; "
            "choose another --until or --period, or a shorter --label-delay"
        )
    return period


def evaluate(rows: Served, period: Period, investigation_cost: float) -> list[Verdict]:
    """Judge every model version that scored in a period: champions first, by their numbers.

    `investigation_cost` is what a look at an alert costs, in the unit of the amounts.

    The figures depend on the transactions of the period and the labels known by its
    `Period.known_until_us` alone: whoever evaluates it, and how often, gets the same.
    """
    then = _as_known(rows, period)
    within = _within(then, period)
    return [
        Verdict(
            role,
            version,
            digest,
            _figures(then, within & _of(then, role, version, digest), period, investigation_cost),
        )
        for role, version, digest in _versions(then, within)
    ]


def _figures(
    rows: Served, mine: Mask, period: Period, investigation_cost: float
) -> dict[str, float]:
    judged = mine & (rows.known_us != NEVER)
    figures = {
        "scored": float(np.count_nonzero(mine)),
        "unlabelled": float(np.count_nonzero(mine & ~judged)),
        "alerts_scored": float(np.count_nonzero(mine & rows.is_alert)),
    }
    frauds = np.count_nonzero(rows.is_fraud[judged])
    if not 0 < frauds < np.count_nonzero(judged):
        return figures
    # A version brings one threshold for all that it scores.
    return figures | metrics(
        judge(rows, judged, period.begin_us, rows.score[judged]),
        float(rows.threshold[mine][0]),
        investigation_cost,
    )


def _as_known(rows: Served, period: Period) -> Served:
    known = rows.known_us < period.known_until_us
    return replace(
        rows, is_fraud=rows.is_fraud & known, known_us=np.where(known, rows.known_us, NEVER)
    )


def _within(rows: Served, period: Period) -> Mask:
    return (rows.event_time_us >= period.begin_us) & (rows.event_time_us < period.end_us)


def _of(rows: Served, role: str, version: str, digest: str) -> Mask:
    return (rows.role == role) & (rows.version == version) & (rows.digest == digest)


def _versions(rows: Served, within: Mask) -> Iterator[tuple[str, str, str]]:
    told = (column[within].tolist() for column in (rows.role, rows.version, rows.digest))
    # Version 10 comes after version 9.
    return iter(
        sorted(
            set(zip(*told, strict=True)), key=lambda each: (each[0] != CHAMPION, len(each[1]), each)
        )
    )


def _told(us: int) -> str:
    return f"{from_us(us):%Y-%m-%dT%H:%M:%SZ}"
