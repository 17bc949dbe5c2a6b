"""Every experiment plans runs that can be run, and its jobs measure what they say."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import weight_layouts as layouts_of_weights
from blemish.benchmark.bench import bench
from blemish.benchmark.cells import Cell
from blemish.benchmark.datasets import Category, open_datasets
from blemish.benchmark.datasets.classes import CLASSES
from blemish.benchmark.experiment_names import ABOUT
from blemish.benchmark.experiments import COMPARE, EXPERIMENTS, FULL, QUICK, RECORD, STANDARD, experiment, funad_paper
from blemish.benchmark.experiments.core_ablation import CHANGES, changed
from blemish.benchmark.experiments.experiment import Size
from blemish.benchmark.experiments.observations import HISTOGRAM, distances, matching
from blemish.benchmark.experiments.qualitative import MAPS, QUARTERS, quarters, split_by_size
from blemish.benchmark.experiments.semantic import SCORES, toy
from blemish.benchmark.fit_job import choices, detector_of, speed, with_oracle
from blemish.benchmark.jobs import JOBS, Task, job, settings_of
from blemish.detectors import REGISTRY, detector_class
from blemish.detectors.funad.training import Training
from blemish.detectors.nearest_images import NearestImages
from blemish.detectors.parts.views import View
from blemish.detectors.settings import check_names
from blemish.features.backbones import BACKBONES, GIVEN_STAGE
from blemish.images import ImageSet
from blemish.machine.errors import RequestError
from blemish.machine.runtime import use_runtime
from blemish.scores import Scores
from layouts import class_folders, mvtec

SMALL = {"retrieved": 8, "turned": 0}


@pytest.fixture
def bolt(tmp_path: Path) -> Category:
    return open_datasets(mvtec(tmp_path / "data", train=20, good=4, bad=8))[0]


@pytest.fixture
def everything(tmp_path: Path) -> list[Category]:
    for name in ("bolt", "carpet", "nut"):
        mvtec(tmp_path / "data", name, train=8, good=3, bad=5)
    class_folders(tmp_path / "data" / "cifar", CLASSES["cifar10"], count=2)
    return open_datasets(tmp_path / "data")


def task(cell: Cell, category: Category | None, place: Path) -> Task:
    return Task(cell, category, cell.manifest(category) if category else None, place)


@pytest.mark.parametrize("size", [QUICK, STANDARD, FULL], ids=lambda size: size.name)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_an_experiment_plans_runs_with_settings_that_its_detectors_have(
    name: str, size: Size, everything: list[Category]
) -> None:
    planned = EXPERIMENTS[name].plan(everything, size)
    assert planned
    places = [(each.variant, each.group, each.label, each.cell.seed) for each in planned]
    assert len(set(places)) == len(places), "two runs would share a place in the table"
    known = {str(category) for category in everything} | {""}
    for each in planned:
        assert each.cell.category in known
        assert each.cell.job in JOBS
        assert callable(job(each.cell.job))
        if each.cell.detector in REGISTRY:
            kind = detector_class(each.cell.detector)
            check_names(set(kind().settings()), settings_of(each.cell, kind))
    seeds = 3 if name in (RECORD, "core-ablation") else size.seeds  # without a flag they have pairs for tests, too
    assert {each.cell.seed for each in planned} <= set(range(seeds))


def test_the_help_lists_every_experiment_and_names_are_taken_in_any_case() -> None:
    assert set(ABOUT) == {*EXPERIMENTS, COMPARE}
    assert experiment("t1").name == "T1"


def test_the_quick_form_is_small(everything: list[Category]) -> None:
    for each in EXPERIMENTS.values():
        if each.name == RECORD:
            continue  # its small form has fewer images and levels, and all detectors
        quick, full = (each.plan(everything, size) for size in (QUICK, FULL))
        assert len({planned.cell.run(None) for planned in quick}) <= 48
        assert len(quick) <= len(full)


def test_a_shortened_sweep_keeps_both_ends_and_the_usual_value() -> None:
    assert STANDARD.swept((0.3, 0.4, 0.5, 0.6, 0.7), 0.5) == [0.3, 0.5, 0.6, 0.7]
    assert STANDARD.swept((0.0, 0.5, 1.0, 2.5, 5.0), 2.5) == [0.0, 0.5, 2.5, 5.0]
    assert QUICK.swept((1, 2, 3), 2) == [1, 3]
    assert FULL.swept(range(9), 4) == list(range(9))
    assert (QUICK.some("abcd"), STANDARD.some("abcd")) == (["a", "d"], list("abcd"))


def test_the_standard_form_sweeps_one_category_and_says_so(everything: list[Category]) -> None:
    for name in ("T2", "T3", "T4", "T5", "T6", "T7", "L1", "LLBNAD-1", "LLBNAD-2"):
        planned = EXPERIMENTS[name].plan(everything, STANDARD)
        assert len({each.cell.category for each in planned}) == 1
        assert {each.cell.limit for each in planned} == {STANDARD.sweep_limit}
    assert "sweeps on the first category" in STANDARD.about_it


def test_semantic_experiments_train_on_whole_classes_but_in_the_quick_form(everything: list[Category]) -> None:
    for size, images, classes in ((QUICK, 100, 1), (STANDARD, None, 10), (FULL, None, 10)):
        planned = EXPERIMENTS["T8"].plan(everything, size)
        assert {each.cell.limit.train for each in planned} == {images}
        assert len({each.label for each in planned}) == classes


def test_the_ablation_of_the_core_changes_one_setting_of_the_detector_at_a_time(bolt: Category, tmp_path: Path) -> None:
    planned = EXPERIMENTS["core-ablation"].plan([bolt], FULL)
    assert {len(each.cell.settings) + len(each.cell.extra) for each in planned} == {0, 1}
    assert {each.cell.extra["changed"] for each in planned if each.cell.extra} == set(CHANGES)
    usual = detector_class("nearest_images")()
    for each in planned:
        found = detector_of(task(each.cell, bolt, tmp_path)).settings()
        other = [name for name, value in usual.settings().items() if found[name] != value and name != "random_state"]
        assert other == list(each.cell.settings), (each.variant, other)
    default = [each for each in planned if not each.cell.settings and not each.cell.extra]
    assert len({each.cell.run(None) for each in default}) == 2 * 3  # a ratio and a seed each


@pytest.fixture(scope="module")
def given() -> tuple[ImageSet, NearestImages, Scores]:
    """Features with a defect, 80 images of 6 x 6 patches; a detector, and what it finds."""
    features = np.random.default_rng(0).normal(size=(80, 36, 90)).astype("float32")
    features[3, 5] += 4
    images = ImageSet.of_features(features)
    detector = NearestImages(backbone="given", views=(View(1, (GIVEN_STAGE,)),))
    return images, detector, detector.fit(images).training_scores_


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_of_the_core_changes_its_scores_and_no_later_ones(
    given: tuple[ImageSet, NearestImages, Scores], name: str
) -> None:
    images, detector, usual = given
    with changed(name):
        other = detector.clone().fit(images).training_scores_
    assert not np.allclose(other.image, usual.image, rtol=1e-3)
    assert np.array_equal(detector.clone().fit(images).training_scores_.image, usual.image)


def test_objects_and_textures_are_told_apart(everything: list[Category]) -> None:
    kinds = {each.label: each.kind for each in EXPERIMENTS["T2"].plan(everything, replace(STANDARD, ablated=None))}
    assert kinds == {"bolt": "objects", "carpet": "textures", "nut": "objects"}


class Iterative:
    """A detector with four snapshots of which the third is best on the test set."""

    def at(self, stop: object) -> str:
        return f"at {stop}"

    def settings(self) -> dict[str, int]:
        return {"snapshots": 4}


def test_an_iterative_detector_has_three_columns_and_the_oracle_is_the_best_snapshot() -> None:
    detector = Iterative()
    assert list(choices(detector, every=False)) == [("", detector)]  # type: ignore[arg-type]
    found = dict(choices(detector, every=True))  # type: ignore[arg-type]
    assert found["label-free"] is detector
    assert found["last"] == "at last"
    worth = {"label-free": 0.8, "last": 0.7, "snapshot 0": 0.1, "snapshot 1": 0.6, "snapshot 2": 0.9, "snapshot 3": 0.5}
    assert set(found) == set(worth)
    rows = [
        {"choice": choice, "mode": mode, "image_auroc": value, "pixel_auroc": value}
        for choice, value in worth.items()
        for mode in ("overlap", "no_overlap")
    ]
    kept = with_oracle(rows)
    assert [(row["choice"], row["image_auroc"]) for row in kept if row["mode"] == "overlap"] == [
        ("label-free", 0.8),
        ("last", 0.7),
        ("oracle", 0.9),
    ]
    assert {row["epoch"] for row in kept if row["choice"] == "oracle"} == {2.0}


@pytest.mark.parametrize("level", ["image", "patch"])
def test_statistics_of_real_features_count_every_pair(
    bolt: Category, tmp_path: Path, cached: object, level: str
) -> None:
    cell = Cell(job="distances", category=str(bolt), ratio=0.0, extra={"level": level})
    (row,) = distances(task(cell, bolt, tmp_path / "run"))
    assert row["normal"] < row["mixed"]
    with (tmp_path / "run" / HISTOGRAM).open() as file:
        counted = sum(int(line["mixed"]) for line in csv.DictReader(file))
    assert counted % 20 == 0
    assert counted >= 20 * 16
    (row,) = matching(task(cell, bolt, tmp_path / "run"))
    assert 0 <= row["mixed"] <= 1
    assert row["homogeneous"] > 0.5


def test_patches_without_masks_have_no_level_to_look_at(bolt: Category, tmp_path: Path, cached: object) -> None:
    blind = replace(bolt, anomalies=tuple(replace(each, mask=None) for each in bolt.anomalies))
    cell = Cell(job="matching", category=str(bolt), ratio=0.0, extra={"level": "patch"})
    with pytest.raises(RequestError, match="mvtec/bolt"):
        matching(task(cell, blind, tmp_path))


def test_quarters_go_from_the_smallest_defects_to_the_largest(bolt: Category, tmp_path: Path, cached: object) -> None:
    cell = Cell(
        job="quarters", category=str(bolt), detector="nearest_images", preset="quick", settings=SMALL, ratio=0.1
    )
    rows = quarters(task(cell, bolt, tmp_path / "run"))
    assert [row["part"] for row in rows] == list(QUARTERS)
    for row in rows:
        assert 0.5 < row["pixel_auroc"] <= 1
        assert 0 <= row["image_auroc"] <= 1
    shown = load_file(tmp_path / "run" / MAPS)
    assert shown["image0"].shape == (256, 256, 3)
    assert shown["map0"].shape == shown["mask0"].shape == (256, 256)
    assert shown["mask0"].any()


def test_defects_are_split_by_the_share_of_the_image_they_cover(bolt: Category) -> None:
    sizes = {each.path: side for side, each in enumerate(bolt.anomalies, start=1)}

    class Sized:
        def mask(self, name: str, size: tuple[int, int]) -> np.ndarray:
            drawn = np.zeros(size[::-1], bool)
            drawn[: sizes[name]] = True
            return drawn

    found = split_by_size(Sized(), list(sizes))  # type: ignore[arg-type]
    assert [sorted(sizes[name] for name in found[quarter]) for quarter in QUARTERS] == [
        [1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]
    ]  # fmt: skip
    with pytest.raises(RequestError, match="3 test anomalies"):
        split_by_size(Sized(), list(sizes)[:3])  # type: ignore[arg-type]


def test_speed_is_measured_without_kept_features(
    bolt: Category, tmp_path: Path, own_cache: Path, backbone_passes: list[int]
) -> None:
    cell = Cell(job="speed", category=str(bolt), detector="nearest_images", preset="quick", settings=SMALL, ratio=0.0)
    with use_runtime(cache=own_cache, threads=1):
        (row,) = speed(task(cell, bolt, tmp_path))
    assert row["test_images"] == 20
    assert sum(backbone_passes) == 20 + 8 + 20  # training, warming up, timed
    assert row["images_per_second"] == pytest.approx(20 / row["score_seconds"])


def test_the_toy_shows_the_bank_and_the_scores_over_time(tmp_path: Path, cached: object) -> None:
    class_folders(tmp_path / "cifar", CLASSES["cifar10"], count=12)
    cars = open_datasets(tmp_path / "cifar", ["automobile"])[0]
    settings = {
        "distance_weight": 0.0, "warm_up": 0.0, "cross_fit": False, "stop": "last", "steps": 20, "rebuild_every": 10,
        "batch": 16,
    }  # fmt: skip
    cell = Cell(job="toy", category=str(cars), detector="funad", preset="semantic", settings=settings, ratio=0.5)
    rows = toy(task(cell, cars, tmp_path / "run"))
    assert [row["part"] for row in rows] == ["step 0", "step 10", "step 20"]
    assert all(0 <= row[name] <= 1 for row in rows for name in ("image_auroc", "bank_purity", "normals_in_bank"))
    with (tmp_path / "run" / SCORES).open() as file:
        table = list(csv.DictReader(file))
    assert sum(row["anomalous"] == "1" for row in table) == 6
    assert any(row["before"] != row["after"] for row in table)
    with pytest.raises(RequestError, match="nearest_images"):
        toy(task(replace(cell, detector="nearest_images", settings=SMALL), cars, tmp_path / "other"))


def test_the_usual_settings_are_one_run_in_all_ablations(everything: list[Category]) -> None:
    usual = {"T3": "whole", "T4": "tau_n 0.5", "T5": "lambda 2.5", "T6": "share 0.5", "T7": "pseudo-labels"}
    cells = [
        next(each.cell for each in EXPERIMENTS[name].plan(everything, STANDARD) if each.variant == variant)
        for name, variant in usual.items()
    ]
    assert len({cell.run(None) for cell in cells}) == 1


class BrokenOffError(BaseException):
    """As a kill: no `Exception`, which would be a row."""


@pytest.mark.slow
def test_the_published_method_is_taken_up_in_the_middle_of_a_run(
    tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny = replace(layouts_of_weights.TINY["tiny_dino8"], original=BACKBONES["dino_vitb8"].original)
    monkeypatch.setitem(BACKBONES, "dino_vitb8", tiny)
    weights = tmp_path / "torch" / "hub" / "checkpoints" / "dino_vitbase8_pretrain.pth"
    weights.parent.mkdir(parents=True)
    torch.save(layouts_of_weights.dino(), weights)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setitem(funad_paper.SHORT, "epochs", 3)
    monkeypatch.setattr(Training.run, "__defaults__", (0.0,))  # seconds between two checkpoints
    data, steps, step = mvtec(tmp_path / "data", train=20, bad=8), [], Training._step

    def counted(training: Training) -> None:
        if len(steps) == 2:
            steps.append("broken off")
            raise BrokenOffError
        steps.append("step")
        step(training)

    monkeypatch.setattr(Training, "_step", counted)
    with use_runtime(cache=own_cache, threads=1):
        with pytest.raises(BrokenOffError):
            bench(["funad-paper"], tmp_path / "out", data=data, size="quick")
        report = bench(["funad-paper"], tmp_path / "out", data=data, size="quick")
    assert report.failed == 0, report.lines
    assert steps.count("step") == 6  # two runs of three: the two before the break were not made again
    with (tmp_path / "out" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["choice"] for row in rows} == {"label-free", "last", "oracle"}
    assert not list(tmp_path.glob("out/runs/*/checkpoints"))
