"""The record keeps machines, versions and sizes apart, and its page says no more than its rows."""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from blemish.benchmark import jobs, provenance, record_page
from blemish.benchmark.bench import bench, expected_seconds
from blemish.benchmark.datasets import Category, open_datasets
from blemish.benchmark.experiments import FULL, QUICK, STANDARD
from blemish.benchmark.experiments.record import AT_ONCE, OWN, TRAINED, record
from blemish.benchmark.plan import plan
from blemish.benchmark.record_page import folder_of_record
from blemish.benchmark.results import RESULTS, Results
from blemish.cli import app
from blemish.machine.errors import RequestError
from blemish.machine.runtime import use_runtime
from layouts import mvtec

Rows = list[dict[str, object]]
WORTH = {"nearest_images": 0.9, "padim": 0.8, "patchcore": 0.7, "inreach": 0.6}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    mvtec(tmp_path / "data", "bolt", train=20, bad=5)
    return mvtec(tmp_path / "data", "nut", train=20, bad=5)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A job that gives each detector a figure of its own, lower with contamination; inreach fails on nut."""

    def job(task: jobs.Task) -> Rows:
        cell = task.cell
        if (cell.detector, cell.category) == ("inreach", "mvtec/nut"):
            raise ZeroDivisionError("no luck (looked in /folder/of/this/machine)")
        value = WORTH[cell.detector] - 0.1 * cell.ratio + 0.001 * cell.seed
        row = {"image_auroc": value, "pixel_auroc": value / 2, "aupro": 0.5, "fit_seconds": 10 * value}
        return [{**row, "mode": mode} for mode in cell.extra["modes"]]

    monkeypatch.setattr("blemish.benchmark.plan.job", lambda _: job)


def run(data: Path, out: Path, **settings: object) -> None:
    bench(["record"], out, data=data, size="quick", detectors=list(WORTH), **settings)  # type: ignore[arg-type]


def page_after(out: Path, kept: Callable[[list[str]], list[str]]) -> str:
    """The page of a record of which only some lines of results.csv are there."""
    rows = next(out.glob(f"*/{RESULTS}"))
    rows.write_text("".join(kept(rows.read_text().splitlines(keepends=True))))
    bench(["record"], out, page=out / "record.md")
    return (out / "record.md").read_text()


def test_the_forms_hold_what_they_say(data: Path) -> None:
    found: list[Category] = open_datasets(data)
    for size, names, seeds in ((QUICK, OWN, 1), (STANDARD, OWN + AT_ONCE, 3), (FULL, OWN + AT_ONCE + TRAINED, 3)):
        planned = record().plan(found, size)
        assert {each.variant for each in planned} == set(names)
        assert {each.cell.seed for each in planned} == set(range(seeds))
        assert {each.label for each in planned} == {"bolt", "nut"}
    groups = dict.fromkeys(each.group for each in record().plan(found, STANDARD))
    assert list(groups) == [
        "0 %",
        "5 %",
        "10 %",
        "20 %",
        "40 %",
        "MeDS 10 %",
        "MeDS 20 %",
        "MeDS 40 %",
        "SoftPatch 10 %",
    ]
    purified = {each.variant: each.cell.purify for each in record().plan(found, QUICK)}
    assert purified["purified patchcore"] == {}
    assert purified["patchcore"] is None


@pytest.mark.real
def test_the_forms_fit_their_time_on_two_cores() -> None:
    data = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not data.is_dir():
        pytest.skip("the real images are not beside the checkout (../shared/data)")
    for size, hours in ((QUICK, 1), (STANDARD, 24)):
        seconds, _ = expected_seconds(plan([record()], data, size), Results.read(data / "nothing"))
        assert seconds < hours * 3600


def test_the_page_is_made_from_the_rows_alone(data: Path, tmp_path: Path, measured: None) -> None:
    run(data, tmp_path / "out", seeds=3)
    command = ["bench", "record", "--out", str(tmp_path / "out"), "--page", str(tmp_path / "docs" / "record.md")]
    data.rename(tmp_path / "gone")
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    text = (tmp_path / "docs" / "record.md").read_text(encoding="utf-8")
    assert "Overlap, 40 %: nearest_images has the highest mean image AUROC of 86.1, then padim with 76.1" in text
    assert "the test does not tell them apart" in text  # six pairs, three comparisons
    assert "Not ranked, for cells that they lack: inreach." in text
    assert "4 detectors, 2 sets, 6 ratios and protocols, 3 seeds: 18 of 144 cells have no figure (inreach 18)." in text
    assert "ZeroDivisionError: no luck (18: nut inreach 0 %, seed 0" in text
    assert "The same images are drawn for " in text  # so few that every protocol takes all
    assert "## What is not comparable" in text
    images = [line[line.index("(") + 1 : -1] for line in text.splitlines() if line.startswith("![")]
    assert [Path(each).name for each in images] == [
        "contamination.png", "seconds.png", "ranks_overlap.png", "ranks_no_overlap.png",
    ]  # fmt: skip
    assert all((tmp_path / "docs" / each).is_file() for each in images)
    assert CliRunner().invoke(app, command).exit_code == 0
    assert (tmp_path / "docs" / "record.md").read_text(encoding="utf-8") == text


def test_a_record_that_was_broken_off_names_what_was_not_begun(data: Path, tmp_path: Path, measured: None) -> None:
    run(data, tmp_path / "out")
    text = page_after(tmp_path / "out", lambda lines: [line for line in lines if "SoftPatch" not in line])
    (said,) = [line for line in text.splitlines() if line.startswith("Not run yet")]
    waiting = "SoftPatch 10 %, funad, purified patchcore, softpatch, simplenet, dinomaly"
    assert said == f"Not run yet, and in none of these figures: {waiting}."


def test_a_seed_that_is_not_whole_is_left_out_of_all_means(data: Path, tmp_path: Path, measured: None) -> None:
    run(data, tmp_path / "out", seeds=2)
    bench(["record"], tmp_path / "out", page=tmp_path / "both.md")
    assert "2 seeds: 12 of 96 cells" in (tmp_path / "both.md").read_text()
    lines = next((tmp_path / "out").glob(f"*/{RESULTS}")).read_text().splitlines()
    assert [line["seed"] for line in csv.DictReader(lines)] == sorted(line["seed"] for line in csv.DictReader(lines))
    text = page_after(tmp_path / "out", lambda lines: lines[: len(lines) // 2 + 9])  # a few runs of the second seed
    assert "Begun, and in none of these figures: seed 1." in text
    assert "1 seeds: 6 of 48 cells" in text


def test_a_detector_that_was_only_begun_is_left_out_and_named(data: Path, tmp_path: Path, measured: None) -> None:
    run(data, tmp_path / "out")
    text = page_after(
        tmp_path / "out",
        lambda lines: [line for line in lines if ",padim," not in line or (",bolt," in line and "levels" in line)],
    )
    assert "Begun, and in none of these figures: padim." in text
    assert "| nearest_images | patchcore | inreach |" in text


def test_runs_on_the_same_images_are_computed_once(data: Path, tmp_path: Path, measured: None) -> None:
    run(data, tmp_path / "out")
    path = next((tmp_path / "out").glob(f"*/{RESULTS}"))
    with path.open() as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "done"]
    place = {row["run"]: row for row in rows}
    again = [row for row in rows if row["as_run"]]
    assert {json.loads(row["extra"])["protocol"] for row in again} == {"MeDS", "SoftPatch"}  # few images
    assert {json.loads(row["extra"])["protocol"] for row in rows if not row["as_run"]} >= {"levels"}
    for row in again:
        first = place[row["as_run"]]
        assert not first["as_run"]
        assert (row["manifest"], row["image_auroc"]) == (first["manifest"], first["image_auroc"])
        assert first["fit_seconds"]
        assert not row["fit_seconds"]  # nothing was fitted
        assert row["mode"] == "overlap" or json.loads(row["extra"])["protocol"] == "SoftPatch"
    kept = [line for line in path.read_text().splitlines(keepends=True) if "MeDS" not in line]
    path.write_text("".join(kept))
    planned = bench(["record"], tmp_path / "out", data=data, size="quick", detectors=list(WORTH), dry_run=True)
    assert planned.summary["runs"] == 8  # MeDS injects up to all anomalies at 40 %
    assert planned.summary["repeated"] == 8
    assert "8 more are on the same images" in planned.lines[-1]


def test_a_record_made_beside_other_programs_says_so() -> None:
    row = {"run": "a", "feature_seconds": 1.0, "fit_seconds": 7.0, "score_seconds": 1.0, "metric_seconds": 1.0}
    alone, busy = (pd.DataFrame([{**row, "cpu_seconds": seconds}] * 2) for seconds in (9.0, 4.0))
    assert record_page._clock(alone) == ""
    assert "2.5 times as long by the clock" in record_page._clock(busy)  # a run counts once, with all of its rows


def test_two_machines_and_two_versions_are_kept_apart(
    data: Path, tmp_path: Path, measured: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    run(data, out)
    first = (out / folder_of_record("quick") / RESULTS).read_bytes()
    monkeypatch.setattr(record_page, "machine", lambda: "other-cpu-2-cores")
    run(data, out)
    monkeypatch.setattr(record_page, "version", lambda _: "9.9")
    run(data, out)
    folders = sorted(path.name for path in out.iterdir())
    assert len(folders) == 3
    assert "record_other-cpu-2-cores_blemish-9.9_quick" in folders
    assert f"record_{provenance.machine()}_blemish-0.1.0_quick" in folders
    assert (out / f"record_{provenance.machine()}_blemish-0.1.0_quick" / RESULTS).read_bytes() == first
    bench(["record"], out, page=tmp_path / "record.md")
    assert (tmp_path / "record.md").read_text().count("### Who leads") == 3


def test_a_page_without_rows_and_a_record_beside_others_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=f"'{tmp_path}'.*blemish bench record"):
        bench(["record"], tmp_path, page=tmp_path / "record.md")
    with pytest.raises(RequestError, match="run it by itself"):
        bench(["record", "F3"], tmp_path, data=mvtec(tmp_path / "data"))
    with pytest.raises(RequestError, match="made from the rows of `record`"):
        bench(["F3"], tmp_path, page=tmp_path / "record.md")
    assert not (tmp_path / "record.md").exists()


def test_a_tiny_record_really_runs(data: Path, tmp_path: Path, own_cache: Path) -> None:
    with use_runtime(cache=own_cache, threads=1):
        chosen = {"detectors": ["nearest_images"], "categories": ["bolt"]}
        found = bench(["record"], tmp_path / "out", data=data, size="quick", **chosen)  # type: ignore[arg-type]
    assert (found.summary["runs"], found.failed) == (6, 0)
    with (tmp_path / "out" / folder_of_record("quick") / RESULTS).open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 10  # three ratios and SoftPatch with both protocols, MeDS at 10 and 40 % with Overlap alone
    assert all(row["status"] == "done" and row["machine"] == provenance.machine() for row in rows)
    assert all('"dent"' in row["by_defect"] for row in rows if row["mode"] == "overlap")
    bench(["record"], tmp_path / "out", page=tmp_path / "record.md")
    assert "1 detectors, 1 sets, 6 ratios and protocols, 1 seeds: all 6 cells" in (tmp_path / "record.md").read_text()


def test_of_detectors_with_the_same_mean_the_first_leads() -> None:
    worth = {"a": 0.718, "b": 0.768, "e": 0.643, "f": 0.687, "c": 0.781, "first": 0.8, "second": 0.8, "d": 0.679}
    rows = pd.DataFrame([
        {"mode": "overlap", "group": "10 %", "label": label, "seed": 0, "variant": name, "image_auroc": value}
        for name, value in worth.items() for label in "xy"
    ])  # fmt: skip
    (sentence,) = record_page._leader(rows, "overlap", "10 %")
    assert "first has the highest mean image AUROC of 80.0, then second with 80.0" in sentence


def test_where_another_detector_leads_the_page_says_on_which_sets_ours_is_behind() -> None:
    worth = {
        ("padim", "nut"): 0.9,
        ("padim", "bolt"): 0.7,
        ("nearest_images", "nut"): 0.7,
        ("nearest_images", "bolt"): 0.8,
    }
    rows = pd.DataFrame([
        {"mode": "overlap", "group": "10 %", "label": label, "seed": 0, "variant": name, "image_auroc": value}
        for (name, label), value in worth.items()
    ])  # fmt: skip
    (sentence,) = record_page._leader(rows, "overlap", "10 %")
    assert sentence.startswith("Overlap, 10 %: padim has the highest mean image AUROC of 80.0")
    assert sentence.endswith("nearest_images, ours, has 75.0, behind on nut (-20.0).")
