"""From topics to rows that a model can be trained and judged on, point in time."""

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from fraudstream.features.definitions import FeatureSet
from fraudstream.features.windows import replay
from fraudstream.kafka.tables import Topic
from fraudstream.schema.timestamps import duration_us

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

#: Stands in `Dataset.known_us` for a label that has not arrived.
NEVER = np.iinfo(np.int64).max


class LabelsMissing(ValueError):
    """The topics hold too few labels, or labels of one class only, for what is asked."""


@dataclass(frozen=True)
class Labelled:
    """Transactions with their labels, one row a transaction, in order of arrival.

    Attributes
    ----------
    event_time_us
        ``int64``, microseconds since the epoch.
    card
        ``int64``, the same number for the same card.
    amount
        ``float64``.
    is_fraud
        ``bool``; False also where no label has arrived.
    known_us
        ``int64``, when the label became known; `NEVER` where none has arrived.
    duplicates
        How many records repeated a transaction; the first to arrive is kept.
    """

    event_time_us: Int64
    card: Int64
    amount: Float64
    is_fraud: Mask
    known_us: Int64
    duplicates: int

    def __len__(self) -> int:
        return len(self.event_time_us)


@dataclass(frozen=True)
class Dataset(Labelled):
    """Labelled transactions with what a model sees of them.

    Attributes
    ----------
    features
        ``float64``, shape (n, k), NaN where absent: what the stream would have served.
    """

    features: Float64


@dataclass(frozen=True)
class Joined:
    """Which records count, and what became known of each.

    Attributes
    ----------
    first
        ``int64``, increasing: rows of the first record to arrive of each transaction.
    card
        ``int64``, of these, the same number for the same card.
    is_fraud, known_us
        Of these, as `Labelled` has them.
    """

    first: Int64
    card: Int64
    is_fraud: Mask
    known_us: Int64


@dataclass(frozen=True)
class Split:
    """Rows of a `Dataset` by use, as masks, and the times between them (microseconds).

    Four stretches of event time follow one another: training, a gap, selection, report. Selection
    is for every choice (when to stop, calibration, threshold), report for the figures that are
    told and for the comparison with the champion: nothing is chosen on it.

    - The report ends one label delay before the latest time that the topics show, so that its
      labels have arrived; selection and report are half of the validation each.
    - The gap is one label delay long. When validation begins, the labels of the gap's transactions
      are not all known, and those that are known first are not a fair sample (frauds are reported
      long before the silence of the others counts).
    - A training row is used only with a label that was known when validation began. So the model
      is one that could have been trained at that moment.

    Attributes
    ----------
    training, selection, report
        ``bool``, shape (n,).
    begin_us, validation_us, report_us, end_us
        Where training, selection and report begin, and where the report ends. A stretch holds the
        times t with begin <= t < end.
    """

    training: Mask
    selection: Mask
    report: Mask
    begin_us: int
    validation_us: int
    report_us: int
    end_us: int


def build(
    feature_set: FeatureSet,
    transactions: pa.Table,
    labels: pa.Table,
    threads: int = 1,
    advance: Callable[[float], None] = lambda share: None,
) -> Dataset:
    """Compute the features and join the labels of decoded records.

    Parameters
    ----------
    feature_set
        Which features.
    transactions, labels
        `Topic.columns` of the two topics.
    threads, advance
        As of `fraudstream.features.windows.replay`.

    Returns
    -------
    Dataset
        Of repeated transactions, and of repeated labels, the first to arrive counts, as it does in
        the stream. A label without its transaction is left out.
    """
    features = replay(feature_set, transactions, labels, threads, advance)
    joined = join(transactions, labels)
    first = joined.first
    duplicates = len(features) - len(first)
    return Dataset(
        # Without duplicates a copy of the largest thing that there is would be for nothing.
        features=features[first] if duplicates else features,
        event_time_us=transactions["event_time_us"].to_numpy()[first],
        card=joined.card,
        amount=transactions["amount"].to_numpy()[first],
        is_fraud=joined.is_fraud,
        known_us=joined.known_us,
        duplicates=duplicates,
    )


def split(
    dataset: Dataset,
    label_delay: timedelta,
    validation: timedelta,
    warm_up: timedelta,
    window: timedelta | None = None,
) -> Split:
    """Part the rows by time; see `Split`.

    Parameters
    ----------
    dataset
        All rows.
    label_delay
        Within it a label arrives.
    validation
        How long selection and report are together.
    warm_up
        At the beginning, rows that are only history: their windows reach back to where the topic
        has nothing.
    window
        How long training is at most; what is older is history only. ``None``: all there is.

    Raises
    ------
    LabelsMissing
        If the topic is too short for the parts, or one of them lacks frauds or legitimate
        transactions.
    """
    if not len(dataset):
        raise LabelsMissing("no transactions: the topic is empty; send some with `producer.pex`")
    known = dataset.known_us != NEVER
    if not known.any():
        raise LabelsMissing(
            "labels missing: no transaction has one; send them to the topic of labels "
            "(`producer.pex simulate` does, `producer.pex replay FILE --label COLUMN` too)"
        )
    times = dataset.event_time_us
    latest_us = max(int(times.max()), int(dataset.known_us[known].max()))
    end_us = latest_us - duration_us(label_delay) + 1
    report_us = end_us - duration_us(validation) // 2
    validation_us = end_us - duration_us(validation)
    begin_us = int(times.min()) + duration_us(warm_up)
    if begin_us >= validation_us - duration_us(label_delay):
        have = timedelta(microseconds=latest_us - int(times.min()))
        need = warm_up + validation + 2 * label_delay
        raise LabelsMissing(
            f"the topics span {_days(have)}, and training needs more than {_days(need)}: "
            f"{_days(warm_up)} to warm up, a label delay of {_days(label_delay)} before and after "
            f"the validation, {_days(validation)} of validation; send a longer history, or shorten "
            "them with --warm-up, --label-delay or --validation"
        )
    gap_us = validation_us - duration_us(label_delay)
    if window is not None:
        begin_us = max(begin_us, gap_us - duration_us(window))
    parts = Split(
        training=(times >= begin_us) & (times < gap_us) & (dataset.known_us < validation_us),
        selection=known & (times >= validation_us) & (times < report_us),
        report=known & (times >= report_us) & (times < end_us),
        begin_us=begin_us,
        validation_us=validation_us,
        report_us=report_us,
        end_us=end_us,
    )
    for name in ("training", "selection", "report"):
        mask = getattr(parts, name)
        frauds = int(np.count_nonzero(dataset.is_fraud[mask]))
        rows = int(np.count_nonzero(mask))
        if not 0 < frauds < rows:
            raise LabelsMissing(
                f"labels missing: expected frauds and legitimate transactions in the part for "
                f"{name}, got {frauds} and {rows - frauds}; both classes have to be labelled, and "
                "the labels have to reach the topic within --label-delay"
            )
    return parts


def compromised(rows: Labelled, moment_us: Int64) -> Mask:
    """Tell, for each row, whether its card was known to have a fraud at `moment_us`, shape (n,).

    Such a card is blocked in earnest, so that finding it again is no merit.

    Examples
    --------
    >>> rows = Labelled(
    ...     event_time_us=np.array([1, 5, 9]), card=np.array([7, 7, 8]), amount=np.ones(3),
    ...     is_fraud=np.array([True, False, True]), known_us=np.array([4, 9, 9]), duplicates=0)
    >>> compromised(rows, np.array([3, 5, 5])).tolist()
    [False, True, False]
    """
    cards, number = np.unique(rows.card, return_inverse=True)
    since = np.full(len(cards), NEVER)
    np.minimum.at(since, number[rows.is_fraud], rows.known_us[rows.is_fraud])
    return since[number] < moment_us


def offsets(topics: Mapping[str, Topic]) -> dict[str, list[dict[str, int]]]:
    """Return where each topic was read, as a manifest tells it."""
    return {
        name: [
            {"partition": span.partition, "first": span.low, "end": span.high}
            for span in topic.spans
        ]
        for name, topic in topics.items()
    }


def join(records: pa.Table, labels: pa.Table) -> Joined:
    """Join what is known of transactions to records of them.

    Parameters
    ----------
    records
        `Topic.columns` of transactions or of their scores.
    labels
        `Topic.columns` of the topic of labels. Of repeated labels the first to arrive counts.
    """
    cards, label_cards = _codes(records["card_id"], labels["card_id"])
    ids, label_ids = _codes(records["transaction_id"], labels["transaction_id"])
    # An id is its card's own. Codes are below the number of rows, so that both fit into one number.
    count = len(records) + len(labels)
    pair, label_pair = _codes(
        pa.chunked_array([pa.array(cards * count + ids)]),
        pa.chunked_array([pa.array(label_cards * count + label_ids)]),
    )
    first_of = _first_rows(pair, records["offset"].to_numpy(), count)
    label_of = _first_rows(label_pair, labels["offset"].to_numpy(), count)
    first = np.sort(first_of[first_of >= 0])
    row = label_of[pair[first]]
    found = row >= 0
    is_fraud = np.zeros(len(first), dtype=bool)
    known_us = np.full(len(first), NEVER)
    is_fraud[found] = labels["is_fraud"].to_numpy()[row[found]]
    known_us[found] = labels["labelled_at_us"].to_numpy()[row[found]]
    return Joined(first, cards[first], is_fraud, known_us)


def _codes(ours: pa.ChunkedArray, theirs: pa.ChunkedArray) -> tuple[Int64, Int64]:
    """Return two columns as numbers from 0 on, equal where the values are."""
    encoded = pa.chunked_array([*ours.chunks, *theirs.chunks], ours.type).dictionary_encode()
    codes = [chunk.indices.to_numpy().astype(np.int64) for chunk in encoded.chunks]
    every = np.concatenate([np.zeros(0, dtype=np.int64), *codes])
    return every[: len(ours)], every[len(ours) :]


def _first_rows(code: Int64, offset: Int64, count: int) -> Int64:
    """Return the row of each code below `count` that arrived first; -1 where there is none."""
    found = np.full(count, -1)
    # Of several values for one place the last stays, so the first to arrive is assigned last.
    order = np.argsort(offset, kind="stable")[::-1]
    found[code[order]] = order
    return found


def _days(duration: timedelta) -> str:
    return f"{duration / timedelta(days=1):.1f} d"
