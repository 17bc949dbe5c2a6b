"""FUN-AD as a detector: presets, synthetic defects, stopping rules, checkpoints and curves."""

import csv
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import blemish
from blemish.detectors.funad import PAPER, FunAD
from blemish.detectors.funad.curve import BankPurity
from blemish.detectors.funad.pool import _in_grid, with_synthetic_defects
from blemish.detectors.nearest_images import NearestImages
from blemish.detectors.parts.views import View
from blemish.images import ImageSet
from blemish.images.decoding import Decoding
from blemish.jobs.evaluation import evaluate
from blemish.machine.errors import RequestError
from blemish.machine.runtime import use_runtime
from command_line import call
from conftest import fill

VIEWS = (View(64, ("16", "32")), View(64, ("8",), ranks=False))
SMALL = {
    "views": VIEWS,
    "trust": "full",
    "width": 16,
    "hidden": 16,
    "narrow": 8,
    "steps": 20,
    "batch": 64,
}
# the published method on the embedded backbone, small
TINY_PAPER = {
    **PAPER, "backbone": "efficientnet_lite2", "views": (View(64, ("8",), rooted=False),),
    "width": 16, "hidden": 16, "narrow": 8, "batch": 4, "epochs": 6, "learning_rate": 1e-3,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fill(tmp_path_factory.mktemp("funad") / "photos", 14)


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(autouse=True)
def shared_features(features: Path) -> Iterator[None]:
    with use_runtime(cache=features, threads=2):
        yield


def make(**changes: object) -> FunAD:
    return FunAD(**{**SMALL, **changes})  # type: ignore[arg-type]


def test_the_published_method_ranks_and_comes_back_from_its_state(folder: Path) -> None:
    images = ImageSet.of(folder)
    detector = FunAD(**TINY_PAPER).fit(images)  # type: ignore[arg-type]
    scores = detector.score(images)
    assert scores.ranking()[0] == "part-00.png"
    assert np.isfinite(scores.image).all()
    assert np.allclose(scores.image, detector.training_scores_.image, atol=1e-4)  # one net, in sample, as published
    again = FunAD(**TINY_PAPER).restore(detector.state()).score(images)  # type: ignore[arg-type]
    assert (again.image == scores.image).all()


def test_the_published_sizes_stand_in_the_preset() -> None:
    paper = FunAD.preset("paper")
    assert (paper["width"], paper["hidden"], paper["narrow"]) == (1536, 1024, 128)
    assert (paper["batch"], paper["epochs"], paper["learning_rate"]) == (32, 1500, 2e-5)
    assert (paper["rebuild_every"], paper["optimiser"], paper["backbone"]) == (1, "rmsprop", "dino_vitb8")
    with pytest.raises(RequestError, match="'papers'; it has paper"):
        FunAD.preset("papers")


@pytest.mark.parametrize("labels", ["pseudo", "mask"])
def test_synthetic_defects_are_learned_from_and_not_listed(folder: Path, labels: str) -> None:
    images = ImageSet.of(folder)
    detector = make(synthetic=0.2, synthetic_labels=labels).fit(images)
    assert detector.training_scores_.ids == images.ids
    curve = detector.trained_views_[0].nets[0].curve
    assert len(curve.held[0]) == 14 + 2  # int(0.2 * 14) synthetic images take part


def test_synthetic_images_differ_where_their_mask_says(folder: Path) -> None:
    images = ImageSet.of(folder)
    synthetic = with_synthetic_defects(images, 5, seed=0)
    for number, name in enumerate(synthetic.images.ids):
        source = images.read(images.ids[int(synthetic.sources[number])])
        assert (synthetic.images.read(name)[~synthetic.masks[number]] == source[~synthetic.masks[number]]).all()


def test_a_mask_lands_where_its_image_lies_in_the_grid() -> None:
    mask = np.zeros((20, 40), bool)
    mask[:10, :20] = True  # the upper left quarter, of an image in the middle half of the grid
    grid = _in_grid(mask, (0.0, 0.25, 1.0, 0.75), (8, 8))
    wanted = torch.zeros(8, 8)
    wanted[2:4, :4] = 1
    assert torch.equal(grid, wanted)


def test_weights_of_another_moment_can_be_scored_with(folder: Path) -> None:
    images = ImageSet.of(folder)
    detector = make(snapshots=4).fit(images)
    average, last, first = detector.at("average"), detector.at("last"), detector.at(0)
    assert (average.training_scores_.image == detector.training_scores_.image).all()
    assert (detector.at(3).training_scores_.image == last.training_scores_.image).all()
    assert not np.allclose(first.score(images).image, last.score(images).image)


def test_its_distances_are_those_of_nearest_images(folder: Path) -> None:
    images = ImageSet.of(folder)
    own = make().fit(images).neighbours_
    plain = NearestImages(views=VIEWS).fit(images)
    assert (own.training_scores_.image == plain.training_scores_.image).all()
    assert (own.score(images).image == plain.score(images).image).all()


def test_a_view_that_only_draws_has_distances_and_no_net(folder: Path) -> None:
    images = ImageSet.of(folder)
    ranking, every = make().fit(images), make(net_views="all").fit(images)
    assert [len(view.nets) for view in ranking.trained_views_] == [3, 0]
    assert [len(view.nets) for view in every.trained_views_] == [3, 3]
    again = make().restore(ranking.state())
    assert (again.score(images).image == ranking.score(images).image).all()


def test_a_net_learns_the_same_whatever_learns_beside_it(folder: Path) -> None:
    images, seen = ImageSet.of(folder), []
    with use_runtime(progress=lambda stage, done, total: seen.append((done, total)) if stage == "nets" else None):
        every = make(net_views="all").fit(images)
    alone = make(net_views="ranking").fit(images)
    with use_runtime(threads=1):
        in_turn = make(net_views="all").fit(images)
    for other in (alone, in_turn):
        pairs = zip(every.trained_views_, other.trained_views_, strict=True)
        nets = [both for views in pairs for both in zip(*(view.nets for view in views), strict=False)]
        assert len(nets) == (3 if other is alone else 6)
        for one, same in nets:
            weights = zip(one.last.state_dict().values(), same.last.state_dict().values(), strict=True)
            assert all(torch.equal(*pair) for pair in weights)
    assert {total for _, total in seen} == {6 * 20}
    assert max(done for done, _ in seen) == 6 * 20


def test_the_weight_that_a_folder_gave_the_nets_is_restored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("blemish.detectors.funad.detector.unexplained", lambda _: 0.03)
    images = ImageSet.of(folder)
    detector = make(trust="evidence").fit(images)
    again = make(trust="evidence").restore(detector.state())
    assert (again.score(images).image == detector.score(images).image).all()


def test_a_folder_in_which_nothing_stands_out_is_scored_by_distances(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("blemish.detectors.funad.detector.unexplained", lambda _: 0.0)
    detector = make(trust="evidence").fit(ImageSet.of(folder))
    alone = detector.neighbours_
    np.testing.assert_allclose(detector.training_scores_.image, alone.training_scores_.image, atol=1e-4)


def test_global_vectors_change_what_is_learned(folder: Path) -> None:
    images = ImageSet.of(folder)
    plain, both = make().fit(images), make(use_globals=True).fit(images)
    assert not np.allclose(plain.training_scores_.image, both.training_scores_.image)
    again = make(use_globals=True).restore(both.state()).score(images)
    assert (again.image == both.score(images).image).all()


def test_half_trained_nets_are_taken_up(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from blemish.detectors.funad.training import Training

    images, steps = ImageSet.of(folder), []
    step = Training._step
    monkeypatch.setattr(Training, "_step", lambda self: (steps.append(1), step(self))[1])
    with use_runtime(checkpoints=tmp_path / "kept"):
        first = make().fit(images)
        taken = len(steps)
        second = make().fit(images)
        assert len(steps) == taken > 0  # nothing was trained again
        with pytest.raises(RequestError, match="'random_state' was 0 and is 1"):
            make(random_state=1).fit(images)
        with pytest.raises(RequestError, match="'images'"):
            make().fit(images.subset(images.ids[1:]))
        with pytest.raises(RequestError, match="'features'"):
            make().fit(replace(images, decoding=Decoding(range=(0, 1000))))
    assert (first.training_scores_.image == second.training_scores_.image).all()


def test_what_cannot_be_is_said_before_anything_is_done(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for asked, said in (
        ({"checkpoints": tmp_path / "file", "detector": "funad"}, "can be no folder .File exists.; give another"),
        ({"checkpoints": tmp_path, "detector": "patchcore"}, "patchcore keeps no half-trained nets"),
        (
            {"detector": "funad", "settings": {"net_weight": float("nan")}},
            "'net_weight' must be a finite number; got nan",
        ),
        ({"purify": {"k": 1}}, "`purify` is True, False or PurifySettings"),
        ({"settings": {"random_state": -3}}, "'random_state' must be 0 or more; got -3"),
    ):
        with pytest.raises(RequestError, match=said):
            blemish.fit(folder, **asked)


def test_training_leaves_its_curves_in_the_run(folder: Path, tmp_path: Path) -> None:
    blemish.fit(folder, tmp_path / "run", detector=make())
    left = tmp_path / "run" / "training"
    with (left / "curve.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["net"] for row in rows} == {f"view{view}-net{net}" for view in range(1) for net in range(3)}
    assert all(0 <= float(row["positives"]) <= 1 and float(row["classification"]) > 0 for row in rows)
    with (left / "score_histogram.csv").open(encoding="utf-8") as file:
        bins = list(csv.DictReader(file))
    last = [int(row["images"]) for row in bins if row["net"] == "view0-net0" and row["step"] == "20"]
    assert sum(last) in (9, 10)  # the images of the two other folds
    assert (left / "curve.png").read_bytes()[:4] == b"\x89PNG"
    assert (left / "score_histogram.png").read_bytes()[:4] == b"\x89PNG"


def test_what_the_banks_held_tells_their_purity_to_those_who_know_the_truth(folder: Path, tmp_path: Path) -> None:
    run = blemish.fit(folder, tmp_path / "run", detector=make())
    table = pd.read_csv(tmp_path / "run" / "training" / "bank_images.csv").set_index("path")
    assert list(table.index) == list(run.scores.ids)
    held = table[table.columns[1]].astype(bool)
    assert 0 < held.sum() <= 10  # of the images of the two other folds
    inside, outside = table.index[held], table.index[~held]
    truth = tmp_path / "truth.csv"
    labels = {inside[0]: "bad", **dict.fromkeys(inside[1:4], "good"), outside[0]: "bad"}
    truth.write_text("path,label\n" + "".join(f"{path},{label}\n" for path, label in labels.items()))
    found = evaluate(tmp_path / "run", truth).bank_purity
    net, _, step = table.columns[1].partition("@")
    assert BankPurity(net, int(step), 4, 0.75) in found
    assert len(found) == len(table.columns)
    result = call("evaluate", tmp_path / "run", "--labels", truth, "--purity", tmp_path / "purity")
    assert result.exit_code == 0, result.output
    assert "in the banks of funad: " in result.stdout
    assert len(pd.read_csv(tmp_path / "purity" / "bank_purity.csv")) == len(found)
    assert (tmp_path / "purity" / "bank_purity.png").read_bytes()[:4] == b"\x89PNG"
    (tmp_path / "run" / "training" / "bank_images.csv").write_text("nothing\n1\n")
    with pytest.raises(RequestError, match=r"bank_images\.csv'.*`force`"):
        evaluate(tmp_path / "run", truth)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"steps": 0}, "'steps' must be at least 1; got 0"),
        ({"scale": "max"}, "'scale' must be one of quantile, minmax; got 'max'"),
        ({"tau_normal": 1.5}, "'tau_normal' must be between 0 and 1"),
        ({"tau_normal": 0.9, "tau_confident": 0.7}, "must not be above 'tau_confident'"),
        ({"epochs": 3}, "'epochs' needs 'minibatch=images'"),
        ({"learning_rate": float("nan")}, "'learning_rate' must be a finite number; got nan"),
        ({"learning_rate": 1e38}, "'learning_rate' must be at most 1; got 1e\\+38"),
        ({"steps": "many"}, "'steps' must be of type int; got 'many'"),
        ({"use_globals": 1}, "'use_globals' must be of type bool; got 1"),
        ({"tau_bank": True}, "'tau_bank' must be of type float; got True"),
        ({"net_weight": 0.0}, "for distances alone use nearest_images"),
        ({"embedding": "some"}, "'embedding' must be one of view, none"),
        ({"pool_patches": -1}, "'pool_patches' must be 0"),
        ({"image_score": "mean"}, "'image_score' must be one of extents, max, top; got 'mean'"),
        ({"smoothing": -1.0}, "'smoothing' must be 0 to 10 patches"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        make(**settings)
