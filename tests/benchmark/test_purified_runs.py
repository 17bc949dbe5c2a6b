"""A purified run learns from what is kept alone, and tells what was kept."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from blemish.benchmark.cells import Cell
from blemish.benchmark.datasets import Category, open_datasets
from blemish.benchmark.fit_job import detector_of, fit, fit_purified, sub_model_of
from blemish.benchmark.jobs import Task
from blemish.machine.runtime import use_runtime
from layouts import mvtec

CELL = Cell(
    category="mvtec/bolt",
    detector="nearest_images",
    preset="quick",
    settings={"retrieved": 8},
    ratio=0.1,
    purify={"subsets": 2},
)


@pytest.fixture
def bolt(tmp_path: Path) -> Category:
    return open_datasets(mvtec(tmp_path / "data", train=20, good=4, bad=4))[0]


def task_of(cell: Cell, category: Category) -> Task:
    return Task(cell, category, cell.manifest(category), category.root.parent / "runs" / "one")


def purified(cell: Cell, category: Category) -> tuple[set[str], dict[str, float], Any]:
    """Which images the detector learned from, the measures, and the detector."""
    task = task_of(cell, category)
    detector, training = detector_of(task), cell.manifest(category).training_set(category)
    scores, measures = fit_purified(task, detector, training)
    assert set(scores.ids) == set(training.ids)
    return set(detector.training_scores_.ids), measures, detector


def test_what_stands_out_is_set_aside_and_the_rest_is_learned_from(bolt: Category, cached: object) -> None:
    manifest = CELL.manifest(bolt)
    bad = {entry.id for entry in manifest.training if entry.anomalous}
    kept, measures, _ = purified(CELL, bolt)
    assert not kept & bad
    assert (measures["contamination_after"], measures["anomalies_removed"]) == (0, 1)
    assert measures["contamination_before"] == pytest.approx(manifest.contamination)
    assert measures["purify_auroc"] > 0.9
    assert 0 <= measures["spread_auroc"] <= 1


def test_a_random_keep_of_the_same_size_leaves_the_contamination_to_chance(bolt: Category, cached: object) -> None:
    cell = replace(CELL, purify={"subsets": 2, "keep": 0.8})
    by_score, _, _ = purified(cell, bolt)
    by_lot, _, _ = purified(replace(cell, extra={"keep": "random"}), bolt)
    assert len(by_lot) == len(by_score)
    assert by_lot != by_score


def test_stage_1_may_be_another_detector_or_the_detector_in_full(bolt: Category) -> None:
    other = {"detector": "nearest_images", "retrieved": 6}
    detector = detector_of(task_of(CELL, bolt))

    def asked(**extra: Any) -> Any:
        return sub_model_of(task_of(replace(CELL, extra=extra), bolt), detector)

    assert asked() is None
    assert asked(sub_model="full") is detector
    short = asked(sub_model={"retrieved": 5})
    assert short.retrieved == 5  # its short form, changed
    assert asked(sub_model=other).retrieved == 6


def test_a_purified_run_is_a_row_with_both_kinds_of_measures(bolt: Category, own_cache: Path) -> None:
    with use_runtime(cache=own_cache, threads=1):
        rows = fit(task_of(CELL, bolt))
    for row in rows:
        assert {"image_auroc", "pixel_auroc", "normals_lost", "purify_auroc", "training_auroc"} <= set(row)
