"""FUN-AD against the memory bank that starts it: rank contaminated folders and draw the defects, one seed.

python benchmarks/funad.py ../shared/data --sets mvtec_bottle mvtec_screw
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

import blemish
from blemish.detectors import detector_class
from ranking import SETS, contaminated

SIDE = 64  # pixels of the maps and masks compared
CASES = {
    "memory_bank": ("memory_bank", {}),
    "funad (network and banks)": ("funad", {}),
    "funad (network alone)": ("funad", {"bank_weight": 0.0, "net_weight": 1.0}),
}


def mask_of(path: Path) -> np.ndarray:
    """The ground truth of an image of a MVTec layout, bool (SIDE, SIDE); nothing for good images."""
    if path.parent.name == "good":
        return np.zeros((SIDE, SIDE), bool)
    folder = path.parents[2] / "ground_truth" / path.parent.name
    found = next(folder.glob(f"{path.stem}*.png"))
    return np.asarray(Image.open(found).convert("L").resize((SIDE, SIDE), Image.Resampling.NEAREST)) > 0


def main() -> None:
    """Print a row for each set and case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--ratio", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path)
    given = parser.parse_args()
    print("| set | detector | image AUROC | pixel AUROC | seconds |\n| --- | --- | --- | --- | --- |")
    for name in given.sets:
        with tempfile.TemporaryDirectory() as place:
            pile = Path(place) / "pile"
            pile.mkdir()
            truth = contaminated(given.data / name, pile, given.ratio, given.seed)
            for case, (detector, settings) in CASES.items():
                start = time.perf_counter()
                chosen = detector_class(detector)(random_state=given.seed, **settings)
                run = blemish.fit(pile, detector=chosen, cache=given.cache or Path(place) / "cache")
                seconds = time.perf_counter() - start
                scores = run.scores
                image = roc_auc_score([truth[each] for each in scores.ids], scores.image)
                masks = np.stack([mask_of((pile / each).resolve()) for each in scores.ids])
                maps = np.stack([scores.map(each, (SIDE, SIDE)) for each in scores.ids])
                pixel = roc_auc_score(masks.ravel(), maps.ravel())
                print(f"| {name} | {case} | {image:.4f} | {pixel:.4f} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
