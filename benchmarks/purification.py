"""How much purification removes, what it costs, and whether the detector learned from the rest is better.

For each set below DATA (MVTec layout), ratio and seed, anomalies are injected into the normal training images
(`blemish.benchmark.contamination`). Three parts, each with rows in a CSV of its own below OUT; a row that is there is
not measured again, so the script can be stopped and started:

    removal    share of the anomalies removed and of the normals kept, for each way to aggregate and cut, and of the
               scores far out
    quality    image and pixel metrics of detectors learned from all images and from the kept ones
    cost       purification with one and two repeats against fitting and scoring plainly, features ready

Seconds are of CPU, all threads together, which other jobs on the machine do not lengthen.

    python benchmarks/purification.py ../shared/data --out purification --parts removal --seeds 0
    python benchmarks/purification.py --out purification --summary
"""

import argparse
import csv
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd

from blemish.benchmark.contamination import MODES, Manifest, contaminate
from blemish.benchmark.datasets import Category, open_datasets
from blemish.benchmark.metrics import image_metrics, pixel_metrics, purification_metrics
from blemish.cli.console import pairs
from blemish.detectors import Detector, detector_class
from blemish.detectors.settings import set_by_name
from blemish.images import ImageSet
from blemish.machine.runtime import use_runtime
from blemish.purification import BEFORE_FIT, PurifySettings, SubModelScores, purify, score_by_sub_models
from blemish.scores.cuts import median_mad
from markdown_table import markdown

SETS = ("mvtec_bottle", "mvtec_screw", "mvtec_transistor", "magnetic_tile")
DEFAULT = PurifySettings()
WAYS = {"purify": DEFAULT, "fit": BEFORE_FIT}
FAR_OUT = 2.5  # deviations beyond which a score speaks of contamination, if scores do
# One choice changed at a time; what needs other sub-models (subsets, image_score) costs a stage 1 of its own.
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"repeats": 2},
    {"repeats": 3},
    {"own_subset": "exclude"},
    {"own_subset": "include"},
    {"scale": "raw"},
    {"aggregate": "max"},
    {"aggregate": "max_variance", "own_subset": "include"},
    *({"cut": "mad", "k": k} for k in (0.25, 0.5, 0.75, 1.0, 1.5, 3.0)),
    {"cut": "mixture"},
    *({"keep": keep} for keep in (0.9, 0.8, 0.7)),
    {"image_score": "map"},
    {"subsets": 3},
    {"subsets": 5},
)


class Table:
    """Rows of a CSV file, each written once; a row is known by its first columns."""

    def __init__(self, path: Path, keys: tuple[str, ...], values: tuple[str, ...]) -> None:
        self.path, self.keys, self.columns = path, keys, (*keys, *values)
        self.done: set[tuple[str, ...]] = set()
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                self.done = {tuple(row[key] for key in keys) for row in csv.DictReader(file)}

    def missing(self, *key: object) -> bool:
        """Whether no row is known by `key`."""
        return tuple(map(str, key)) not in self.done

    def add(self, key: tuple[object, ...], values: dict[str, object]) -> None:
        """Write and print a row."""
        new = not self.path.is_file()
        with self.path.open("a", encoding="utf-8", newline="") as file:
            table = csv.writer(file, lineterminator="\n")
            if new:
                table.writerow(self.columns)
            shown = [values.get(name, "") for name in self.columns[len(self.keys) :]]
            table.writerow([*key, *(f"{each:.5g}" if isinstance(each, float) else each for each in shown)])
        self.done.add(tuple(map(str, key)))
        print(*key, *(f"{name}={each:.4g}" for name, each in values.items() if isinstance(each, float)), flush=True)


def said(changes: dict[str, Any]) -> str:
    """The changes of a variant as words."""
    return " ".join(f"{name}={value}" for name, value in changes.items()) or "default"


def folders(given: argparse.Namespace) -> Iterator[tuple[Category, float, int, Manifest]]:
    """Every set, ratio and seed."""
    for seed in given.seeds:
        for ratio in given.ratios:
            for category in open_datasets(given.data, given.sets):
                yield category, ratio, seed, contaminate(category, ratio, seed=seed)


def stage_one(settings: PurifySettings) -> PurifySettings:
    """What the scores of sub-models depend on; other settings share them."""
    own_subset = "include" if settings.own_subset == "include" else "cross_fit"
    return replace(
        DEFAULT, by=settings.by, subsets=settings.subsets, image_score=settings.image_score, own_subset=own_subset
    )


def configured(name: str, seed: int, settings: list[str]) -> Detector:
    """A detector with NAME=VALUE settings."""
    kind = detector_class(name)
    return kind(random_state=seed, **set_by_name(kind().settings(), pairs(settings)))


def told(learned_from: str) -> PurifySettings:
    """How to purify: as `purify` does, as `fit --purify` does, or as the former with NAME=VALUE,NAME=VALUE."""
    if learned_from in WAYS:
        return WAYS[learned_from]
    return DEFAULT.changed(**set_by_name(asdict(DEFAULT), pairs(learned_from.split(","))))


def prepared(manifest: Manifest, category: Category, detector: Detector) -> ImageSet:
    """The training images with their features made."""
    return detector.prepare(manifest.training_set(category))


def removal(given: argparse.Namespace) -> None:
    """See the top."""
    table = Table(
        given.out / "removal.csv",
        ("set", "ratio", "seed", "detector", "variant"),
        ("reached", "images", "training_auroc", "anomalies_removed", "normals_kept", "contamination_before",
         "contamination_after", "kept", "far_out"),
    )  # fmt: skip
    for category, ratio, seed, manifest in folders(given):
        for name in given.detectors:
            wanted = [each for each in VARIANTS if table.missing(category.name, ratio, seed, name, said(each))]
            wanted = [each for each in wanted if given.variants is None or said(each) in given.variants]
            detector = detector_class(name)(random_state=seed)
            scored: dict[PurifySettings, SubModelScores] = {}
            for changes in wanted:
                settings = replace(DEFAULT, **changes)
                made = stage_one(settings)
                if made not in scored:
                    others = [replace(DEFAULT, **each) for each in wanted]
                    most = max(each.repeats for each in others if stage_one(each) == made)
                    images = prepared(manifest, category, detector)
                    most_repeats = replace(made, repeats=most)
                    scored[made] = score_by_sub_models(
                        images, detector, most_repeats, seed=seed, resume=given.out / "sub-models"
                    )
                result = scored[made].purification(settings)
                truth = manifest.training_truth(result.ids)
                row: dict[str, object] = {
                    "reached": manifest.reached,
                    "images": len(truth),
                    "kept": int(result.kept.sum()),
                    "far_out": float((result.scores > median_mad(result.scores, FAR_OUT)).mean()),
                    "normals_kept": float(result.kept[~truth].mean()),
                    "contamination_before": float(truth.mean()),
                    "contamination_after": float(truth[result.kept].mean()),
                }
                if truth.any():
                    found_metrics = purification_metrics(truth, result.kept, result.scores)
                    row |= {key: found_metrics[key] for key in ("training_auroc", "anomalies_removed")}
                table.add((category.name, ratio, seed, name, said(changes)), row)


def quality(given: argparse.Namespace) -> None:
    """See the top. A detector that learns from what was set aside has no place here."""
    metrics = ("image_auroc", "image_ap", "pixel_auroc", "pixel_ap", "aupro")
    table = Table(
        given.out / "quality.csv",
        ("set", "ratio", "seed", "detector", "learned_from", "mode"),
        ("reached", "learned", "bad", *metrics, "seconds"),
    )
    for category, ratio, seed, manifest in folders(given):
        for name in given.detectors:
            for learned_from in given.learned_from:
                key = (category.name, ratio, seed, " ".join([name, *given.settings]), learned_from)
                modes = [mode for mode in MODES if ratio or mode == MODES[0]]
                if not any(table.missing(*key, mode) for mode in modes):
                    continue
                detector = configured(name, seed, given.settings)
                images = prepared(manifest, category, detector)
                start = time.process_time()
                if learned_from != "all":
                    how = told(learned_from)
                    found = purify(images, detector, how, seed=seed, resume=given.out / "sub-models")
                    images = images.subset(found.kept_ids).on_its_own()
                detector.fit(images)
                seconds = time.process_time() - start
                bad = int(manifest.training_truth(images.ids).sum())
                scores = detector.score(manifest.test_set(category, MODES[0]))
                for mode in modes:
                    part = scores.subset(manifest.test_paths(category, mode))
                    found_metrics = {
                        **image_metrics(category.truth(part.ids), part.image),
                        **pixel_metrics(part, category.mask),
                    }
                    facts = {"reached": manifest.reached, "learned": len(images), "bad": bad, "seconds": seconds}
                    table.add((*key, mode), {**facts, **{each: found_metrics[each] for each in metrics}})


def cost(given: argparse.Namespace) -> None:
    """See the top."""
    table = Table(
        given.out / "cost.csv",
        ("set", "ratio", "seed", "detector"),
        ("images", "fit_and_score", "purify_one_repeat", "purify_two_repeats", "share"),
    )
    for category, ratio, seed, manifest in folders(given):
        for name in given.detectors:
            if not table.missing(category.name, ratio, seed, name):
                continue
            detector = detector_class(name)(random_state=seed)
            images = prepared(manifest, category, detector)
            start = time.process_time()
            detector.fit(images).score(images)
            plain = time.process_time() - start
            seconds = []
            for repeats in (1, 2):
                start = time.process_time()
                purify(images, detector, seed=seed, repeats=repeats)
                seconds.append(time.process_time() - start)
            row = {"images": len(images), "fit_and_score": plain, "share": seconds[0] / plain}
            row |= {"purify_one_repeat": seconds[0], "purify_two_repeats": seconds[1]}
            table.add((category.name, ratio, seed, name), row)


def summary(out: Path) -> None:
    """Print means over sets and seeds as Markdown."""
    if (out / "removal.csv").is_file():
        rows = pd.read_csv(out / "removal.csv")
        rows["anomalies_removed"] = pd.to_numeric(rows["anomalies_removed"])
        # First over the seeds of a set, then over the sets, which count alike.
        by_set = rows.groupby(["detector", "variant", "ratio", "set"], sort=False).agg(
            removed=("anomalies_removed", "mean"), kept=("normals_kept", "mean"), auroc=("training_auroc", "mean")
        )
        runs = rows.groupby(["detector", "variant", "ratio"], sort=False).size().rename("runs")
        means = by_set.groupby(["detector", "variant", "ratio"], sort=False).mean().join(runs)
        print(markdown(means.reset_index()))
        print(markdown(by_set.xs("default", level="variant").reset_index()))
    for name, values in (("quality", ["image_auroc", "pixel_auroc", "aupro"]), ("cost", ["share"])):
        if (out / f"{name}.csv").is_file():
            rows = pd.read_csv(out / f"{name}.csv")
            keys = [key for key in ("detector", "learned_from", "mode", "ratio", "set") if key in rows]
            by_set = rows.groupby(keys, sort=False)[values].mean()
            print(markdown(by_set.reset_index()))
            if name == "quality":
                print(markdown(by_set.groupby(keys[:-1], sort=False).mean().reset_index()))


PARTS = {"removal": removal, "quality": quality, "cost": cost}


def main() -> None:
    """Run the parts asked for, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, required=True, help="folder of the CSV files")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--ratios", nargs="+", type=float, default=[0.1, 0.4, 0.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--detectors", nargs="+", default=["nearest_images"])
    parser.add_argument("--variants", nargs="+", help="of removal, such as default or 'cut=mad k=1.0'; all by default")
    parser.add_argument(
        "--learned-from",
        nargs="+",
        default=["all", "purify", "fit"],
        help="of quality: all images, what purify or fit --purify keep, or settings of purify such as k=2,subsets=4",
    )
    parser.add_argument(
        "--set", nargs="+", default=[], dest="settings", metavar="NAME=VALUE", help="of quality's detectors"
    )
    parser.add_argument("--threads", type=int, help="cores to use; all by default")
    parser.add_argument("--cache", type=Path, help="folder of features; by default they are made anew")
    parser.add_argument("--summary", action="store_true", help="print what was measured so far, measure nothing")
    given = parser.parse_args()
    if given.summary or given.data is None:
        summary(given.out)
        return
    given.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as empty, use_runtime(cache=given.cache or Path(empty), threads=given.threads):
        for part in given.parts:
            PARTS[part](given)
    summary(given.out)


if __name__ == "__main__":
    main()
