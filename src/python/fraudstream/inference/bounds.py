"""How much of a key the stream remembers: what a later moment may ask for, and no more.

A window sees the latest `FeatureSet.most_events` events of a key, of those that had arrived when
its transaction came: see `fraudstream.features.view`. What lies behind these can be forgotten once
no transaction will come to which they had been the latest. So three sorts of events are kept:

* the latest ones as they stand after a batch, which is what the next one sees;
* those that have come and not yet arrived, since they are within the visibility lag;
* of what was there before the batch, the latest ones as they stood then, in case Spark repeats the
  batch. What the batch itself has brought comes again with it.

Each sort is at most `most` events, and the last one as many again that were within the lag: a key
holds at most four times as many. **Up to that, what is kept is exact**: features are the same as if
everything had been kept. Past it they differ where more than `most` events of a key come within
the visibility lag, or while partitions of the topic lie apart by as many.

A key is written anew only when more than an eighth of it need not be kept: so much more is held.
"""

from dataclasses import dataclass
import sys

import numpy as np
import numpy.typing as npt

from fraudstream.features.history import Int64

Records = npt.NDArray[np.void]
Mask = npt.NDArray[np.bool_]

_NEVER = -sys.maxsize


@dataclass(frozen=True)
class Bound:
    """What is kept of the keys of a batch.

    Attributes
    ----------
    most
        See `FeatureSet.most_events`.
    oldest_us
        Nothing whose time lies before it, in microseconds since the epoch: further back than any
        window of the batch reaches, from its first transaction on.
    before, after
        What had arrived to the first transaction of the batch, and what has to the first one that
        may come after it: a partition clock less the visibility lag, or an offset. The defaults
        say that no transaction looks.
    """

    most: int
    oldest_us: int
    before: int = _NEVER
    after: int = _NEVER

    def kept(self, records: Records, is_new: Mask) -> Mask:
        """Tell which records are kept.

        Parameters
        ----------
        records
            Of all that is known of some keys, by key, time, arrival and transaction:
            `fraudstream.inference.store.Layout.dtype`.
        is_new
            Which of these the batch has brought.

        Examples
        --------
        >>> places = [(name, "i8") for name in ("key", "time_us", "arrival", "transaction")]
        >>> four = np.array([(7, n, n, n) for n in range(4)], dtype=places)
        >>> Bound(1, 0, before=1, after=2).kept(four, four["arrival"] > 1).tolist()
        [False, True, True, True]
        """
        recent = records["time_us"] >= self.oldest_us
        key = np.ascontiguousarray(records["key"])
        count = np.diff(begins(key), append=len(key))
        if (count <= self.most).all():
            return recent
        many = np.repeat(count > self.most, count)
        kept = ~many
        arrival = records["arrival"]
        for of, horizon in ((many & ~is_new, self.before), (many & is_new, self.after)):
            arrived = many & (arrival <= horizon)
            # What has arrived is held against all that has; what has not, against its own sort.
            for sort in (arrived, of & ~arrived):
                rows = np.flatnonzero(sort)
                latest = rows[_place_from_end(key.take(rows)) < self.most]
                kept[latest[of[latest]]] = True
        return recent & kept


def begins(key: Int64) -> Int64:
    """Return where each run of equal keys begins.

    Examples
    --------
    >>> begins(np.array([7, 7, 3])).tolist(), begins(np.zeros(0, dtype=np.int64)).tolist()
    ([0, 2], [])
    """
    return np.flatnonzero(np.append(True, key[1:] != key[:-1])[: len(key)])


def _place_from_end(key: Int64) -> Int64:
    """Return how many of the same run of equal keys follow each."""
    starts = begins(key)
    count = np.diff(starts, append=len(key))
    return np.repeat(starts + count, count) - np.arange(len(key)) - 1
