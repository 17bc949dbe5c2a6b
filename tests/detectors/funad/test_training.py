"""How a Local-Net learns: resumed as if never broken off, curves, stopping, known labels."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from blemish.detectors.funad.checkpoint import Checkpoint
from blemish.detectors.funad.curve import LearningCurve
from blemish.detectors.funad.local_net import net_scores
from blemish.detectors.funad.pool import Pool, joined
from blemish.detectors.funad.pseudo_labels import pseudo_labels
from blemish.detectors.funad.schedule import Schedule
from blemish.detectors.funad.training import Trained, Training
from blemish.images import NORMAL, UNKNOWN
from blemish.machine.errors import JobError, RequestError

IMAGES, EACH, WIDTH = 24, 16, 6
ODD = (3, 11)  # images whose last patches are far off


def make_pool(*, looks: bool = True, seed: int = 0) -> Pool:
    rng = torch.Generator().manual_seed(seed)
    patches = torch.randn((IMAGES, EACH, WIDTH), generator=rng)
    for image in ODD:
        patches[image, -4:] += 6 * torch.sign(torch.randn((1, WIDTH), generator=rng))
    odd = torch.isin(torch.arange(IMAGES), torch.tensor(ODD)) * 5.0  # deviations
    distances = patches.square().sum(-1).sqrt()
    return Pool(
        patches.flatten(0, 1), torch.arange(IMAGES).repeat_interleave(EACH), torch.arange(EACH).repeat(IMAGES),
        torch.full((IMAGES * EACH,), UNKNOWN), torch.zeros(IMAGES, 0), torch.arange(IMAGES) // 2,
        torch.zeros(IMAGES, dtype=torch.bool), distances.flatten() if looks else None, odd if looks else None,
    )  # fmt: skip


FAST = Schedule(width=16, hidden=16, narrow=8, batch=96, steps=40, rebuild_every=10, bank_entries=60, noise_batch=16)
EDGE = replace(FAST, tau_normal=0.15, warm_up=0.25, learning_rate=1e-2)  # of the labels: a small change shows
PAPER = Schedule(
    width=16, hidden=16, narrow=8, minibatch="images", batch=8, epochs=14, hard_share=0, warm_up=0, rebuild_every=1,
    refresh_every=1, bank_entries=0, cut="minmax", scale="minmax", exclude="patch", noise="batch", noise_batch=0,
    optimiser="rmsprop", learning_rate=1e-3, stop="last",
)  # fmt: skip


def ignore(_: object) -> None:
    pass


def train(schedule: Schedule, pool: Pool | None = None, seed: int = 0) -> Trained:
    pool = pool or make_pool(looks=schedule.warm_up > 0)
    return Training(pool, schedule, seed).run(ignore, ignore)


def weights(trained: Trained) -> bytes:
    return b"".join(value.numpy().tobytes() for value in trained.last.state_dict().values())


@cache
def weights_on_the_edge() -> bytes:
    return weights(train(EDGE))


@pytest.mark.parametrize("schedule", [FAST, PAPER], ids=["fast", "paper"])
def test_patches_of_odd_images_come_to_score_highest(schedule: Schedule) -> None:
    pool = make_pool(looks=schedule.warm_up > 0)
    looks = net_scores(train(schedule, pool).last, pool)
    assert set(looks.argsort(descending=True)[:2].tolist()) == set(ODD)


@pytest.mark.parametrize(
    "change",
    [
        {"smoothness": 0.0}, {"smoothness_form": "mse"}, {"smoothness_form": "kl"}, {"noise": "none"},
        {"noise": "batch"}, {"noise": "position_max"}, {"exclude": "image"}, {"exclude": "patch"},
        {"scale": "minmax"}, {"cut": "minmax"}, {"precision": "bfloat16"}, {"warm_up": 0.0}, {"bank_entries": 0},
        {"refresh_every": 1}, {"minibatch": "images"}, {"optimiser": "rmsprop"}, {"hard_share": 0.0},
        {"noise_batch": 0}, {"tau_normal": 0.4}, {"tau_confident": 0.4}, {"bank_share": 0.25},
        {"learning_rate": 0.0001}, {"rebuild_every": 5}, {"narrow": 4}, {"noise_from": "any"},
    ],
    ids=str,
)  # fmt: skip
def test_every_switch_changes_the_training_and_leaves_it_sound(change: dict[str, object]) -> None:
    changed = train(replace(EDGE, **change))  # type: ignore[arg-type]
    differs = weights(changed) != weights_on_the_edge()
    assert differs
    assert all(value.isfinite().all() for value in changed.last.state_dict().values())


class BrokenOffError(Exception):
    pass


@pytest.mark.parametrize("schedule", [FAST, PAPER], ids=["fast", "paper"])
def test_a_training_broken_off_and_taken_up_gives_the_same_bytes(schedule: Schedule, tmp_path: Path) -> None:
    pool = make_pool(looks=schedule.warm_up > 0)
    whole = Training(pool, schedule, 0).run(ignore, ignore)
    checkpoint = Checkpoint(tmp_path / "net.safetensors", {"images": "x"})

    def break_off(step: int) -> None:
        if step == 25:
            raise BrokenOffError

    first = Training(pool, schedule, 0)
    with pytest.raises(BrokenOffError):
        first.run(break_off, checkpoint.keep, every=0.0)
    second = Training(pool, schedule, 0)
    assert checkpoint.take_up(second)
    assert 0 < second.done < 25
    resumed = second.run(ignore, checkpoint.keep)
    assert weights(resumed) == weights(whole)
    assert resumed.curve.rows == whole.curve.rows
    assert len(resumed.snapshots) == len(whole.snapshots)
    assert all((one == other).all() for one, other in zip(resumed.curve.held, whole.curve.held, strict=True))
    done = Training(pool, schedule, 0)
    assert checkpoint.take_up(done)  # what was finished is not trained again
    assert done.done == done.steps
    steps: list[int] = []
    assert weights(done.run(steps.append, ignore)) == weights(whole)
    assert steps == [done.steps]  # and no step


def test_a_checkpoint_of_another_job_is_refused_with_what_differs(tmp_path: Path) -> None:
    kept = Checkpoint(tmp_path / "net.safetensors", {"images": "x", "steps": 300})
    kept.keep(Training(make_pool(), FAST, 0))
    other = Checkpoint(kept.path, {"images": "x", "steps": 200})
    with pytest.raises(RequestError, match=r"'steps' was 300 and is 200.*`checkpoints`"):
        other.take_up(Training(make_pool(), FAST, 0))


def test_a_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "net.safetensors").write_bytes(b"not one")
    with pytest.raises(RequestError, match=r"net\.safetensors'.*delete it"):
        Checkpoint(tmp_path / "net.safetensors", {}).take_up(Training(make_pool(), FAST, 0))


def test_the_bank_comes_to_hold_normal_images_only() -> None:
    curve = train(FAST).curve
    assert not curve.held[-1][list(ODD)].any()
    assert curve.held[-1].sum() > IMAGES / 3
    assert {"step", "classification", "smoothness", "positives"} < set(curve.rows[0])
    assert [row["step"] for row in curve.rows] == [0, 10, 20, 30]
    assert all(row["minibatches"] == 10 for row in curve.rows)


def test_a_curve_of_a_long_training_stays_short() -> None:
    curve, normal = LearningCurve(), torch.ones(IMAGES, dtype=torch.bool)
    labels = pseudo_labels(torch.zeros(4), 0.5, 0.9, torch.full((4,), UNKNOWN))
    for step in range(5000):  # a bank rebuilt every step, as published
        curve.score(step, torch.zeros(IMAGES))
        curve.rebuilt(step, normal, normal)
        curve.step(step, 0.0, labels)
    assert 100 <= len(curve.rows) == len(curve.held) == len(curve.normal) <= 200
    assert 20 <= len(curve.scored) <= 40
    assert set(np.diff([step for step, _ in curve.scored])) == {curve.scored[1][0]}
    rows = pd.DataFrame(curve.rows)
    assert rows["step"].iloc[0] == 0
    assert rows["minibatches"].sum() == 5000
    assert set(np.diff(rows["step"])) == {rows["step"][1]}
    means = rows["step"] + (rows["minibatches"] - 1) / 2  # a row has the mean loss of the steps from its own on
    assert np.allclose(rows["classification"], means)


def test_the_order_of_the_names_tells_the_net_nothing() -> None:
    """Noise is put on patches drawn from all of the minibatch, not on the first ones: names may tell what is bad."""
    training = Training(make_pool(), replace(FAST, noise_from="any"), 0)
    rows = torch.arange(len(training.pool.patches))
    labels = pseudo_labels(torch.zeros(len(rows)), 0.5, 0.9)
    drawn = [training.noise.of(rows, labels, training.torch_rng)[2] for _ in range(200)]
    share = (torch.cat(drawn) < len(rows) // 2).float().mean()
    assert 0.45 < share < 0.55


def test_suspects_are_shown_with_noise_more_often() -> None:
    pool = make_pool()
    assert pool.image_scores is not None
    training = Training(pool, FAST, 0)
    chance = training.noise.chances.view(IMAGES, EACH)[:, 0]
    assert chance[list(ODD)].tolist() == [91.0, 91.0]
    assert chance.median() == 1
    clean = Training(replace(pool, image_scores=pool.image_scores * 0.4), FAST, 0)
    assert (clean.noise.chances == 1).all()  # none stands out: as if there were no suspects


def test_known_anomalies_never_enter_the_bank() -> None:
    barred = torch.zeros(IMAGES, dtype=torch.bool)
    barred[5] = True
    curve = train(FAST, replace(make_pool(), barred=barred)).curve
    assert not any(held[5] for held in curve.held)


def test_patches_known_to_be_normal_are_taught_as_normal() -> None:
    pool = make_pool()
    given = torch.where(pool.owners == ODD[0], NORMAL, UNKNOWN)
    plain, taught = train(FAST, pool), train(FAST, replace(pool, known_labels=given))
    assert net_scores(taught.last, pool)[ODD[0]] < net_scores(plain.last, pool)[ODD[0]]


def test_fewer_images_than_a_minibatch_are_one_minibatch() -> None:
    training = Training(make_pool(looks=False), replace(PAPER, batch=500, epochs=2), 0)
    assert training.steps == 2
    trained = training.run(ignore, ignore)
    assert all(value.isfinite().all() for value in trained.last.state_dict().values())


def test_equal_patches_give_equal_finite_scores() -> None:
    pool = replace(make_pool(), patches=torch.ones(IMAGES * EACH, WIDTH), distances=torch.zeros(IMAGES * EACH))
    looks = net_scores(train(FAST, pool).last, pool)
    assert looks.isfinite().all()
    assert looks.max() - looks.min() < 1e-4


def test_one_patch_an_image_is_the_semantic_variant() -> None:
    rows = torch.arange(IMAGES) * EACH + EACH - 1
    whole = make_pool()
    assert whole.distances is not None
    pool = replace(
        whole,
        patches=whole.patches[rows],
        owners=torch.arange(IMAGES),
        positions=torch.zeros(IMAGES, dtype=torch.long),
        known_labels=whole.known_labels[rows],
        distances=whole.distances[rows],
    )
    looks = net_scores(train(replace(FAST, batch=16), pool).last, pool)
    assert set(looks.argsort(descending=True)[:2].tolist()) == set(ODD)


def test_a_training_that_breaks_down_says_so() -> None:
    schedule = replace(FAST)
    object.__setattr__(schedule, "learning_rate", 1e18)  # which a schedule refuses
    with pytest.raises(JobError, match="lower 'learning_rate'"):
        train(schedule)


def test_pools_are_joined_behind_each_other() -> None:
    pool = make_pool()
    both = joined(pool, pool)
    assert both.owners.max() == 2 * IMAGES - 1
    assert len(both.groups) == 2 * IMAGES
    assert torch.equal(both.patches[both.owners == IMAGES + 3], pool.patches[pool.owners == 3])
