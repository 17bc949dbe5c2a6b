"""Which patches of a grid are in the region of interest, and on which a person drew a defect."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from blemish.features.store import valid_patches
from blemish.images.image_set import ImageSet
from blemish.images.levels import CELLS
from blemish.images.roi import SIDE
from blemish.machine.errors import RequestError


def roi_masks(images: ImageSet, ids: Sequence[str]) -> Tensor | None:
    """The masks of some images, (B, R, R) bool, or (1, R, R) if all share one; None where everything counts.

    What an image holds no measurement of does not count, nor what is outside of the region of interest.
    """
    lost = _measured(images, ids)
    if images.roi is None:
        return lost
    if images.roi.one is not None:
        one = torch.from_numpy(images.roi.one)[None]
        return one if lost is None else one & lost
    each = torch.from_numpy(np.stack([images.roi.of(name) for name in ids]))
    return each if lost is None else each & lost


def _measured(images: ImageSet, ids: Sequence[str]) -> Tensor | None:
    """(B, R, R) bool, where the images hold measurements; None where all of them do everywhere."""
    if not any(name in images.lost for name in ids):
        return None
    cells = np.ones((len(ids), CELLS, CELLS), dtype=np.bool_)
    for row, name in enumerate(ids):
        if name in images.lost:
            bits = np.unpackbits(np.frombuffer(images.lost[name], dtype=np.uint8))
            cells[row] = bits.reshape(CELLS, CELLS) == 0
    return torch.from_numpy(cells.repeat(SIDE // CELLS, 1).repeat(SIDE // CELLS, 2))


def drawn_masks(images: ImageSet, ids: Sequence[str]) -> Tensor:
    """(B, R, R) bool, where a person drew defects on images; on each of them somebody did."""
    bits = np.stack([np.frombuffer(images.defects[name], dtype=np.uint8) for name in ids])
    return torch.from_numpy(np.unpackbits(bits, axis=1).reshape(-1, SIDE, SIDE).astype(np.bool_))


def touched(masks: Tensor, boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, h, w) bool: the patches that a mask (B, R, R) of an image, by boxes (B, 4), reaches into."""
    side, (height, width) = masks.shape[-1], grid
    found = torch.zeros(len(masks), height, width, dtype=torch.bool)
    number, down, across = masks.nonzero(as_tuple=True)
    left, top, right, bottom = boxes[number].unbind(1)
    rows = (top + (down + 0.5) / side * (bottom - top)) * height
    columns = (left + (across + 0.5) / side * (right - left)) * width
    found[number, rows.long().clamp(0, height - 1), columns.long().clamp(0, width - 1)] = True
    return found


def within(masks: Tensor, boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """(B, h, w) bool: the patches whose centre is in the image, by boxes (B, 4), and in its mask (B or 1, R, R).

    Raises `RequestError` if an image has no such patch; in a graph, such an image has no score.
    """
    rows = (torch.arange(grid[0], device=boxes.device) + 0.5) / grid[0]
    columns = (torch.arange(grid[1], device=boxes.device) + 0.5) / grid[1]
    left, top, right, bottom = boxes[:, :, None].unbind(1)
    side = masks.shape[-1]
    down = (((rows - top) / (bottom - top)) * side).long().clamp(0, side - 1)  # (B, h)
    across = (((columns - left) / (right - left)) * side).long().clamp(0, side - 1)
    count = boxes.shape[0]  # not its `len`, which would be a constant in a graph
    number = torch.arange(count, device=boxes.device)[:, None, None]
    each = masks.expand(count, -1, -1)
    inside = each[number, down[:, :, None], across[:, None, :]] & valid_patches(boxes, grid)
    if not torch.compiler.is_compiling() and not inside.flatten(1).any(dim=1).all():
        raise RequestError(
            f"The region of interest holds no centre of the {grid[0]} x {grid[1]} patches that are looked at; draw it "
            "larger, or leave `roi` out."
        )
    return inside
