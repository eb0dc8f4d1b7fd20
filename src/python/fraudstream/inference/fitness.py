"""Whether a model is fit for the traffic of late: beside the one that serves, on the same rows.

A bundle's own checks (`fraudstream.model.bundle`) are of rows that came with it. A model can pass
them and still be wrong for what is seen here: trained on other traffic, or with a threshold that
would bury the analysts.
"""

from dataclasses import dataclass

import numpy as np

from fraudstream.features.history import Float64
from fraudstream.model.bundle import GOLDEN_TOLERANCE
from fraudstream.model.bundle import Bundle

#: How many rows of recent traffic are remembered.
MOST_ROWS = 4096
#: With fewer no model is judged.
LEAST_ROWS = 256

#: A model without any alert is refused where the one that serves has so many.
_TELLING_ALERTS = 10
_QUIET_SHARE = 0.01


class Recent:
    """The latest rows of features, a sample of what was scored.

    Examples
    --------
    >>> recent = Recent(most=3)
    >>> recent.add(np.array([[1.0], [2.0]]))
    >>> recent.add(np.array([[3.0], [4.0]]))
    >>> recent.rows.ravel().tolist()
    [2.0, 3.0, 4.0]
    """

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._most = most
        #: Shape (n, features); the latest come last. Never changed in place.
        self.rows: Float64 = np.zeros((0, 0))

    def add(self, rows: Float64) -> None:
        """Add rows, shape (n, features), and forget the oldest beyond the most."""
        if len(rows):
            both = np.concatenate([self.rows, rows]) if len(self.rows) else rows
            self.rows = both[-self._most :]


@dataclass(frozen=True)
class Bounds:
    """What a model may do with recent traffic.

    Attributes
    ----------
    most_share
        It may call at most this share of the rows alerts.
    most_times
        It may have at most this many times as many alerts as the model that serves. One that calls
        less than a hundredth of the rows alerts counts as if it called so many: a first model that
        is all but silent must not keep out a better one.
    """

    most_share: float = 0.25
    most_times: float = 10.0


def objection(
    candidate: Bundle, serving: Bundle, rows: Float64, bounds: Bounds
) -> tuple[str, str] | None:
    """Return why a model must not serve, or ``None`` if nothing is to be said against it.

    Parameters
    ----------
    candidate
        The model.
    serving
        The one that serves, with the same features.
    rows
        Recent traffic, shape (n, features); at least one.
    bounds
        What it may do.

    Returns
    -------
    tuple of str
        The name of the check that it failed (``"finite"``, ``"constant"`` or ``"alert rate"``),
        and how.
    """
    scores = candidate.score(rows)
    # NaN is neither at least 0 nor at most 1.
    wrong = np.count_nonzero(~((scores >= 0) & (scores <= 1)))
    if wrong:
        return "finite", f"{wrong:,} of {len(rows):,} recent rows get no score in [0, 1]"
    if np.ptp(scores) <= GOLDEN_TOLERANCE:
        return "constant", f"all of {len(rows):,} recent rows score {scores[0]:.6f}"
    alerts = int(np.count_nonzero(scores >= candidate.threshold))
    before = int(np.count_nonzero(serving.score(rows) >= serving.threshold))
    told = (
        f"{alerts:,} alerts in {len(rows):,} recent rows, "
        f"and {before:,} by version {serving.version}"
    )
    if alerts > bounds.most_share * len(rows):
        return "alert rate", f"{told}: at most a share of {bounds.most_share:g} is allowed"
    if alerts > bounds.most_times * max(before, _QUIET_SHARE * len(rows)):
        return "alert rate", f"{told}: at most {bounds.most_times:g} times as many are allowed"
    if not alerts and before >= _TELLING_ALERTS:
        return "alert rate", f"{told}: some are expected"
    return None
