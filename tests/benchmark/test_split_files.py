"""Split files of others are read as they are published. Each has the true shape of one, with images of our own."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from blemish.benchmark.contamination import read_manifest
from blemish.benchmark.datasets import Category, open_datasets
from blemish.benchmark.experiments import QUICK, compare
from blemish.benchmark.plan import plan
from blemish.cli import app
from blemish.machine.errors import RequestError
from layouts import mvtec, table, visa

NORMAL = [f"train/good/{index:03d}" for index in range(4)]
INJECTED = ["test/dent/000", "test/scratch/001"]


@pytest.fixture
def bottle(tmp_path: Path) -> Category:
    """MVTec AD's layout in a folder of another name, as JPEG: what the published lists do not say."""
    return open_datasets(mvtec(tmp_path / "data", "mvtec_bottle", suffix=".jpg"))[0]


def injected(category: Category, file: Path) -> tuple[list[str], list[str], str]:
    """The normal and the anomalous training images from the category's folder on, and the notes."""
    manifest = read_manifest(file, category)
    names = {bad: [e.path.partition("/")[2] for e in manifest.training if e.anomalous is bad] for bad in (False, True)}
    return names[False], names[True], " ".join(manifest.notes)


def test_meds_lists_all_categories_in_one_csv(bottle: Category, tmp_path: Path) -> None:
    rows = [f"bottle/{name}.png,bottle" for name in NORMAL + INJECTED] + ["cable/train/good/000.png,cable"] * 3
    normal, bad, notes = injected(bottle, table(tmp_path / "meds.csv", "filename,clsname", rows))
    assert normal == [f"{name}.jpg" for name in NORMAL]
    assert bad == [f"{name}.jpg" for name in INJECTED]
    assert "3 rows of other categories (cable) are left out" in notes
    assert "6 of 6 images are here with another suffix (.jpg for .png)" in notes


def test_without_a_column_of_categories_the_paths_tell_them(bottle: Category, tmp_path: Path) -> None:
    rows = [f"/data/mvtec/bottle/{name}.jpg" for name in NORMAL] + ["cable/train/good/000.png"]
    normal, bad, notes = injected(bottle, table(tmp_path / "paths.csv", "filename", rows))
    assert (len(normal), bad) == (4, [])
    assert "1 rows of other categories (cable)" in notes


def test_anomalibs_frame_has_the_image_beside_the_root_and_a_split(bottle: Category, tmp_path: Path) -> None:
    head = ",path,split,label,image_path,mask_path,label_index"
    root = "/home/me/MVTecAD/bottle"
    rows = [f"{i},{root},train,good,{root}/{name}.png,,0" for i, name in enumerate(NORMAL)]
    rows.append(f"4,{root},test,dent,{root}/test/dent/000.png,{root}/ground_truth/dent/000_mask.png,1")
    normal, bad, notes = injected(bottle, table(tmp_path / "samples.csv", head, rows))
    assert (normal, bad) == ([f"{name}.jpg" for name in NORMAL], [])
    assert "1 rows of other splits than 'train' are left out" in notes


def test_visas_split_is_read_with_its_object_and_split(tmp_path: Path) -> None:
    (candle,) = open_datasets(visa(tmp_path))
    manifest = read_manifest(tmp_path / "split_csv" / "1cls.csv", candle)
    assert {entry.path for entry in manifest.training} == {sample.path for sample in candle.train}


def test_realiads_json_lists_training_and_test_images(bottle: Category, tmp_path: Path) -> None:
    def row(name: str, kind: str) -> dict[str, object]:
        return {"category": "bottle", "anomaly_class": kind, "image_path": f"{name}.jpg", "mask_path": None}

    split = {
        "meta": {"normal_class": "OK", "prefix": "bottle/"},
        "test": [row("test/good/000", "OK")],
        "train": [*(row(name, "OK") for name in NORMAL), row(INJECTED[0], "HS")],
    }
    (tmp_path / "bottle.json").write_text(json.dumps(split))
    normal, bad, notes = injected(bottle, tmp_path / "bottle.json")
    assert (len(normal), bad, notes) == (4, ["test/dent/000.jpg"], "")


def test_a_json_object_a_line_is_read(bottle: Category, tmp_path: Path) -> None:
    rows = [{"filename": f"bottle/{name}.jpg", "label": 0, "clsname": "bottle"} for name in NORMAL]
    (tmp_path / "train.json").write_text("\n".join(map(json.dumps, rows)) + "\n")
    assert len(injected(bottle, tmp_path / "train.json")[0]) == 4
    (tmp_path / "one.json").write_text(json.dumps(rows[0]) + "\n")
    assert len(injected(bottle, tmp_path / "one.json")[0]) == 1


def test_a_guessed_column_is_named_in_a_sentence(bottle: Category, tmp_path: Path) -> None:
    rows = [f"{index},bottle/{name}.jpg" for index, name in enumerate(NORMAL)]
    *_, notes = injected(bottle, table(tmp_path / "a.csv", "number,where", rows))
    assert "the column 'where' is taken for the images: 100% of its values" in notes
    *_, notes = injected(bottle, table(tmp_path / "b.csv", rows[0], rows[1:]))  # no row of names
    assert "column 2 is taken for the images" in notes


def test_rows_that_repeat_an_image_are_taken_once_with_a_note(bottle: Category, tmp_path: Path) -> None:
    rows = [f"bottle/{name}.jpg" for name in [*NORMAL, NORMAL[0]]]
    normal, _, notes = injected(bottle, table(tmp_path / "a.csv", "filename", rows))
    assert len(normal) == 4
    assert "1 rows name an image again" in notes


def test_an_image_of_the_same_number_elsewhere_is_not_taken_for_the_one_listed(
    bottle: Category, tmp_path: Path
) -> None:
    mvtec(tmp_path / "data", "mvtec_bottle", train=0, good=20, bad=0, suffix=".jpg")  # test/good/015, no train/good/015
    (grown,) = open_datasets(tmp_path / "data")
    with pytest.raises(RequestError, match=r"'bottle/train/good/015\.png'.*mvtec/mvtec_bottle"):
        read_manifest(table(tmp_path / "a.csv", "filename,clsname", ["bottle/train/good/015.png,bottle"]), grown)


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("a.csv", "filename,clsname\ncable/train/good/0.png,cable\n", "names no image of .*; it has cable"),
        ("a.csv", "number,size\n1,2\n", r"no column with paths of images; call one of its columns \(number, size\)"),
        ("a.csv", "image_path,split\nbottle/train/good/000.png,test\n", "no row with the split 'train'; it has test"),
        ("a.csv", "", "cannot be read as a list"),
        ("a.json", '{"meta": {}, "train": 3}', "cannot be read as a list"),
        ("a.json", "{", "cannot be read as a list"),
        ("a.xml", "<a/>", "name a .txt, .csv or .json file"),
        ("a.csv", "filename,clsname\n,bottle\nbottle/train/good/000.png,bottle\n", "1 rows without a path"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_with_the_reason(
    name: str, text: str, problem: str, bottle: Category, tmp_path: Path
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(RequestError) as caught:
        read_manifest(tmp_path / name, bottle)
    assert re.search(problem, str(caught.value))


def test_compare_takes_the_categories_that_the_file_has_rows_of(tmp_path: Path) -> None:
    for name in ("bottle", "cable", "pill"):
        mvtec(tmp_path / "data", name)
    rows = [f"{kind}/{name}.png,{kind}" for kind in ("bottle", "cable") for name in NORMAL + INJECTED[:1]]
    file = table(tmp_path / "meds.csv", "filename,clsname", rows)
    planned = plan([compare(["nearest_images"], (0.0,), manifest=file)], tmp_path / "data", QUICK)
    assert {step.cell.category: len(step.manifest.training) for step in planned.steps.values() if step.manifest} == {
        "mvtec/bottle": 5, "mvtec/cable": 5,
    }  # fmt: skip
    command = ["bench", "compare", "--data", str(tmp_path / "data"), "--manifest", str(file), "--dry-run"]
    result = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "out"), "--detectors", "nearest_images"])
    assert result.exit_code == 0, result.output
    assert "rows of other categories" in result.output


def test_a_list_that_does_not_say_of_which_category_it_is_fits_one_alone(tmp_path: Path) -> None:
    for name in ("mvtec_bottle", "mvtec_screw"):
        mvtec(tmp_path / "data", name, suffix=".jpg")
    file = table(tmp_path / "list.csv", "filename", [f"{name}.jpg" for name in NORMAL])
    found = compare(["padim"], (0.0,), 1, manifest=file)
    with pytest.raises(
        RequestError, match=r"does not say of which category.*mvtec_bottle and .*mvtec_screw.*`categories`"
    ):
        plan([found], tmp_path / "data", QUICK)
    (step,) = plan([found], tmp_path / "data", QUICK, ["mvtec_screw"]).steps.values()
    assert step.cell.category == "mvtec/mvtec_screw"


def test_a_csv_with_semicolons_is_read_and_its_notes_name_the_category(bottle: Category, tmp_path: Path) -> None:
    rows = [f"bottle/{name}.png;bottle" for name in NORMAL] + ["cable/train/good/000.png;cable"]
    normal, _, notes = injected(bottle, table(tmp_path / "meds.csv", "filename;clsname", rows))
    assert len(normal) == len(NORMAL)
    assert "'meds.csv' for mvtec_bottle: 1 rows of other categories (cable)" in notes
