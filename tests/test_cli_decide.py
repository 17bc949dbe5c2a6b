"""What a person may get wrong when asking for decisions and reviews is said in a sentence."""

import json

import numpy as np
import pytest
from PIL import Image

from command_line import QUICK, call, refused
from conftest import fill, picture


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--false-alarms", "few"), "takes a share"),
        (("--false-alarms", "60%"), "below 50%"),
        (("--false-alarms", "1%", "--threshold", "2"), "exclude each other"),
        (("--sensitivity", "2"), "got 2"),
        (("--sensitivity", "0.7", "--threshold", "2"), "exclude each other"),
        (("--labels", "missing.csv"), "cannot be read"),
        (("--roi", "missing.png"), "does not exist"),
        (("--roi", "missing.png", "--detector", "anomalib:Padim"), "looks at whole images"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_is_left(tmp_path, photos, words, said):
    if "anomalib:Padim" in words:
        pytest.importorskip("anomalib")
        refused(call("fit", photos, "--out", tmp_path / "out", *words), said)
    else:
        refused(call("fit", photos, "--out", tmp_path / "out", *QUICK, *words), said)
    assert not (tmp_path / "out").exists()


def test_a_review_of_what_is_no_run_is_refused(tmp_path, photos, run):
    refused(call("review", photos), "is not a Run")
    (run / "maps.safetensors").unlink()
    refused(call("review", run), "has no maps.safetensors", "--force")
    assert call("review", run, "--port", "99999").exit_code == 2


def test_score_warns_when_the_camera_moved(tmp_path):
    fill(tmp_path / "photos", 30)
    assert call("fit", tmp_path / "photos", "--out", tmp_path / "run", *QUICK).exit_code == 0
    for folder, change in (("same", 0), ("dark", 90)):
        (tmp_path / folder).mkdir()
        for index in range(12):
            rgb = np.roll(picture(100 + index), 3 if change else 0, axis=0).astype(int) - change
            Image.fromarray(rgb.clip(0, 255).astype(np.uint8)).save(tmp_path / folder / f"new-{index}.png")
        result = call("score", tmp_path / folder, "--model", tmp_path / "run", "--out", tmp_path / f"{folder}-scored")
        assert result.exit_code == 0, result.output
        assert ("unlike those learned from" in result.stdout) == bool(change)
        stored = json.loads((tmp_path / f"{folder}-scored" / "config.json").read_text())["drift"]
        assert bool(stored) == bool(change)


def test_images_of_the_fit_are_no_drift_and_do_not_hide_one(tmp_path):
    """Their maps lie far below the cross-fitted ones: the detector holds their patches."""
    photos, mixed = fill(tmp_path / "photos", 30), fill(tmp_path / "mixed", 30)
    assert call("fit", photos, "--out", tmp_path / "run", *QUICK).exit_code == 0
    result = call("score", photos, "--model", tmp_path / "run", "--out", tmp_path / "scored")
    assert "unlike those learned from" not in result.stdout
    for index in range(12):
        Image.fromarray((picture(100 + index) // 3).astype(np.uint8)).save(mixed / f"new-{index}.png")
    result = call("score", mixed, "--model", tmp_path / "run", "--out", tmp_path / "mixed-scored")
    assert "These 12 images are unlike those learned from" in result.stdout
