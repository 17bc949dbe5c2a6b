"""What people said elsewhere becomes rows of labels.csv: nothing lost, nothing replaced unasked."""

import json

import pytest

import blemish
from blemish.images import labels
from blemish.machine.errors import RequestError
from command_line import call, refused


def said(run):
    """What labels.csv says in the end, by path; and how many rows it has."""
    if not (run / "labels.csv").exists():
        return {}, 0
    rows, notes = labels.read(run / "labels.csv")
    assert not notes
    assert all(row.sha256 and row.time for row in rows)
    return {row.path: row.label for row in rows}, len(rows)


def coco(tmp_path, images, annotations=(), categories=((1, "scratch"), (2, "OK"))):
    """A COCO file of (id, name, size) and (image, category)."""
    content = {
        "images": [{"id": each[0], "file_name": each[1], "width": each[2], "height": each[3]} for each in images],
        "annotations": [
            {"id": at, "image_id": image, "category_id": category, "bbox": [1, 1, 5, 5]}
            for at, (image, category) in enumerate(annotations)
        ],
        "categories": [{"id": number, "name": name} for number, name in categories],
    }
    file = tmp_path / "coco.json"
    file.write_text(json.dumps(content))
    return file


def task(path, *people, size=64):
    """A task of Label Studio; each person gives choices or names of boxes."""
    return {
        "data": {"image": path},
        "predictions": [{"result": [{"type": "choices", "value": {"choices": ["bad"]}}]}],
        "annotations": [
            {
                "was_cancelled": person is None,
                "result": [
                    {"type": "choices", "value": {"choices": [word]}}
                    if word in ("good", "bad")
                    else {
                        "type": "rectanglelabels",
                        "original_width": size,
                        "original_height": size,
                        "value": {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": [word]},
                    }
                    for word in person or ()
                ],
            }
            for person in people
        ],
    }


def test_coco_with_other_sizes_and_unknown_images_gives_the_rest_and_a_sentence_each(run, tmp_path):
    images = [
        (1, "data/part-00.png", 64, 64), (2, "part-01.png", 64, 64), (3, "part-02.png", 640, 480),
        (4, "other.png", 64, 64), (5, "part-04.png", 64, 64), (6, "part-05.png", 64, 64),
    ]  # fmt: skip
    file = coco(tmp_path, images, [(1, 1), (1, 2), (2, 2), (3, 1), (4, 1)])
    done = call("labels", "import", run, file)
    assert done.exit_code == 0, done.output
    assert said(run) == ({"part-00.png": "bad", "part-01.png": "good"}, 2)
    text = " ".join(done.stdout.split())
    assert "Added 1 good and 1 bad" in text
    assert "'part-02.png' (640 x 480 there, 64 x 64 here)" in text
    assert "such as 'other.png'" in text
    assert "2 images have no annotation and got no label" in text
    assert "--empty-is-good" in text
    assert blemish.import_labels(run, file, empty_is_good=True).good == 2
    assert said(run)[0]["part-04.png"] == "good"
    assert said(run)[1] == 4  # the labels that were there already are not added again


def test_label_studio_people_choices_boxes_and_skipped_tasks(run, tmp_path):
    tasks = [
        task("/data/local-files/?d=photos%2Fpart-00.png", ["scratch"]),
        task("/data/upload/3/0a1b2c3d-part-01.png", ["good"]),
        task("s3://bucket/photos/part-02.png", []),  # submitted with nothing marked
        task("part-03.png", None),  # skipped
        task("part-04.png"),  # nobody looked, a prediction only
        task("part-05.png", ["good"], ["bad"]),  # two people
        task("part-06.png", ["bad"], ["scratch"]),
        task("part-07.png", ["scratch"], size=100),
    ]
    (tmp_path / "project.json").write_text(json.dumps(tasks))
    found = blemish.import_labels(run, tmp_path / "project.json")
    wanted = {"part-00.png": "bad", "part-01.png": "good", "part-02.png": "good", "part-06.png": "bad"}
    assert said(run) == (wanted, 4)
    text = " ".join(found.notes)
    assert "1 image has the labels good and bad in the file and got neither, such as 'part-05.png'" in text
    assert "'part-07.png' (100 x 100 there" in text
    assert "2 images have no annotation" in text


def test_two_people_labelling_one_folder_nothing_is_replaced_without_force(run, tmp_path):
    first, second = tmp_path / "anna.csv", tmp_path / "ben.csv"
    first.write_text("path,label\npart-00.png,bad\npart-01.png,good\n")
    second.write_text("path,label\npart-00.png,good\npart-01.png,good\npart-02.png,bad\n")
    assert blemish.import_labels(run, first).bad == 1
    found = blemish.import_labels(run, second)
    assert (found.good, found.bad) == (0, 1)
    assert "1 image has a different label in the Run and kept it, such as 'part-00.png'" in found.notes[0]
    assert said(run) == ({"part-00.png": "bad", "part-01.png": "good", "part-02.png": "bad"}, 3)
    done = call("labels", "import", run, second, "--force")
    assert "Added 1 good and 0 bad" in " ".join(done.stdout.split())
    assert said(run)[0]["part-00.png"] == "good"
    assert said(run)[1] == 4  # what the first one said is still in the file


def test_a_table_that_contradicts_itself_or_names_nothing_certain(run, tmp_path):
    file = tmp_path / "labels.csv"
    file.write_text(
        "path,label\npart-00.png,bad\npart-00.png,good\npart-01.png,perhaps\ngone.png,bad\nx/part-02.png,ok\n"
    )
    found = blemish.import_labels(run, file)
    assert said(run) == ({"part-02.png": "good"}, 1)
    text = " ".join(found.notes)
    assert "good and bad in the file" in text
    assert "line 4" in text
    assert "'gone.png'" in text


def test_a_log_of_another_review_counts_by_content_and_its_last_row(run, tmp_path):
    from blemish.runs.stored_scores import read_scores

    content = read_scores(run).content[0]
    name = read_scores(run).scores.ids[0]
    file = tmp_path / "log.csv"
    file.write_text(
        f"time,path,sha256,label\n2026-01-01T00:00:00,old/name.png,{content},good\n"
        f"2026-01-02T00:00:00,old/name.png,{content},bad\n2026-01-03T00:00:00,part-09.png,{'0' * 64},bad\n"
    )
    found = blemish.import_labels(run, file)
    assert said(run) == ({name: "bad"}, 1)
    assert "another content" in found.notes[0]


def test_an_export_that_nobody_changed_brings_back_what_people_said_and_no_prediction(run, tmp_path):
    (tmp_path / "labels.csv").write_text("path,label\npart-04.png,bad\npart-05.png,good\n")
    blemish.import_labels(run, tmp_path / "labels.csv")
    names = {"coco": "coco.json", "label-studio": "label_studio.json", "csv": "labels.csv"}
    for name, file in names.items():
        blemish.export_labels(run, tmp_path / name, format=name)
        (run / "labels.csv").unlink()
        blemish.import_labels(run, tmp_path / name / file)
        assert said(run)[0] == {"part-04.png": "bad", "part-05.png": "good"}


def test_what_is_no_such_file_or_of_another_run_is_refused_with_what_would_do(run, tmp_path):
    file = tmp_path / "x.json"
    for text, part in (
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ('{"a": 1}', "no COCO file"),
        ("[3]", "no export of Label Studio"),
    ):
        file.write_text(text)
        refused(call("labels", "import", run, file), f"'{file}'", part)
    refused(call("labels", "import", run, tmp_path / "none.json"), "none.json")
    refused(call("labels", "import", run, file, "--format", "voc"), "'voc'", "--format")
    refused(
        call("labels", "import", run, coco(tmp_path, [(1, "a.png", 64, 64)], [(1, 1)])), "No image of", "name the Run"
    )
    with pytest.raises(RequestError, match=r"COCO.*KeyError"):
        blemish.import_labels(run, coco(tmp_path, [(1, "part-00.png", 64, 64)], [(7, 1)]))
    (tmp_path / "t.csv").write_text("path,label\npart-00.png,bad\n")
    refused(call("labels", "import", run, tmp_path / "t.csv", "--empty-is-good"), "--empty-is-good is for coco")
    assert said(run) == ({}, 0)
