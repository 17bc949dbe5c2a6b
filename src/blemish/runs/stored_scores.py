"""Scores on disk with their maps: `scores.csv` for people, `maps.safetensors` beside it for the review."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from blemish.machine.errors import RequestError, saved_as_usual, writing_to
from blemish.runs.artifact import SCORES
from blemish.scores import Scores

MAPS = "maps.safetensors"
LARGEST = 65_000.0  # float16 holds no more


@dataclass(frozen=True)
class StoredScores:
    """Scores with the SHA-256 of each image's content, (N,)."""

    scores: Scores
    content: tuple[str, ...]


def write_maps(folder: Path, scores: Scores, content: Mapping[str, str]) -> None:
    """Leave the maps of `scores`, in the order of its ranking, which is that of `scores.csv`; float16."""
    rows = [scores.index(name) for name in scores.ranking()]
    digests = b"".join(bytes.fromhex(content[scores.ids[row]]) for row in rows)
    tensors = {
        "maps": _half(scores.maps, rows),
        "boxes": np.ascontiguousarray(scores.boxes[rows], dtype=np.float32),
        "sizes": np.ascontiguousarray(scores.sizes[rows], dtype=np.int64),
        "content": np.frombuffer(digests, dtype=np.uint8).reshape(-1, 32).copy(),
    }
    with writing_to(folder):
        saved_as_usual(lambda path: save_file(tensors, path), folder / MAPS)


def _half(maps: NDArray[np.float32], rows: list[int]) -> NDArray[np.float16]:
    """`maps` in the order of `rows`, image by image: the maps of a folder are not in memory twice in float32."""
    half = np.empty(maps.shape, dtype=np.float16)
    for at, row in enumerate(rows):
        half[at] = np.nan_to_num(maps[row], nan=0.0).clip(-LARGEST, LARGEST)
    return half


def read_scores(folder: Path) -> StoredScores:
    """What `Scores.to_csv` and `write_maps` left. Raises `RequestError` with the way to make it again."""
    import pandas as pd

    try:
        table = pd.read_csv(folder / SCORES, dtype={"path": str}, keep_default_na=False, na_values={"score": [""]})
        score = table["score"].to_numpy(np.float32)
        ids = tuple(table["path"])
    except (OSError, ValueError, KeyError) as error:
        raise RequestError(f"'{folder / SCORES}' cannot be read ({error}); fit again with `force`.") from None
    if not (folder / MAPS).is_file():
        raise RequestError(
            f"'{folder}' has no {MAPS}; fit again with `force`, which is quick since the features are kept."
        )
    try:
        with safe_open(folder / MAPS, framework="np") as file:
            maps, boxes, sizes, content = (file.get_tensor(name) for name in ("maps", "boxes", "sizes", "content"))
        scores = Scores(ids, score, maps.astype(np.float32), boxes, sizes)
    except (SafetensorError, OSError, RequestError) as error:
        raise RequestError(
            f"'{folder / MAPS}' does not belong to its {SCORES} or is damaged ({error}); fit again with `force`."
        ) from None
    return StoredScores(scores, tuple(bytes(row).hex() for row in content))
