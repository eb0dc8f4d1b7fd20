"""A stack gets a folder that nothing is in."""

from pathlib import Path
import shutil

from faults.campaign import CampaignFailed
from faults.options import new_folder
import pytest


def test_a_folder_that_is_named_is_made_and_kept(tmp_path: Path) -> None:
    with new_folder(tmp_path / "kept" / "here") as folder:
        (folder / "log").touch()
    assert (tmp_path / "kept" / "here" / "log").exists()


def test_a_folder_that_is_not_named_is_gone_afterwards() -> None:
    with new_folder(None) as folder:
        (folder / "log").touch()
    assert not folder.exists()


def test_a_folder_that_is_not_named_stays_where_the_campaign_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing = new_folder(None)
    folder = failing.__enter__()
    error = CampaignFailed("no scores")
    assert not failing.__exit__(type(error), error, None)
    assert folder.exists()
    assert str(folder) in capsys.readouterr().err.replace("\n", "")
    shutil.rmtree(folder)


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(CampaignFailed, match="to be empty: name another --folder"):
        new_folder(tmp_path).__enter__()
    assert (tmp_path / "mine").exists()
