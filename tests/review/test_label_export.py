"""What a Run found reaches other programs: read back by their own libraries, nothing lost or overwritten."""

import csv
import json
import shutil
from pathlib import Path
from xml.etree.ElementTree import parse

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.images import labels
from blemish.images.labels import Row
from blemish.label_formats import yolo
from blemish.review.gallery import Gallery
from blemish.runs.stored_scores import read_scores
from command_line import call, refused


@pytest.fixture
def named(run, _fitted):
    """A Run with one label of each kind, and the folder its images are in: part-00 shows a square."""
    stored = read_scores(run)
    content = dict(zip(stored.scores.ids, stored.content, strict=True))
    said = {"part-00.png": "bad", "part-01.png": "good"}
    labels.append(run / "labels.csv", [Row(name, content[name], word) for name, word in said.items()])
    return run, _fitted.parent / "photos"


def content_of(file):
    return json.loads(file.read_text(encoding="utf-8"))


def test_coco_is_read_by_pycocotools_with_the_same_masks_as_runs_and_polygons(named, tmp_path):
    coco = pytest.importorskip("pycocotools.coco").COCO
    run, _ = named
    read = {}
    for masks in ("polygons", "rle"):
        left = blemish.export_labels(run, tmp_path / masks, format="coco", masks=masks)
        data = coco(str(tmp_path / masks / "coco.json"))
        assert len(data.getImgIds()) == left.images == 10
        images = {data.loadImgs(each)[0]["file_name"]: each for each in data.getImgIds()}
        found = data.loadAnns(data.getAnnIds(imgIds=[images["part-00.png"]]))
        assert found
        assert data.getAnnIds(imgIds=[images["part-01.png"]]) == []
        read[masks] = np.sum([data.annToMask(each) for each in found], axis=0)
        square = max(found, key=lambda each: each["score"])
        assert data.loadCats(square["category_id"])[0]["name"] == "defect"
        left_edge, top, width, height = square["bbox"]
        assert left_edge < 30 < left_edge + width
        assert top < 30 < top + height
    level = content_of(run / "config.json")["pixel_threshold"]
    exact = read_scores(run).scores.map("part-00.png") > level
    assert (read["rle"].astype(bool) == exact).all()
    both = read["polygons"].astype(bool)
    assert (both & exact).sum() / (both | exact).sum() > 0.9


def test_yolo_and_coco_are_read_by_supervision_with_the_same_boxes(named, tmp_path):
    supervision = pytest.importorskip("supervision")
    run, _ = named
    blemish.export_labels(run, tmp_path / "coco")
    blemish.export_labels(run, tmp_path / "yolo", format="yolo")
    data = supervision.DetectionDataset.from_yolo(
        str(tmp_path / "yolo/images"), str(tmp_path / "yolo/labels"), str(tmp_path / "yolo/data.yaml")
    )
    assert data.classes == ["defect"]
    boxes = {Path(path).name: found.xyxy for path, _, found in data}
    of_coco = content_of(tmp_path / "coco/coco.json")
    assert len(boxes) == len(of_coco["images"]) == 10
    for image in of_coco["images"]:
        wanted = [each["bbox"] for each in of_coco["annotations"] if each["image_id"] == image["id"]]
        wanted = np.array([(x, y, x + w, y + h) for x, y, w, h in wanted]).reshape(-1, 4)
        assert np.allclose(boxes[image["file_name"]], wanted, atol=0.01)


def test_label_studio_cvat_fiftyone_and_csv_hold_the_boxes_of_coco(named, tmp_path):
    run, photos = named
    for name in ("coco", "label-studio", "cvat", "fiftyone", "csv"):
        done = call("labels", "export", run, "--format", name, "--out", tmp_path / name)
        assert done.exit_code == 0, done.output
    coco = content_of(tmp_path / "coco/coco.json")
    ids = {each["id"]: each["file_name"] for each in coco["images"]}
    wanted = sorted((ids[each["image_id"]], *each["bbox"]) for each in coco["annotations"])
    assert wanted

    tasks = content_of(tmp_path / "label-studio/label_studio.json")
    found, chosen = [], {}
    for task in tasks:
        [prediction] = task["predictions"]
        assert 0 <= prediction["score"] <= 1  # Label Studio refuses others
        for each in prediction["result"]:
            value = each["value"]
            if each["type"] == "rectanglelabels":
                sides = (value[side] * 64 / 100 for side in ("x", "y", "width", "height"))
                found.append((task["data"]["path"], *(round(side) for side in sides)))
        for annotation in task.get("annotations", []):
            chosen[task["data"]["path"]] = annotation["result"][0]["value"]["choices"]
    assert sorted(found) == wanted
    assert chosen == {"part-00.png": ["bad"], "part-01.png": ["good"]}
    names = {each.get("name") for each in parse(tmp_path / "label-studio/label_config.xml").iter()}  # noqa: S314
    used = {(each["from_name"], each["to_name"]) for task in tasks for each in task["predictions"][0]["result"]}
    assert {name for pair in used for name in pair} <= names

    root = parse(tmp_path / "cvat/annotations.xml").getroot()  # noqa: S314
    assert root.findtext("version") == "1.1"
    found = []
    for image in root.iter("image"):
        for box in image.iter("box"):
            left, top, right, bottom = (round(float(box.get(side))) for side in ("xtl", "ytl", "xbr", "ybr"))
            found.append((image.get("name"), left, top, right - left, bottom - top))
    assert sorted(found) == wanted
    tags = {
        image.get("name"): (image.find("tag").get("label"), image.find("tag").get("source"))
        for image in root.iter("image")
    }
    assert tags["part-00.png"] == ("bad", "manual")
    assert tags["part-01.png"] == ("good", "manual")

    classes, boxes = content_of(tmp_path / "fiftyone/labels.json"), content_of(tmp_path / "fiftyone/detections.json")
    named_in_data = {path.stem: path.name for path in (tmp_path / "fiftyone/data").iterdir()}
    assert set(classes["labels"]) == set(boxes["labels"]) == set(named_in_data)
    assert classes["classes"][classes["labels"]["part-00"]] == "bad"
    found = [
        (named_in_data[name], *(round(64 * side) for side in each["bounding_box"]))
        for name, some in boxes["labels"].items()
        for each in some
    ]
    assert sorted(found) == wanted
    assert (tmp_path / "fiftyone/data/part-00.png").read_bytes() == (photos / "part-00.png").read_bytes()

    with (tmp_path / "csv/boxes.csv").open() as file:
        rows = [
            (row["path"], *(int(row[side]) for side in ("left", "top", "right", "bottom")))
            for row in csv.DictReader(file)
        ]
    assert sorted((name, left, top, right - left, bottom - top) for name, left, top, right, bottom in rows) == wanted
    found, _ = labels.read(tmp_path / "csv/labels.csv")
    assert {row.path: row.label for row in found if row.label} == {"part-00.png": "bad", "part-01.png": "good"}
    assert len(found) == 10


def test_moved_gone_and_changed_images_are_one_sentence_each_and_the_others_are_there(named, tmp_path):
    run, photos = named
    moved = Path(shutil.copytree(photos, tmp_path / "moved"))
    (moved / "part-02.png").unlink()
    Image.new("RGB", (64, 64)).save(moved / "part-03.png")
    left = blemish.export_labels(run, tmp_path / "coco", images=moved)
    names = {each["file_name"] for each in content_of(tmp_path / "coco/coco.json")["images"]}
    assert names == {f"part-{at:02d}.png" for at in (0, 1, 4, 5, 6, 7, 8, 9)}
    gone, changed = left.notes[:2]
    assert "1 image was not found" in gone
    assert "part-02.png" in gone
    assert "`images`" in gone
    assert "1 image was changed" in changed
    assert "part-03.png" in changed
    blemish.export_labels(run, tmp_path / "csv", format="csv", images=moved)
    assert len(labels.read(tmp_path / "csv/labels.csv")[0]) == 10  # a table needs no image
    shutil.rmtree(moved)
    refused(call("labels", "export", run, "--out", tmp_path / "x", "--images", moved), "no longer in", "--images")


def test_an_export_is_not_overwritten_without_force_and_bad_requests_say_what_there_is(named, tmp_path):
    run, photos = named
    out = tmp_path / "out"
    assert call("labels", "export", run, "--out", out).exit_code == 0
    before = (out / "coco.json").read_bytes()
    refused(call("labels", "export", run, "--out", out, "--format", "cvat"), "exists", "--force")
    assert (out / "coco.json").read_bytes() == before
    assert call("labels", "export", run, "--out", out, "--format", "cvat", "--force").exit_code == 0
    assert sorted(path.name for path in out.iterdir()) == ["annotations.xml", "config.json"]
    refused(call("labels", "export", run, "--out", tmp_path / "b", "--format", "voc"), "'voc'", "coco", "--format")
    refused(call("labels", "export", run, "--out", tmp_path / "b", "--masks", "png"), "'png'", "--masks")
    refused(call("labels", "export", run, "--out", run, "--force", "--format", "yolo", "--masks", "rle"), "--masks")
    refused(call("labels", "export", run, "--out", photos / "yolo", "--format", "yolo"), f"is in '{photos}'", "--out")


def test_a_bad_image_without_a_box_is_no_good_one_for_yolo(named, tmp_path, monkeypatch):
    run, _ = named
    monkeypatch.setattr(Gallery, "pixel_threshold", 1e9)
    left = blemish.export_labels(run, tmp_path / "yolo", format="yolo")
    assert not (tmp_path / "yolo/images/part-00.png").exists()
    assert (tmp_path / "yolo/images/part-01.png").exists()
    assert any("left out, since YOLO" in note for note in left.notes)


def test_names_that_differ_in_their_suffix_alone_stay_two_files():
    assert yolo.stems(["a/b.png", "a/b.jpg", "a/b_jpg.png", "c.png"]) == {
        "a/b.png": "a/b", "a/b.jpg": "a/b_jpg", "a/b_jpg.png": "a/b_jpg_png", "c.png": "c"
    }  # fmt: skip


def test_a_name_that_xml_cannot_hold_is_left_out_with_a_sentence(tmp_path, small):
    from conftest import fill

    photos = fill(tmp_path / "photos", 10)
    (photos / "part-03.png").rename(photos / "part\x01.png")
    blemish.fit(photos, tmp_path / "run", detector=small, threads=1)
    left = blemish.export_labels(tmp_path / "run", tmp_path / "cvat", format="cvat")
    assert len(list(parse(tmp_path / "cvat/annotations.xml").iter("image"))) == left.images == 9  # noqa: S314
    assert any(r"'part\x01.png'" in note for note in left.notes)


def test_a_review_ends_with_the_images_sorted_as_people_found(named, tmp_path, monkeypatch):
    run, photos = named
    monkeypatch.setattr("blemish.review.server.review", lambda *_, **__: None)
    done = call("review", run, "--link", tmp_path / "sorted")
    assert done.exit_code == 0, done.output
    assert (tmp_path / "sorted/bad/part-00.png").samefile(photos / "part-00.png")
    assert (tmp_path / "sorted/good/part-01.png").exists()
    assert len(list((tmp_path / "sorted").rglob("*.png"))) == 10
    refused(call("review", run, "--link", tmp_path / "sorted"), "exists", "--force")
    refused(call("review", run, "--link", tmp_path / "a", "--copy", tmp_path / "b"), "not both")


def test_fiftyone_reads_its_folder(named, tmp_path, monkeypatch):
    # Its readers alone: its database cannot be installed from PyPI without a download from elsewhere.
    monkeypatch.setenv("FIFTYONE_DISABLE_SERVICES", "1")
    monkeypatch.setenv("FIFTYONE_DO_NOT_TRACK", "1")
    foud = pytest.importorskip("fiftyone.utils.data")
    run, _ = named
    done = call("labels", "export", run, "--format", "fiftyone", "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    done = call("labels", "export", run, "--format", "coco", "--out", tmp_path / "coco")
    coco = content_of(tmp_path / "coco/coco.json")
    wanted = {image["file_name"]: [] for image in coco["images"]}
    ids = {image["id"]: image["file_name"] for image in coco["images"]}
    for each in coco["annotations"]:
        wanted[ids[each["image_id"]]].append(each["bbox"])
    where = {"data_path": tmp_path / "out/data", "shuffle": False}
    detections = tmp_path / "out/detections.json"
    with foud.FiftyOneImageDetectionDatasetImporter(**where, labels_path=detections) as importer:
        found = {
            Path(path).name: [[round(64 * side) for side in each.bounding_box] for each in label.detections]
            for path, _, label in importer
        }
    assert found == wanted
    with foud.FiftyOneImageClassificationDatasetImporter(**where, labels_path=tmp_path / "out/labels.json") as importer:
        classes = {Path(path).name: label.label for path, _, label in importer}
    assert classes["part-00.png"] == "bad"
    assert len(classes) == 10
