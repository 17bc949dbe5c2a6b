"""How long a bench will take is estimated from earlier runs, else from what was measured."""

from pathlib import Path

import pytest

from blemish.benchmark.bench import FEATURES, PURIFIED, SECONDS, expected_seconds
from blemish.benchmark.cells import Cell
from blemish.benchmark.experiments import QUICK, Experiment, Planned
from blemish.benchmark.plan import plan
from blemish.benchmark.results import COLUMNS, Results
from blemish.detectors import BUILT_IN
from layouts import mvtec

IMAGES = 22 + 14  # that a run on the category looks at


def expected(data: Path, *earlier: dict[str, str], **about: object) -> tuple[float, int]:
    def cells(categories, size):
        return [Planned(Cell(category=str(each), ratio=0.1, **about), "one") for each in categories]  # type: ignore[arg-type]

    results = Results.read(data / "nothing")
    results.rows += [{**dict.fromkeys(COLUMNS, ""), "status": "done", "job": "fit", **row} for row in earlier]
    seconds, guesses = expected_seconds(plan([Experiment("X", "a test", cells)], data, QUICK), results)
    return (seconds / IMAGES - FEATURES, guesses)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return mvtec(tmp_path / "data", train=20, bad=5)


def test_earlier_runs_tell_best(data: Path) -> None:
    row = {"detector": "patchcore", "cpu_seconds": "60", "train_images": "20", "test_images": "10"}
    assert expected(data, row, detector="patchcore") == (pytest.approx(2), 0)


def test_else_it_is_what_was_measured_for_the_detector_and_preset(data: Path) -> None:
    usual, quick = SECONDS["funad"]
    assert expected(data, detector="funad") == (pytest.approx(usual), 0)
    assert expected(data, detector="funad", preset="quick") == (pytest.approx(quick), 0)
    assert expected(data, detector="funad", purify={}) == (pytest.approx(usual * PURIFIED), 0)


def test_the_rest_is_a_guess_and_said_to_be_one(data: Path) -> None:
    assert expected(data, detector="anomalib:Padim") == (0, 1)


def test_what_was_measured_are_detectors_of_blemish() -> None:
    assert set(SECONDS) <= set(BUILT_IN)
    assert all(usual > 0 and quick > 0 for usual, quick in SECONDS.values())
