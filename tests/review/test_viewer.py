"""The enlarged view and the labels kept with it: map, outlines, boxes, defect types, comments, names."""

import io

import numpy as np
import pytest
from PIL import Image

from blemish.images import defect_boxes, labels
from blemish.images.defect_boxes import DefectBox
from blemish.images.labels import Row
from blemish.machine.errors import RequestError
from blemish.machine.runtime import use_runtime
from blemish.review.gallery import Gallery
from blemish.review.ranking import Filter
from blemish.review.reasons import Reasons

from .conftest import client_of


def shown(page, query=""):
    return [int(part.split('"')[0]) for part in page.get(f"/cards?{query}").text.split('<li id="card-')[1:]]


def kept(gallery):
    return [
        (row.path, row.label, row.type, row.comment, row.who) for row in labels.read(gallery.folder / "labels.csv")[0]
    ]


def test_the_whole_picture_has_every_pixel_as_it_was_decoded(page, gallery):
    image = Image.open(io.BytesIO(page.get("/picture/0?full=1").content))
    assert np.array_equal(np.asarray(image), gallery.read(0))


def test_the_map_under_the_pointer_is_that_of_the_scores(page, gallery):
    text = page.get("/zoom/0").text
    width, height = (int(text.split(f'data-map-{side}="')[1].split('"')[0]) for side in ("width", "height"))
    values = np.frombuffer(page.get("/map/0").content, "<f4").reshape(height, width)
    np.testing.assert_allclose(values, gallery.map(0, (width, height)))
    y, x = np.unravel_index(values.argmax(), values.shape)
    assert 20 <= (x + 0.5) * 64 / width <= 40  # the bright square of part-00
    assert 20 <= (y + 0.5) * 64 / height <= 40


def test_outlines_enclose_the_defect_and_ordinary_images_have_none(page, gallery):
    level = gallery.pixel_threshold
    path = page.get("/zoom/0").text.split('class="edge" d="')[1].split('"')[0]
    corners = np.array([pair.split() for pair in path.replace("Z", "").replace("M", "L").split("L") if pair], float)
    assert corners[:, 0].min() < 25 < 35 < corners[:, 0].max()
    assert corners.min() >= 0
    assert corners.max() <= 64
    calm = next(row for row in range(len(gallery)) if gallery.map(row, (256, 256)).max() < level)
    assert 'class="edge" d=""' in page.get(f"/zoom/{calm}").text
    assert page.get("/outline/0").headers["content-type"] == "image/svg+xml"


def test_the_nearest_image_beside_is_neither_flagged_nor_labelled_bad(page, gallery):
    def beside():
        text = page.get("/why/0").text
        return int(text.split('id="beside" data-row="')[1].split('"')[0]) if 'id="beside"' in text else None

    first = beside()
    assert gallery.scores.image[first] <= gallery.decision.threshold
    page.post("/label", data={"row": first, "word": "bad"})
    assert beside() not in (first, 0)


def test_once_the_page_is_being_stopped_why_ends_after_an_image(gallery, monkeypatch, tmp_path):
    asked = iter([False, False, False, True])  # the last is asked after an image, and nothing after it
    monkeypatch.setattr(Reasons, "_shown", lambda *_: False)  # a detector that compares no images
    with use_runtime(cache=tmp_path / "cache", threads=1), pytest.raises(RequestError, match="stopped"):
        Reasons(gallery, asked.__next__).of(0)
    assert len(list((tmp_path / "cache").rglob("*.safetensors"))) in (1, 2)  # of ten


def test_types_comments_and_names_are_kept_in_appended_columns(page, gallery):
    page.post("/who", data={"who": "Zoë  K."})
    page.post("/label", data={"row": 0, "word": "bad", "type": "scratch"})
    page.post("/remark", data={"row": 0, "type": "dent", "comment": "left, near the edge"})
    page.post("/label", data={"row": 0, "word": "bad"})  # says nothing of type and comment: they stay
    page.post("/label", data={"row": 0, "word": "good"})
    name = gallery.name(0)
    assert kept(gallery) == [
        (name, "bad", "scratch", "", "Zoë K."),
        (name, "bad", "dent", "left, near the edge", "Zoë K."),
        (name, "bad", "dent", "left, near the edge", "Zoë K."),
        (name, "good", "", "left, near the edge", "Zoë K."),
    ]
    assert 'data-type="scratch"' in page.get("/status").text
    page.post("/undo")
    assert kept(gallery)[-1][1:4] == ("bad", "dent", "left, near the edge")


def test_a_comment_alone_is_no_label(page, gallery):
    page.post("/remark", data={"row": 4, "type": "", "comment": "is this lint?"})
    assert page.app.state.session.labelling.words() == {}
    assert "0 good, 0 bad" in page.get("/status").text
    assert shown(page, "show=commented") == [4]


def test_too_long_a_type_is_refused_and_nothing_is_written(page, gallery):
    answer = page.post("/label", data={"row": 0, "word": "bad", "type": "x" * 61})
    assert answer.status_code == 400
    assert "at most 60" in answer.text
    assert not (gallery.folder / "labels.csv").exists()


def test_labels_of_an_earlier_version_go_on_in_their_file(page, gallery):
    file = gallery.folder / "labels.csv"
    file.write_text(f"time,path,sha256,label\n2026-01-01,{gallery.name(3)},{gallery.content[3]},bad\n")
    page.post("/label", data={"row": 0, "word": "bad", "type": "scratch"})
    assert page.app.state.session.labelling.words() == {3: "bad", 0: "bad"}
    assert labels.read(file)[1] == []
    assert kept(gallery)[1][2] == "scratch"


def test_a_list_made_by_hand_with_columns_of_its_own_is_read(tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text("label,path,line\nbad,a.png,7\n")
    assert labels.read(file)[0] == [Row("a.png", "", "bad")]


def test_several_images_are_labelled_and_undone_together(page):
    page.post("/label", data={"rows": "2,5,7", "word": "bad", "type": "dent"})
    assert page.app.state.session.labelling.words() == {2: "bad", 5: "bad", 7: "bad"}
    assert page.post("/label", data={"rows": "2,99", "word": "good"}).status_code == 404
    page.post("/undo")
    assert page.app.state.session.labelling.words() == {}


def test_undo_takes_back_what_was_drawn_or_removed_and_the_label_that_came_with_it(page, gallery):
    labelling = page.app.state.session.labelling

    def drawn() -> list[tuple[int, int, int, int]]:
        return [box.corners for box in labelling.boxes().get(gallery.content[0], [])]

    states: list[list[tuple[int, int, int, int]]] = [[]]
    for place in (
        {"x": 20, "y": 20, "width": 9, "height": 9},
        {"x": 1, "y": 2, "width": 3, "height": 4},
        {"stroke": "21,21 24,24", "radius": 3},
        {"stroke": "24,24 27,27", "radius": 3},  # becomes one with the one before
    ):
        page.post("/boxes", data={"row": 0, **place})
        states.append(drawn())
    assert [len(state) for state in states] == [0, 1, 2, 3, 3]
    page.post("/boxes/remove", data={"row": 0, "number": 0})
    assert drawn() == states[-1][1:]
    assert "9 x 9 at 20, 20" in page.post("/undo", data={"zoomed": 0}).text
    while states:
        assert sorted(drawn()) == sorted(states.pop())
        assert labelling.words() == ({0: "bad"} if states else {})
        page.post("/undo")
    assert page.post("/undo").status_code == 200


def test_boxes_are_kept_beside_the_labels_and_can_be_removed(page, gallery):
    page.post("/boxes", data={"row": 0, "x": 20, "y": 20, "width": 20, "height": 20, "type": "square"})
    text = page.post("/boxes", data={"row": 0, "regions": "1"}).text
    assert "square, 20 x 20 at 20, 20" in text
    rows, notes = defect_boxes.read(gallery.folder / "boxes.csv")
    assert (rows[0].path, rows[0].sha256, rows[0].corners) == (gallery.name(0), gallery.content[0], (20, 20, 20, 20))
    around = rows[1]
    assert around.x < 25 < 35 < around.x + around.width
    page.post("/boxes/remove", data={"row": 0, "number": 0})
    again = client_of(Gallery.open(gallery.folder))
    assert "square" not in again.get("/zoom/0").text.split('id="boxes"')[1].split("</ol>")[0]
    before = (gallery.folder / "boxes.csv").read_bytes()
    assert len(defect_boxes.read(gallery.folder / "boxes.csv")[0]) == len(rows) + 1  # nothing is taken out of the file
    assert page.post("/boxes/remove", data={"row": 0, "number": 9}).status_code == 400
    assert (gallery.folder / "boxes.csv").read_bytes() == before
    assert notes == []


@pytest.mark.parametrize(
    "box", [{"x": 60, "y": 0, "width": 9, "height": 9}, {"x": 0, "y": 0, "width": 0, "height": 9}, {"x": "nan"}, {}]
)
def test_a_box_outside_of_the_image_is_refused(page, gallery, box):
    assert page.post("/boxes", data={"row": 0, **box}).status_code == 400
    assert not (gallery.folder / "boxes.csv").exists()


def test_boxes_come_along_once_to_the_next_run(tmp_path):
    one, other = tmp_path / "a" / "boxes.csv", tmp_path / "b" / "boxes.csv"
    for file in (one, other):
        file.parent.mkdir()
    defect_boxes.append(one, [DefectBox("a.png", "00", 1, 2, 3, 4, "dent", "Zoë")])
    with one.open("a") as stream:
        stream.write("2026-01-01,b.png,01,5")  # cut short
    defect_boxes.carry(one, other)
    defect_boxes.carry(one, other)
    assert [box.corners for box in defect_boxes.read(other)[0]] == [(1, 2, 3, 4)]
    assert "1 row of 'boxes.csv'" in defect_boxes.read(one)[1][0]


def test_what_was_labelled_bad_never_stands_below_what_is_flagged_when_the_run_is_opened(page, gallery):
    last = len(gallery) - 1
    assert shown(page) == list(range(len(gallery)))
    page.post("/label", data={"row": last, "word": "bad"})
    assert shown(page)[-1] == last  # the list does not move under the hands of who labels
    opened = client_of(Gallery.open(gallery.folder))
    assert shown(opened)[0] == last
    assert [row for row in shown(opened) if row != last] == list(range(last))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("text=PART-0", {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}),
        ("text=lint", {4}),
        ("type=dent", {2}),
        ("type=scratch", set()),
        ("order=recent&show=bad", {2}),
    ],
)
def test_images_are_found_by_text_and_type(page, query, expected):
    page.post("/label", data={"row": 2, "word": "bad", "type": "dent"})
    page.post("/remark", data={"row": 4, "comment": "some Lint"})
    assert set(shown(page, query)) == expected


def test_images_are_ordered_and_filtered_by_band(page, gallery):
    rows = list(range(len(gallery)))
    assert shown(page, "order=rising") == rows[::-1]
    assert shown(page, "order=name") == sorted(rows, key=gallery.name)
    bands = gallery.decision.bands(gallery.scores.image)
    for band in ("reject", "look", "pass"):
        assert shown(page, f"band={band}") == [row for row in rows if bands[row] == band]
    for query in ("order=none", "band=none", "show=none"):
        assert page.get(f"/cards?{query}").status_code == 400


def test_the_next_page_of_cards_keeps_the_filter():
    chosen = Filter(show="bad", text="a&b", type="ü x", order="name")
    assert chosen.query == "show=bad&folder=&group=-1&band=&type=%C3%BC+x&text=a%26b&order=name"


def test_the_histogram_is_that_of_the_report_with_the_threshold_of_the_page(page):
    text = page.get("/histogram?threshold=3.5&width=700").text
    assert '<svg class="histogram"' in text
    assert "threshold 3.5" in text
    assert 'viewBox="0 0 700 150"' in text
    assert " style=" not in text
    assert page.get("/histogram?threshold=nan").status_code == 422
