"""What all one-class detectors share: parts that score what they have not seen, on the scale of the whole."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from test_contract import SETTINGS, make_images

from blemish.detectors import BUILT_IN, detector_class
from blemish.detectors.one_class import Learned, OneClass, TrainingPart
from blemish.detectors.parts.sampling import group_numbers, split_in_folds
from blemish.detectors.parts.views import ViewFeatures
from blemish.detectors.patchcore import PatchCore
from blemish.features import features_of
from blemish.images import ANOMALOUS, SUSPECTED, ImageSet
from blemish.machine.errors import NotFittedError, RequestError
from blemish.machine.runtime import use_runtime

ONE_CLASS = [name for name in BUILT_IN if issubclass(detector_class(name), OneClass)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("one-class")


@pytest.fixture(autouse=True)
def shared_features(place: Path) -> Iterator[None]:
    with use_runtime(cache=place / "cache", threads=2):
        yield


@pytest.fixture(scope="module")
def good(place: Path) -> ImageSet:
    return ImageSet.of(make_images(place / "good", count=24, bad=()))


@pytest.fixture(scope="module")
def fresh(place: Path) -> ImageSet:
    return ImageSet.of(make_images(place / "fresh", count=24, bad=(), seed=1))


def make(name: str, **changes: object) -> OneClass:
    made = detector_class(name)(**{**SETTINGS[name], **changes})
    assert isinstance(made, OneClass)
    return made


@pytest.mark.parametrize("name", ONE_CLASS)
def test_unseen_good_patches_have_median_0_and_deviation_1(name: str, good: ImageSet, fresh: ImageSet) -> None:
    detector = make(name).fit(good)
    features = ViewFeatures(detector.views[0], features_of(fresh, detector.feature_specs()[0]))
    with torch.no_grad():
        maps = np.concatenate([detector.head_.scorers[0](at.patches, at.globals).numpy() for at in features.batches()])
    middle = float(np.median(maps))
    assert middle == pytest.approx(0, abs=0.25)
    assert 1.4826 * float(np.median(np.abs(maps - middle))) == pytest.approx(1, abs=0.25)


@pytest.mark.parametrize("name", ONE_CLASS)
def test_without_folds_the_same_is_learned_but_there_are_no_training_scores(name: str, good: ImageSet) -> None:
    whole, lone = make(name).fit(good).state(), make(name, training_scores=False).fit(good)
    learned = [key for key in whole if key.startswith("scorers.") and not key.endswith(".unit")]
    assert all(torch.equal(whole[key], lone.state()[key]) for key in learned)
    assert np.isfinite(lone.score(good).image).all()
    with pytest.raises(NotFittedError, match="set 'training_scores' to true"):
        _ = lone.training_scores_


def test_nothing_is_learned_from_suspected_images_either(good: ImageSet) -> None:
    def learned(label: int) -> dict[str, torch.Tensor]:
        return make("patchcore").fit(replace(good, labels=dict.fromkeys(good.ids[:3], label))).state()

    suspected, anomalous, unlabelled = learned(SUSPECTED), learned(ANOMALOUS), make("patchcore").fit(good).state()
    assert all(torch.equal(suspected[name], anomalous[name]) for name in anomalous)
    assert not all(torch.equal(suspected[name], unlabelled[name]) for name in unlabelled)


def test_no_part_learns_from_an_image_it_scores_or_from_its_like(good: ImageSet, place: Path) -> None:
    copies = make_images(place / "copies", count=12, bad=())
    for number in range(4):
        (copies / f"copy-{number}.png").write_bytes((copies / f"part-{number:02d}.png").read_bytes())
    images, seen = ImageSet.of(copies), []

    class Watched(PatchCore):
        def _learn(self, parts: Sequence[TrainingPart], features: ViewFeatures) -> Sequence[Learned]:
            seen.extend(set(part.groups.tolist()) for part in parts)
            return super()._learn(parts, features)

    Watched(**SETTINGS["patchcore"]).fit(images)
    groups, split = group_numbers(images).tolist(), split_in_folds(images, 3, 0)
    assert seen[0] == set(groups)
    for number, learned_from in enumerate(seen[1:]):
        held_out = {group for name, group in zip(images.ids, groups, strict=True) if split[name] == number}
        assert held_out
        assert held_out.isdisjoint(learned_from)


def test_more_folds_than_images_leave_each_image_out_by_itself(good: ImageSet) -> None:
    few = good.subset(good.ids[:8])
    assert np.isfinite(make("patchcore", folds=50).fit(few).training_scores_.image).all()


def test_images_known_to_be_bad_do_not_count_as_enough(good: ImageSet) -> None:
    from dataclasses import replace

    labelled = replace(good, labels=dict.fromkeys(good.ids[5:], ANOMALOUS))
    with pytest.raises(RequestError, match=r"5 .* at least 8"):
        make("patchcore").fit(labelled)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("patchcore", {"folds": 1}, "'folds' must be at least 2; got 1"),
        ("patchcore", {"coreset": "greddy"}, "'coreset' must be one of greedy, approximate, random; got 'greddy'"),
        ("patchcore", {"share": 0.0}, "'share' must be above 0"),
        ("softpatch", {"discriminator": "lov"}, "'discriminator' must be one of lof, nearest, gaussian; got 'lov'"),
        ("softpatch", {"dropped": 1.0}, "'dropped' must be at least 0 and below 1"),
        ("padim", {"most_images": 3}, "'most_images' must be at least 8"),
    ],
)
def test_wrong_settings_name_value_and_rule(name: str, changes: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make(name, **changes)
