"""The views of a backbone: presets for those that were measured, a plain choice for the others."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from blemish.detectors import FeatureDetector, detector_class
from blemish.detectors.parts.views import (
    DEEP_VIEWS,
    PAPER_VIEWS,
    PLAIN_VIEWS,
    PatchBatch,
    View,
    ViewFeatures,
    views_for,
)
from blemish.features.backbones import BACKBONES


def test_the_presets_become_those_of_the_backbone_and_views_of_ones_own_stay() -> None:
    assert views_for("efficientnet_lite0", DEEP_VIEWS) == DEEP_VIEWS
    assert views_for("dino_vitb8", DEEP_VIEWS) == (View(224, ("8",), rooted=False),)
    assert views_for("dinov2_vits14_reg", DEEP_VIEWS) == (View(392, ("14",), rooted=False),)
    assert views_for("wide_resnet50_2", DEEP_VIEWS) == (View(256, ("8", "16"), pool=3, rooted=False),)
    plain = views_for("wide_resnet50_2", DEEP_VIEWS)[0]
    assert views_for("wide_resnet50_2", PLAIN_VIEWS) == (plain,)
    assert views_for("dino_vitb8", PAPER_VIEWS) == views_for("efficientnet_lite2", PAPER_VIEWS) == PAPER_VIEWS
    assert views_for("dinov2_vits14_reg", PAPER_VIEWS) == (View(392, ("14",), rooted=False),)
    own = (View(448, ("14-6",)),)
    assert views_for("dinov2_vits14_reg", own) == own


@pytest.mark.parametrize("backbone", [*BACKBONES, "resnet18", "vit_tiny_patch16_224"])
@pytest.mark.parametrize("name", ["nearest_images", "patchcore"])
def test_every_backbone_has_views_that_rank_and_draw(backbone: str, name: str) -> None:
    detector = detector_class(name)(backbone=backbone)
    assert isinstance(detector, FeatureDetector)
    assert all(spec.backbone == backbone for spec in detector.feature_specs())


def test_weights_are_kept_by_their_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert detector_class("nearest_images")(backbone="dino_vits8", weights="w.pth").settings()["weights"] == str(
        tmp_path / "w.pth"
    )


def test_maps_are_in_the_order_of_the_images_and_nan_where_no_image_came(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is never filled must not pass for a score."""

    def batch(*levels: float) -> PatchBatch:
        patches = torch.stack([torch.full((4, 4, 1), level) for level in levels])
        count = len(levels)
        ids = tuple(str(level) for level in levels)
        return PatchBatch(ids, patches, torch.ones(count, 4, 4), torch.zeros(count, 1), torch.zeros(count, 4))

    monkeypatch.setattr(ViewFeatures, "batches", lambda *_, **__: iter([batch(0.0, 1.0), batch(2.0)]))
    features = SimpleNamespace(images=["0", "1", "2", "3"], spec=SimpleNamespace(size=(64, 64)))
    view = ViewFeatures(View(64, ("16",)), features)  # type: ignore[arg-type]
    maps = view.maps(lambda batch, row: batch.patches[row, ..., 0], "")
    assert maps.shape == (4, 4, 4)
    assert maps[:3].amax(dim=(1, 2)).tolist() == [0.0, 1.0, 2.0]
    assert maps[3].isnan().all()
