"""From pixels to features: aspect kept, the same numbers in any company, and a graph that can be exported."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from blemish.errors import RequestError
from blemish.features.extract import FeatureSpec, PatchExtractor, box_in_grid, letterbox
from blemish.images import ImageSet
from blemish.runtime import use_runtime
from conftest import picture

SPEC = FeatureSpec("efficientnet_lite0", 64, ("16", "32"), (64, 64))
pytestmark = pytest.mark.usefixtures("cached")


def test_a_disc_stays_round_and_lies_in_its_box():
    rows, columns = np.mgrid[:90, :180]
    disc = ((rows - 45) ** 2 + (columns - 90) ** 2 < 30**2).astype(np.uint8) * 255
    boxed = letterbox(torch.from_numpy(disc).expand(1, 3, -1, -1), (128, 128))[0, 0]
    high = boxed > 127
    height, width = int(high.any(1).sum()), int(high.any(0).sum())
    assert abs(height - width) <= 1
    left, top, right, bottom = box_in_grid((180, 90), (128, 128))
    assert (left, right) == (0, 1)
    assert (bottom - top) * 128 == pytest.approx(64, abs=1)
    middle = float(high.any(1).nonzero().float().mean() + 0.5) / 128
    assert middle == pytest.approx((top + bottom) / 2, abs=0.01)


@pytest.mark.parametrize("size", [(64, 64), (200, 100), (100, 200), (1000, 20), (20, 1000), (97, 33)])
def test_the_box_is_where_the_image_is(size):
    width, height = size
    image = torch.arange(3 * height * width).reshape(1, 3, height, width).remainder(251).to(torch.uint8)
    boxed = letterbox(image, (96, 160))
    assert boxed.shape == (1, 3, 96, 160)
    assert 0 <= float(boxed.min()) <= float(boxed.max()) <= 255
    left, top, right, bottom = (
        round(v * side) for v, side in zip(box_in_grid(size, (96, 160)), (160, 96) * 2, strict=True)
    )
    assert 0 <= left < right <= 160
    assert 0 <= top < bottom <= 96
    # the padding repeats the edge of the box
    assert torch.equal(boxed[..., :left], boxed[..., left : left + 1].expand(-1, -1, -1, left))
    assert torch.equal(boxed[..., :top, :], boxed[..., top : top + 1, :].expand(-1, -1, top, -1))


def test_the_working_size_follows_the_median_shape():
    images = ImageSet.of([np.zeros((50, 100, 3), np.uint8)] * 3 + [np.zeros((90, 30, 3), np.uint8)])
    height, width = FeatureSpec(pixels=128).resolved(images).size
    assert (height % 32, width % 32) == (0, 0)
    assert width == 2 * height
    assert height * width == pytest.approx(128**2, rel=0.3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pixels": 7}, "'pixels' of features must be between 64 and 2048; got 7"),
        ({"stages": ("5",)}, r"'stages' of efficientnet_lite2 are 4, 8, .*got \('5',\)"),
        ({"stages": ()}, "'stages'"),
        ({"backbone": "efficientnet_light2"}, "did you mean"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(RequestError, match=message):
        FeatureSpec(**settings)


def test_features_depend_on_nothing_but_the_image():
    arrays = [picture(index) for index in range(5)]

    def features(chosen, threads):
        with use_runtime(threads=threads, keep_features=False):
            batch = next(ImageSet.of(chosen).features(SPEC).batches())
        return batch.globals, batch.stages["16"], batch.stages["32"]

    alone = features(arrays[3:4], 1)
    for company, threads in ((arrays, 1), (arrays, 2), (arrays, 3)):
        assert all(torch.equal(part[3], own[0]) for part, own in zip(features(company, threads), alone, strict=True))


class ToyScorer(nn.Module):
    """uint8 RGB to a score and a map: what every detector's exported graph is made of."""

    def __init__(self) -> None:
        super().__init__()
        self.extract = PatchExtractor(SPEC)
        bank = torch.rand(50, 112 + 192, generator=torch.Generator().manual_seed(0))
        self.register_buffer("bank", bank)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        _, stages = self.extract(images)
        fine, coarse = (stage.permute(0, 3, 1, 2) for stage in stages)
        patches = torch.cat([fine, F.interpolate(coarse, size=fine.shape[2:], mode="bilinear")], 1).permute(0, 2, 3, 1)
        rows = patches.flatten(0, 2)
        squared = torch.addmm((self.bank**2).sum(1), rows, self.bank.T, alpha=-2) + (rows**2).sum(1, keepdim=True)
        drawn = squared.clamp_min(0).min(1).values.sqrt().unflatten(0, patches.shape[:3])
        return drawn.flatten(1).amax(1), drawn


@pytest.mark.filterwarnings("ignore")
def test_scoring_exports_to_a_graph_that_gives_the_same_scores(tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    scorer = ToyScorer().eval()
    images = torch.from_numpy(np.stack([np.repeat(picture(i), 2, 1)[:, :100] for i in range(4)])).permute(0, 3, 1, 2)
    images = images.contiguous()
    program = torch.onnx.export(
        scorer, (images[:2],), dynamic_shapes=({0: torch.export.Dim("batch")},), dynamo=True, verbose=False
    )
    program.save(tmp_path / "toy.onnx")
    session = runtime.InferenceSession(tmp_path / "toy.onnx")
    for part in (images[:1], images):
        with torch.inference_mode():
            wanted = scorer(part)
        found = session.run(None, {session.get_inputs()[0].name: part.numpy()})
        for ours, theirs in zip(wanted, found, strict=True):
            assert np.abs(ours.numpy() - theirs).max() <= 1e-3 * float(ours.std(correction=0) + ours.mean())
