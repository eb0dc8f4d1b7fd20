"""The champion: swapped between batches, pinned to each, refused when unfit, kept for bad times."""

from dataclasses import replace
from pathlib import Path
import shutil
import threading

import pytest
from structlog.testing import capture_logs

from fraudstream.inference.champion import Champion
from fraudstream.inference.champion import NoChampion
from fraudstream.inference.champion import Registry
from fraudstream.inference.champion import RegistryUnreachable
from fraudstream.inference.champion import await_first
from fraudstream.model.bundle import BundleRefused
from unit.model.example_bundles import TINY
from unit.model.example_bundles import tiny_manifest
from unit.model.example_bundles import write_tiny


class Shelf:
    """A registry on a folder: versions are folders, and it can be out of reach."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tracking_uri = "http://shelf"
        self.model_name = "tiny-detector"
        self.champion: str | None = None
        self.reachable = True

    def add(self, version: str, seed: int = 0) -> Path:
        folder = self.folder / version
        write_tiny(folder, seed=seed)
        self.champion = version
        return folder

    def champion_version(self) -> str | None:
        if not self.reachable:
            raise RegistryUnreachable("no MLflow server answers")
        return self.champion

    def fetch(self, version: str, folder: Path) -> Path:
        if not self.reachable:
            raise RegistryUnreachable("no artifact store answers")
        return Path(shutil.copytree(self.folder / version, folder / "bundle"))


@pytest.fixture
def shelf(tmp_path):
    return Shelf(tmp_path / "shelf")


@pytest.fixture
def serving(shelf, tmp_path):
    """Return a new `Champion` over the same kept folder, as a restart would."""

    def start():
        return Champion(shelf, tmp_path / "kept", TINY, every_s=0.0)

    return start


def test_without_any_champion_the_stream_does_not_start(serving):
    with pytest.raises(NoChampion, match=r"train one with `trainer\.pex train`"):
        serving().current()


def test_a_new_champion_serves_from_the_next_batch_on(shelf, serving):
    shelf.add("1")
    champion = serving()
    assert champion.for_batch(0, 2).bundle.version == "1"
    shelf.add("2", seed=1)
    assert champion.for_batch(1, 2).bundle.version == "2"


def test_a_champion_that_is_moved_back_serves_again(shelf, serving):
    shelf.add("1")
    champion = serving()
    champion.current()
    shelf.add("2", seed=1)
    assert champion.for_batch(1, 2).bundle.version == "2"
    shelf.champion = "1"
    assert champion.for_batch(2, 2).bundle.version == "1"
    assert serving().current().version == "1"


def test_a_repeated_batch_is_cut_into_as_many_shards_as_at_first(shelf, serving):
    shelf.add("1")
    serving().for_batch(0, 2)
    restarted = serving()
    assert restarted.for_batch(0, 4).shards == 2
    assert restarted.for_batch(1, 4).shards == 4


def test_a_repeated_batch_uses_the_version_that_it_was_pinned_to(shelf, serving):
    shelf.add("1")
    serving().for_batch(0, 2)
    shelf.add("2", seed=1)
    restarted = serving()
    assert restarted.for_batch(0, 2).bundle.version == "1"
    assert restarted.for_batch(1, 2).bundle.version == "2"


def test_the_registry_is_asked_no_more_often_than_told(shelf, tmp_path):
    now = [0.0]
    shelf.add("1")
    champion = Champion(shelf, tmp_path / "kept", TINY, every_s=5.0, clock=lambda: now[0])
    assert champion.current().version == "1"
    shelf.add("2", seed=1)
    now[0] = 4.9
    assert champion.current().version == "1"
    now[0] = 5.0
    assert champion.current().version == "2"


def test_a_damaged_champion_is_refused_and_the_last_good_one_serves_on(shelf, serving):
    shelf.add("1")
    champion = serving()
    champion.current()
    damaged = shelf.add("2", seed=1) / "model.onnx"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\x00")
    assert champion.current().version == "1"
    assert serving().current().version == "1"


def test_a_damaged_first_champion_is_an_error(shelf, serving):
    (shelf.add("1") / "model.onnx").write_bytes(b"")
    with pytest.raises(BundleRefused, match="digest"):
        serving().current()


def test_a_champion_of_another_feature_set_is_refused_loudly_and_the_last_one_serves_on(
    shelf, serving
):
    shelf.add("1")
    champion = serving()
    assert champion.current().version == "1"
    other = replace(TINY, version=2, most_events=7)
    manifest = replace(tiny_manifest(), feature_set=other.identity, feature_hash=other.hash)
    write_tiny(shelf.folder / "2", manifest)
    shelf.champion = "2"
    with capture_logs() as told:
        assert champion.for_batch(0, 2).bundle.version == "1"
        assert champion.for_batch(1, 2).bundle.version == "1"
    [refusal] = [line for line in told if line["event"] == "champion refused"]
    assert refusal["log_level"] == "warning"
    assert f"expected {TINY.identity}, which is served, got {other.identity}" in refusal["why"]


def test_a_champion_of_another_feature_set_is_refused(shelf, tmp_path):
    from fraudstream.features.sets import DEFAULT

    shelf.add("1")
    with pytest.raises(BundleRefused, match="feature set"):
        Champion(shelf, tmp_path / "kept", DEFAULT, every_s=0.0).current()


def test_a_registry_out_of_reach_stops_nothing_that_runs_nor_a_restart(shelf, serving):
    shelf.add("1")
    champion = serving()
    champion.current()
    shelf.reachable = False
    assert champion.current().version == "1"
    assert serving().for_batch(3, 2).bundle.version == "1"


def test_a_registry_out_of_reach_at_the_very_first_start_is_an_error(shelf, serving):
    shelf.reachable = False
    with pytest.raises(RegistryUnreachable):
        serving().current()


def test_pins_of_batches_long_past_are_removed(shelf, serving, tmp_path):
    shelf.add("1")
    champion = serving()
    for batch in range(30):
        champion.for_batch(batch, 2)
    assert len(list((tmp_path / "kept" / "batches").iterdir())) == 20


def test_the_files_of_a_bundle_are_what_workers_load(shelf, serving):
    folder = shelf.add("1")
    champion = serving()
    files = champion.files(champion.current())
    assert files == {f.name: f.read_bytes() for f in folder.iterdir()}


def test_no_server_at_the_address_is_told_as_such(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    registry = Registry("http://127.0.0.1:9", "fraud-detector")
    with pytest.raises(RegistryUnreachable, match="no MLflow server answers at"):
        registry.champion_version()
    with pytest.raises(RegistryUnreachable, match="could not be downloaded"):
        registry.fetch("1", tmp_path)


def test_a_stream_that_waits_for_its_first_model_gets_it_when_it_comes(shelf, serving):
    looks = []

    def look():
        looks.append(shelf.champion)
        shelf.reachable = len(looks) > 1
        if len(looks) == 3:
            shelf.add("1")

    bundle = await_first(serving(), threading.Event(), look, probe_s=0.01)
    assert bundle is not None
    assert bundle.version == "1"
    assert looks == [None, None, None]


def test_a_stream_that_waits_for_its_first_model_passes_over_one_that_is_refused(shelf, serving):
    shelf.add("1")
    (shelf.folder / "1" / "manifest.json").write_text("{}")
    looks = []

    def look():
        looks.append(shelf.champion)
        if len(looks) == 3:
            shelf.add("2")

    bundle = await_first(serving(), threading.Event(), look, probe_s=0.01)
    assert bundle is not None
    assert bundle.version == "2"


def test_a_stream_that_waits_for_its_first_model_can_be_stopped(serving):
    stop = threading.Event()
    assert await_first(serving(), stop, stop.set) is None
