"""Each part of FUN-AD against a plain, slow version that is obviously what spec/fun-ad.md says."""

import itertools
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from blemish.detectors import funad
from blemish.detectors.funad.local_net import LocalNet, new_net
from blemish.detectors.funad.memory_bank import normal_looking, sampled
from blemish.detectors.funad.pseudo_labels import (
    largest_spread_over_positions,
    normalised,
    pseudo_labels,
    spread_over_batch,
)
from blemish.detectors.funad.training import balanced_cross_entropy, mutual_pairs, mutual_smoothness
from blemish.detectors.parts.distances import nearest_of_others
from blemish.images import ANOMALOUS, NORMAL, UNKNOWN
from blemish.machine.runtime import intra_op_threads


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def test_the_gradient_of_the_global_half_is_the_same_every_time_on_several_threads() -> None:
    patches, wholes, image = random(4000, 4), random(8, 4, seed=1), torch.arange(4000) % 8
    net, seen = new_net(4, 4, 32, (4, 2), 0), set()
    assert net.of_global is not None
    with intra_op_threads(2):
        for _ in range(100):
            net.zero_grad()
            net(net.adapted(patches, wholes, image)).square().sum().backward()
            seen.add(net.of_global.weight.grad.numpy().tobytes())  # type: ignore[union-attr]
    assert len(seen) == 1


def test_the_split_first_layer_is_one_layer_on_both_halves() -> None:
    net = LocalNet(5, 3, 7, (4, 2))
    patches, wholes, image = random(10, 5), random(4, 3, seed=1), torch.tensor([0, 0, 3, 3, 1, 1, 1, 0, 3, 2])
    assert net.of_global is not None
    weight = torch.cat([net.of_global.weight, net.of_patch.weight], dim=1)  # W of [g ; p]
    joined = torch.cat([wholes[image], patches], dim=1)
    plain = torch.nn.functional.leaky_relu(joined @ weight.T + net.of_patch.bias, 0.2)
    torch.testing.assert_close(net.adapted(patches, wholes, image), plain, atol=1e-5, rtol=0)
    of_images = net.of_images(patches[:6].view(2, 3, 5), wholes[:2])
    by_patch = net(net.adapted(patches[:6], wholes, torch.tensor([0, 0, 0, 1, 1, 1])))
    torch.testing.assert_close(of_images.flatten(), by_patch, atol=1e-5, rtol=0)


@pytest.mark.parametrize("same", ["patch", "image", "group"])
def test_the_nearest_neighbour_is_never_the_own_patch_image_or_group(same: str) -> None:
    queries, image = random(12, 4), torch.arange(12) // 2
    own = {"patch": torch.arange(12), "image": image, "group": image // 2}[same]
    queries[3] = queries[2]  # an exact copy in the same image
    entries = torch.tensor([0, 2, 3, 5, 8, 9, 11])
    found, where = nearest_of_others(queries, queries[entries], mine=own, owners=own[entries])
    for row in range(12):
        allowed = [
            (float((queries[row] - queries[entry]).square().sum()), at)
            for at, entry in enumerate(entries.tolist())
            if own[entry] != own[row]
        ]
        distance, at = min(allowed)
        assert float(found[row]) == pytest.approx(distance, abs=1e-5)
        assert int(where[row]) == at
    if same == "patch":
        assert float(found[2]) == pytest.approx(0, abs=1e-5)  # a true near-duplicate keeps its neighbour


def test_without_another_owner_there_is_no_neighbour() -> None:
    queries, own = random(3, 4), torch.zeros(3, dtype=torch.long)
    for rough in (False, True):
        assert nearest_of_others(queries, queries, mine=own, owners=own, rough=rough)[0].isinf().all()
    assert nearest_of_others(queries, queries[:0], mine=own, owners=own[:0])[0].isinf().all()


def test_rough_search_measures_what_it_finds_exactly() -> None:
    queries, entries, own = random(50, 16), random(80, 16, seed=1), torch.zeros(50, dtype=torch.long)
    others = torch.ones(80, dtype=torch.long)
    exact, _ = nearest_of_others(queries, entries, mine=own, owners=others)
    rough, where = nearest_of_others(queries, entries, mine=own, owners=others, rough=True)
    torch.testing.assert_close(rough, (queries - entries[where]).square().sum(1))
    assert (rough <= exact * 1.05 + 1e-6).all()


def test_chunks_do_not_change_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    queries, own = random(40, 6), torch.arange(40)
    whole = nearest_of_others(queries, queries, mine=own, owners=own)
    monkeypatch.setattr("blemish.detectors.parts.distances.CELLS", 100)
    parts = nearest_of_others(queries, queries, mine=own, owners=own)
    torch.testing.assert_close(parts[0], whole[0], atol=1e-5, rtol=0)
    assert (parts[1] == whole[1]).all()


def plain_mutual_pairs(points: Tensor) -> list[tuple[int, int]]:
    def closest(row: int) -> int:
        others = [other for other in range(len(points)) if other != row]
        return min(others, key=lambda other: float((points[row] - points[other]).square().sum()))

    return [(i, j) for i, j in itertools.combinations(range(len(points)), 2) if closest(i) == j and closest(j) == i]


@pytest.mark.parametrize("seed", range(5))
def test_mutual_pairs_are_each_others_nearest(seed: int) -> None:
    points = random(25, 3, seed=seed)
    first, second = mutual_pairs(points)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == plain_mutual_pairs(points)


def test_one_patch_has_no_pair() -> None:
    assert not len(mutual_pairs(random(1, 3))[0])


def test_balanced_cross_entropy_is_the_sum_of_two_means() -> None:
    logits, labels = random(20), torch.arange(20) % 3 == 0
    one = [-math.log(sigmoid(x)) for x, y in zip(logits.tolist(), labels.tolist(), strict=True) if y]
    zero = [-math.log(1 - sigmoid(x)) for x, y in zip(logits.tolist(), labels.tolist(), strict=True) if not y]
    plain = sum(one) / len(one) + sum(zero) / len(zero)
    assert float(balanced_cross_entropy(logits, labels)) == pytest.approx(plain, abs=1e-5)
    only = balanced_cross_entropy(logits, torch.zeros(20, dtype=torch.bool))  # no anomalies: the other mean alone
    assert float(only) == pytest.approx(np.mean([-math.log(1 - sigmoid(x)) for x in logits.tolist()]), abs=1e-5)


def plain_smoothness(one: float, other: float, form: str) -> float:
    m = (one + other) / 2
    if form == "mae":
        return (abs(one - m) + abs(other - m)) / 2
    if form == "mse":
        return ((one - m) ** 2 + (other - m) ** 2) / 2

    def divergence(s: float) -> float:
        return m * math.log(m / s) + (1 - m) * math.log((1 - m) / (1 - s))

    return (divergence(one) + divergence(other)) / 2


@pytest.mark.parametrize("form", ["mae", "mse", "kl"])
def test_mutual_smoothness_is_the_mean_over_pairs(form: str) -> None:
    logits, pairs = random(9) * 2, (torch.tensor([0, 2, 3]), torch.tensor([5, 7, 8]))
    scores = [sigmoid(x) for x in logits.tolist()]
    both = zip(pairs[0].tolist(), pairs[1].tolist(), strict=True)
    plain = np.mean([plain_smoothness(scores[i], scores[j], form) for i, j in both])
    assert float(mutual_smoothness(logits, pairs, form)) == pytest.approx(plain, abs=1e-5)  # type: ignore[arg-type]
    assert float(mutual_smoothness(logits, (pairs[0][:0], pairs[1][:0]), form)) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("form", ["mae", "mse", "kl"])
def test_certain_scores_have_a_finite_slope(form: str) -> None:
    logits = torch.tensor([60.0, 80.0, -90.0, 40.0], requires_grad=True)
    loss = mutual_smoothness(logits, (torch.tensor([0, 2]), torch.tensor([1, 3])), form)  # type: ignore[arg-type]
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_minmax_distances_are_the_published_ones() -> None:
    distances = torch.tensor([2.0, 4.0, 3.0, 10.0])
    torch.testing.assert_close(normalised(distances, "minmax"), torch.tensor([0.0, 0.25, 0.125, 1.0]))


def test_quantile_distances_put_the_typical_largest_at_tau() -> None:
    reference = torch.arange(1001.0)
    scaled = normalised(torch.tensor([999.0, 1998.0]), "quantile", reference)
    torch.testing.assert_close(scaled, torch.tensor([0.5, 1.0]))


def test_nothing_to_compare_with_labels_nothing() -> None:
    infinite = torch.full((4,), torch.inf)
    assert not normalised(infinite, "minmax").any()
    assert not normalised(torch.ones(4), "quantile", infinite).any()
    assert not normalised(torch.ones(4), "minmax").any()  # all equal


def test_labels_follow_both_thresholds_and_what_is_given() -> None:
    labels = pseudo_labels(torch.tensor([0.2, 0.6, 0.95, 0.6, 0.1]), 0.5, 0.9)
    assert labels.anomalous.tolist() == [False, True, True, True, False]
    assert labels.unsure.tolist() == [False, True, False, True, False]
    given = torch.tensor([UNKNOWN, UNKNOWN, NORMAL, NORMAL, ANOMALOUS])
    labels = pseudo_labels(torch.tensor([0.2, 0.6, 0.95, 0.6, 0.1]), 0.5, 0.9, given)
    assert labels.anomalous.tolist() == [False, True, False, False, True]
    assert labels.unsure.tolist() == [False, True, False, False, False]


def test_both_noise_scales() -> None:
    patches, positions = random(3, 4, 5), torch.arange(4).repeat(3)  # 3 images, 4 places, 5 channels
    flat = patches.flatten(0, 1)
    plain = [float(np.std(flat[:, channel].numpy())) for channel in range(5)]
    assert spread_over_batch(flat).tolist() == pytest.approx(plain, abs=1e-5)
    largest = [max(float(np.std(patches[:, at, channel].numpy())) for at in range(4)) for channel in range(5)]
    assert largest_spread_over_positions(flat, positions).tolist() == pytest.approx(largest, abs=1e-5)


def test_images_below_half_of_the_range_look_normal_as_published() -> None:
    scores = np.array([0.0, 1.0, 4.9, 5.1, 10.0], dtype=np.float32)
    assert normal_looking(scores, "minmax").tolist() == [True, True, True, False, False]
    assert normal_looking(scores, "minmax", 0.05).tolist() == [True, False, False, False, False]
    assert normal_looking(np.ones(4, dtype=np.float32), "minmax").all()


def test_one_extreme_image_squeezes_minmax_and_not_mad() -> None:
    rng = np.random.default_rng(0)
    scores = np.concatenate([rng.normal(0, 1, 90), rng.normal(8, 1, 9), [1000]]).astype(np.float32)
    assert normal_looking(scores, "minmax").sum() == 99  # every anomaly but the extreme one is taken for normal
    assert normal_looking(scores, "mad")[90:].sum() == 0
    assert normal_looking(scores, "mad").sum() >= 85


def test_skewed_scores_leave_minmax_with_three_of_294_images_and_not_mad() -> None:
    scores = np.concatenate([np.linspace(0, 0.3, 3), np.random.default_rng(0).normal(0.9, 0.02, 291)])
    assert normal_looking(scores.astype(np.float32), "minmax").sum() == 3
    assert normal_looking(scores.astype(np.float32), "mad").sum() > 280


def test_minmax_finds_anomalies_in_every_clean_minibatch_and_quantile_hardly_any() -> None:
    clean = random(50, 768).square()  # squared distances of nothing but normal patches
    found = [pseudo_labels(normalised(batch, "minmax"), 0.5, 0.9).anomalous.sum() for batch in clean]
    assert min(int(each) for each in found) >= 1
    reference = random(5000, seed=1).square()
    rates = [
        float(pseudo_labels(normalised(batch, "quantile", reference), 0.5, 0.9).anomalous.float().mean())
        for batch in clean
    ]
    assert np.mean(rates) < 0.003


def test_the_bank_is_drawn_from_a_share_of_the_normal_looking_images() -> None:
    looking = np.arange(100) % 4 != 0
    rows = sampled(looking, 0.5, np.random.default_rng(0))
    assert len(rows) == 38
    assert looking[rows].all()
    assert len(sampled(np.arange(5) < 3, 0.5, np.random.default_rng(0))) == 3  # too few to halve


def test_the_page_names_modules_that_are_there() -> None:
    page = Path(__file__).parents[3] / "docs" / "methods" / "funad.md"
    named = set(re.findall(r"\| `((?:\.\./parts/)?\w+\.py)` \|", page.read_text(encoding="utf-8")))
    assert len(named) > 5
    assert [name for name in sorted(named) if not (Path(funad.__file__).parent / name).is_file()] == []
