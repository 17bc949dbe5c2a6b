"""The CPU path in a process that was started anew, as on Windows and macOS, without what only POSIX has."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from conftest import fill
from spawned import fit_and_score


def test_a_spawned_process_without_what_posix_alone_has_fits_and_scores(tmp_path: Path) -> None:
    images = fill(tmp_path / "images", 10)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        scores = pool.submit(fit_and_score, str(images), str(tmp_path / "run")).result(timeout=300)
    assert len(scores) == 10
    assert max(scores, key=lambda name: scores[name]) == "part-00.png"
