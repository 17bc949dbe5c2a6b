"""What the page answers: labels are kept at once, lists follow them, trouble is said."""

import csv
import io
import shutil
import time
from base64 import b64encode
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from blemish.calibration import folder_chances, two_groups
from blemish.images import labels
from blemish.machine.errors import RequestError
from blemish.review.gallery import Gallery
from blemish.review.session import Session
from blemish.review.thumbnails import Thumbnails, heat
from blemish.runs.artifact import read_config, write_config
from blemish.runs.run import load
from conftest import picture

from .conftest import client_of


def listed(page, which):
    text = page.get(f"/export/{which}.csv").text
    return {row["image"]: row["decided_by"] for row in csv.DictReader(io.StringIO(text))}


def test_the_first_view_shows_the_ranking_with_its_scores(page, gallery):
    text = page.get("/").text
    assert text.index('id="card-0"') < text.index('id="card-1"')
    assert all(name in text for name in gallery.scores.ids)
    assert page.get("/thumbnail/0").headers["content-type"] == "image/jpeg"
    assert page.get("/heat/0").headers["content-type"] == "image/png"
    assert page.get("/picture/3").status_code == 200
    assert page.get("/scores").json()["scores"] == sorted(page.get("/scores").json()["scores"], reverse=True)


def test_thumbnails_are_made_once(page, gallery, monkeypatch):
    first = page.get("/thumbnail/2").content
    monkeypatch.setattr(Gallery, "read", lambda *_: pytest.fail("read again"))
    assert page.get("/thumbnail/2").content == first
    assert client_of(gallery).get("/thumbnail/2").content == first


def test_what_is_said_stands_in_the_file_before_the_answer(page, gallery):
    answer = page.post("/label", data={"row": 1, "word": "bad"})
    rows, notes = labels.read(gallery.folder / "labels.csv")
    assert [(row.path, row.sha256, row.label) for row in rows] == [(gallery.name(1), gallery.content[1], "bad")]
    assert not notes
    assert "1 bad" in answer.text
    assert 'id="card-1"' in answer.text


def test_undo_takes_back_and_the_file_only_grows(page, gallery):
    file = gallery.folder / "labels.csv"
    page.post("/label", data={"row": 1, "word": "bad"})
    page.post("/label", data={"row": 1, "word": "good"})
    before = file.read_bytes()
    assert "0 good, 1 bad" in page.post("/undo").text
    assert "0 good, 0 bad" in page.post("/undo").text
    assert file.read_bytes().startswith(before)
    assert "0 good, 0 bad" in page.post("/undo").text
    assert len(labels.read(file)[0]) == 4


def test_two_pages_of_two_programs_see_each_other(page, gallery):
    other = client_of(Gallery.open(gallery.folder))
    page.post("/label", data={"row": 0, "word": "bad"})
    other.post("/label", data={"row": 5, "word": "good"})
    for each in (page, other):
        assert "1 good, 1 bad" in each.get("/status").text


def test_lists_follow_the_person_first_and_the_threshold_for_the_rest(page, gallery):
    page.post("/threshold", data={"value": float(gallery.scores.image[2])})  # two are above it
    page.post("/label", data={"row": 0, "word": "good"})
    page.post("/label", data={"row": 7, "word": "bad"})
    name = gallery.name
    assert listed(page, "rejected") == {name(1): "threshold", name(7): "review"}
    assert listed(page, "kept")[name(0)] == "review"
    assert len(listed(page, "kept")) == len(gallery) - 2
    assert page.get("/export/other.csv").status_code == 400
    again = client_of(Gallery.open(gallery.folder))
    assert listed(again, "rejected") == listed(page, "rejected")


def test_the_lists_hold_every_image_once_whatever_is_shown_and_the_page_says_so(page, gallery):
    page.post("/label", data={"row": 0, "word": "skipped"})
    page.post("/threshold", data={"value": float(gallery.scores.image[1])})  # the skipped one is above it
    page.get("/cards?show=skipped")
    rejected, kept = listed(page, "rejected"), listed(page, "kept")
    assert rejected == {gallery.name(0): "threshold"}
    assert sorted((*rejected, *kept)) == sorted(gallery.scores.ids)
    assert "Lists of all images" in page.get("/").text
    assert "whatever is shown here" in page.get("/").text


@pytest.mark.parametrize(
    ("words", "count"), [("show=all", 10), ("show=open", 8), ("show=bad", 1), ("show=good", 1), ("show=skipped", 0)]
)
def test_images_are_shown_by_what_was_said(page, words, count):
    page.post("/label", data={"row": 3, "word": "bad"})
    page.post("/label", data={"row": 4, "word": "good"})
    assert page.get(f"/cards?{words}").text.count("<li id=") == count


def test_proposals_are_not_those_already_reviewed(page, gallery):
    for row in range(4):
        page.post("/label", data={"row": row, "word": "good"})
    text = page.get("/cards?order=teach").text
    assert text.count("<li id=") == len(gallery) - 4
    assert 'id="card-0"' not in text


@pytest.mark.parametrize(
    "data",
    [
        {"row": 99, "word": "bad"},
        {"row": -1, "word": "bad"},
        {"word": "bad"},
        {"row": 1, "word": "perhaps"},
        {"row": 1},
    ],
)
def test_a_label_that_makes_no_sense_is_refused_and_not_written(page, gallery, data):
    assert page.post("/label", data=data).status_code in (400, 404)
    assert not (gallery.folder / "labels.csv").exists()


@pytest.mark.parametrize("value", ["nan", "inf", "x", "", "1e30"])
def test_a_threshold_that_is_none_is_refused(page, value):
    before = page.get("/scores").json()["threshold"]
    assert page.post("/threshold", data={"value": value}).status_code == 400
    assert page.get("/scores").json()["threshold"] == before


def test_a_changed_image_and_one_that_is_gone_are_said_to_be(page, gallery):
    Image.fromarray(picture(77)).save(gallery.root / gallery.name(2))
    assert "has changed since it was scored" in page.get("/zoom/2").text
    (gallery.root / gallery.name(3)).unlink()
    assert "no longer where it was" in page.get("/zoom/3").text
    assert page.get("/picture/3").status_code == 404
    assert page.post("/label", data={"row": 3, "word": "bad"}).status_code == 200


def test_a_moved_image_folder_is_named_and_can_be_said(reviewed, tmp_path):
    shutil.move(tmp_path / "images", tmp_path / "elsewhere")
    with pytest.raises(RequestError, match=r"no longer in .*`images`"):
        Gallery.open(reviewed)
    assert client_of(Gallery.open(reviewed, tmp_path / "elsewhere")).get("/picture/0").status_code == 200


def test_a_half_written_row_is_told_and_nothing_is_lost(page, gallery):
    file = gallery.folder / "labels.csv"
    page.post("/label", data={"row": 0, "word": "bad"})
    with file.open("a") as stream:
        stream.write("2026-01-01T00:00:00,part-0")
    assert "1 bad" in page.get("/status").text
    assert "could not be read" in page.get("/status").text
    page.post("/label", data={"row": 1, "word": "good"})
    assert "1 good, 1 bad" in page.get("/status").text


def test_the_places_it_was_compared_with_are_shown_as_reason(page, gallery):
    text = page.get("/why/0").text
    assert "times as far as usual" in text
    sources = [part.split('"')[0].replace("&amp;", "&") for part in text.split('src="')[1:]]
    assert len(sources) == 8
    rows = {int(source.split("/")[2].split("?")[0]) for source in sources}
    scorer = load(gallery.folder).detector.neighbours()[0]
    compared = {row.numpy().tobytes().hex() for row in scorer.content}
    assert rows - {0}
    assert {gallery.content[row] for row in rows} <= compared
    assert page.get(sources[0]).headers["content-type"] == "image/jpeg"
    assert gallery.name(0) == "part-00.png"
    left, top = (float(sources[0].split(f"{side}=")[1].split("&")[0]) for side in ("left", "top"))
    assert 0.15 < left < 0.75  # the bright square is at 20 to 40 of 64 pixels
    assert 0.15 < top < 0.75


def test_cards_hold_the_pictures_that_are_kept_and_the_addresses_of_others(page, gallery):
    gallery.file(3).unlink()
    text = page.get("/cards").text
    for row in set(range(len(gallery))) - {3}:
        kept = page.get(f"/thumbnail/{row}").content
        assert f'src="data:image/jpeg;base64,{b64encode(kept).decode()}"' in text
    assert 'src="/thumbnail/3?v=' in text
    coloured = [
        np.asarray(Image.open(io.BytesIO(heat(gallery, row))).convert("RGBA"))[..., 3].any() for row in range(10)
    ]
    assert text.count("data:image/png") == sum(coloured) < 10


def test_thumbnails_that_will_be_looked_at_next_are_made_first(gallery, monkeypatch):
    thumbnails, made = Thumbnails(gallery), []
    monkeypatch.setattr(thumbnails, "heat", made.append)
    thumbnails.soon([7, 5])
    thumbnails.fill()
    assert made == [7, 5, 0, 1, 2, 3, 4, 6, 8, 9]


def test_chances_after_a_label_are_those_of_the_folder_with_it(page, gallery):
    page.post("/label", data={"row": 0, "word": "bad"})
    session, scores = page.app.state.session, gallery.scores.image
    model = two_groups(scores).knowing(scores, session.labelling.labels())
    assert np.array_equal(session.chances(), folder_chances(model, scores).of(scores))


def test_alike_images_are_found_and_can_be_labelled_together(page, gallery):
    page.app.state.session.thumbnails.fill()
    groups = page.app.state.session.thumbnails.groups
    assert len(np.unique(groups)) == len(gallery)  # noise of its own in each
    page.app.state.session.thumbnails.groups = np.where(np.arange(len(gallery)) < 3, 0, groups)
    assert page.get("/cards?group=0").text.count("<li id=") == 3
    page.post("/label", data={"row": 1, "word": "good"})
    page.post("/label", data={"row": 0, "word": "bad", "alike": "1"})
    assert page.app.state.session.labelling.words() == {0: "bad", 1: "good", 2: "bad"}
    page.post("/undo")
    assert page.app.state.session.labelling.words() == {1: "good"}


def test_the_page_says_what_would_help_and_words_where_there_are_no_chances(reviewed):
    config = read_config(reviewed)
    config["decision"] |= {"advice": "Review thirty of them.", "chance": None}
    write_config(reviewed, config)
    text = client_of(Gallery.open(reviewed)).get("/").text
    assert "Review thirty of them." in text
    assert ", pass" in text
    assert "chance of being bad" not in text


def test_the_chances_of_a_run_that_nobody_reviewed_are_those_of_its_report(gallery):
    session = Session(gallery, None, lambda: False)
    assert session.chances().tolist() == gallery.decision.chances(gallery.scores.image).tolist()
    assert "draws" not in vars(session)  # nothing was sampled
    session.labelling.label([0], "bad")
    session.chances()
    assert "draws" in vars(session)


def test_ten_thousand_images_take_less_than_a_second_more_than_ten(reviewed, monkeypatch):
    monkeypatch.setattr(Thumbnails, "make", lambda *_: None)  # made beside the page, for a view at a time
    monkeypatch.setattr(Thumbnails, "soon", lambda *_: None)
    small = Gallery.open(reviewed)
    rows = np.arange(10_000) % len(small)
    many = replace(
        small,
        scores=type(small.scores)(
            tuple(f"line-{row % 7}/part-{row:05d}.png" for row in range(len(rows))),
            np.sort(np.random.default_rng(0).gumbel(size=len(rows)).astype(np.float32))[::-1].copy(),
            small.scores.maps[rows],
            small.scores.boxes[rows],
            small.scores.sizes[rows],
        ),
        content=tuple(f"{row:064x}" for row in range(len(rows))),
    )

    def seconds(gallery, address, label):
        page = client_of(gallery)
        page.get("/style.css")
        start = time.process_time()
        assert page.get("/").text.count("<li id=") == min(len(gallery), 60)
        assert page.get(address).status_code == 200
        page.post("/label", data={"row": label, "word": "bad"})
        return time.process_time() - start

    seconds(small, "/cards", 0)  # what is loaded and compiled once
    assert seconds(many, "/cards?folder=line-3&number=2", 4000) - seconds(small, "/cards", 0) < 1


def test_labels_for_other_programs_are_downloads_that_follow_the_page(page, gallery):
    page.post("/label", data={"row": 0, "word": "good"})
    answer = page.get("/export/labels/coco")
    assert answer.headers["content-disposition"] == 'attachment; filename="coco.json"'
    images = {each["file_name"]: each for each in answer.json()["images"]}
    assert set(images) == set(gallery.scores.ids)
    assert images[gallery.name(0)]["label"] == "good"
    assert len(page.get("/export/labels/label-studio").json()) == len(gallery)
    assert page.get("/export/labels/cvat").text.count("<image ") == len(gallery)
    assert page.get("/export/labels/yolo").status_code == 400
    assert all(f'href="/export/labels/{each}"' in page.get("/").text for each in ("coco", "label-studio", "cvat"))
