"""Why a transaction was flagged, asked of the served model itself.

A group of features is replaced by its usual values, and the transaction is scored again: what the
score loses is what the group had contributed (occlusion; Zeiler and Fergus, "Visualizing and
Understanding Convolutional Networks", 2014, section 4.2). Groups rather than single features,
because features of one group say the same thing in different windows, and where one is replaced
the others still speak.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fraudstream.features.definitions import FeatureSet
from fraudstream.model.bundle import Bundle
from fraudstream.model.sentences import Narrator

#: Rows explained at a time: each becomes a row per group.
_ROWS_AT_A_TIME = 1024


@dataclass(frozen=True)
class Reason:
    """One reason for a score.

    Attributes
    ----------
    group
        The group of features.
    feature
        The feature of the group that lowers the score most when it alone is set to its usual
        value.
    value
        That feature's value in the transaction; ``None`` if it is absent.
    contribution
        By how much the score falls when the whole group is set to its usual values; above 0.
    usual, usual_of, sentence
        What is normal, for whom, and value and normal in words; see
        `fraudstream.model.sentences.Told`.
    """

    group: str
    feature: str
    value: float | None
    contribution: float
    usual: float | None
    usual_of: str
    sentence: str


def strongest(
    bundle: Bundle,
    feature_set: FeatureSet,
    features: npt.NDArray[np.floating],
    limit: int = 3,
) -> list[list[Reason]]:
    """Return the reasons for the score of each row, strongest first.

    The model is asked a few times per thousand rows, never once a row; meant for flagged rows, as
    each costs as much as one row per group of features.

    Parameters
    ----------
    bundle
        The model that gave the scores.
    feature_set
        The features of the model. Groups of equal contributions are listed in the order in which
        the set has them.
    features
        The rows, shape (n, k), as `Bundle.score` takes them.
    limit
        How many reasons a row has at most. It has fewer where fewer groups raise its score.

    Returns
    -------
    list
        One list a row.
    """
    explained: list[list[Reason]] = []
    for start in range(0, len(features), _ROWS_AT_A_TIME):
        explained += _explain(bundle, feature_set, features[start : start + _ROWS_AT_A_TIME], limit)
    return explained


def usual_values(
    features: npt.NDArray[np.floating], is_fraud: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Return what is usual for a legitimate transaction, shape (k,).

    The median of the legitimate rows' values, or NaN for a feature that most of them lack.

    Examples
    --------
    >>> rows = np.array([[1.0, np.nan], [2.0, np.nan], [3.0, 9.0], [99.0, 9.0]])
    >>> usual_values(rows, np.array([False, False, False, True]))
    array([ 2., nan])
    """
    # NaN sorts last, so that the median of a column with few values is itself absent.
    ordered = np.sort(features[~is_fraud], axis=0)
    if not len(ordered):
        raise ValueError("expected a legitimate transaction, every one is a fraud")
    return ordered[(len(ordered) - 1) // 2].astype(np.float64)


def _explain(
    bundle: Bundle,
    feature_set: FeatureSet,
    features: npt.NDArray[np.floating],
    limit: int,
) -> list[list[Reason]]:
    rows, width = features.shape
    groups = feature_set.groups
    names = list(groups)
    members = np.zeros((len(names), width), dtype=bool)
    for number, name in enumerate(names):
        members[number, list(groups[name])] = True

    scores = bundle.score(features)
    every_row = np.repeat(np.arange(rows), len(names))
    every_group = np.tile(np.arange(len(names)), rows)
    losses = _losses(bundle, features, scores, every_row, members[every_group])
    losses = losses.reshape(rows, len(names))
    order = np.argsort(-losses, axis=1, kind="stable")[:, :limit]

    # Within the chosen groups, each feature by itself.
    chosen_row, chosen_rank = np.nonzero(np.take_along_axis(losses, order, axis=1) > 0)
    chosen_group = order[chosen_row, chosen_rank]
    pair, column = np.nonzero(members[chosen_group])
    single = _losses(bundle, features, scores, chosen_row[pair], np.eye(width, dtype=bool)[column])
    by_feature = np.full((len(chosen_row), width), -np.inf)
    by_feature[pair, column] = single
    best = np.argmax(by_feature, axis=1) if len(by_feature) else np.empty(0, dtype=np.int64)

    narrator = Narrator(feature_set, bundle.usual_values)
    explained: list[list[Reason]] = [[] for _ in range(rows)]
    for row, group, column_of_best in zip(
        chosen_row.tolist(), chosen_group.tolist(), best.tolist(), strict=True
    ):
        value = float(features[row, column_of_best])
        told = narrator.tell(features[row], column_of_best)
        explained[row].append(
            Reason(
                group=names[group],
                feature=bundle.feature_names[column_of_best],
                value=None if np.isnan(value) else value,
                contribution=float(losses[row, group]),
                usual=told.usual,
                usual_of=told.usual_of,
                sentence=told.sentence,
            )
        )
    return explained


def _losses(
    bundle: Bundle,
    features: npt.NDArray[np.floating],
    scores: npt.NDArray[np.float64],
    row: npt.NDArray[np.int64],
    hidden: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    """Return what the score of each `row` loses when its columns in `hidden` become usual."""
    occluded = np.where(hidden, bundle.usual_values, features[row])
    return scores[row] - bundle.score(occluded)
