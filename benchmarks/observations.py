"""The observations of FUN-AD (Sec. 3) and the learning bias of LLBNAD, with the distances of `nearest_images`.

For each set and contamination, all images of one contaminated folder are compared with each other once: of each patch,
the distance to its like in every other image. From those come

- who the like of a defect is, by rank of the image and among the nearest by layout or all (FUN-AD Sec. 3);
- mutual pairs and of what class they are;
- how the scores of good and bad images fall with the number of images compared with (dominance of what is normal);
- how much sub-models, each with a third of the images, differ on good and bad images (divergence of anomalies).

    python benchmarks/observations.py ../shared/data --out benchmarks/observations
    python benchmarks/observations.py --tables benchmarks/observations
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

from blemish.benchmark.contamination import contaminate
from blemish.benchmark.datasets import open_datasets
from blemish.benchmark.datasets.category import Category
from blemish.benchmark.experiments.observations import _cells as inside_mask
from blemish.benchmark.plots import figure
from blemish.detectors.nearest_images import ImageNeighbours, NearestImages, NearestPatches
from blemish.detectors.parts.fusion import highest_mean
from blemish.detectors.parts.views import ViewFeatures
from blemish.machine.runtime import use_runtime
from markdown_table import markdown
from ranking import SETS

RANKS = (1, 2, 3, 5, 8, 12)  # of the image in which the like is looked for
RETRIEVED = 20
COUNTS = (2, 4, 8, 16, 32, 64)  # images compared with
SUBSETS, REPEATS = 3, 10  # LLBNAD's K, and how often the images are split
PAIRS, RANKED, DOMINANCE, DIVERGENCE = "mutual_pairs", "ranks", "dominance", "divergence"


class Compared(NearestImages):
    """Each image compared with all others, with what was found."""

    def _compared(
        self, features: ViewFeatures, scorer: ImageNeighbours, traced: Tensor, barred: Tensor
    ) -> NearestPatches:
        self.found = super()._compared(features, scorer, traced, barred)
        self.near = scorer.nearest_images(scorer.layouts, barred)[:, :RETRIEVED]  # (N, 20), by layout
        self.grid = features.grid
        return self.found


def distances_by_image(matches: NearestPatches) -> tuple[Tensor, Tensor]:
    """(N, P, N) the distance to the like in each image, infinite for the own one, and (N, P, N) which patch that is."""
    count, patches, _ = matches.distances.shape
    whose, where = matches.entries.long() // patches, matches.entries.long()
    away = torch.full((count, patches, count), torch.inf).scatter_(2, whose, matches.distances)
    like = torch.zeros((count, patches, count), dtype=torch.long).scatter_(2, whose, where)
    return away, like


def observed(category: Category, ratio: float, seed: int) -> dict[str, list[dict[str, Any]]]:
    """The rows of every table for one folder."""
    manifest = contaminate(category, ratio, seed=seed)
    images = manifest.training_set(category)
    many = len(images) - 1
    detector = Compared(random_state=seed, retrieved=many, k=many - 3).fit(images)
    ids = detector.training_scores_.ids
    path_of = {entry.id: entry.path for entry in manifest.training}
    if len(set(images.content.values())) != len(ids):
        raise SystemExit(f"{category} has equal images among its training images; their rows would be mixed up.")
    bad = manifest.training_truth(ids)
    drawn = [inside_mask(category, path_of[name], detector.grid).ravel() for name in ids]  # none in a good image
    defect = torch.from_numpy(np.stack(drawn))
    away, like = distances_by_image(detector.found)
    near = torch.zeros(len(ids), len(ids), dtype=torch.bool).scatter_(1, detector.near, True)
    about = {"set": category.name, "ratio": ratio, "images": len(ids), "bad": int(bad.sum())}
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in (PAIRS, RANKED, DOMINANCE, DIVERGENCE)}
    for who, open_to in (("nearest 20", near), ("all", torch.ones_like(near))):
        within = away.masked_fill(~open_to[:, None], torch.inf)
        order = within.argsort(2)
        for rank in RANKS:
            image = order[..., rank - 1 : rank]
            distance, match = within.gather(2, image)[..., 0], like.gather(2, image)[..., 0]
            of_match = defect.flatten()[match]
            rows[RANKED].append({
                **about, "compared with": who, "rank": rank,
                "defect found in a defect": share(of_match[defect]),
                "good found in good": share(~of_match[~defect]),
                "distance, defect / good": float(distance[defect].median() / distance[~defect].median()),
                "patch AUROC": auroc(defect.flatten(), distance.flatten()),
            })  # fmt: skip
        rows[PAIRS].append({**about, "compared with": who, **pairs_of(order[..., 0], like, defect)})
    truth = torch.from_numpy(bad)
    rng = np.random.default_rng(seed)
    for count in [each for each in COUNTS if each < len(ids)]:
        scores = torch.stack([scored(away, rng.permutation(len(ids))[:count]) for _ in range(REPEATS)])
        scores = scores.masked_fill(~scores.isfinite(), torch.nan).nanmedian(0).values
        rows[DOMINANCE].append({
            **about, "count": count, "good score": float(scores[~truth].nanmedian()),
            "bad score": float(scores[truth].nanmedian()), "image AUROC": auroc(truth, scores),
        })  # fmt: skip
    rows[DIVERGENCE].append({**about, **divergence(away, truth, rng)})
    return rows


def pairs_of(nearest: Tensor, like: Tensor, defect: Tensor) -> Mapping[str, float]:
    """Mutual pairs (FUN-AD Sec. 3.2): 2 x pairs / patches of the kind, and the share of pairs of one class."""
    match = like.gather(2, nearest[..., None])[..., 0].flatten()
    own = torch.arange(len(match))
    first = own[(match[match] == own) & (own < match)]
    one, two = defect.flatten()[first], defect.flatten()[match[first]]
    normal, anomaly, mixed = (int(each.sum()) for each in (~one & ~two, one & two, one ^ two))
    many, few = int((~defect).sum()), int(defect.sum())
    total = normal + anomaly + mixed
    return {
        "normal": 2 * normal / many, "anomaly": 2 * anomaly / few, "mixed": 2 * mixed / (many + few),
        "of one class": (normal + anomaly) / total,
        "defects' pairs with a defect": anomaly / max(1, anomaly + mixed),
        "by chance": (many * (many - 1) + few * (few - 1)) / ((many + few) * (many + few - 1)),
    }  # fmt: skip


def scored(away: Tensor, among: Any, rank: int = 1) -> Tensor:
    """Scores (N,): the mean of the highest 5 % of the patches' distances to their like in `among`."""
    within = away[..., torch.as_tensor(among)]
    distance = within.kthvalue(rank, dim=2).values
    return highest_mean(distance, torch.ones_like(distance, dtype=torch.bool))


def divergence(away: Tensor, truth: Tensor, rng: np.random.Generator) -> Mapping[str, float]:
    """What sub-models make of images that they did not learn from: mean, spread, and what of them tells bad images.

    The scores of a sub-model are in deviations from the median of those images.
    """
    found = torch.full((REPEATS * SUBSETS, len(away)), torch.nan)
    for repeat in range(REPEATS):
        part = torch.from_numpy(rng.permutation(len(away)) % SUBSETS)
        for number in range(SUBSETS):
            scores, others = scored(away, (part == number).nonzero()[:, 0]), part != number
            middle = scores[others].median()
            scores = (scores - middle) / (1.4826 * (scores[others] - middle).abs().median())
            found[repeat * SUBSETS + number, others] = scores[others]
    values = found.numpy()
    # of each split two sub-models judge an image; their spread, averaged over splits
    by_split = values.reshape(REPEATS, SUBSETS, -1)
    spread = torch.from_numpy(np.nanstd(by_split, axis=1).mean(0))
    mean = torch.from_numpy(np.nanmean(values, axis=0))
    middle = mean[~truth].quantile(0.5)
    ordinary = ~truth & (mean > mean[~truth].quantile(0.75))  # good images that look unusual
    return {
        "spread, good": float(spread[~truth].median()), "spread, bad": float(spread[truth].median()),
        "spread, unusual good": float(spread[ordinary].median()),
        "AUROC of mean": auroc(truth, mean), "AUROC of spread": auroc(truth, spread),
        "AUROC of spread / mean": auroc(truth, spread / (mean - middle).abs().clamp_min(1.0)),
        "correlation": float(np.corrcoef(mean.numpy(), spread.numpy())[0, 1]),
    }  # fmt: skip


def share(values: Tensor) -> float:
    """Of true values; NaN of none."""
    return float(values.float().mean()) if len(values) else float("nan")


def auroc(truth: Tensor, scores: Tensor) -> float:
    """Of scores (n,), higher for what is true."""
    return float(roc_auc_score(truth.numpy(), scores.numpy()))


def draw(out: Path, plots: Path) -> None:
    """A plot of how scores fall with the images compared with, and one of whose like is a defect."""
    dominance, ranked = (pd.read_csv(out / f"{name}.csv") for name in (DOMINANCE, RANKED))
    ratio = dominance["ratio"].min()

    def fall(axes: Any) -> None:
        for axis, (name, rows) in zip(
            axes, dominance[dominance["ratio"] == ratio].groupby("set", sort=False), strict=True
        ):
            for kind in ("good", "bad"):
                axis.plot(
                    rows["count"],
                    rows[f"{kind} score"] / rows["good score"].iloc[0],
                    marker="o",
                    label=f"{kind} images",
                )
            axis.set(title=name, xlabel="images compared with", xscale="log")
            axis.set_ylim(bottom=0)
            axis.minorticks_off()
            axis.set_xticks(rows["count"], rows["count"])
        axes[0].set_ylabel("score, 1 is a good image's at first")
        axes[0].legend(fontsize="small")

    figure(plots / "dominance.png", fall, dominance["set"].nunique())

    def classes(axes: Any) -> None:
        for axis, (name, rows) in zip(axes, ranked.groupby("set", sort=False), strict=True):
            for (share, who), part in rows.groupby(["ratio", "compared with"], sort=False):
                axis.plot(part["rank"], part["defect found in a defect"], marker="o", label=f"{share:.0%}, {who}")
            axis.set(title=name, xlabel="rank of the image", ylim=(0, 0.5))
        axes[0].set_ylabel("defects whose like is a defect")
        axes[0].legend(fontsize="x-small")

    figure(plots / "ranks.png", classes, ranked["set"].nunique())


def main() -> None:
    """Measure, or print the tables of what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tables", type=Path, help="print what was measured, and draw it again")
    parser.add_argument("--plots", type=Path, default=Path("docs/images/papers"))
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--ratios", nargs="+", type=float, default=(0.1, 0.4))
    parser.add_argument("--images", type=int, default=48, help="good training images at most; 48 as `record --quick`")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args()
    if given.tables:
        for name in (RANKED, PAIRS, DOMINANCE, DIVERGENCE):
            print(f"**{name}**\n\n{markdown(pd.read_csv(given.tables / f'{name}.csv'))}")
        given.plots.mkdir(parents=True, exist_ok=True)
        draw(given.tables, given.plots)
        return
    if not given.data or not given.out:
        parser.error("name the data and --out FOLDER, or --tables FOLDER")
    given.out.mkdir(parents=True, exist_ok=True)
    with use_runtime(cache=given.cache):
        for category in open_datasets(given.data, list(given.sets)):
            for ratio in given.ratios:
                for name, rows in observed(category.limited(given.images, 16, 32), ratio, given.seed).items():
                    path = given.out / f"{name}.csv"
                    pd.DataFrame(rows).to_csv(
                        path, mode="a", header=not path.exists(), index=False, float_format="%.4f"
                    )
                print(category.name, ratio, flush=True)


if __name__ == "__main__":
    main()
