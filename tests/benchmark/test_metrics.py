"""Metrics agree with scikit-learn, look at the order of scores only, and are at chance for chance."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score

from blemish.benchmark.metrics import (
    bin_edges,
    decision_metrics,
    image_metrics,
    pixel_metrics,
    purification_metrics,
)
from blemish.machine.errors import RequestError
from blemish.scores import Scores


def scores_of(maps: np.ndarray, side: int | None = None) -> Scores:
    count, height, width = maps.shape
    ids = tuple(f"{i:03d}" for i in range(count))
    boxes = np.tile(np.float32([0, 0, 1, 1]), (count, 1))
    sizes = np.tile(np.int64([side or width, side or height]), (count, 1))
    return Scores(ids, maps.reshape(count, -1).max(1), maps.astype(np.float32), boxes, sizes)


def case(seed: int = 0, count: int = 8, side: int = 40, shift: float = 1.5) -> tuple[np.ndarray, np.ndarray]:
    """Maps (count, side, side) with a square defect in every second image, and the masks."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, side, side), bool)
    masks[::2, 5:15, 8:14] = True
    masks[::4, 30:33, 30:33] = True
    return (rng.normal(size=masks.shape) + shift * masks).astype(np.float32), masks


def measured(maps: np.ndarray, masks: np.ndarray) -> dict[str, float]:
    return pixel_metrics(scores_of(maps), lambda name, _: masks[int(name)])


def plain_aupro(maps: np.ndarray, masks: np.ndarray, limit: float = 0.3) -> float:
    """AUPRO as its definition reads: every threshold, every region."""
    from scipy.ndimage import label

    regions = []
    for drawn, mask in zip(maps, masks, strict=True):
        labelled, count = label(mask, np.ones((3, 3)))
        regions += [drawn[labelled == number] for number in range(1, count + 1)]
    normal = np.sort(maps[~masks])
    thresholds = np.unique(maps)[::-1]
    fpr = 1 - np.searchsorted(normal, thresholds) / len(normal)
    overlap = np.mean([(region[:, None] >= thresholds).mean(0) for region in regions], axis=0)
    fpr, overlap = np.append(0, fpr), np.append(0, overlap)
    grid = np.append(fpr[fpr < limit], limit)
    return float(np.trapezoid(np.append(overlap[fpr < limit], np.interp(limit, fpr, overlap)), grid) / limit)


def test_image_and_pixel_metrics_agree_with_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    truth, score = rng.random(200) < 0.2, rng.normal(size=200).round(1)  # rounded: ties
    score[truth] += 1
    got = image_metrics(truth, score)
    precision, recall, _ = precision_recall_curve(truth, score)
    assert got["image_auroc"] == roc_auc_score(truth, score)
    assert got["image_ap"] == average_precision_score(truth, score)
    assert got["image_f1_max"] == pytest.approx(np.nanmax(2 * precision * recall / (precision + recall)))
    maps, masks = case(count=80)
    pixel = measured(maps, masks)
    flat, wanted = maps.ravel(), masks.ravel()
    precision, recall, _ = precision_recall_curve(wanted, flat)
    best = np.max(2 * precision * recall / np.maximum(precision + recall, 1e-12))
    assert pixel["pixel_auroc"] == pytest.approx(roc_auc_score(wanted, flat), abs=1e-4)
    assert pixel["pixel_ap"] == pytest.approx(average_precision_score(wanted, flat), abs=1e-3)
    assert pixel["pixel_f1_max"] == pytest.approx(best, abs=1e-3)
    assert pixel["aupro"] == pytest.approx(plain_aupro(maps, masks), abs=1e-4)


def test_bins_finer_than_the_values_lose_nothing() -> None:
    maps, masks = case()
    maps = maps.round(1)  # few values, many ties
    pixel = measured(maps, masks)
    assert pixel["pixel_auroc"] == pytest.approx(roc_auc_score(masks.ravel(), maps.ravel()), abs=1e-12)
    assert pixel["pixel_ap"] == pytest.approx(average_precision_score(masks.ravel(), maps.ravel()), abs=1e-12)
    assert pixel["aupro"] == pytest.approx(plain_aupro(maps, masks), abs=1e-12)


def test_only_the_order_of_scores_counts() -> None:
    maps, masks = case()
    plain = measured(maps, masks)
    for changed in (np.exp(maps), 1000 + maps * 1e-2, np.arctan(5 * maps)):
        assert measured(changed, masks) == pytest.approx(plain, abs=2e-3)


def test_random_scores_are_at_chance_and_perfect_ones_at_one() -> None:
    maps, masks = case(count=40, shift=0)
    chance = measured(maps, masks)
    assert chance["pixel_auroc"] == pytest.approx(0.5, abs=0.03)
    assert chance["aupro"] == pytest.approx(0.15, abs=0.03)  # the diagonal up to 0.3, by 0.3
    assert chance["pixel_ap"] == pytest.approx(masks.mean(), abs=0.02)
    perfect = measured(masks.astype(np.float32) + 1e-3 * maps, masks)
    assert [perfect[name] for name in ("pixel_auroc", "pixel_ap", "pixel_f1_max", "aupro")] == pytest.approx(
        [1] * 4, abs=5e-4
    )


@pytest.mark.parametrize("seed", range(5))
def test_every_metric_lies_between_0_and_1_on_skewed_scores(seed: int) -> None:
    maps, masks = case(seed, shift=np.random.default_rng(seed).normal())
    got = measured(np.exp(3 * maps), masks)
    del got["pixel_images"]
    assert all(0 <= value <= 1 for value in got.values())


def test_a_small_defect_counts_as_much_as_a_large_one_in_aupro() -> None:
    masks = np.zeros((2, 40, 40), bool)
    masks[0, 0:20, 0:20] = True
    masks[0, 38:40, 38:40] = True
    small = np.zeros(masks.shape, np.float32)
    small[0, 38:40, 38:40] = 1
    assert measured(small + 1e-6 * np.random.default_rng(0).random(masks.shape), masks)["aupro"] > 0.5


def test_maps_are_compared_at_the_full_size_of_the_image() -> None:
    coarse = np.zeros((2, 4, 4), np.float32)
    coarse[0, 1, 1] = 1
    asked = []

    def mask_of(name, size):
        asked.append(size)
        mask = np.zeros(size[::-1], bool)
        mask[8:16, 8:16] = name == "000"
        return mask

    assert pixel_metrics(scores_of(coarse, 32), mask_of)["pixel_auroc"] > 0.99
    assert asked == [(32, 32)] * 2


def test_images_without_a_mask_are_left_out_and_no_defect_at_all_is_an_error() -> None:
    maps, masks = case()
    got = pixel_metrics(scores_of(maps), lambda name, _: None if name == "000" else masks[int(name)])
    assert got["pixel_images"] == 7
    with pytest.raises(RequestError, match=r"8 images hold 0 and \d+"):
        measured(maps, np.zeros_like(masks))
    with pytest.raises(RequestError, match="normal and anomalous images; got 3 and 0"):
        image_metrics(np.zeros(3, bool), np.arange(3.0))


def test_a_decision_is_measured_against_the_best_there_is() -> None:
    truth = np.array([0, 0, 0, 1, 1], bool)
    score = np.array([0.1, 0.2, 0.8, 0.7, 0.9])
    got = decision_metrics(truth, score, 0.75)
    assert got == pytest.approx({"precision": 0.5, "recall": 0.5, "f1": 0.5, "f1_share": 0.5 / 0.8})
    assert decision_metrics(truth, score, 2.0)["f1"] == 0


def test_purification_is_told_by_what_it_removed() -> None:
    truth = np.array([0, 0, 0, 0, 1, 1], bool)
    kept = np.array([1, 1, 1, 0, 0, 1], bool)
    got = purification_metrics(truth, kept, np.array([0, 1, 2, 5, 6, 3.0]))
    assert got == pytest.approx(
        {
            "contamination_before": 1 / 3,
            "contamination_after": 0.25,
            "normals_lost": 0.25,
            "anomalies_removed": 0.5,
            "training_auroc": 7 / 8,
        }
    )


def test_bins_stay_few_and_fine_where_the_defects_are() -> None:
    edges = bin_edges(np.random.default_rng(0).normal(size=(1000, 40, 40)).astype(np.float32))
    assert len(edges) <= 20_001
    assert (edges > 4).sum() > 20
