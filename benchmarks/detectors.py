"""One-class detectors on the MVTec layout: fit train/good, some anomalies added, and score the test images.

Features are made first and are not in the times. At a ratio above 0, anomalies drawn from the test set join the
training images; with `--overlap` they stay in the test set, too. Nothing but this script sees a label. How much chance
moves a figure shows `--without 5 --seeds 0 1 2`: five good images, others each time, are not learned from.

    python benchmarks/detectors.py ../shared/data --sets mvtec_bottle --cases patchcore padim
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

from blemish.detectors import Detector, detector_class
from blemish.detectors.settings import set_by_name
from blemish.images import ImageSet
from blemish.machine.runtime import use_runtime
from blemish.scores import Scores

SETS = ("mvtec_bottle", "mvtec_transistor")
SIDE = 64  # pixels of the maps and masks compared
COLUMNS = ("set", "case", "ratio", "seed", "image", "pixel", "training", "fit_s", "fit_cpu_s", "score_ms", "peak_mib")


def mask_of(path: Path) -> np.ndarray:
    """The ground truth of an image, bool (SIDE, SIDE); nothing for good images."""
    if path.parent.name == "good":
        return np.zeros((SIDE, SIDE), bool)
    folder = path.parents[2] / "ground_truth" / path.parent.name
    found = next(folder.glob(f"{path.stem}*.png"))
    return np.asarray(Image.open(found).convert("L").resize((SIDE, SIDE), Image.Resampling.NEAREST)) > 0


def split(root: Path, ratio: float, overlap: bool, seed: int, without: int) -> tuple[list[Path], list[Path]]:
    """Images to learn from and to test with; `ratio` is of the good ones, capped where there are no more.

    `without` good images, drawn at random, are left out of both.
    """
    good = sorted((root / "train" / "good").iterdir())
    dropped = {good[at] for at in np.random.default_rng((seed, without)).permutation(len(good))[:without]}
    learned = [path for path in good if path not in dropped]
    test = sorted(path for path in (root / "test").glob("*/*"))
    bad = [path for path in test if path.parent.name != "good"]
    count = min(round(ratio * len(learned)), len(bad))
    chosen = {bad[at] for at in np.random.default_rng(seed).permutation(len(bad))[:count]}
    return learned + sorted(chosen), [path for path in test if overlap or path not in chosen]


def image_auroc(scores: Scores) -> float:
    """Of the images' scores; NaN where only one kind is there."""
    truth = ["good" not in Path(name).parts for name in scores.ids]
    return float(roc_auc_score(truth, scores.image)) if len(set(truth)) == 2 else float("nan")


def pixel_auroc(scores: Scores) -> float:
    """Of the maps against the masks."""
    masks = np.stack([mask_of(Path(name)) for name in scores.ids])
    maps = np.stack([scores.map(name, (SIDE, SIDE)) for name in scores.ids])
    return float(roc_auc_score(masks.ravel(), maps.ravel()))


def run_once(root: Path, case: str, ratio: float, overlap: bool, seed: int, without: int) -> dict[str, Any]:
    """Fit and score once; `case` is a detector and settings, as in `patchcore,coreset=random`."""
    name, *changes = case.split(",")
    kind = detector_class(name)
    settings = set_by_name(kind().settings(), dict(change.split("=", 1) for change in changes))
    detector = kind(**{**settings_given(settings, kind()), "random_state": seed})
    if not detector.looks_at_patches:
        raise SystemExit(f"{name} has no features to make beforehand; this script times detectors on features.")
    learned, test = (ImageSet.of(paths) for paths in split(root, ratio, overlap, seed, without))
    detector.prepare(learned)
    start, busy = time.perf_counter(), time.process_time()
    detector.fit(learned)
    fitted, busy = time.perf_counter(), time.process_time() - busy
    training = image_auroc(detector.training_scores_) if settings.get("training_scores", True) else float("nan")
    detector.prepare(test)
    begun = time.perf_counter()
    scores = detector.score(test)
    done = time.perf_counter()
    return {
        "set": root.name,
        "case": case,
        "ratio": f"{ratio}{' overlap' if overlap else ''}",
        "seed": seed,
        "image": round(image_auroc(scores), 4),
        "pixel": round(pixel_auroc(scores), 4),
        "training": round(training, 4),
        "fit_s": round(fitted - start, 1),
        "fit_cpu_s": round(busy, 1),
        "score_ms": round(1000 * (done - begun) / len(test), 1),
        "peak_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def settings_given(changed: dict[str, Any], plain: Detector) -> dict[str, Any]:
    """Only what differs from the defaults."""
    return {name: value for name, value in changed.items() if value != plain.settings().get(name)}


def main() -> None:
    """Run all cases, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--cases", nargs="+", default=["patchcore"])
    parser.add_argument("--ratio", nargs="+", type=float, default=[0.0])
    parser.add_argument("--overlap", action="store_true")
    parser.add_argument("--without", type=int, default=0, help="good images to leave out, others for each seed")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache", type=Path, help="keep features here; by default they are made anew")
    given = parser.parse_args()
    rows = []
    with (
        tempfile.TemporaryDirectory() as empty,
        use_runtime(cache=given.cache or Path(empty), threads=given.threads),
    ):
        for name in given.sets:
            for ratio in given.ratio:
                for seed in given.seeds:
                    for case in given.cases:
                        rows.append(run_once(given.data / name, case, ratio, given.overlap, seed, given.without))
                        print(json.dumps(rows[-1]), flush=True)
    print(f"\n`python {' '.join(sys.argv)}`, {datetime.now(UTC):%Y-%m-%d}\n")
    print("| " + " | ".join(COLUMNS) + " |\n|" + " --- |" * len(COLUMNS))
    for row in rows:
        print("| " + " | ".join(str(row[column]) for column in COLUMNS) + " |")


if __name__ == "__main__":
    main()
