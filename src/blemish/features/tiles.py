"""Large images in tiles: windows of the working size, each resized and passed alone, stitched into one grid.

The working size of a tiled spec is that of the whole image; windows start at whole patches of every stage, so what a
tile gives needs no resampling. Pixels of a window are those that resizing the whole image would give.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Size = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Where a tile is in the working size, in pixels."""

    top: int
    left: int
    height: int
    width: int


def windows(size: Size, side: int, overlap: int, align: int) -> list[Window]:
    """Windows of up to `side` pixels that together make up `size` (height, width) and overlap by at least `overlap`.

    All are whole multiples of `align`, as `size` is.
    """
    step = max(align, side - math.ceil(overlap / align) * align)

    def starts(length: int) -> list[int]:
        return sorted({*range(0, max(1, length - side), step), max(0, length - side)})

    height, width = min(side, size[0]), min(side, size[1])
    return [Window(top, left, height, width) for top in starts(size[0]) for left in starts(size[1])]


def resized_window(images: Tensor, inner: Window, window: Window) -> Tensor:
    """The pixels (B, 3, h, w) of `window` if images (B, 3, H, W) were resized to fill `inner`, edges repeated.

    Bilinear, averaging where it shrinks, as `extract.letterbox` is; only the rows and columns it needs are touched.
    """
    height, width = images.shape[-2:]
    top, rows = _weights(height, inner.height, window.top - inner.top, window.height)
    left, columns = _weights(width, inner.width, window.left - inner.left, window.width)
    part = images[..., top : top + rows.shape[1], left : left + columns.shape[1]].float()
    return rows.to(images.device) @ part @ columns.to(images.device).T


def _weights(length: int, inner: int, start: int, count: int) -> tuple[int, Tensor]:
    """What each of `count` pixels from `start` on takes of a side of `length` resized to `inner`.

    The first source pixel, and weights (count, n) of the n source pixels from there on.
    """
    scale = length / inner
    reach = max(scale, 1.0)
    # in NumPy: a graph that is exported holds them as numbers
    centres = (np.arange(start, start + count).clip(0, inner - 1).astype(np.float32) + 0.5) * scale  # (count,)
    first = max(0, math.floor(float(centres[0]) - reach))
    last = min(length, math.ceil(float(centres[-1]) + reach))
    sources = np.arange(first, last, dtype=np.float32) + 0.5  # (n,)
    weights = torch.from_numpy((1 - np.abs(sources - centres[:, None]) / reach).clip(0))
    return first, weights / weights.sum(1, keepdim=True)


class Stitched:
    """One grid from overlapping windows, each weighing less towards its seams. Give every window to `add`."""

    def __init__(self, size: Size) -> None:
        self.size = size
        self.total: Tensor | None = None
        self.weight = np.zeros((0, 0), np.float32)

    def add(self, part: Tensor, window: Window) -> None:
        """Add what `window` gave, (B, h, w, C)."""
        height, width = part.shape[1:3]
        stride = window.height // height
        if self.total is None:
            self.weight = np.zeros((self.size[0] // stride, self.size[1] // stride), np.float32)
            self.total = part.new_zeros(part.shape[0], *self.weight.shape, part.shape[3])
        top, left = window.top // stride, window.left // stride
        here = (slice(top, top + height), slice(left, left + width))
        ramps = np.minimum(_ramp(height)[:, None], _ramp(width))
        self.total[:, *here] += part * torch.from_numpy(ramps)[:, :, None].to(part.device)
        self.weight[here] += ramps

    def grid(self) -> Tensor:
        """(B, H, W, C)."""
        if self.total is None:
            raise RuntimeError("no window was added")
        return self.total / torch.from_numpy(self.weight)[:, :, None].to(self.total.device)


def _ramp(count: int) -> NDArray[np.float32]:
    """1 at both ends, rising by 1 a patch to the middle."""
    at = np.arange(count, dtype=np.float32)
    return np.minimum(at, at[::-1]) + 1
