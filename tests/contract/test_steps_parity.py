"""The two steps of a batch, with a real store, serve what a replay of the topic computes."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest

from contract.dirty_topics import Record
from contract.dirty_topics import dirty_topics
from contract.dirty_topics import replayed
from fraudstream.features.definitions import DEFAULT
from fraudstream.inference.scoring import BUCKETS
from fraudstream.inference.scoring import Destinations
from fraudstream.inference.scoring import card_step
from fraudstream.inference.scoring import label_step
from fraudstream.inference.scoring import merchant_step
from fraudstream.inference.store import EmbeddedStore
from fraudstream.model.bundle import Bundle
from fraudstream.model.bundle import Manifest
from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_transactions
from fraudstream.schema.validation import DEAD_LETTER
from fraudstream.schema.validation import PREDICTION
from fraudstream.schema.validation import validator

TO = Destinations("scores", "predicted", "dead-letters")


class Amounts:
    """Stands for the network: the larger the amount, the higher the score."""

    def get_inputs(self):
        return [type("Input", (), {"name": "features"})]

    def run(self, outputs, inputs):
        (features,) = inputs.values()
        return [(features[:, 0] / (features[:, 0] + 500)).astype(np.float32)]


@pytest.fixture
def bundle():
    manifest = Manifest(
        name="amounts",
        run="none",
        feature_set=DEFAULT.identity,
        feature_hash=DEFAULT.hash,
        feature_names=DEFAULT.names,
        threshold=0.5,
        threshold_policy="by hand",
        label_delay=None,
        metrics={},
        training={},
        usual_values=(0.0,) * len(DEFAULT.names),
    )
    return Bundle(manifest, "1", "0" * 64, pa.table({}), Amounts())


class Stream:
    """The steps without Spark: batches in, documents out."""

    def __init__(self, folder: Path, bundle: Bundle) -> None:
        self.folder = folder
        self.bundle = bundle
        self.stores: dict[str, EmbeddedStore] = {}

    def store(self, name: str) -> EmbeddedStore:
        if name not in self.stores:
            self.stores[name] = EmbeddedStore(self.folder / name)
        return self.stores[name]

    def process(self, records: list[Record], batch: int) -> list[dict]:
        handed = []
        for place in sorted({(r.topic, r.partition) for r in records}):
            mine = [r for r in records if (r.topic, r.partition) == place]
            values = [r.value for r in mine]
            appended = np.array([r.appended_ms for r in mine])
            offsets = np.array([r.offset for r in mine])
            store = self.store(f"{place[0]}-{place[1]}")
            if place[0] == "labels":
                decoded = decode_labels(values, appended)
                handed.append(label_step(decoded, values, place, offsets, batch, store))
            else:
                decoded = decode_transactions(values, appended)
                handed.append(card_step(DEFAULT, decoded, values, place, offsets, batch, store))
        rows = pa.concat_tables(handed)
        buckets = rows["bucket"].to_numpy()
        out = []
        for bucket in range(BUCKETS):
            mine = rows.filter(pa.array(buckets == bucket))
            store = self.store(f"merchants-{bucket}")
            out += merchant_step(DEFAULT, self.bundle, mine, store, TO, 1.0).to_pylist()
        return out


def served(documents: list[dict]) -> dict[str, list[float]]:
    features = {}
    for document in documents:
        if document["topic"] == "scores":
            score = orjson.loads(document["value"])
            assert score["transaction_id"] not in features, "scored twice"
            row = [score["features"][name] for name in DEFAULT.names]
            features[score["transaction_id"]] = [np.nan if v is None else v for v in row]
    return features


@pytest.fixture(scope="module")
def records():
    return dirty_topics(days=12, cards=60, seed=3)


@pytest.mark.parametrize("batches", [1, 7, 60])
def test_served_features_equal_a_replay_however_the_stream_is_cut(
    records, bundle, batches, tmp_path
):
    stream = Stream(tmp_path, bundle)
    cuts = np.linspace(0, len(records), batches + 1).astype(int)
    out = []
    for batch, (start, stop) in enumerate(pairwise(cuts)):
        out += stream.process(records[start:stop], batch)
    features = served(out)
    expected = replayed(DEFAULT, records)
    assert features.keys() == expected.keys()
    ids = list(expected)
    np.testing.assert_allclose(
        [features[i] for i in ids], [expected[i] for i in ids], rtol=0, atol=1e-9
    )


def test_a_repeated_batch_gives_the_same_documents(records, bundle, tmp_path):
    stream = Stream(tmp_path, bundle)
    half = len(records) // 2
    stream.process(records[:half], 0)
    first = stream.process(records[half:], 1)
    again = stream.process(records[half:], 1)

    def without_dead_letters(documents):
        return [d for d in documents if d["topic"] != "dead-letters"]

    assert without_dead_letters(again) == without_dead_letters(first)


def test_every_record_is_scored_once_or_set_aside_with_its_reason(records, bundle, tmp_path):
    out = Stream(tmp_path, bundle).process(records, 0)
    scored = served(out)
    letters = [orjson.loads(d["value"]) for d in out if d["topic"] == "dead-letters"]
    for letter in letters:
        assert validator(DEAD_LETTER).explain(letter) is None
    set_aside = {(x["topic"], x["partition"], x["offset"]) for x in letters}
    assert len(set_aside) == len(letters) > 0
    for record in records:
        if record.topic == "transactions":
            place = (record.topic, record.partition, record.offset)
            assert (place in set_aside) != (record.id in scored)


def test_outgoing_documents_keep_to_the_schema_and_alerts_carry_reasons(records, bundle, tmp_path):
    out = Stream(tmp_path, bundle).process(records, 0)
    scores = {}
    for document in out:
        if document["topic"] != "dead-letters":
            prediction = orjson.loads(document["value"])
            assert validator(PREDICTION).explain(prediction) is None
            assert document["key"] == prediction["card_id"].encode()
            assert prediction["is_alert"] == (prediction["score"] >= 0.5)
            scores.setdefault(document["topic"], []).append(prediction)
    assert scores["predicted"] == [s for s in scores["scores"] if s["is_alert"]] != []
    assert all(s["reasons"] for s in scores["predicted"] if s["amount"] > 500)
    assert not any(s["reasons"] for s in scores["scores"] if not s["is_alert"])
    assert any(s["is_late"] for s in scores["scores"])
