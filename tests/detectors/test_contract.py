"""What every detector on patch features promises, those of other packages that are installed among them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from blemish.deploy.graph import without_in_place
from blemish.detectors import REGISTRY, FeatureDetector, detector_class
from blemish.detectors.parts.scoring_head import ScoringModule
from blemish.detectors.parts.views import View
from blemish.features.store import FeatureStore
from blemish.images import ANOMALOUS, ImageSet
from blemish.machine.errors import NotFittedError, RequestError
from blemish.machine.runtime import intra_op_threads, runtime, use_runtime

# Small enough for seconds, complete enough to run every part: two sizes, a view that only draws.
SMALL = {
    "views": (
        View(96, ("16", "32")),
        View(128, ("16", "32"), draws=False),
        View(96, ("8", "16a"), pool=3, rooted=False, ranks=False),
    ),
}
PLAIN = (View(96, ("8", "16a"), pool=3, rooted=False),)
EARLY = View(96, ("8",), pool=3, rooted=False)
# Of the detectors that are slow or large as they are by default.
SETTINGS: dict[str, dict[str, object]] = {
    "nearest_images": {"views": SMALL["views"][:1]},  # several views are those of funad, too
    "funad": {**SMALL, "steps": 30, "batch": 64, "noise_batch": 16, "bank_entries": 100},
    "inreach": {"views": PLAIN, "entries": 150, "share": 0.05},
    "padim": {"views": PLAIN, "channels": 150},
    "patchcore": {"views": PLAIN, "entries": 150, "share": 0.05},
    "simplenet": {"views": PLAIN, "patches": 2000, "width": 150, "steps": 60, "batch": 128},
    "softpatch": {"views": PLAIN, "entries": 150, "share": 0.05},
}
# A setting of the detector's own that has a least value, and that value.
LEAST = {
    "funad": ("retrieved", 1),
    "inreach": ("entries", 10),
    "nearest_images": ("retrieved", 1),
    "padim": ("channels", 1),
    "patchcore": ("entries", 10),
    "simplenet": ("width", 1),
    "softpatch": ("entries", 10),
}
BAD = ("part-03.png", "part-11.png")
Scratch = tuple[slice, slice, tuple[int, int, int]]
SCRATCHES: tuple[Scratch, ...] = (
    (slice(30, 60), slice(40, 46), (250, 20, 20)),
    (slice(70, 76), slice(50, 90), (20, 240, 60)),
)
# Detectors that look at images themselves have tests of their own.
NAMES = [name for name in REGISTRY if issubclass(detector_class(name), FeatureDetector)]


def make_images(
    folder: Path, count: int = 20, bad: tuple[str, ...] = BAD, seed: int = 0, scratches: Sequence[Scratch] = SCRATCHES
) -> Path:
    """A smooth texture with some noise; the bad ones have a scratch of strong contrast, by default each another."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    wave = 110 + 40 * np.sin(np.arange(96) / 7)[:, None] + 30 * np.sin(np.arange(112) / 9)[None, :]
    for number in range(count):
        rgb = np.repeat((wave + rng.normal(0, 6, wave.shape))[:, :, None], 3, axis=2)
        name = f"part-{number:02d}.png"
        if name in bad:
            rows, columns, colour = scratches[bad.index(name)]
            rgb[rows, columns] = colour
        Image.fromarray(rgb.clip(0, 255).astype(np.uint8)).save(folder / name)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_images(tmp_path_factory.mktemp("contract") / "images")


@pytest.fixture(scope="module")
def feature_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(autouse=True)
def shared_features(feature_cache: Path) -> Iterator[None]:
    with use_runtime(cache=feature_cache, threads=2):
        yield


@pytest.fixture(scope="module")
def fitted(request: pytest.FixtureRequest, folder: Path, feature_cache: Path) -> dict[str, FeatureDetector]:
    tests = [each for each in request.session.items if each.path == request.path]
    chosen = {each.callspec.params["name"] for each in tests if hasattr(each, "callspec")}  # of `-k`, not all others
    with use_runtime(cache=feature_cache, threads=2):
        return {name: make(name).fit(ImageSet.of(folder)) for name in NAMES if name in chosen}


def make(name: str, **changes: object) -> FeatureDetector:
    detector = detector_class(name)(**{"backbone": "efficientnet_lite0", **SETTINGS.get(name, {}), **changes})
    assert isinstance(detector, FeatureDetector)
    return detector


every_detector = pytest.mark.parametrize("name", NAMES)


@every_detector
def test_anomalous_images_score_higher(name: str, fitted: dict[str, FeatureDetector]) -> None:
    scores = fitted[name].training_scores_
    assert set(scores.ranking()[: len(BAD)]) == set(BAD)


@every_detector
def test_training_scores_cover_every_image_and_are_finite(name: str, fitted: dict[str, FeatureDetector]) -> None:
    scores = fitted[name].training_scores_
    assert len(scores) == 20
    assert np.isfinite(scores.image).all()
    assert np.isfinite(scores.maps).all()


@every_detector
def test_the_map_is_highest_on_the_defect(name: str, fitted: dict[str, FeatureDetector]) -> None:
    grid = fitted[name].training_scores_.map(BAD[0])
    assert grid.shape == (96, 112)
    row, column = np.unravel_index(grid.argmax(), grid.shape)
    assert 20 <= row < 70
    assert 30 <= column < 56


@every_detector
def test_any_order_of_images_gives_the_same_scores_by_id(
    name: str, folder: Path, fitted: dict[str, FeatureDetector]
) -> None:
    arrays = [np.array(Image.open(folder / f"part-{number:02d}.png")) for number in range(20)]
    scores, other = (fitted[name].score(ImageSet.of(order)) for order in (arrays, arrays[::-1]))
    assert scores.ids == other.ids  # arrays are named in the order they come in, so each id is another image now
    for number, each in enumerate(scores.ids):
        assert other[other.ids[19 - number]] == pytest.approx(scores[each], abs=1e-5)
        np.testing.assert_allclose(other.maps[19 - number], scores.maps[number], atol=1e-4)


@every_detector
def test_an_image_scores_the_same_in_any_company(name: str, folder: Path, fitted: dict[str, FeatureDetector]) -> None:
    images = ImageSet.of(folder)
    together, alone = fitted[name].score(images), fitted[name].score(images.subset(["part-05.png"]))
    assert alone["part-05.png"] == pytest.approx(together["part-05.png"], abs=1e-4)


@every_detector
def test_the_same_seed_gives_the_same_bytes(name: str, folder: Path, fitted: dict[str, FeatureDetector]) -> None:
    again = make(name).fit(ImageSet.of(folder))
    first, second = fitted[name].state(), again.state()
    assert first.keys() == second.keys()
    assert all(
        torch.equal(first[key].view(torch.uint8), second[key].view(torch.uint8)) for key in first if first[key].ndim
    )
    assert (again.training_scores_.image == fitted[name].training_scores_.image).all()


@pytest.mark.parametrize("name", sorted(SETTINGS.keys() - {"nearest_images"}))  # it draws nothing here
def test_another_seed_gives_another_detector(name: str, folder: Path, fitted: dict[str, FeatureDetector]) -> None:
    other = make(name, random_state=7).fit(ImageSet.of(folder))
    assert not np.array_equal(other.training_scores_.image, fitted[name].training_scores_.image)


@every_detector
def test_prepare_makes_what_is_read_and_leaves_out_what_cannot_be(
    name: str, tmp_path: Path, fitted: dict[str, FeatureDetector]
) -> None:
    images = ImageSet.of(make_images(tmp_path / "images", count=12, bad=(), seed=3))
    (tmp_path / "images" / "part-04.png").write_bytes(b"no image")
    for detector in (make(name), fitted[name]):
        readable = detector.prepare(images)
        assert set(images.ids) - set(readable.ids) == {"part-04.png"}
        specs = [spec.resolved(readable) for spec in detector.feature_specs()]
        assert all(not FeatureStore.at(runtime().cache, spec, readable).missing(
            readable.content[each] for each in readable.ids
        ) for spec in specs)  # fmt: skip
        assert detector.feature_bytes(readable) == sum(spec.bytes_each() for spec in specs) > 0


@every_detector
def test_unfitted_detectors_say_so(name: str, folder: Path) -> None:
    detector = make(name)
    with pytest.raises(NotFittedError, match="fit"):
        detector.score(ImageSet.of(folder))
    with pytest.raises(NotFittedError, match="fit"):
        _ = detector.training_scores_
    with pytest.raises(NotFittedError, match="fit"):
        detector.state()


@every_detector
def test_saved_and_loaded_detectors_give_equal_scores(
    name: str, folder: Path, fitted: dict[str, FeatureDetector]
) -> None:
    images = ImageSet.of(folder)
    loaded = make(name).restore(safetensors.torch.load(safetensors.torch.save(fitted[name].state())))
    before, after = fitted[name].score(images), loaded.score(images)
    np.testing.assert_array_equal(before.image, after.image)
    np.testing.assert_array_equal(before.maps, after.maps)


@every_detector
def test_one_module_from_pixels_gives_the_scores_of_score(
    name: str, tmp_path: Path, fitted: dict[str, FeatureDetector]
) -> None:
    images = ImageSet.of(make_images(tmp_path / "fresh", count=4, seed=2))
    scores = fitted[name].score(images)
    module = fitted[name].module()
    spread = np.subtract(*np.percentile(fitted[name].training_scores_.image, (75, 25)))
    for each in images.ids:
        with torch.inference_mode(), intra_op_threads(1):
            score, _ = module(torch.from_numpy(images.read(each)).permute(2, 0, 1)[None])
        assert abs(float(score) - scores[each]) <= 1e-4 * spread


class Heads(torch.nn.Module):
    """The heads of several detectors on the same features; exporting the backbone once a detector takes long."""

    def __init__(self, heads: list[torch.nn.Module]) -> None:
        super().__init__()
        self.heads = torch.nn.ModuleList(heads)

    def forward(self, sizes: object) -> tuple[torch.Tensor, ...]:
        return tuple(output for head in self.heads for output in head(sizes))


Exported = tuple[ImageSet, dict[str, FeatureDetector], dict[str, tuple[np.ndarray, np.ndarray]]]


@pytest.fixture(scope="module")
def exported(
    tmp_path_factory: pytest.TempPathFactory, fitted: dict[str, FeatureDetector], folder: Path, feature_cache: Path
) -> Exported:
    """Fresh images, detectors, and what exported graphs make of the images: all of scoring in one graph, from pixels.

    The detectors have one view of an early stage, and one graph: torch's exporter takes long over each block.
    """
    onnxruntime = pytest.importorskip("onnxruntime")
    place = tmp_path_factory.mktemp("exported")
    images = ImageSet.of(make_images(place / "fresh", count=3, seed=2))
    pixels = torch.stack([torch.from_numpy(images.read(each)).permute(2, 0, 1) for each in images.ids])
    batch = torch.export.Dim("batch", min=1, max=64)
    with use_runtime(cache=feature_cache, threads=2):
        detectors = {name: make(name, views=(EARLY,)).fit(ImageSet.of(folder)) for name in fitted}
    [specs] = {detector.feature_specs() for detector in detectors.values()}
    module = ScoringModule(specs, Heads([detector.head_ for detector in detectors.values()])).eval()
    without_in_place(module)
    program = torch.onnx.export(
        module, (pixels[:2],), dynamo=True, dynamic_shapes=({0: batch},), verbose=False, optimize=False
    )
    assert program is not None
    program.save(place / "scoring.onnx")
    session = onnxruntime.InferenceSession(place / "scoring.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: pixels.numpy()})
    outputs = {name: tuple(found[2 * at : 2 * at + 2]) for at, name in enumerate(detectors)}
    return images, detectors, outputs


@every_detector
def test_all_of_scoring_exports_to_one_graph(name: str, exported: Exported) -> None:
    images, detectors, outputs = exported
    score, grid = outputs[name]
    expected = detectors[name].score(images)
    spread = np.subtract(*np.percentile(detectors[name].training_scores_.image, (75, 25)))
    np.testing.assert_allclose(score, expected.image, rtol=0, atol=1e-3 * spread)
    assert grid.shape == expected.maps.shape


@every_detector
def test_too_few_different_images_are_refused_in_one_sentence(name: str, folder: Path) -> None:
    images = ImageSet.of(folder)
    with pytest.raises(RequestError, match=r"5 .* at least 8"):
        make(name).fit(images.subset(images.ids[:5]))


@every_detector
def test_copies_of_an_image_do_not_vouch_for_each_other(name: str, tmp_path: Path) -> None:
    copied = make_images(tmp_path / "copied")
    for number in range(3):
        (copied / f"copy-{number}.png").write_bytes((copied / BAD[0]).read_bytes())
    scores = make(name).fit(ImageSet.of(copied)).training_scores_
    worst = {BAD[0], BAD[1], "copy-0.png", "copy-1.png", "copy-2.png"}
    assert set(scores.ranking()[:5]) == worst


@every_detector
def test_images_without_any_difference_get_finite_scores(name: str, tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    for level in range(12):  # one grey each: no content is equal, but nothing is in the images
        Image.new("RGB", (80 + level, 80), (128, 128, 128)).save(tmp_path / "flat" / f"{level}.png")
    scores = make(name).fit(ImageSet.of(tmp_path / "flat")).training_scores_
    assert np.isfinite(scores.image).all()


@every_detector
def test_a_strip_among_square_images_spoils_nothing(name: str, tmp_path: Path) -> None:
    folder = make_images(tmp_path / "images", count=12)
    for thin in ((1700, 20), (20, 1700)):
        Image.new("RGB", thin, (90, 90, 90)).save(folder / f"strip-{thin[0]}.png")
    scores = make(name).fit(ImageSet.of(folder)).training_scores_
    assert np.isfinite(scores.image).all()
    assert scores.map("strip-1700.png").shape == (20, 1700)


@every_detector
def test_known_anomalies_give_nothing_to_what_is_normal(name: str, tmp_path: Path) -> None:
    """A defect that six of twenty images show would look normal, were they not known to be anomalous."""
    known = tuple(f"part-{number:02d}.png" for number in range(6))
    images = ImageSet.of(make_images(tmp_path / "images", bad=known, seed=4, scratches=SCRATCHES[:1] * 6))
    new = make_images(tmp_path / "new", count=12, bad=known[:2], seed=5, scratches=SCRATCHES[:1] * 2)
    scores = make(name).fit(replace(images, labels=dict.fromkeys(known, ANOMALOUS))).score(ImageSet.of(new)).image
    bad, normal = scores[:2], scores[2:]
    assert bad.min() - np.median(normal) > 10 * normal.std()


@every_detector
def test_clones_are_unfitted_and_carry_the_changes(name: str, fitted: dict[str, FeatureDetector]) -> None:
    clone = fitted[name].clone(overlap=7)
    assert (clone.settings()["overlap"], fitted[name].settings()["overlap"]) == (7, 32)
    with pytest.raises(NotFittedError):
        clone.state()


@every_detector
def test_fresh_normal_images_are_flagged_about_as_often_as_training_ones(
    name: str, tmp_path: Path, fitted: dict[str, FeatureDetector]
) -> None:
    training = fitted[name].training_scores_
    normal = np.array([training[each] for each in training.ids if each not in BAD])
    fresh = fitted[name].score(ImageSet.of(make_images(tmp_path / "fresh", count=40, bad=(), seed=1))).image
    flagged = {share: float((fresh > np.quantile(normal, 1 - share)).mean()) for share in (0.1, 0.5)}
    assert flagged[0.1] <= 0.4  # of 18 images a tenth is 2: what chance allows beside it
    assert 0.2 <= flagged[0.5] <= 0.8


@every_detector
def test_wrong_settings_are_named(name: str) -> None:
    if name in LEAST:
        setting, least = LEAST[name]
        with pytest.raises(RequestError, match=f"'{setting}' must be at least {least}; got {least - 1}"):
            make(name, **{setting: least - 1})
    with pytest.raises(RequestError, match="stages"):
        make(name, views=(View(96, ("7",)),))
