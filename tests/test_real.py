"""Claims about quality, on real images that lie beside the checkout; elsewhere they are skipped."""

import sys
from pathlib import Path

import pytest

DATA = Path(__file__).parents[2] / "shared" / "data"
sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

pytestmark = [pytest.mark.real, pytest.mark.skipif(not DATA.is_dir(), reason=f"no real images in {DATA}")]


def test_the_bad_bottles_of_an_unsorted_folder_rank_first_and_are_flagged(tmp_path: Path) -> None:
    from ranking import run_once

    row = run_once(DATA / "mvtec_bottle", 0.1, 0, [], tmp_path / "cache")
    assert row["auroc"] >= 0.99
    assert row["f1"] >= 0.85
    assert row["peak_mib"] < 2000
