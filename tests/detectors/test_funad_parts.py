"""The parts of FUN-AD against plain, slow versions of their definitions (spec/fun-ad.md)."""

import math

import numpy as np
import pytest
import torch

from blemish.detectors.funad.local_net import LocalNet
from blemish.detectors.funad.losses import balanced_cross_entropy, mutual_pairs, mutual_smoothness
from blemish.detectors.funad.memory_bank import normal_looking, sampled
from blemish.detectors.funad.pseudo_labels import TAU_NORMAL, labels_of, nearest_distances, normalised


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_the_factorised_first_layer_is_the_layer_on_the_joined_feature() -> None:
    net = LocalNet(5, 3, 7, (6, 4))
    patches, wholes = random(11, 5), random(11, 3, seed=1)
    weight = torch.cat([net.of_global.weight, net.of_patch.weight], dim=1)
    joined = torch.cat([wholes, patches], dim=1) @ weight.T + net.of_patch.bias
    torch.testing.assert_close(net.adapted(patches, wholes), torch.nn.functional.leaky_relu(joined, 0.2))


def test_an_image_at_once_gives_the_logits_of_its_patches() -> None:
    net = LocalNet(5, 3, 7, (6, 4))
    patches, wholes = random(2, 9, 5), random(2, 3, seed=1)
    for image in range(2):
        one_by_one = net(net.adapted(patches[image], wholes[image].expand(9, 3)))
        torch.testing.assert_close(net.of_images(patches, wholes)[image], one_by_one)


def test_nearest_distances_leave_the_own_group_out() -> None:
    queries, bank = random(8, 4), torch.cat([random(8, 4), random(5, 4, seed=1)])
    groups, bank_groups = torch.arange(8) // 2, torch.cat([torch.arange(8) // 2, torch.full((5,), 9)])
    found = nearest_distances(queries, groups, bank, bank_groups)
    for row in range(8):
        others = [float(((queries[row] - bank[k]) ** 2).sum()) for k in range(13) if bank_groups[k] != groups[row]]
        assert float(found[row]) == pytest.approx(min(others), abs=1e-5)


def test_a_bank_of_the_own_group_alone_gives_infinity_and_no_nan_label() -> None:
    distances = nearest_distances(random(3, 4), torch.tensor([0, 0, 1]), random(2, 4, seed=1), torch.tensor([0, 0]))
    assert distances.isinf().tolist() == [True, True, False]
    assert normalised(distances, "minmax").isfinite().all()


def test_minmax_always_finds_an_anomaly_and_the_quantile_hardly_ever_in_clean_data() -> None:
    clean = 1 + 0.01 * random(2000).abs()
    assert labels_of(normalised(clean, "minmax"))[0].any()
    assert labels_of(normalised(clean[:500], "quantile", clean))[0].float().mean() <= 0.01


def test_labels_follow_the_thresholds() -> None:
    anomalous, unsure = labels_of(torch.tensor([0.1, TAU_NORMAL, 0.6, 0.89, 0.95]))
    assert anomalous.tolist() == [False, False, True, True, True]
    assert unsure.tolist() == [False, False, True, True, False]


def test_one_extreme_image_spoils_the_published_cut_but_not_the_other() -> None:
    scores = np.concatenate([np.random.default_rng(0).normal(0, 1, 90), np.full(10, 8.0), [1000.0]]).astype(np.float32)
    assert normal_looking(scores, "minmax")[90:100].all()
    assert not normal_looking(scores, "mad")[90:].any()


def test_half_of_the_normal_looking_images_are_sampled() -> None:
    looking = np.array([True] * 40 + [False] * 10)
    rows = sampled(looking, np.random.default_rng(0), 8)
    assert len(set(rows)) == 20
    assert rows.max() < 40


def test_the_balanced_loss_is_the_sum_of_the_two_means() -> None:
    logits, labels = random(9), torch.tensor([1, 0, 0, 0, 1, 0, 0, 0, 0]).bool()
    scores = [1 / (1 + math.exp(-float(logit))) for logit in logits]
    bad = [-math.log(s) for s, y in zip(scores, labels, strict=True) if y]
    good = [-math.log(1 - s) for s, y in zip(scores, labels, strict=True) if not y]
    expected = sum(bad) / len(bad) + sum(good) / len(good)
    assert float(balanced_cross_entropy(logits, labels)) == pytest.approx(expected, abs=1e-5)
    assert float(balanced_cross_entropy(logits, torch.zeros(9).bool())) == pytest.approx(
        sum(-math.log(1 - s) for s in scores) / 9, abs=1e-5
    )


def test_mutual_pairs_are_each_others_nearest() -> None:
    features = random(15, 3)
    nearest = []
    for row in range(15):
        others = [(float(((features[row] - features[k]) ** 2).sum()), k) for k in range(15) if k != row]
        nearest.append(min(others)[1])
    expected = {(i, nearest[i]) for i in range(15) if nearest[nearest[i]] == i and i < nearest[i]}
    first, second = mutual_pairs(features)
    assert {(int(a), int(b)) for a, b in zip(first, second, strict=True)} == expected


def test_smoothness_is_half_the_mean_difference_of_the_pairs() -> None:
    scores = torch.tensor([0.1, 0.5, 0.9, 0.2])
    loss = mutual_smoothness(scores, (torch.tensor([0, 2]), torch.tensor([1, 3])))
    assert float(loss) == pytest.approx((0.4 + 0.7) / 2 / 2)
    assert float(mutual_smoothness(scores, (torch.tensor([]).long(), torch.tensor([]).long()))) == 0
