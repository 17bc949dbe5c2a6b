"""What an experiment draws is drawn from what its runs left, and nothing is drawn where they left nothing."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from blemish.benchmark import plots
from blemish.benchmark.cells import Cell
from blemish.benchmark.experiments import EXPERIMENTS, Entry, Planned
from blemish.benchmark.experiments.observations import HISTOGRAM, write_histogram
from blemish.benchmark.experiments.qualitative import MAPS, QUARTERS
from blemish.benchmark.experiments.semantic import SCORES
from blemish.benchmark.plots import draw, draw_ranks
from blemish.benchmark.results import COLUMNS
from blemish.benchmark.statistics import Gaussians, distance_histograms
from blemish.benchmark.summary import frame


def entry(run: str, variant: str = "a", group: str = "", **changed: str) -> Entry:
    row = dict.fromkeys(COLUMNS, "") | {"status": "done", "run": run, "seed": "0", "mode": "overlap"} | changed
    return Entry(Planned(Cell(category="mvtec/bolt", detector=variant), variant, group), row)


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path]:
    """Where a run left files, and where the plots go."""
    (tmp_path / "runs" / "r").mkdir(parents=True)
    (tmp_path / "X").mkdir()
    return tmp_path / "runs" / "r", tmp_path / "X"


def is_drawn(path: Path) -> bool:
    with Image.open(path) as image:
        return image.width > 300 and len(np.unique(np.asarray(image.convert("L")))) > 10


def test_pairs_are_drawn_over_what_is_swept_and_by_variant(places: tuple[Path, Path]) -> None:
    _, folder = places
    values = {"image_auroc": "0.9", "pixel_auroc": ""}  # pixel figures are missing where there are no masks
    swept = [entry("r", variant, group, **values) for variant in ("a", "b") for group in ("0 %", "10 %")]
    for entries in (swept, [entry("r", **values)]):
        assert draw(EXPERIMENTS["T2"], entries, folder) == ["overlap.png"]
        assert is_drawn(folder / "overlap.png")


def test_no_mean_is_drawn_of_other_cells_than_the_others_have() -> None:
    data = frame([
        entry("r", variant, group, image_auroc=value, seed=seed)
        for variant in ("a", "b")
        for group in ("0 %", "10 %")
        for seed, value in (("0", "0.9"), ("1", "0.7"))
        if (variant, group, seed) != ("b", "10 %", "1")
    ])  # fmt: skip
    assert plots._mean(data, "a", "10 %", "image_auroc") == pytest.approx(80)
    assert plots._mean(data, "b", "0 %", "image_auroc") == pytest.approx(80)
    assert plots._mean(data, "b", "10 %", "image_auroc") is None
    assert plots._mean(data, "b", "0 %", "pixel_auroc") is None


def test_ranks_are_drawn_of_variants_with_all_cells(places: tuple[Path, Path]) -> None:
    _, folder = places
    worth = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6}
    entries = [
        entry("r", variant, group, image_auroc=str(value + 0.01 * at), ratio="0.1")
        for variant, value in worth.items()
        for at, group in enumerate(("0 %", "10 %", "20 %"))
        if (variant, group) != ("d", "20 %")
    ]
    assert draw_ranks(entries, "overlap", folder) == ["ranks_overlap.png"]
    assert is_drawn(folder / "ranks_overlap.png")
    assert draw_ranks([each for each in entries if each.variant in "ab"], "overlap", folder) == []


def test_distances_are_drawn_by_kind_of_pair(places: tuple[Path, Path]) -> None:
    left, folder = places
    write_histogram(distance_histograms(*Gaussians().sample(30, 30)), left / HISTOGRAM)
    (name,) = draw(EXPERIMENTS["F1"], [entry("r", "10 % anomalies")], folder)
    assert name == "bolt-10_percent_anomalies.png"
    assert is_drawn(folder / name)


def test_the_toy_draws_curves_and_scores(places: tuple[Path, Path]) -> None:
    left, folder = places
    rows = [f"{i},{int(i > 15)},{i / 20},{(i > 15) + i / 100}" for i in range(20)]
    (left / SCORES).write_text("\n".join(["path,anomalous,before,after", *rows]) + "\n")
    measures = {"image_auroc": "0.9", "bank_purity": "", "normals_in_bank": "0.5"}  # an empty bank has no purity
    entries = [entry("r", "1:10", part=f"step {step}", **measures) for step in (0, 10)]
    (name,) = draw(EXPERIMENTS["F4"], entries, folder)
    assert is_drawn(folder / name)


def test_maps_of_all_detectors_stand_side_by_side(places: tuple[Path, Path]) -> None:
    left, folder = places
    rng = np.random.default_rng(0)
    arrays = {"levels": np.float32([0.0, 1.0])}
    for row in range(len(QUARTERS)):
        arrays |= {f"image{row}": rng.integers(0, 255, (64, 64, 3), dtype=np.uint8)}
        arrays |= {f"mask{row}": np.ones((64, 64), np.uint8), f"map{row}": rng.random((64, 64)).astype(np.float32)}
    save_file(arrays, left / MAPS)
    assert draw(EXPERIMENTS["F5"], [entry("r", "a"), entry("r", "b")], folder) == ["bolt.png"]
    assert is_drawn(folder / "bolt.png")


@pytest.mark.parametrize("name", ["F1", "F5"])
def test_nothing_is_drawn_of_runs_that_left_nothing(name: str, places: tuple[Path, Path]) -> None:
    assert draw(EXPERIMENTS[name], [entry("elsewhere")], places[1]) == []
