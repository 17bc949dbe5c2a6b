"""A bench runs each cell once, keeps what is finished, and turns failures into rows."""

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from blemish.benchmark import jobs
from blemish.benchmark.bench import bench
from blemish.benchmark.cells import Cell, Limit
from blemish.benchmark.datasets import open_datasets
from blemish.benchmark.experiments import QUICK, Experiment, Planned, compare
from blemish.benchmark.plan import Step, plan, rows_of, run
from blemish.benchmark.results import COLUMNS, LOCK, RESULTS, Results, only_writer
from blemish.cli import app
from blemish.machine.errors import RequestError
from blemish.machine.runtime import use_runtime
from layouts import image, mvtec

Rows = list[dict[str, object]]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    mvtec(tmp_path / "data", "bolt", train=20, bad=5)
    return mvtec(tmp_path / "data", "nut", train=20, bad=5)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Cell]:
    """The cells that were run, in turn. The job 'fit' does nothing but write down what it was asked."""
    cells: list[Cell] = []

    def job(task: jobs.Task) -> Rows:
        cells.append(task.cell)
        if task.cell.detector == "broken":
            raise ZeroDivisionError("no such\nluck")
        value = 0.5 + 0.1 * len(task.cell.detector) / 10 + 0.01 * task.cell.seed
        return [{"mode": mode, "image_auroc": value, "pixel_auroc": value / 2} for mode in ("overlap", "no_overlap")]

    monkeypatch.setattr("blemish.benchmark.plan.job", lambda _: job)
    return cells


def experiment(*detectors: str, name: str = "X", ratios: tuple[float, ...] = (0.1,), seeds: int = 1) -> Experiment:
    def cells(categories, size):
        return [
            Planned(Cell(category=str(c), detector=d, ratio=r, seed=s), d, f"{r:g}" if len(ratios) > 1 else "")
            for c in categories
            for d in detectors
            for r in ratios
            for s in range(seeds)
        ]

    return Experiment(name, "a test", cells)


def rows(out: Path) -> list[dict[str, str]]:
    with (out / RESULTS).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_equal_cells_of_several_experiments_are_run_once(data: Path, tmp_path: Path, asked: list[Cell]) -> None:
    wanted = [experiment("a", "b", name="X"), experiment("b", "c", name="Y")]
    outcome = run(plan(wanted, data, QUICK), tmp_path / "out")
    assert len(asked) == 6
    assert (outcome.done, outcome.earlier, outcome.failed) == (6, 0, 0)
    assert {name: path.is_file() for name, path in outcome.tables.items()} == {"X": True, "Y": True}
    with (tmp_path / "out" / "Y" / RESULTS).open(encoding="utf-8") as file:
        assert {row["variant"] for row in csv.DictReader(file)} == {"b", "c"}


def test_runs_resume_where_they_stopped(
    data: Path, tmp_path: Path, asked: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted, out = plan([experiment("a", "b", "c")], data, QUICK), tmp_path / "out"
    add: Callable[[Results, Rows], None] = Results.add

    def killed(self: Results, found: Rows) -> None:
        if len(asked) == 4:
            raise KeyboardInterrupt
        add(self, found)

    monkeypatch.setattr(Results, "add", killed)
    with pytest.raises(KeyboardInterrupt):
        run(wanted, out)
    monkeypatch.setattr(Results, "add", add)
    assert len(rows(out)) == 6  # three finished runs, two protocols each
    assert "3 runs are still to do" in (out / "X" / "table.md").read_text(encoding="utf-8")
    outcome = run(wanted, out)
    assert (outcome.done, outcome.earlier) == (3, 3)
    assert len(asked) == 7
    assert len(rows(out)) == 12
    assert run(wanted, out).done == 0


def test_a_row_cut_short_by_a_kill_is_run_again_and_the_rest_is_kept(
    data: Path, tmp_path: Path, asked: list[Cell]
) -> None:
    wanted, out = plan([experiment("a", "b")], data, QUICK), tmp_path / "out"
    run(wanted, out)
    text = (out / RESULTS).read_text(encoding="utf-8")
    whole, last = text[: text.rindex("\n", 0, -1) + 1], text[text.rindex("\n", 0, -1) + 1 :]
    lines = whole.splitlines(keepends=True)
    (out / RESULTS).write_text("".join(lines[:-1]) + last[:40], encoding="utf-8")  # the last run, torn
    assert run(wanted, out).done == 1
    assert len(rows(out)) == 8
    assert all(row["status"] == "done" for row in rows(out))


def test_a_kill_between_the_rows_of_a_run_leaves_no_half_of_it(data: Path, tmp_path: Path, asked: list[Cell]) -> None:
    wanted, out = plan([experiment("a")], data, QUICK), tmp_path / "out"
    run(wanted, out)
    text = (out / RESULTS).read_text(encoding="utf-8")
    for torn in (3, 30, 120):  # of the second row of the second run
        lines = text.splitlines(keepends=True)
        (out / RESULTS).write_text("".join(lines[:-1]) + lines[-1][:torn], encoding="utf-8")
        assert run(wanted, out).done == 1
        assert len(rows(out)) == 4
    (out / RESULTS).write_text(text + "1,ffffffffffffffff,2026", encoding="utf-8")  # the first row of another run
    assert run(wanted, out).done == 0


def test_a_category_that_got_further_test_images_is_measured_anew(
    data: Path, tmp_path: Path, asked: list[Cell]
) -> None:
    out = tmp_path / "out"
    clean = experiment("a", ratios=(0.0,))
    assert run(plan([clean], data, QUICK), out).done == 2
    image(data / "nut" / "test" / "good" / "900.png", 900)
    outcome = run(plan([clean], data, QUICK), out)
    assert (outcome.done, outcome.earlier) == (1, 1)
    assert "nut" in asked[-1].category


def test_a_comparison_on_images_of_ones_own_is_not_measured_against_a_paper(
    data: Path, tmp_path: Path, asked: list[Cell]
) -> None:
    wanted = [replace(experiment("a", name="compare"), own_sizes=True), experiment("a", name="X")]
    tables = run(plan(wanted, data, QUICK), tmp_path / "out").tables
    assert "differ from the paper" not in tables["compare"].read_text(encoding="utf-8")
    assert "differ from the paper" in tables["X"].read_text(encoding="utf-8")


def test_a_failed_run_stays_as_a_row_with_its_reason_and_the_others_go_on(
    data: Path, tmp_path: Path, asked: list[Cell]
) -> None:
    wanted, out = plan([experiment("broken", "good")], data, QUICK), tmp_path / "out"
    outcome = run(wanted, out)
    assert (outcome.done, outcome.failed) == (4, 2)
    failed = [row for row in rows(out) if row["status"] == "failed"]
    assert [row["reason"] for row in failed] == ["ZeroDivisionError: no such luck"] * 2
    assert "ZeroDivisionError" in (out / "runs" / failed[0]["run"] / "error.txt").read_text(encoding="utf-8")
    table = (out / "X" / "table.md").read_text(encoding="utf-8")
    assert "## Failed" in table
    assert "ZeroDivisionError: no such luck (2: bolt broken, seed 0; nut broken, seed 0)" in table
    assert run(wanted, out).done == 0
    assert run(wanted, out, retry=True).done == 2
    assert len([row for row in rows(out) if row["status"] == "failed"]) == 2


def test_what_cannot_be_injected_is_a_failed_row_that_says_so(tmp_path: Path, asked: list[Cell]) -> None:
    mvtec(tmp_path / "data", bad=0)
    run(plan([experiment("a")], tmp_path / "data", QUICK), tmp_path / "out")
    assert "no anomaly to inject" in rows(tmp_path / "out")[0]["reason"]
    assert asked == []


def test_a_category_that_cannot_be_measured_is_left_out_and_the_table_says_why(
    data: Path, tmp_path: Path, asked: list[Cell]
) -> None:
    mvtec(data, "nail", good=0)
    run(plan([compare()], data, QUICK, ["bolt", "nail"]), tmp_path / "out")
    table = (tmp_path / "out" / "compare" / "table.md").read_text(encoding="utf-8")
    assert "Left out: mvtec/nail has no normal test images." in table
    with pytest.raises(RequestError, match="mvtec/nail"):
        plan([compare()], data, QUICK, ["nail"])


def test_manifests_are_written_before_anything_runs_and_are_the_same_for_all_detectors(
    data: Path, tmp_path: Path, asked: list[Cell], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen, add_really = tmp_path / "out", [], Results.add

    def add(self: Results, found: Rows) -> None:
        seen.append(sorted(path.name for path in (out / "manifests").iterdir()))
        add_really(self, found)

    monkeypatch.setattr(Results, "add", add)
    steps = plan([experiment("a", "b", ratios=(0.1, 0.2))], data, QUICK)
    run(steps, out)
    assert len(seen[0]) == 4  # two categories, two ratios
    assert all(each == seen[0] for each in seen)
    for folder in (out / "manifests").iterdir():
        assert json.loads((folder / "manifest.json").read_text())["hash"] == folder.name


def test_two_benches_do_not_write_to_the_same_place(data: Path, tmp_path: Path, asked: list[Cell]) -> None:
    wanted, out = plan([experiment("a")], data, QUICK), tmp_path / "out"
    with only_writer(out), pytest.raises(RequestError, match="out'"):
        run(wanted, out)
    assert (out / LOCK).exists()  # as of a process that was killed
    assert run(wanted, out).done == 2


def test_results_of_another_version_are_refused_and_left_alone(data: Path, tmp_path: Path, asked: list[Cell]) -> None:
    wanted, out = plan([experiment("a")], data, QUICK), tmp_path / "out"
    run(wanted, out)
    text = (out / RESULTS).read_text(encoding="utf-8")
    for changed in (text.replace("\n1,", "\n7,"), text.replace("format,", "version,", 1), "a,b\n1,2\n"):
        (out / RESULTS).write_text(changed, encoding="utf-8")
        with pytest.raises(RequestError, match=r"format 7|another version"):
            run(wanted, out)
        assert (out / RESULTS).read_text(encoding="utf-8") == changed


def test_results_with_fewer_columns_of_an_earlier_blemish_are_taken_up(
    data: Path, tmp_path: Path, asked: list[Cell]
) -> None:
    wanted, out = plan([experiment("a")], data, QUICK), tmp_path / "out"
    run(wanted, out)
    lines = [line.rsplit(",", 1)[0] for line in (out / RESULTS).read_text(encoding="utf-8").splitlines()]
    (out / RESULTS).write_text("\n".join(lines) + "\n", encoding="utf-8")
    assert run(wanted, out).done == 0
    assert tuple(rows(out)[0]) == COLUMNS


def test_a_run_is_known_by_everything_that_decides_its_result(data: Path) -> None:
    base = Cell(category="mvtec/bolt", detector="a")
    others = (
        Cell(category="mvtec/bolt", detector="b"),
        Cell(category="mvtec/bolt", detector="a", settings={"x": 1}),
        Cell(category="mvtec/bolt", detector="a", seed=1),
        Cell(category="mvtec/bolt", detector="a", ratio=0.2),
        Cell(category="mvtec/bolt", detector="a", limit=Limit(5)),
        Cell(category="mvtec/bolt", detector="a", purify={}),
    )
    assert len({each.run(None) for each in (base, *others)}) == 7
    assert base.run(None) == Cell(category="mvtec/bolt", detector="a").run(None)


def test_all_categories_that_are_named_are_run_also_in_the_quick_form(tmp_path: Path) -> None:
    for name in ("bolt", "nut", "plate"):
        mvtec(tmp_path / "data", name)
    words = [
        "bench",
        "compare",
        "--detectors",
        "padim",
        "--quick",
        "--dry-run",
        "--json",
        "--data",
        str(tmp_path / "data"),
    ]
    for categories, runs in ((None, 1), ("nut", 1), ("bolt,plate", 2)):
        named = ["--categories", categories] if categories else []
        result = CliRunner().invoke(app, [*words, *named, "--out", str(tmp_path / "out")])
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout)["runs"] == runs


def test_a_dry_run_prints_the_plan_and_writes_nothing(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = bench(["compare"], out, data=data, ratios=[0.1, 0.2], detectors=["nearest_images"], dry_run=True)
    assert found.summary["runs"] == 4
    assert "compare: 4 runs, 4 to do: nearest_images" in found.lines[0]
    assert "minutes (of one core" in found.lines[-1]
    assert found.summary["unknown"] == 0
    assert not out.exists()


def test_requests_that_cannot_be_met_are_refused_with_exit_code_2(data: Path, tmp_path: Path) -> None:
    out = ["--out", str(tmp_path / "out")]
    for arguments, said in (
        (["T9"], "no experiment 'T9'; did you mean T"),
        (["T1"], "T1 needs images; name the folder of a dataset with --data"),
        (["T1", "--quick", "--full"], "two sizes"),
        (["T1", "--data", str(data), "--policy", "cap"], "--policy and --manifest are for `compare`"),
        (["compare", "--data", str(data), "--detectors", "nearest_imogs"], "did you mean nearest_images"),
        (["compare", "--data", str(data), "--contamination", "x"], "takes numbers"),
        (["compare", "--data", str(data), "--contamination=-1"], "ratios of 0 or more"),
        (["T1", "--data", str(data), "--detectors", "padim"], "are for `compare`"),
        (["compare", "--data", str(data), "--manifest", "x", "--contamination", "0.1"], "leave out --contamination"),
        (["T1", "--data", str(data), "--categories", "bulb"], "no category 'bulb'"),
        (["T1", "--data", str(tmp_path / "nowhere")], "is not a folder"),
    ):
        result = CliRunner().invoke(app, ["bench", *arguments, *out])
        assert result.exit_code == 2, result.output
        assert said in result.output
    assert not (tmp_path / "out").exists()


def test_the_command_leaves_tables_and_the_second_time_nothing_is_left_to_do(
    data: Path, tmp_path: Path, asked: list[Cell]
) -> None:
    out = tmp_path / "out"
    command = ["bench", "compare", "--data", str(data), "--categories", "bolt", "--detectors", "nearest_images,funad"]
    command += ["--contamination", "0,0.1", "--seeds", "2", "--quick", "--out", str(out), "--json"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    summary = json.loads(result.stdout)
    assert (summary["runs"], summary["earlier"], summary["failed"]) == (8, 0, 0)
    assert "| 10 % |" in Path(summary["tables"]["compare"]).read_text(encoding="utf-8")
    assert (out / "compare" / "overlap.png").is_file()
    assert json.loads(CliRunner().invoke(app, command).stdout)["earlier"] == 8
    assert len(asked) == 8


def test_two_folders_with_the_same_category_are_not_mixed_up(tmp_path: Path) -> None:
    mvtec(tmp_path / "data" / "old")
    mvtec(tmp_path / "data" / "new")
    with pytest.raises(RequestError, match=r"old' and '.*' both hold mvtec/bolt|new' and '.*' both hold mvtec/bolt"):
        plan([experiment("a")], tmp_path / "data", QUICK)


def test_a_dry_run_beside_a_running_bench_touches_nothing(data: Path, tmp_path: Path, asked: list[Cell]) -> None:
    wanted, out = plan([experiment("a")], data, QUICK), tmp_path / "out"
    run(wanted, out)
    torn = (out / RESULTS).read_text(encoding="utf-8") + "1,abc"
    (out / RESULTS).write_text(torn, encoding="utf-8")
    bench(["F3"], out, size="quick", dry_run=True)
    assert (out / RESULTS).read_text(encoding="utf-8") == torn


def test_a_list_of_others_can_be_trained_on(data: Path, tmp_path: Path, asked: list[Cell]) -> None:
    listed = [f"bolt/train/good/{index:03d}.png" for index in range(10)] + ["bolt/test/dent/000.png"]
    (tmp_path / "train.txt").write_text("\n".join(listed) + "\n", encoding="utf-8")
    command = ["bench", "compare", "--data", str(data), "--manifest", str(tmp_path / "train.txt"), "--quiet"]
    command += ["--out", str(tmp_path / "out"), "--detectors", "nearest_images"]
    result = CliRunner().invoke(app, [*command, "--categories", "nut"])
    assert result.exit_code == 1
    assert "names no image of mvtec/nut; it has bolt" in rows(tmp_path / "out")[0]["reason"]
    assert CliRunner().invoke(app, [*command, "--retry"]).exit_code == 0
    (row, _) = [row for row in rows(tmp_path / "out") if row["category"] == "bolt"]
    assert (row["reached"], row["given"]) == ("0.1", str(tmp_path / "train.txt"))
    (folder,) = (tmp_path / "out" / "manifests").iterdir()
    assert len((folder / "manifest.csv").read_text().splitlines()) == 12


def test_a_failed_run_makes_the_command_end_with_exit_code_1(data: Path, tmp_path: Path) -> None:
    mvtec(tmp_path / "bare", bad=0)
    image(tmp_path / "bare" / "bolt" / "test" / "dent" / "000.png", 1, square=True)
    command = ["bench", "compare", "--data", str(tmp_path / "bare"), "--out", str(tmp_path / "out")]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 1
    assert "2 runs failed; the tables say why" in result.output


def test_a_detector_is_really_fitted_and_measured(data: Path, tmp_path: Path, own_cache: Path) -> None:
    category = open_datasets(data, ["bolt"])[0]
    cell = Cell(category=str(category), detector="nearest_images", preset="quick", settings={"retrieved": 8}, ratio=0.0)
    with use_runtime(cache=own_cache, threads=1):
        found = rows_of(Step(cell.run(None), cell, category, cell.manifest(category)), tmp_path / "run")
    assert [row["mode"] for row in found] == ["overlap", "no_overlap"]
    for row in found:
        assert (row["status"], row.get("reason", "")) == ("done", "")
        assert row["image_auroc"] > 0.9
        assert row["pixel_auroc"] > 0.8
        assert 0 < row["aupro"] <= 1
        assert 0 <= row["f1"] <= row["image_f1_max"]
        assert min(row[name] for name in ("fit_seconds", "score_seconds", "cpu_seconds", "peak_mib")) > 0
        assert (row["train_images"], row["test_images"], row["pixel_images"]) == (20, 14, 14)


def test_an_iterative_detector_is_measured_at_every_choice_with_a_decision_of_its_own(
    data: Path, tmp_path: Path, own_cache: Path
) -> None:
    category = open_datasets(data, ["bolt"])[0]
    settings = {"steps": 20, "trust": "full", "snapshots": 2, "pool_patches": 2000}
    cell = Cell(
        category=str(category), detector="funad", preset="quick", settings=settings, ratio=0.1, extra={"choices": True}
    )
    with use_runtime(cache=own_cache, threads=1):
        found = rows_of(Step(cell.run(None), cell, category, cell.manifest(category)), tmp_path / "run")
    assert [(row["choice"], row["mode"]) for row in found] == [
        (choice, mode) for choice in ("label-free", "last") for mode in ("overlap", "no_overlap")
    ] + [("oracle", "overlap"), ("oracle", "no_overlap")]
    assert all(row["status"] == "done" for row in found)
    pixels = {row["choice"]: row["pixel_auroc"] for row in found}
    assert pixels["label-free"] != pixels["last"]
    for mode in ("overlap", "no_overlap"):
        best = {row["choice"]: row["image_auroc"] + row["pixel_auroc"] for row in found if row["mode"] == mode}
        assert best["oracle"] >= best["last"] - 1e-9  # the last snapshot is the last step
