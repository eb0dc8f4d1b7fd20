"""Places in sorted integers, found many at once."""

import numpy as np

from fraudstream.features.history import Int64

#: How far is looked from a cell's begin, before what is left is searched for.
_STEPS = 4
_BEHIND_ALL = np.iinfo(np.int64).max


class Places:
    """Sorted integers, and a grid over them that tells about where each lies.

    There are two to four cells an integer. Where these are spread evenly, a place is found in one
    or two steps, in a quarter of the time of a binary search; where they are not, by one.

    Parameters
    ----------
    values
        In order; from 0 to below ``2**62``.

    Examples
    --------
    >>> Places(np.array([3, 5, 5, 9])).first_after(np.array([2, 5, 6, 9])).tolist()
    [0, 3, 3, 4]
    """

    def __init__(self, values: Int64) -> None:
        self._values = np.append(values, _BEHIND_ALL)
        count = len(values)
        self._lowest = int(values[0]) if count else 0
        span = int(values[-1]) - self._lowest if count else 0
        self._shift = max((span // max(count, 1)).bit_length() - 2, 0)
        held = np.bincount((values - self._lowest) >> self._shift, minlength=1)
        #: How many lie before each cell.
        self._before = np.cumsum(held) - held

    def first_after(self, wanted: Int64) -> Int64:
        """Return, for each of `wanted`, how many are at most that: the position of the first after.

        As ``values.searchsorted(wanted, side="right")``, for what is not below ``-(2**62)``.
        """
        cell = (wanted - self._lowest) >> self._shift
        np.maximum(cell, 0, out=cell)
        np.minimum(cell, len(self._before) - 1, out=cell)
        at = self._before.take(cell)
        looking = np.flatnonzero(self._values.take(at) <= wanted)
        for _ in range(_STEPS):
            if len(looking) == 0:
                return at
            at[looking] += 1
            looking = looking[self._values.take(at.take(looking)) <= wanted.take(looking)]
        at[looking] = self._values.searchsorted(wanted.take(looking), side="right")
        return at
