"""The score of each image of a small demo folder is the stored one: whoever changes a method sees by how much."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from blemish.detectors.nearest_images import NearestImages
from blemish.images import ImageSet
from blemish.jobs.demo import make_demo_folder

STORED = Path(__file__).parent / "data" / "demo_scores.json"  # json.dumps of these scores
# Deviations of ordinary images, or a share of the score: room for what processors round otherwise. The nearest other
# settings move more than a third of the scores by more.
EXACT = {"abs": 0.02, "rel": 0.005}
Fit = Callable[..., dict[str, float]]


@pytest.fixture
def scores_of(tmp_path: Path, cached: object) -> Fit:
    make_demo_folder(tmp_path / "demo", count=24, bad_share=0.15)
    images = ImageSet.of(tmp_path / "demo")
    return lambda **settings: dict(NearestImages(**settings).fit(images).training_scores_)


def test_the_scores_of_the_demo_folder_are_those_stored_and_others_are_noticed(scores_of: Fit) -> None:
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    assert scores_of() == pytest.approx(stored, **EXACT)
    for other in ({"k": 3}, {"image_score": "max"}):
        scores = scores_of(**other)
        moved = [name for name in stored if scores[name] != pytest.approx(stored[name], **EXACT)]
        assert len(moved) > len(stored) / 3, other
