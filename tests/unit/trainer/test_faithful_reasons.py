"""What is named as the reason is what the trained model goes by.

A network is trained on simulated transactions with the default features. Reasons are then tested by
taking groups away, from the network itself and not from its export, in two ways: by setting the
group to its usual values, and by giving it the values of legitimate transactions drawn at random,
by which the reasons were not chosen.
"""

from dataclasses import dataclass
from dataclasses import replace
from datetime import UTC
from datetime import datetime
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pytest

from fraudstream.features.sets import DEFAULT
from fraudstream.model.bundle import distributions
from fraudstream.model.bundle import load_bundle
from fraudstream.model.bundle import write_bundle
from fraudstream.model.network import Network
from fraudstream.model.network import predict
from fraudstream.model.reasons import Reason
from fraudstream.model.reasons import strongest
from fraudstream.model.reasons import usual_values
from fraudstream.model.served import export
from fraudstream.schema.decoding import Decoded
from fraudstream.schema.decoding import decode_labels
from fraudstream.schema.decoding import decode_transactions
from fraudstream.simulator.stream import Simulation
from fraudstream.simulator.world import WorldSpec
from fraudstream.trainer.dataset import build
from fraudstream.trainer.train import Settings
from fraudstream.trainer.train import train
from unit.model.example_bundles import tiny_manifest

DAYS = 40
FLAGGED = 200
#: How many times more the named reason has to count than a random other group.
MARGIN = 3.0


@dataclass(frozen=True)
class Flagged:
    """Flagged rows of one model, their reasons, and rows that are legitimate."""

    network: Network
    usual: np.ndarray
    rows: np.ndarray
    legitimate: np.ndarray
    reasons: list[list[Reason]]

    def lost(self, groups: list[str], drawn: int | None = None) -> np.ndarray:
        """What the score of each row loses without its group.

        Taken away by usual values, or by those of legitimate rows that the seed `drawn` draws.
        """
        instead = np.broadcast_to(self.usual, self.rows.shape)
        if drawn is not None:
            some = np.random.default_rng(drawn).integers(0, len(self.legitimate), len(self.rows))
            instead = self.legitimate[some]
        without = self.rows.copy()
        for row, group in enumerate(groups):
            columns = DEFAULT.groups[group]
            without[row, columns] = instead[row, columns]
        return predict(self.network, self.rows) - predict(self.network, without)


def placed(decoded: Decoded) -> pa.Table:
    """Decoded records as if all had come in one partition."""
    count = len(decoded.columns)
    return decoded.columns.append_column(
        "partition", pa.array(np.zeros(count, dtype=np.int64))
    ).append_column("offset", pa.array(np.arange(count)))


@pytest.fixture(scope="module")
def flagged(tmp_path_factory: pytest.TempPathFactory) -> Flagged:
    simulation = Simulation(WorldSpec(cards=400), datetime(2026, 1, 1, tzinfo=UTC))
    days = [simulation.day(day) for day in range(DAYS)]
    transactions = [orjson.dumps(each) for day in days for each in day.transactions()]
    labels = [orjson.dumps(each) for day in days for each in day.labels()]
    # Labels arrive in the order in which they become known.
    labels.sort(key=lambda value: orjson.loads(value)["labelled_at"])
    late_ms = np.full(len(transactions), 2**42)
    dataset = build(
        DEFAULT,
        placed(decode_transactions(transactions, late_ms)),
        placed(decode_labels(labels, late_ms)),
    )
    half = len(dataset) // 2
    trained = train(
        dataset.features[:half],
        dataset.is_fraud[:half],
        dataset.features[half:],
        dataset.is_fraud[half:],
        Settings(epochs=3),
        lambda _: None,
        threads=1,
    )
    usual = usual_values(dataset.features[:half], dataset.is_fraud[:half])
    scores = predict(trained.network, dataset.features)
    folder: Path = tmp_path_factory.mktemp("bundle")
    golden = np.argsort(scores, kind="stable")[:: len(scores) // 10]
    manifest = replace(
        tiny_manifest(),
        feature_set=DEFAULT.identity,
        feature_hash=DEFAULT.hash,
        feature_names=DEFAULT.names,
        usual_values=tuple(usual.tolist()),
    )
    write_bundle(
        folder,
        manifest,
        export(trained.network),
        distributions(DEFAULT.names, dataset.features[half:], scores[half:]),
        dataset.features[golden],
        scores[golden],
    )
    rows = dataset.features[half:][np.argsort(-scores[half:], kind="stable")[:FLAGGED]]
    reasons = strongest(load_bundle(folder, DEFAULT), DEFAULT, rows)
    assert all(reasons), "a flagged row has a reason"
    legitimate = dataset.features[half:][~dataset.is_fraud[half:]]
    return Flagged(trained.network, usual, rows, legitimate, reasons)


def named(flagged: Flagged) -> list[str]:
    return [reasons[0].group for reasons in flagged.reasons]


def others(flagged: Flagged, seed: int) -> list[str]:
    """For each row a group that is not the one that is named."""
    random = np.random.default_rng(seed)
    groups = list(DEFAULT.groups)
    return [str(random.choice([each for each in groups if each != its])) for its in named(flagged)]


def counts_for(flagged: Flagged, groups: list[str], drawn: int | None) -> float:
    """How many times more these groups count than random ones that are not named."""
    random = np.mean([flagged.lost(others(flagged, seed), drawn).mean() for seed in range(5)])
    return float(flagged.lost(groups, drawn).mean() / random)


@pytest.mark.parametrize("drawn", [None, 0, 1])
def test_removing_the_named_reason_lowers_the_score_more_than_removing_another(
    flagged: Flagged, drawn: int | None
) -> None:
    assert counts_for(flagged, named(flagged), drawn) > MARGIN


@pytest.mark.parametrize("drawn", [None, 0, 1])
def test_reasons_are_those_of_their_own_row(flagged: Flagged, drawn: int | None) -> None:
    shuffled = np.random.default_rng(7).permutation(named(flagged)).tolist()
    assert flagged.lost(named(flagged), drawn).mean() > 1.5 * flagged.lost(shuffled, drawn).mean()


@pytest.mark.parametrize("drawn", [None, 0, 1])
def test_reasons_of_other_groups_do_not_pass_the_test(flagged: Flagged, drawn: int | None) -> None:
    shuffled = others(flagged, seed=99)
    assert counts_for(flagged, shuffled, drawn) < MARGIN


def test_the_first_reason_counts_more_than_the_second_and_the_second_than_the_third(
    flagged: Flagged,
) -> None:
    rows = [row for row, reasons in enumerate(flagged.reasons) if len(reasons) == 3]
    assert len(rows) > FLAGGED // 2
    lost = [
        flagged.lost([reasons[min(rank, len(reasons) - 1)].group for reasons in flagged.reasons])
        for rank in range(3)
    ]
    first, second, third = (each[rows].mean() for each in lost)
    assert first > second > third > 0


def test_every_reason_of_a_flagged_row_can_be_read(flagged: Flagged) -> None:
    told = [reason for reasons in flagged.reasons for reason in reasons]
    assert len({reason.sentence for reason in told}) > FLAGGED
    assert {"card", "all"} <= {reason.usual_of for reason in told}
    for reason in told:
        assert "_" not in reason.sentence
        assert reason.usual is None or np.isfinite(reason.usual)
