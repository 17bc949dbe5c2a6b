"""A folder of folders becomes a Run for each, whatever happens to one of them."""

import pytest

import blemish
from blemish.jobs.each_subfolder import fit_each
from blemish.machine.errors import RequestError
from command_line import QUICK, call, refused, table
from conftest import fill, small_detector


def test_each_folder_becomes_the_run_that_it_would_become_alone(tmp_path):
    fill(tmp_path / "all" / "bolts", 10)
    fill(tmp_path / "all" / "nuts", 9, start=20)
    runs = fit_each(tmp_path / "all", tmp_path / "runs", detector=small_detector(), threads=1)
    assert [(each.name, each.images, each.error) for each in runs] == [("bolts", 10, ""), ("nuts", 9, "")]
    alone = blemish.fit(tmp_path / "all" / "nuts", detector=small_detector(), threads=1)
    assert blemish.load(tmp_path / "runs" / "nuts").threshold_ == alone.threshold_
    again = fit_each(tmp_path / "all", tmp_path / "runs", detector=small_detector(), threads=1)
    assert all(each.kept for each in again)
    assert [each.threshold for each in again] == [each.threshold for each in runs]


def test_one_folder_that_fails_does_not_stop_the_others(tmp_path):
    fill(tmp_path / "all" / "few", 3)
    fill(tmp_path / "all" / "many", 10)
    (tmp_path / "all" / "empty").mkdir()
    done = call("fit", tmp_path / "all", "--each-subfolder", "--out", tmp_path / "runs", *QUICK)
    assert done.exit_code == 1
    assert "few: There are too few images" in done.stdout
    rows = {row["name"]: row for row in table(tmp_path / "runs" / "subfolders.csv")}
    assert set(rows) == {"few", "many"}
    assert rows["many"]["images"] == "10"
    assert (tmp_path / "runs" / "many" / "report.html").is_file()


def test_a_folder_without_folders_is_refused(tmp_path, photos):
    with pytest.raises(RequestError, match="`each_subfolder`"):
        fit_each(photos, tmp_path / "runs")
    refused(call("fit", photos, "--out", tmp_path / "runs", "--overlap", 32), "--overlap 32", "--tile")
