"""The models at work: swapped between batches, pinned to each, refused when unfit, and kept."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
import shutil

import pytest
from structlog.testing import capture_logs

from fraudstream.features.sets import DEFAULT
from fraudstream.inference.champion import ChampionGone
from fraudstream.inference.champion import Models
from fraudstream.inference.champion import NoChampion
from fraudstream.inference.fitness import Bounds
from fraudstream.inference.kept import Kept
from fraudstream.inference.registry import RegistryUnreachable
from fraudstream.model.bundle import BundleRefused
from unit.inference.shelves import TRAFFIC
from unit.inference.shelves import Shelf
from unit.model.example_bundles import TINY


def kept(folder: Path) -> set[str]:
    return {each.name.partition("-")[0] for each in (folder / "kept" / "bundles").iterdir()}


def version(models: Models, batch: int) -> str:
    return models.for_batch(batch, 2).champion.version


# --- the champion --------------------------------------------------------------------------------


def test_without_any_champion_the_stream_does_not_start(started):
    models = started()
    with pytest.raises(NoChampion, match=r"train one with `trainer\.pex train`"):
        models.current()
    models.look()
    with pytest.raises(NoChampion):
        models.for_batch(0, 2)


def test_a_new_champion_serves_from_the_next_batch_on(shelf, serving, told):
    assert version(serving, 0) == "1"
    shelf.add("2", seed=1)
    assert version(serving, 1) == "1"
    serving.look()
    assert version(serving, 2) == "2"
    assert told.serving == {"champion": "2"}


def test_a_champion_that_is_moved_back_serves_again_without_being_fetched_again(
    shelf, serving, started
):
    version(serving, 0)
    shelf.add("2", seed=1)
    serving.look()
    assert version(serving, 1) == "2"
    shelf.aliases["champion"] = "1"
    serving.look()
    assert version(serving, 2) == "1"
    assert started().current().version == "1"
    assert shelf.fetched == ["1", "2"]


def test_a_repeated_batch_is_cut_into_as_many_shards_as_at_first(serving, started):
    serving.for_batch(0, 2)
    restarted = started()
    assert restarted.for_batch(0, 4).shards == 2
    assert restarted.for_batch(1, 4).shards == 4


def test_a_repeated_batch_uses_its_champion_and_no_challenger(shelf, serving, started):
    # Were it the challenger by which its workers end, it would be repeated for ever.
    shelf.add("3", seed=3, alias="challenger")
    serving.look()
    first = serving.for_batch(0, 2)
    assert (first.champion.version, first.challenger.version) == ("1", "3")
    shelf.add("2", seed=1)
    del shelf.aliases["challenger"]
    serving.look()
    restarted = started()
    for models in (serving, restarted):
        again = models.for_batch(0, 2)
        assert (again.champion.digest, again.challenger) == (first.champion.digest, None)
    pin = restarted.for_batch(1, 2)
    assert (pin.champion.version, pin.challenger) == ("2", None)


def test_a_registry_out_of_reach_stops_nothing_that_runs_nor_a_restart(shelf, serving, started):
    shelf.set(reachable=False)
    with capture_logs() as lines:
        serving.look()
        serving.look()
    assert [line["event"] for line in lines] == ["registry unreachable"]
    assert version(serving, 0) == "1"
    assert version(started(), 3) == "1"
    shelf.set(reachable=True)
    shelf.add("2", seed=1)
    serving.look()
    assert version(serving, 4) == "2"


def test_a_registry_out_of_reach_at_the_very_first_start_is_an_error(shelf, started):
    shelf.set(reachable=False)
    with pytest.raises(RegistryUnreachable):
        started().current()


def test_an_artifact_store_out_of_reach_stops_nothing(shelf, serving, monkeypatch):
    shelf.add("2", seed=1)

    def fetch(version, folder):
        raise RegistryUnreachable("no artifact store answers")

    shelf.set(fetch=fetch)
    serving.look()
    assert version(serving, 0) == "1"


# --- what is refused -----------------------------------------------------------------------------


def damaged(shelf: Shelf) -> None:
    file = shelf.add("2", seed=1) / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\x00")


def of_other_features(shelf: Shelf) -> None:
    other = replace(TINY, version=2, most_events=7)
    shelf.add("2", seed=1, feature_set=other.identity, feature_hash=other.hash)


def of_another_digest(shelf: Shelf) -> None:
    shelf.add("2", seed=1)
    shelf.digests["2"] = "f" * 64


def alarmist(shelf: Shelf) -> None:
    shelf.add("2", seed=1, threshold=0.0)


UNFIT: dict[str, Callable[[Shelf], None]] = {
    "damaged": damaged,
    "of other features": of_other_features,
    "of another digest than registered": of_another_digest,
    "calling all traffic alerts": alarmist,
}
CHECKS = {"of other features": "feature set", "calling all traffic alerts": "alert rate"}


@pytest.mark.parametrize("why", UNFIT)
def test_an_unfit_champion_is_refused_loudly_once_and_the_last_good_one_serves_on(
    shelf, serving, started, told, tmp_path, why
):
    UNFIT[why](shelf)
    with capture_logs() as lines:
        for batch in range(3):
            serving.look()
            assert version(serving, batch) == "1"
    [refusal] = [line for line in lines if line["event"] == "model refused"]
    assert (refusal["log_level"], refusal["version"], refusal["serving"]) == ("warning", "2", "1")
    check = CHECKS.get(why, "digest")
    assert f"check of its {check}" in refusal["why"]
    assert told.refusals == {("champion", check): 1}
    # Neither does a restart take it, be MLflow there or not.
    for reachable in (True, False):
        shelf.set(reachable=reachable)
        restarted = started()
        restarted.saw(TRAFFIC)
        restarted.look()
        assert version(restarted, 9) == "1"
    assert kept(tmp_path) == {"1"}


def test_a_damaged_first_champion_is_an_error(shelf, started, told):
    (shelf.add("1") / "model.onnx").write_bytes(b"")
    models = started()
    with pytest.raises(BundleRefused, match="digest"):
        models.current()
    models.look()
    assert told.refusals == {("champion", "digest"): 1}


def test_a_first_champion_of_another_feature_set_is_refused(shelf, told, tmp_path):
    shelf.add("1")
    with pytest.raises(BundleRefused, match="feature set"):
        Models(shelf, Kept(tmp_path / "kept", DEFAULT), told).current()


def test_a_new_champion_waits_until_there_is_traffic_to_judge_it_by(shelf, serving, started):
    shelf.add("2", seed=1, threshold=0.0)
    restarted = started()
    restarted.saw(TRAFFIC[:-1])
    with capture_logs() as lines:
        restarted.look()
        restarted.look()
    assert [line["event"] for line in lines] == ["model waits for traffic"]
    assert version(restarted, 0) == "1"
    restarted.saw(TRAFFIC[:1])
    restarted.look()
    assert version(restarted, 1) == "1"
    shelf.add("3", seed=1)
    restarted.look()
    assert version(restarted, 2) == "3"


def test_a_champion_that_waits_and_is_moved_back_does_not_serve(shelf, serving, started):
    restarted = started()
    shelf.add("2", seed=1)
    restarted.look()
    shelf.aliases["champion"] = "1"
    restarted.look()
    restarted.saw(TRAFFIC)
    restarted.look()
    assert version(restarted, 0) == "1"


def test_bounds_of_alerts_can_be_chosen(shelf, started):
    shelf.add("1")
    models = started(bounds=Bounds(most_share=1.0, most_times=1e9))
    models.look()
    models.saw(TRAFFIC)
    shelf.add("2", seed=1, threshold=0.0)
    models.look()
    assert version(models, 0) == "2"


# --- what is kept --------------------------------------------------------------------------------


def test_a_registry_made_anew_that_counts_from_1_is_not_taken_for_the_old_one(
    shelf, serving, started, tmp_path
):
    old = serving.for_batch(0, 2).champion
    anew = Shelf(tmp_path, "anew")
    anew.add("1", seed=7)
    models = started(anew)
    assert models.current().digest == old.digest
    models.saw(TRAFFIC)
    models.look()
    new = models.for_batch(1, 2).champion
    assert (new.version, new.digest) == ("1", anew.digests["1"])
    assert new.digest != old.digest
    # A batch of the old one is repeated with the old one.
    assert started(anew).for_batch(0, 2).champion.digest == old.digest


def test_kept_versions_go_when_no_remembered_batch_needs_them(shelf, serving, tmp_path):
    version(serving, 0)
    shelf.add("2", seed=1)
    serving.look()
    for batch in range(1, 20):
        version(serving, batch)
    serving.look()
    assert kept(tmp_path) == {"1", "2"}
    version(serving, 20)
    serving.look()
    assert kept(tmp_path) == {"2"}
    assert len(list((tmp_path / "kept" / "batches").iterdir())) == 20


def test_a_kept_model_that_is_damaged_is_fetched_again(shelf, serving, started, tmp_path):
    [bundle] = (tmp_path / "kept" / "bundles").iterdir()
    (bundle / "model.onnx").write_bytes(b"")
    with capture_logs() as lines:
        restarted = started()
    assert [line["event"] for line in lines] == ["kept model refused"]
    assert restarted.current().version == "1"
    assert version(restarted, 0) == "1"
    assert version(started(), 1) == "1"


def test_a_repeat_gets_its_champion_from_the_registry_where_it_is_damaged(
    shelf, serving, started, tmp_path
):
    first = serving.for_batch(0, 2)
    shelf.add("2", seed=1)
    serving.look()
    [bundle] = (tmp_path / "kept" / "bundles").glob("1-*")
    (bundle / "model.onnx").write_bytes(b"")
    shelf.set(reachable=False)
    with pytest.raises(RegistryUnreachable):
        started().for_batch(0, 2)
    shelf.set(reachable=True)
    assert started().for_batch(0, 2).champion.digest == first.champion.digest
    assert shelf.fetched == ["1", "2", "1"]


def test_a_repeat_fails_where_the_registry_has_another_model_under_its_version(
    shelf, serving, started, tmp_path
):
    serving.for_batch(0, 2)
    [bundle] = (tmp_path / "kept" / "bundles").iterdir()
    shutil.rmtree(bundle)
    shutil.rmtree(shelf.folder / "1")
    shelf.add("1", seed=1)
    with pytest.raises(ChampionGone, match=r"batch 0 .* version 1 .* check of its digest"):
        started().for_batch(0, 2)


def test_a_batch_that_was_begun_with_other_features_says_what_to_do(shelf, serving, told, tmp_path):
    serving.for_batch(0, 2)
    restarted = Models(shelf, Kept(tmp_path / "kept", replace(TINY, most_events=9)), told)
    with pytest.raises(ChampionGone, match=r"check of its feature set now: run the fraudstream"):
        restarted.for_batch(0, 2)


def test_what_served_is_not_known_where_the_note_of_it_is_damaged(serving, started, tmp_path):
    (tmp_path / "kept" / "serving.json").write_bytes(b"")
    with capture_logs() as lines:
        restarted = started()
    assert [line["event"] for line in lines] == ["what served is not known"]
    assert restarted.current().version == "1"


def test_what_a_killed_download_left_is_removed(serving, started, tmp_path):
    left = tmp_path / "kept" / "incoming" / "tmpx"
    left.mkdir()
    started()
    assert not left.exists()


def test_the_files_of_a_bundle_are_what_workers_load(shelf, serving):
    files = serving.files(serving.current())
    assert files == {f.name: f.read_bytes() for f in (shelf.folder / "1").iterdir()}


# --- the challenger ------------------------------------------------------------------------------


def test_a_challenger_scores_from_the_next_batch_on_and_goes_when_its_alias_goes(
    shelf, serving, told
):
    shelf.add("2", seed=1, alias="challenger")
    assert serving.for_batch(0, 2).challenger is None
    serving.look()
    pin = serving.for_batch(1, 2)
    assert (pin.champion.version, pin.challenger.version) == ("1", "2")
    assert told.serving == {"champion": "1", "challenger": "2"}
    del shelf.aliases["challenger"]
    serving.look()
    assert serving.for_batch(2, 2).challenger is None
    assert told.serving == {"champion": "1"}


def test_a_challenger_is_there_again_after_a_cold_start_without_a_registry(shelf, serving, started):
    shelf.add("2", seed=1, alias="challenger")
    serving.look()
    shelf.set(reachable=False)
    pin = started().for_batch(0, 2)
    assert (pin.champion.version, pin.challenger.version) == ("1", "2")


def test_a_challenger_that_becomes_champion_is_none_any_more(shelf, serving):
    shelf.add("2", seed=1, alias="challenger")
    serving.look()
    shelf.aliases["champion"] = "2"
    serving.look()
    pin = serving.for_batch(0, 2)
    assert (pin.champion.version, pin.challenger) == ("2", None)


@pytest.mark.parametrize("why", UNFIT)
def test_a_refused_challenger_changes_nothing_for_the_champion(shelf, serving, told, why):
    UNFIT[why](shelf)
    shelf.aliases.update(champion="1", challenger="2")
    serving.look()
    serving.look()
    pin = serving.for_batch(0, 2)
    assert (pin.champion.version, pin.challenger) == ("1", None)
    assert told.refusals == {("challenger", CHECKS.get(why, "digest")): 1}


def test_a_challenger_that_is_refused_takes_the_place_of_the_one_before_it(shelf, serving):
    shelf.add("3", seed=3, alias="challenger")
    serving.look()
    assert serving.for_batch(0, 2).challenger is not None
    damaged(shelf)
    shelf.aliases.update(champion="1", challenger="2")
    serving.look()
    assert serving.for_batch(1, 2).challenger is None


def test_without_a_champion_no_challenger_scores(shelf, started):
    shelf.add("1", alias="challenger")
    models = started()
    models.look()
    with pytest.raises(NoChampion):
        models.for_batch(0, 2)
