"""The registry knows names, near names, and any architecture of timm."""

import pytest

from blemish.features.backbones import backbone, stride_of
from blemish.machine.errors import RequestError


def test_an_unknown_backbone_names_near_ones():
    with pytest.raises(RequestError, match=r"'efficientnet_light2'.*efficientnet_lite2"):
        backbone("efficientnet_light2")


@pytest.mark.parametrize("name", ["hf-hub:someone/something", "local-dir:/etc", "../resnet18", ""])
def test_names_that_would_lead_elsewhere_are_refused(name):
    with pytest.raises(RequestError, match="did you mean"):
        backbone(name)


def test_a_name_of_timm_is_described_by_timm():
    entry = backbone("resnet18")
    assert entry.stages["16"] == (3, 256)
    assert (entry.transformer, entry.align, entry.hub_id) == (False, 32, "timm/resnet18.a1_in1k")
    plain = backbone("vit_tiny_patch16_224")
    assert plain.stages["16"] == (11, 192)
    assert plain.stages["16-3"] == (2, 192)
    assert (plain.transformer, plain.align) == (True, 16)


def test_a_stage_starts_with_its_stride():
    assert [stride_of(stage) for stage in ("4", "16a", "14-3")] == [4, 16, 14]
    with pytest.raises(RequestError, match="'deep'"):
        stride_of("deep")
