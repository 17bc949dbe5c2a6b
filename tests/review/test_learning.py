""" "Learn from these labels: the fit again beside the Run, the page over what it left, nothing lost on the way."""

import shutil
import time

import pytest

import blemish
from blemish.images import labels
from blemish.review.gallery import Gallery
from blemish.review.labelling import StaleError
from blemish.review.refits import beside
from blemish.runs.artifact import read_config, write_config

from .conftest import client_of

SLOW = 120.0  # seconds: the machine may be busy


def ended(page):
    """Wait for the end of the fit; what the page says of it to a tab that knows the ranking."""
    for _ in range(int(SLOW / 0.05)):
        answer = page.get("/refit")
        if "refit-progress" not in answer.text:
            return answer
        time.sleep(0.05)
    return pytest.fail("the fit does not end")


def said(folder):
    return {row.path: row.label for row in labels.read(folder / "labels.csv")[0]}


def test_the_page_learns_from_its_labels_and_shows_the_new_run(page, gallery):
    file, new = gallery.folder / "labels.csv", gallery.folder.with_name("run-2")
    before = {path.name: path.read_bytes() for path in gallery.folder.iterdir() if path.is_file()}
    page.post("/label", data={"row": 0, "word": "bad"})
    page.post("/label", data={"row": 4, "word": "good"})
    assert "refit-cancel" in page.post("/refit").text
    page.post("/label", data={"row": 7, "word": "good"})  # while it runs
    assert ended(page).headers["hx-refresh"] == "true"

    assert read_config(new)["reviewed"] in (2, 3)
    assert read_config(new)["detector"] == read_config(gallery.folder)["detector"]
    assert labels.read(new / "labels.csv") == labels.read(file)
    assert said(new) == {gallery.name(0): "bad", gallery.name(4): "good", gallery.name(7): "good"}
    assert all((gallery.folder / name).read_bytes() == data for name, data in before.items())

    text = page.get("/", headers={"X-Version": ""}).text
    assert "run-2" in text
    assert "2 good, 1 bad" in text
    assert f"still in <code>{gallery.folder}</code>" in text
    assert "run-3" in text  # where the next one would go
    assert page.app.state.session.gallery.folder == new


def test_a_tab_of_the_earlier_ranking_is_refused_and_writes_nothing(page, gallery):
    page.post("/label", data={"row": 0, "word": "bad"})
    page.post("/refit")
    ended(page)
    new = gallery.folder.with_name("run-2")
    before = (new / "labels.csv").read_bytes()
    stale = page.headers["X-Version"]
    for path in ("/label", "/undo", "/threshold", "/refit"):
        answer = page.post(path, data={"row": 1, "word": "bad", "value": "3"})
        assert answer.status_code == 409
        assert "The ranking changed" in answer.text
    assert page.get(f"/thumbnail/1?v={stale}", headers={"X-Version": ""}).status_code == 409
    del page.headers["X-Version"]
    assert page.post("/label", data={"row": 1, "word": "bad"}).status_code == 409
    assert (new / "labels.csv").read_bytes() == before
    fresh = {"X-Version": page.app.state.session.version}
    assert page.post("/label", data={"row": 1, "word": "bad"}, headers=fresh).status_code == 200
    assert (new / "labels.csv").read_bytes().startswith(before)


def test_what_comes_too_late_for_the_new_run_is_refused(gallery, page):
    old = page.app.state.session.labelling
    shutil.copytree(gallery.folder, gallery.folder.with_name("run-2"))
    new = client_of(Gallery.open(gallery.folder.with_name("run-2"))).app.state.session.labelling
    old.label([0], "bad")
    old.hand_over(new)
    assert new.words() == {0: "bad"}
    with pytest.raises(StaleError, match="Reload"):
        old.label([1], "bad")


def test_a_cancelled_fit_leaves_nothing_and_can_be_started_again(page, gallery):
    page.post("/label", data={"row": 0, "word": "bad"})
    page.post("/refit")
    assert "Cancelled" in page.post("/refit/cancel").text
    assert sorted(path.name for path in gallery.folder.parent.glob("*run*")) == ["run"]
    assert page.app.state.session.gallery.folder == gallery.folder
    page.post("/refit")
    assert ended(page).headers["hx-refresh"] == "true"


def test_a_fit_that_fails_says_why_and_changes_nothing(page, gallery):
    page.post("/label", data={"row": 0, "word": "bad"})
    for file in gallery.root.iterdir():
        file.write_bytes(b"no image")
    page.post("/refit")
    text = ended(page).text
    assert 'role="alert"' in text
    assert "image" in text.split('role="alert">')[1].split("<")[0]
    assert "refit-start" in text
    assert sorted(path.name for path in gallery.folder.parent.glob("*run*")) == ["run"]


def test_without_labels_there_is_nothing_to_learn_from(page):
    answer = page.post("/refit")
    assert answer.status_code == 400
    assert "Nothing was reviewed yet" in answer.text


def test_scores_of_new_images_are_not_learned_from(gallery, tmp_path):
    blemish.score(gallery.root, gallery.folder, tmp_path / "scored", threads=1)
    page = client_of(Gallery.open(tmp_path / "scored"))
    text = page.get("/").text
    assert "refit-start" not in text
    assert "only a fit learns from labels" in text
    page.post("/label", data={"row": 0, "word": "bad"})
    assert page.post("/refit").status_code == 400


def test_a_run_of_an_earlier_version_says_what_to_do(reviewed):
    config = read_config(reviewed)
    del config["request"]
    write_config(reviewed, config)
    assert "fit the images with `labels`" in client_of(Gallery.open(reviewed)).get("/").text


def test_moved_images_are_learned_from_where_they_are_now(reviewed, tmp_path):
    shutil.move(tmp_path / "images", tmp_path / "elsewhere")
    page = client_of(Gallery.open(reviewed, tmp_path / "elsewhere"))
    assert f"--images {tmp_path / 'elsewhere'}" in page.get("/").text
    page.post("/label", data={"row": 0, "word": "bad"})
    page.post("/refit")
    assert ended(page).headers["hx-refresh"] == "true"
    assert read_config(reviewed.with_name("run-2"))["image_root"] == str(tmp_path / "elsewhere")


def test_a_moved_list_is_not_mistaken_for_its_folder(reviewed, tmp_path):
    config = read_config(reviewed)
    write_config(reviewed, {**config, "request": {**config["request"], "images": str(tmp_path / "list.txt")}})
    shutil.move(tmp_path / "images", tmp_path / "elsewhere")
    text = client_of(Gallery.open(reviewed, tmp_path / "elsewhere")).get("/").text
    assert "refit-start" not in text
    assert "write a list of where they are now" in text


def test_thumbnails_are_not_made_twice(page, gallery, monkeypatch):
    first = page.get("/thumbnail/2").content
    digest = gallery.content[2]
    page.post("/label", data={"row": 0, "word": "bad"})
    page.post("/refit")
    ended(page)
    after = page.app.state.session
    monkeypatch.setattr(Gallery, "read", lambda *_: pytest.fail("read again"))
    assert after.thumbnails.get(after.gallery.content.index(digest)) == first


def test_the_new_run_has_a_name_nobody_has(tmp_path):
    assert beside(tmp_path / "run").name == "run-2"
    (tmp_path / "run-2").mkdir()
    assert beside(tmp_path / "run").name == "run-3"
    assert beside(tmp_path / "run-2").name == "run-3"
    assert beside(tmp_path / "line-2026").name == "line-2026-2"
