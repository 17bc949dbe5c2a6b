"""Detectors on contaminated folders: ranking of the folder, new images, pixels, seconds; the table of every page.

For each set, contamination and seed: one fit on the manifest's training images serves both protocols. `funad` serves
`nearest_images`, too, which is its first half (`FunAD.nearest_images`). Rows are appended to RESULTS as they come;
those that stand there are not computed again.

    python benchmarks/contaminated.py ../shared/data --results benchmarks/contaminated.csv --detectors funad
    python benchmarks/contaminated.py --table benchmarks/contaminated.csv
    python benchmarks/contaminated.py ../shared/data --results k.csv --detectors nearest_images --set k=2 --set k=4
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from blemish.benchmark.contamination import MODES, Manifest, contaminate
from blemish.benchmark.datasets import open_datasets
from blemish.benchmark.datasets.category import Category
from blemish.benchmark.metrics import image_metrics, pixel_metrics
from blemish.detectors import Detector, detector_class
from blemish.detectors.funad import FunAD
from blemish.detectors.settings import set_by_name
from blemish.machine.runtime import use_runtime
from markdown_table import markdown
from ranking import SETS, processor
from training_cells import cell_file, keep_cell

RATIOS = (0.0, 0.05, 0.1, 0.2, 0.4)
KEYS = ["set", "ratio", "seed", "detector", "settings"]


def ranking_of(detector: Detector, manifest: Manifest) -> float | None:
    """AUROC of the folder's own ranking."""
    scores = detector.training_scores_
    truth = manifest.training_truth(scores.ids)
    return image_metrics(truth, scores.image)["image_auroc"] if truth.any() else None


def rows_of(
    category: Category, ratio: float, seed: int, name: str, settings: str, cells: Path | None
) -> Iterator[dict[str, Any]]:
    """A row for each protocol and detector, of one fit."""
    manifest = contaminate(category, ratio, seed=seed)
    training, test = manifest.training_set(category), manifest.test_set(category, "overlap")
    kind = detector_class(name)
    changes = dict(pair.split("=", 1) for pair in settings.split()) if settings else {}
    detector = kind(random_state=seed, **set_by_name(kind().settings(), changes))
    start = time.perf_counter()
    detector.fit(training)
    fitted = time.perf_counter()
    measured = {name: detector}
    if isinstance(detector, FunAD) and detector.distance_weight:
        measured["nearest_images"] = detector.neighbours_
    for each, of in measured.items():
        if cells:
            keep_cell(cell_file(cells, category.name, each, ratio, seed), of.training_scores_, manifest)
        began = time.perf_counter()
        scores = of.score(test)
        seconds = time.perf_counter() - began
        about = {"set": category.name, "ratio": ratio, "reached": round(manifest.reached, 3), "seed": seed}
        about |= {"detector": each, "settings": settings, "k": getattr(of, "k_", None)}
        about |= {"fit_seconds": fitted - start, "score_ms": 1000 * seconds / len(test)}
        for mode in MODES:
            part = scores.subset(manifest.test_paths(category, mode))
            image = image_metrics(category.truth(part.ids), part.image)["image_auroc"]
            pixel = pixel_metrics(part, category.mask)["pixel_auroc"]
            yield {**about, "ranking": ranking_of(of, manifest), "mode": mode, "image": image, "pixel": pixel}


def table(paths: Sequence[Path], sets: Sequence[str]) -> str:
    """Means over seeds as Markdown, image / pixel AUROC in %: a row a detector and set, a column a contamination."""
    rows = pd.concat(
        [
            pd.read_csv(
                path,
            )
            for path in paths
        ]
    )
    rows["detector"] += rows["settings"].astype(object).fillna("").map(lambda text: f" {text}" if text else "")
    rows = rows[rows["set"].isin(sets)].drop_duplicates(["set", "ratio", "seed", "detector", "mode"], keep="last")
    parts = []
    for mode in MODES:
        found = rows[rows["mode"] == mode].groupby(["set", "detector", "ratio"])[["image", "pixel"]].mean()
        mean = pd.concat({"mean of sets": _over_sets(found, len(sets))}, names=["set"])
        pairs = (100 * pd.concat([mean, found])).apply(lambda row: f"{row['image']:.1f} / {row['pixel']:.1f}", axis=1)
        parts += [f"**{mode}**\n", markdown(pairs.unstack("ratio").fillna("").reset_index())]
    ranking = rows.dropna(subset="ranking").groupby(["set", "detector", "ratio"])[["ranking"]].mean()
    ranking = pd.concat([pd.concat({"mean of sets": _over_sets(ranking, len(sets))}, names=["set"]), ranking])
    parts += ["**ranking of the folder**\n", markdown(ranking["ranking"].unstack("ratio").reset_index(), 4)]
    ks = (
        rows[rows["mode"] == MODES[0]]
        .groupby(["set", "detector", "ratio"])["k"]
        .agg(lambda k: " ".join(f"{v:g}" for v in k))
    )
    costs = rows.groupby("detector")[["fit_seconds", "score_ms"]].mean()
    parts += ["**k taken, by seed**\n", markdown(ks.unstack("ratio").fillna("").reset_index())]
    return "\n".join([*parts, "**seconds a fit, ms a new image, features ready**\n", markdown(costs.reset_index(), 4)])


def _over_sets(found: pd.DataFrame, count: int) -> pd.DataFrame:
    """Means over all sets; only of what each set has."""
    by = found.groupby(["detector", "ratio"])
    return by.mean()[by.size() == count]


def main() -> None:
    """Measure what is missing, or print the table of what is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--results", type=Path)
    parser.add_argument("--table", nargs="+", type=Path, help="print what these files hold")
    parser.add_argument("--detectors", nargs="+", default=["nearest_images"])
    parser.add_argument("--set", nargs="+", default=[""], dest="settings", metavar="'NAME=VALUE ...'")
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--ratios", nargs="+", type=float, default=RATIOS)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--limit", nargs=3, type=int, metavar="N", help="at most so many good, new good and bad images")
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--cells", type=Path, help="keep the training scores here; see training_cells.py")
    parser.add_argument("--threads", type=int)
    given = parser.parse_args()
    if given.table:
        print(table(given.table, given.sets))
        return
    if not given.data or not given.results:
        parser.error("name the data and --results FILE, or --table FILE")
    print(processor(), flush=True)
    known = pd.read_csv(given.results) if given.results.exists() else pd.DataFrame(columns=KEYS)
    done = {tuple(row) for row in known[KEYS].astype(object).fillna("").itertuples(index=False)}
    categories = {category.name: category for category in open_datasets(given.data, list(given.sets))}
    if given.limit:
        categories = {name: category.limited(*given.limit) for name, category in categories.items()}
    with use_runtime(cache=given.cache, threads=given.threads):
        for seed in given.seeds:
            for ratio in given.ratios:
                for name in given.sets:
                    for detector in given.detectors:
                        for settings in given.settings:
                            if (name, ratio, seed, detector, settings) in done:
                                continue
                            rows = list(rows_of(categories[name], ratio, seed, detector, settings, given.cells))
                            append(rows, given.results)
                            print(name, ratio, seed, detector, settings, flush=True)


def append(rows: list[dict[str, Any]], path: Path) -> None:
    """Add the rows to a CSV file, with a header if it is new."""
    pd.DataFrame(rows).to_csv(path, mode="a", header=not path.exists(), index=False, float_format="%.5f")


if __name__ == "__main__":
    main()
