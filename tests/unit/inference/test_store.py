"""What a store is made of: records with a layout, and buckets of keys."""

import numpy as np

from fraudstream.inference.store import Layout

LAYOUT = Layout(numbers=("amount",), identities=("device",))


def test_the_history_that_features_read_is_sorted_by_key_time_and_arrival():
    key, time_us, arrival, amount = np.array([(2, 5, 0, 1), (1, 9, 1, 2), (1, 9, 0, 3)]).T
    values = {"transaction": key, "amount": amount, "device": key}
    events = LAYOUT.events(LAYOUT.pack(key, time_us, arrival, values))
    assert events.key.tolist() == [1, 1, 2]
    assert events.values["amount"].tolist() == [3, 2, 1]
