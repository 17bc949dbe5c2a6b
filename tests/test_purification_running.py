"""Sub-models while they run: failures, interruptions, threads and shared features."""

import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from blemish.machine.errors import JobError
from blemish.machine.runtime import runtime, use_runtime
from blemish.purification import purify
from conftest import fill, picture
from oracles import Oracle, noise, tiny_detector


def test_one_that_fails_is_named_the_others_are_kept_and_taken_up(tmp_path):
    class Fragile(Oracle):
        broken = True

        def fit(self, images):
            super().fit(images)
            if self.broken and Fragile.fits == 2:
                raise ValueError("singular covariance")
            return self

    Fragile.fits = 0
    with pytest.raises(JobError, match=r"sub-model 2 of 6 .*singular"):
        purify(noise(60), Fragile(), resume=tmp_path, subsets=3, repeats=2)
    assert Fragile.fits == 6
    Fragile.broken = False
    result = purify(noise(60), Fragile(), resume=tmp_path, subsets=3, repeats=2)
    assert Fragile.fits == 7, "five of six were taken from the first attempt"
    assert (result.scores == purify(noise(60), Fragile(), subsets=3, repeats=2).scores).all()
    result.forget()
    assert not list(tmp_path.iterdir())


def test_an_interruption_keeps_what_was_finished_and_other_settings_do_not_take_it(tmp_path):
    class Slow(Oracle):
        def fit(self, images):
            super().fit(images)
            if Slow.fits == 4:
                raise KeyboardInterrupt
            return self

    Slow.fits = 0
    with pytest.raises(KeyboardInterrupt):
        purify(noise(60), Slow(), resume=tmp_path, subsets=3, repeats=2)
    (kept,) = tmp_path.iterdir()
    assert sorted(file.name for file in kept.iterdir()) == [f"sub-model-00{number}.npy" for number in (1, 2, 3)]
    (kept / "sub-model-001.npy").write_bytes(b"\x93NUMPY")  # damaged
    purify(noise(60), Slow(), seed=1, subsets=3, resume=tmp_path)
    assert Slow.fits == 7, "another seed has other subsets"
    purify(noise(60), Slow(), resume=tmp_path, subsets=3, repeats=2)
    assert Slow.fits == 11, "two of six were whole"


def test_an_interruption_does_not_wait_for_what_runs_beside():
    class Endless(Oracle):
        runs_side_by_side = True
        both = threading.Barrier(2)

        def fit(self, images):
            if self.both.wait(10) == 0:
                raise KeyboardInterrupt
            for step in range(1000):
                time.sleep(0.02)
                runtime().progress("learning", step, 1000)
            return super().fit(images)

    start = time.perf_counter()
    with use_runtime(threads=2), pytest.raises(KeyboardInterrupt):
        purify(noise(60), Endless(), subsets=2)
    assert time.perf_counter() - start < 10


def test_threads_do_not_change_a_score_and_the_detector_itself_is_left_alone(photos: Path, own_cache: Path):
    fill(photos, 26)
    detector = tiny_detector()
    results = []
    for threads in (1, 2):
        with use_runtime(cache=own_cache, threads=threads):
            results.append(purify(photos, detector, repeats=1))
    assert results[0].scores.tobytes() == results[1].scores.tobytes()
    assert results[0].set_aside_ids[0] == "part-00.png", "the one with the square"
    assert "head_" not in detector.__dict__


def test_sub_models_share_the_features_of_the_whole_folder_whatever_its_shapes(tmp_path, own_cache, backbone_passes):
    (tmp_path / "mixed").mkdir()
    for index in range(26):
        shape = (64, 64) if index % 3 else (128, 40)
        Image.fromarray(picture(index)).resize(shape).save(tmp_path / "mixed" / f"{index:02d}.png")
    with use_runtime(cache=own_cache, threads=1):
        purify(tmp_path / "mixed", tiny_detector(), repeats=2)
    assert sum(backbone_passes) == 26
