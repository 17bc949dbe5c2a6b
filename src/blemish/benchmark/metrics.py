"""How good scores are where the truth is known. Image metrics are scikit-learn's; pixel metrics need bounded memory.

Pixel metrics read one map at a time, at the full resolution of the image, into histograms of the score: a few hundred
kilobytes whatever the number of images. The edges of the bins are quantiles of the map values: steps of 1e-4 of all
pixels, finer among the highest scores, where the defects are. Metrics look at the order of scores only.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from blemish.machine.errors import RequestError
from blemish.machine.runtime import runtime, side_by_side
from blemish.scores import Scores, above

FPR_LIMIT = 0.3  # AUPRO is the mean overlap up to this false positive rate, as MVTec AD defines it
BINS = 10_000  # even shares of the pixels: 1e-4 each
TOP_BINS = 10_000  # more of them in the highest tenth: steps of a thousandth of the pixels above
TOUCHING = np.ones((3, 3), dtype=bool)  # pixels that meet at a corner belong to one defect
Mask = NDArray[np.bool_]
MaskOf = Callable[[str, tuple[int, int]], Mask | None]


def image_metrics(truth: NDArray[np.bool_], score: NDArray[np.floating]) -> dict[str, float]:
    """`image_auroc`, `image_ap`, `image_f1_max` of scores (N,) against truth (N,). Raises `RequestError`."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    _check(truth, score)
    return {
        "image_auroc": float(roc_auc_score(truth, score)),
        "image_ap": float(average_precision_score(truth, score)),
        "image_f1_max": f1_max(truth, score),
    }


def f1_max(truth: NDArray[np.bool_], score: NDArray[np.floating]) -> float:
    """The best F1 that any threshold on `score` reaches: it looks at the truth, a user cannot."""
    from sklearn.metrics import precision_recall_curve

    precision, recall, _ = precision_recall_curve(truth, score)
    return float((2 * precision * recall / np.maximum(precision + recall, 1e-12)).max())


def decision_metrics(truth: NDArray[np.bool_], score: NDArray[np.floating], threshold: float) -> dict[str, float]:
    """What a threshold that saw no label is worth: precision, recall, F1, and F1 as a share of the best possible.

    An image is flagged if its score lies above the threshold. Precision is 1 if nothing is flagged.
    """
    _check(truth, score)
    flagged = above(score, threshold)
    hits = int((flagged & truth).sum())
    precision = hits / flagged.sum() if flagged.any() else 1.0
    recall = hits / truth.sum()
    f1 = 2 * hits / (int(flagged.sum()) + int(truth.sum()))
    return {
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
        "f1_share": float(f1 / f1_max(truth, score)),
    }


def purification_metrics(
    truth: NDArray[np.bool_], kept: NDArray[np.bool_], score: NDArray[np.floating] | None = None
) -> dict[str, float]:
    """What purification did to a training set: (N,) truth, (N,) kept, (N,) the score it ranked by.

    `contamination_before` and `contamination_after` (anomalies / images), `normals_lost` and `anomalies_removed`
    (shares of theirs; 0 where there are none), and `training_auroc` of the ranking where it is given and defined.
    """
    removed = ~kept
    result = {
        "contamination_before": float(truth.mean()),
        "contamination_after": float(truth[kept].mean()) if kept.any() else 0.0,
        "normals_lost": float(removed[~truth].mean()) if (~truth).any() else 0.0,
        "anomalies_removed": float(removed[truth].mean()) if truth.any() else 0.0,
    }
    if score is not None and truth.any() and not truth.all():
        result["training_auroc"] = image_metrics(truth, score)["image_auroc"]
    return result


def pixel_metrics(scores: Scores, mask_of: MaskOf, ids: Sequence[str] | None = None) -> dict[str, float]:
    """`pixel_auroc`, `pixel_ap`, `pixel_f1_max`, `aupro` at the full resolution of each image.

    `mask_of(id, (width, height))` gives bool (height, width), or None where the truth is not known: such an image is
    left out. `pixel_images` is the number of images that took part. AUPRO is the mean over connected defects of the
    share that is found, averaged over false positive rates up to 0.3. Raises `RequestError` if no pixel, or every
    pixel, is defective.
    """
    return pixel_counts(scores, mask_of, scores.ids if ids is None else ids).metrics()


@dataclass(frozen=True)
class PixelCounts:
    """What pixel metrics are made of: counts by bin of rising score. Those over the same edges add up.

    Attributes
    ----------
    normal, defective : (B,) pixels.
    overlap : (B,) sum over the defects of the share of each one's pixels.
    defects, images : how many took part.
    """

    normal: NDArray[np.float64]
    defective: NDArray[np.float64]
    overlap: NDArray[np.float64]
    defects: int = 0
    images: int = 0

    @classmethod
    def nothing(cls, bins: int = 1) -> "PixelCounts":
        """Counts of no image, in `bins` bins or to be added to counts of any number."""
        return cls(*np.zeros((3, bins)))

    def __add__(self, other: "PixelCounts") -> "PixelCounts":
        return PixelCounts(
            self.normal + other.normal,
            self.defective + other.defective,
            self.overlap + other.overlap,
            self.defects + other.defects,
            self.images + other.images,
        )

    def metrics(self) -> dict[str, float]:
        """See `pixel_metrics`."""
        if not self.defects or not self.normal.any():
            raise RequestError(
                f"Pixel metrics need defective and normal pixels; the masks of {self.images} images hold "
                f"{int(self.defective.sum())} and {int(self.normal.sum())}."
            )
        curves = _from_histograms(self.normal, self.defective, self.overlap / self.defects)
        return {**curves, "pixel_images": float(self.images)}


def pixel_counts(
    scores: Scores, mask_of: MaskOf, ids: Sequence[str], edges: NDArray[np.float32] | None = None
) -> PixelCounts:
    """The counts of the images `ids` over `edges`, of all `scores` by default, threads side by side."""
    used = bin_edges(scores.maps) if edges is None else edges
    nothing = PixelCounts.nothing(len(used) + 1)
    parts = [list(ids)[start :: runtime().threads] for start in range(runtime().threads)]

    def counted(names: list[str]) -> PixelCounts:
        return sum((_counts_of_one(name, scores, mask_of, used) for name in names), nothing)

    return sum(side_by_side(counted, parts), nothing)


def _counts_of_one(name: str, scores: Scores, mask_of: MaskOf, edges: NDArray[np.float32]) -> PixelCounts:
    from scipy import ndimage

    width, height = (int(side) for side in scores.sizes[scores.index(name)])
    bins, none = len(edges) + 1, np.zeros(len(edges) + 1)
    mask = mask_of(name, (width, height))
    if mask is None:
        return PixelCounts(none, none, none)
    drawn = np.searchsorted(edges, scores.map(name).ravel(), side="right").reshape(height, width)
    if not mask.any():
        return PixelCounts(np.bincount(drawn.ravel(), minlength=bins).astype(float), none, none, 0, 1)
    normal, inside = np.bincount(drawn[~mask], minlength=bins), drawn[mask]
    labelled, count = ndimage.label(mask, TOUCHING)
    number = labelled[mask]
    share = 1 / np.bincount(number, minlength=count + 1)[number]
    return PixelCounts(
        normal.astype(float),
        np.bincount(inside, minlength=bins).astype(float),
        np.bincount(inside, weights=share, minlength=bins).astype(float),
        count,
        1,
    )


def bin_edges(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rising edges for `maps` (any shape): every value that occurs if they are few, else quantiles.

    Between few values, what interpolation makes of them is told apart in even steps.
    """
    edges = np.unique(maps)
    if len(edges) > BINS + TOP_BINS:
        top = 1 - np.logspace(-1, -6, TOP_BINS)
        shares = np.concatenate([np.arange(BINS) / BINS, top, [1.0]])
        # 'lower' takes values that occur, so that the bins do not depend on the scale of the scores.
        edges = np.unique(np.quantile(maps, shares, method="lower"))
    steps = -(-BINS // len(edges))
    if steps > 1 and len(edges) > 1:
        between = np.interp(np.arange((len(edges) - 1) * steps + 1) / steps, np.arange(len(edges)), edges)
        edges = np.unique(np.concatenate([edges, between.astype(np.float32)]))
    return edges.astype(np.float32)


def _from_histograms(
    normal: NDArray[np.float64], defective: NDArray[np.float64], overlap: NDArray[np.float64]
) -> dict[str, float]:
    """Metrics of counts by bin of rising score; `overlap` sums to 1."""
    false, true, found = (np.concatenate([[0.0], each[::-1].cumsum()]) for each in (normal, defective, overlap))
    fpr, recall = false / false[-1], true / true[-1]
    precision = true / np.maximum(true + false, 1)
    f1 = 2 * true / np.maximum(true + false + true[-1], 1)
    below = fpr <= FPR_LIMIT
    limited_fpr = np.append(fpr[below], FPR_LIMIT)
    limited = np.append(found[below], np.interp(FPR_LIMIT, fpr, found))
    return {
        "pixel_auroc": float(np.trapezoid(recall, fpr)),
        "pixel_ap": float((np.diff(recall) * precision[1:]).sum()),
        "pixel_f1_max": float(f1.max()),
        "aupro": float(np.trapezoid(limited, limited_fpr) / FPR_LIMIT),
    }


def _check(truth: NDArray[np.bool_], score: NDArray[np.floating]) -> None:
    if len(truth) != len(score):
        raise RequestError(f"Truth and scores must speak of the same images; got {len(truth)} and {len(score)}.")
    if not np.isfinite(score).all():
        raise RequestError("Scores must be finite numbers.")
    if not truth.any() or truth.all():
        raise RequestError(
            f"Metrics need normal and anomalous images; got {int((~truth).sum())} and {int(truth.sum())}."
        )
