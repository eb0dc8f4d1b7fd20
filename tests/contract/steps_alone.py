"""The steps of a batch without Spark: records in, documents out."""

from functools import partial
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa

from contract.dirty_topics import Record
from fraudstream.features.definitions import FeatureSet
from fraudstream.features.sets import DEFAULT
from fraudstream.inference.embedded import EmbeddedState
from fraudstream.inference.scoring import Destinations
from fraudstream.inference.scoring import results
from fraudstream.inference.steps import card_step
from fraudstream.inference.steps import key_step
from fraudstream.inference.steps import label_step
from fraudstream.inference.steps import shared_keys
from fraudstream.inference.store import Buckets
from fraudstream.inference.store import PartitionStore
from fraudstream.inference.store import State
from fraudstream.model.bundle import Bundle
from fraudstream.model.bundle import Manifest
from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_transactions

TO = Destinations("scores", "predicted", "dead-letters")


class Amounts:
    """Stands for the network: the larger the amount, the higher the score."""

    def get_inputs(self):
        return [type("Input", (), {"name": "features"})]

    def run(self, outputs, inputs):
        (features,) = inputs.values()
        return [(features[:, 0] / (features[:, 0] + 500)).astype(np.float32)]


def bundle_of(feature_set):
    manifest = Manifest(
        name="amounts",
        run="none",
        feature_set=feature_set.identity,
        feature_hash=feature_set.hash,
        feature_names=feature_set.names,
        threshold=0.5,
        threshold_policy="by hand",
        threshold_figures={},
        label_delay=None,
        metrics={},
        training={},
        usual_values=(0.0,) * len(feature_set.names),
    )
    return Bundle(manifest, "1", "0" * 64, pa.table({}), Amounts())


class Stream:
    """The steps without Spark: batches in, documents out."""

    def __init__(self, state: State, feature_set: FeatureSet = DEFAULT) -> None:
        self.state = state
        self.feature_set = feature_set
        self.bundle = bundle_of(feature_set)

    def store(self, name: str, batch: int = 0) -> PartitionStore:
        return self.state.open(name, batch)

    def _bucket(self, key: str, batch: int, bucket: int) -> PartitionStore:
        return self.store(f"by-{key}-{bucket}", batch)

    def process(self, records: list[Record], batch: int) -> list[dict]:
        begun = self.state.begin(batch)
        handed = []
        for place in sorted({(r.topic, r.partition) for r in records}):
            mine = [r for r in records if (r.topic, r.partition) == place]
            values = [r.value for r in mine]
            step, decode = (
                (label_step, decode_labels)
                if place[0] == "labels"
                else (card_step, decode_transactions)
            )
            store = self.store(f"{place[0]}-{place[1]}", batch)
            decoded = decode(values, np.array([r.appended_ms for r in mine]))
            handed.append(
                step(
                    self.feature_set,
                    decoded,
                    [values[rejection.row] for rejection in decoded.rejections],
                    place,
                    np.array([r.offset for r in mine]),
                    batch,
                    store,
                    store.clock_before(batch),
                )
            )
        rows = pa.concat_tables(handed)
        for key in shared_keys(self.feature_set):
            buckets = Buckets(partial(self._bucket, key, batch))
            # Two tasks, each with half of the buckets.
            halves = [rows.filter(pa.array(rows["bucket"].to_numpy() % 2 == n)) for n in (0, 1)]
            rows = pa.concat_tables(
                [key_step(self.feature_set, key, half, batch, buckets) for half in halves]
            )
        out: list[dict] = results(self.feature_set, self.bundle, rows, TO, 1.0).outgoing.to_pylist()
        self.state.keep(batch, begun)
        return out


def new_state(folder: Path) -> State:
    """Return embedded state that remembers nothing."""
    state = EmbeddedState(folder / "state" / "one")
    state.create(-1)
    return state


def served(documents: list[dict], feature_set: FeatureSet = DEFAULT) -> dict[str, list[float]]:
    features = {}
    for document in documents:
        if document["topic"] == "scores":
            score = orjson.loads(document["value"])
            assert score["transaction_id"] not in features, "scored twice"
            row = [score["features"][name] for name in feature_set.names]
            features[score["transaction_id"]] = [np.nan if v is None else v for v in row]
    return features
