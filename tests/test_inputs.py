"""Files of odd kinds through a whole fit, and new ones through its Run."""

import numpy as np
import pytest
from PIL import Image

import blemish
from blemish.images import ImageSet
from blemish.machine.errors import JobError, RequestError
from conftest import small_detector
from files_of_parts import BAD, KINDS, LOST, OLD_WAYS, SIDE, depth, folder, grey, hole, part, pillow, png16

pytestmark = OLD_WAYS


FITTED = {
    "png 16 colour": KINDS["png 16 colour"][0],
    "tiff 16 colour": KINDS["tiff 16 colour"][0],
    "-9999": LOST["-9999"][0],
    "nan, a hole": LOST["nan, a hole"][0],
    "65535 above a depth": LOST["65535 above a depth"][0],
}


@pytest.mark.parametrize("kind", FITTED)
def test_the_bad_parts_rank_first(kind, tmp_path):
    suffix = ".png" if kind.startswith("png") else ".tif"
    root = folder(tmp_path / "in", FITTED[kind], suffix)
    run = blemish.fit(root, tmp_path / "run", detector=small_detector(), threads=1)
    assert {name[:3] for name in run.scores.ranking()[:BAD]} == {"bad"}
    assert run.about["notes"] == list(ImageSet.of(root).notes)
    new = folder(tmp_path / "new", FITTED[kind], suffix)
    scores = blemish.score(new, tmp_path / "run", tmp_path / "out", threads=1)
    assert {name[:3] for name in scores.ranking()[:BAD]} == {"bad"}
    assert (tmp_path / "out" / "report.html").is_file()
    if kind in LOST:
        assert any("without a measurement" in note for note in scores.notes)
        assert "without a measurement" in (tmp_path / "out" / "report.html").read_text(encoding="utf-8")


def test_what_is_the_same_flat_colour_all_over_is_no_result(tmp_path):
    root = folder(tmp_path / "in", lambda path, _, index: grey(path, np.full((SIDE, SIDE + index), 255)), ".png")
    with pytest.raises(JobError, match="give a folder"):
        blemish.fit(root, detector=small_detector(), threads=1)


def test_equal_scores_are_no_ranking(tmp_path, monkeypatch):
    from dataclasses import replace

    detector = small_detector()
    whole = type(detector).fit

    def equal(self, images):
        whole(self, images)
        self._training_scores = replace(self._training_scores, image=np.full(len(images), 3, np.float32))
        return self

    monkeypatch.setattr(type(detector), "fit", equal)
    with pytest.raises(JobError, match=r"15 images .* 3, .*`levels`"):
        blemish.fit(folder(tmp_path / "in", pillow("L"), ".png"), detector=detector, threads=1)


def test_scores_of_a_list_are_in_its_order(tmp_path, run):
    import blemish

    root = folder(tmp_path / "in", pillow("L"), ".png", 4)
    paths = [root / f"part-{index:02d}.png" for index in (2, 0, 3, 2)]
    scores = blemish.load(run).score(paths, threads=1)
    assert scores.ids == tuple(path.as_posix() for path in paths)
    alone = [blemish.load(run).score([path], threads=1).image[0] for path in paths]
    np.testing.assert_array_equal(scores.image, alone)


def test_a_deep_image_of_the_camera_is_refused_by_a_run_of_8_bits(tmp_path, run):
    import blemish

    root = folder(tmp_path / "in", png16(3), ".png", 2)
    with pytest.raises((RequestError, JobError), match="give `levels`"):
        blemish.load(run).score(root, threads=1)


def test_a_server_does_not_score_what_was_not_measured(tmp_path):
    pytest.importorskip("fastapi")
    pytest.importorskip("prometheus_client")
    from fastapi.testclient import TestClient

    from blemish.deploy.application import create_app
    from blemish.deploy.current import CurrentRun

    def write(path, shown, index):
        values = depth(shown)
        values[hole()] = 65535
        Image.fromarray(values).save(path)

    root = folder(tmp_path / "in", write, ".png")
    blemish.fit(root, tmp_path / "run", detector=small_detector(), threads=1)
    new = folder(tmp_path / "new", lambda path, _, index: write(path, part(50 + index), index), ".png", 2)
    expected = blemish.score(new, tmp_path / "run", threads=1)
    with TestClient(create_app({"run": CurrentRun(tmp_path / "run")})) as client:
        for path in sorted(new.iterdir()):
            answer = client.post("/score", content=path.read_bytes(), headers={"content-type": "image/png"}).json()
            assert answer["results"][0]["score"] == pytest.approx(expected[path.name], rel=1e-4)
