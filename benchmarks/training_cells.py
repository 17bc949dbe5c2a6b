"""Training scores of contaminated folders, kept so that no script fits twice what another has fitted.

A cell is a set, a detector, a contamination and a seed; its manifest is drawn by `blemish.benchmark.contamination`, so
all scripts mean the same images. FOLDER/set-detector-ratio-seed.csv is `path,score,bad`.
"""

from pathlib import Path

from blemish.benchmark.contamination import Manifest
from blemish.scores import Scores


def cell_file(folder: Path, name: str, detector: str, ratio: float, seed: int) -> Path:
    """Where the cell is kept."""
    return folder / f"{name}-{detector}-{ratio:g}-{seed}.csv"


def keep_cell(file: Path, scores: Scores, manifest: Manifest) -> None:
    """Write the training scores with their truth, whole or not at all."""
    table = scores.to_frame()[["path", "score"]]
    table["bad"] = manifest.training_truth(table["path"]).astype(int)
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_suffix(".partial")
    table.to_csv(partial, index=False, float_format="%.9g")
    partial.replace(file)
