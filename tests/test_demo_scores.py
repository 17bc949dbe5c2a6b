"""The score of each image of a small demo folder is the stored one: whoever changes a method sees by how much."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from blemish.detectors.nearest_images import NearestImages, scorer
from blemish.detectors.parts.scoring_head import exact_products
from blemish.images import ImageSet
from blemish.jobs.demo_images import make_demo_folder

STORED = Path(__file__).parent / "data" / "demo_scores.json"  # json.dumps of these scores, with exact products
# Deviations of ordinary images, or a share of the score: room for what processors round otherwise. The nearest other
# settings move more than a third of the scores by more.
EXACT = {"abs": 0.02, "rel": 0.005}
# Processors with products in bfloat16 search with those, and may find another patch that is about as near: the largest
# change seen is .33, or 9 % of the score, the median .014.
ROUGH, ROUGH_MEDIAN = {"abs": 0.5, "rel": 0.1}, 0.03
Fit = Callable[..., dict[str, float]]


@pytest.fixture
def scores_of(tmp_path: Path, cached: object) -> Fit:
    make_demo_folder(tmp_path / "demo", count=24, bad_share=0.15)
    images = ImageSet.of(tmp_path / "demo")
    return lambda **settings: dict(NearestImages(**settings).fit(images).training_scores_)


def test_the_scores_of_the_demo_folder_are_those_stored_and_others_are_noticed(
    scores_of: Fit, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = json.loads(STORED.read_text(encoding="utf-8"))
    with exact_products():
        assert scores_of() == pytest.approx(stored, **EXACT)
        for other in ({"k": 3}, {"image_score": "extents"}):
            scores = scores_of(**other)
            moved = [name for name in stored if scores[name] != pytest.approx(stored[name], **EXACT)]
            assert len(moved) > len(stored) / 3, other
    monkeypatch.setattr(scorer, "rough_products", lambda _: True)
    rough = scores_of()
    assert rough == pytest.approx(stored, **ROUGH)
    assert np.median([abs(rough[name] - stored[name]) for name in stored]) <= ROUGH_MEDIAN
