"""What is drawn on an image: kept beside the labels, handed on, and learned from at the next fit."""

import json

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.images import defect_boxes
from blemish.images.defect_boxes import mask_of, of_text
from blemish.review.gallery import Gallery
from conftest import fill, picture

STROKE = {"row": 0, "stroke": "22,30 38,30", "radius": 3, "type": "square"}


def drawn(gallery):
    rows, notes = defect_boxes.read(gallery.folder / "boxes.csv")
    assert notes == []
    return defect_boxes.standing(rows).get(gallery.content[0], [])


def test_a_stroke_of_the_brush_is_kept_as_a_mask_and_makes_the_image_bad(page, gallery):
    text = page.post("/boxes", data=STROKE).text
    [found] = drawn(gallery)
    whole = np.zeros((64, 64), dtype=bool)
    whole[found.y : found.y + found.height, found.x : found.x + found.width] = found.pixels()
    assert whole[30, 20:40].all()
    assert not whole[30, 45:].any()
    assert not whole[36:].any()
    assert found.type == "square"
    assert page.app.state.session.labelling.words() == {0: "bad"}
    assert page.app.state.session.labelling.rows()[0].type == "square"
    assert "square, painted" in text
    assert 'data-path="M' in text
    assert "1 bad" in text


def test_strokes_that_touch_are_one_place_and_others_are_not(page, gallery):
    page.post("/boxes", data=STROKE)
    page.post("/boxes", data={**STROKE, "stroke": "30,30 30,50"})
    page.post("/boxes", data={**STROKE, "stroke": "5,5", "radius": 2})
    page.post("/boxes", data={**STROKE, "type": "other"})
    found = drawn(gallery)
    assert [(each.type, each.height > 20) for each in found] == [("square", True), ("square", False), ("other", False)]
    page.post("/boxes/remove", data={"row": 0, "number": 0})
    assert len(drawn(Gallery.open(gallery.folder))) == 2


def test_what_is_outlined_is_painted(page, gallery):
    page.post("/boxes", data={"row": 0, "regions": "masks"})
    level = gallery.pixel_threshold
    levels = gallery.map(0, (64, 64))
    whole = np.zeros((64, 64), dtype=bool)
    for each in drawn(gallery):
        whole[each.y : each.y + each.height, each.x : each.x + each.width] |= each.pixels()
    assert (whole == (levels > level)).all()


@pytest.mark.parametrize(
    "values",
    [{"stroke": ""}, {"stroke": "1,2 3"}, {"stroke": "nan,2"}, {"radius": 0}, {"radius": "x"}, {"stroke": "-99,-99"}],
)
def test_a_stroke_that_paints_nothing_is_refused_and_nothing_is_written(page, gallery, values):
    assert page.post("/boxes", data={**STROKE, **values}).status_code == 400
    assert not (gallery.folder / "boxes.csv").exists()
    assert page.app.state.session.labelling.words() == {}


def test_a_mask_that_was_damaged_is_told_and_the_others_are_used(page, gallery):
    page.post("/boxes", data=STROKE)
    page.post("/boxes", data={"row": 0, "x": 1, "y": 2, "width": 3, "height": 4})
    file = gallery.folder / "boxes.csv"
    file.write_text(file.read_text().replace(drawn(gallery)[0].mask, "0"))
    rows, notes = defect_boxes.read(file)
    assert [row.corners for row in rows] == [(1, 2, 3, 4)]
    assert "1 row of 'boxes.csv'" in notes[0]
    assert "line 2" in notes[0]


def test_what_was_drawn_is_exported_in_place_of_what_was_found(page, gallery, tmp_path):
    coco = pytest.importorskip("pycocotools.coco").COCO
    page.post("/boxes", data=STROKE)
    [painted] = drawn(gallery)
    page.post("/boxes", data={"row": 0, "x": 1, "y": 2, "width": 3, "height": 4, "type": "dent"})
    read = {}
    for masks in ("rle", "polygons"):
        blemish.export_labels(gallery.folder, tmp_path / masks, masks=masks)
        data = coco(str(tmp_path / masks / "coco.json"))
        image = next(each for each in data.dataset["images"] if each["file_name"] == gallery.name(0))
        found = data.loadAnns(data.getAnnIds(imgIds=[image["id"]]))
        assert [data.loadCats(each["category_id"])[0]["name"] for each in found] == ["square", "dent"]
        assert all("score" not in each for each in found)  # a person drew them
        read[masks] = [data.annToMask(each).astype(bool) for each in found]
        assert found[1]["bbox"] == [1, 2, 3, 4]
    exact = np.zeros((64, 64), dtype=bool)
    exact[painted.y : painted.y + painted.height, painted.x : painted.x + painted.width] = painted.pixels()
    assert (read["rle"][0] == exact).all()
    assert (read["polygons"][0] & exact).sum() / (read["polygons"][0] | exact).sum() > 0.9
    for name in ("yolo", "label-studio", "cvat", "fiftyone", "csv"):
        blemish.export_labels(gallery.folder, tmp_path / name, format=name)
    assert (tmp_path / "yolo/labels/part-00.txt").read_text().splitlines()[1] == "2 0.039062 0.062500 0.046875 0.062500"
    assert '2: "dent"' in (tmp_path / "yolo/data.yaml").read_text()
    task = json.loads((tmp_path / "label-studio/label_studio.json").read_text())[0]
    said = task["annotations"][0]["result"]
    assert [each["value"].get("rectanglelabels") for each in said] == [None, ["square"], ["dent"]]
    assert len(task["predictions"][0]["result"]) == 1
    assert 'value="dent"' in (tmp_path / "label-studio/label_config.xml").read_text()
    assert 'label="dent" source="manual"' in (tmp_path / "cvat/annotations.xml").read_text()
    assert json.loads((tmp_path / "fiftyone/detections.json").read_text())["classes"] == ["defect", "square", "dent"]
    assert (tmp_path / "csv/boxes.csv").read_text().splitlines()[1].endswith(",square,1")


def test_a_box_changes_what_is_learned_where_the_same_defect_is_and_nowhere_else(tmp_path, small, own_cache):
    images = fill(tmp_path / "images", 30, start=1)
    places = {"first.png": (16, 16), "second.png": (16, 16), "other.png": (40, 40)}
    for number, (name, (y, x)) in enumerate(places.items()):
        pixels = picture(100 + number)
        pixels[y : y + 16, x : x + 16] = 255 if name != "other.png" else (255, 0, 0)
        Image.fromarray(pixels).save(images / name)
    labels = tmp_path / "labels.csv"
    labels.write_text("path,label\nfirst.png,bad\n")
    how = {"detector": small, "labels": labels, "threads": 1, "cache": own_cache}
    plain = blemish.fit(images, **how)
    content = plain.images.content["first.png"]
    defect_boxes.append(tmp_path / "boxes.csv", [defect_boxes.DefectBox("first.png", content, 14, 14, 20, 20)])
    taught = blemish.fit(images, **how)
    assert "On 1 of the bad images" in " ".join(taught.images.notes)
    before, after = (run.scores.map("second.png", (64, 64)) for run in (plain, taught))
    inside = np.zeros((64, 64), dtype=bool)
    inside[18:30, 18:30] = True
    assert after[inside].mean() > 1.3 * before[inside].mean()
    calm = [f"part-{number:02d}.png" for number in range(1, 31)]
    change = [np.abs(taught.scores.map(name) - plain.scores.map(name)).mean() for name in calm]  # in deviations
    assert max(change) < 0.1 * (after - before)[inside].mean()
    assert of_text("") == []  # an empty mask is that of a whole box
    assert mask_of([4], (2, 2)).sum() == 0
