"""The images of a fit at the size of a model of anomalib, and how its trainer is fed with them."""

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from blemish.features.extract import letterbox
from blemish.images import ImageSet
from blemish.machine.errors import UnreadableImageError, writing_to
from blemish.machine.runtime import in_threads, runtime

CHUNK = 32  # images decoded at a time: what waits for a slow network stays small


def working_images(images: ImageSet, side: int, stage: str) -> Iterator[tuple[str, Tensor | str]]:
    """Every image as uint8 (3, side, side), letterboxed with its edges repeated; or why it cannot be read."""

    def one(name: str) -> Tensor | str:
        try:
            rgb = torch.from_numpy(images.read(name)).permute(2, 0, 1)[None]
        except UnreadableImageError as error:
            return str(error)
        return letterbox(rgb, (side, side)).round().to(torch.uint8)[0]

    for start in range(0, len(images), CHUNK):
        names = images.ids[start : start + CHUNK]
        with closing(in_threads(one, names, runtime().threads)) as results:
            yield from zip(names, results, strict=True)
        runtime().progress(stage, start + len(names), len(images))


@dataclass(frozen=True)
class Pictures:
    """Images at one size, decoded once and kept in a file: training looks at them many times.

    Attributes
    ----------
    ids : the readable ones, in the order of `levels`.
    levels : (N, 3, side, side) uint8, in a file.
    skipped : the others, with the reason.
    """

    ids: tuple[str, ...]
    levels: np.memmap[Any, np.dtype[np.uint8]]
    skipped: dict[str, str]

    @classmethod
    def of(cls, images: ImageSet, side: int, folder: Path) -> "Pictures":
        """Decode `images` into a file of `folder`."""
        ids, skipped = [], {}
        path = folder / "levels.uint8"
        # Written, not mapped: a full disk is then an error, and not the end of the process.
        with writing_to(folder), path.open("wb") as file:
            for name, levels in working_images(images, side, "reading images"):
                if isinstance(levels, str):
                    skipped[name] = levels
                else:
                    ids.append(name)
                    file.write(levels.numpy().tobytes())
            if not ids:
                file.write(bytes(3 * side * side))  # an empty file cannot be mapped
        mapped = np.memmap(path, np.uint8, "r", shape=(max(1, len(ids)), 3, side, side))
        return cls(tuple(ids), mapped, skipped)

    def rows(self, ids: Sequence[str]) -> list[int]:
        """Where `ids` are in `levels`."""
        row = {name: index for index, name in enumerate(self.ids)}
        return [row[name] for name in ids]

    def each(self, rows: Sequence[int]) -> Iterator[Tensor]:
        """The pictures of `rows`, one by one: (3, side, side) uint8."""
        return (self.levels_of([row])[0] for row in rows)

    def levels_of(self, rows: Sequence[int]) -> Tensor:
        """(B, 3, side, side) uint8."""
        return torch.from_numpy(self.levels[list(rows)])
