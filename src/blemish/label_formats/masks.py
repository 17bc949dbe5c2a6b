"""Masks as COCO has them: polygons, and run lengths column by column, as numbers or as text."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from blemish.label_formats.annotated import Shape

Mask = NDArray[np.bool_]
OFFSET = 48  # of the first character, "0"
TOLERANCE = 0.5  # pixels by which a polygon may leave the edge of its region


def run_lengths(mask: Mask) -> list[int]:
    """How many pixels of a mask (H, W) are off, then on, then off, ..., column after column from the top left."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *lengths] if flat.size and flat[0] else lengths


def mask_of(lengths: Sequence[int], size: tuple[int, int]) -> Mask:
    """The mask that `run_lengths` was made of; `size` is (height, width)."""
    values = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return values.reshape(size, order="F")


def as_text(lengths: Sequence[int]) -> str:
    """Run lengths in COCO's compressed form.

    From the fourth on, a length is kept as the difference to the one two before. Five bits a character, the lowest
    first; the sixth bit says that more follow, and the highest kept bit is the sign.
    """
    text = []
    for at, length in enumerate(lengths):
        value = length - lengths[at - 2] if at > 2 else length
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text.append(chr(OFFSET + bits + 32 * more))
            if not more:
                break
    return "".join(text)


def of_text(text: str) -> list[int]:
    """The run lengths that `as_text` was made of."""
    lengths: list[int] = []
    value, shift = 0, 0
    for letter in text:
        bits = ord(letter) - OFFSET
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        lengths.append(value + lengths[-2] if len(lengths) > 2 else value)
        value, shift = 0, 0
    return lengths


def whole(shape: Shape, size: tuple[int, int]) -> Mask:
    """The mask of a shape in its image; `size` is (height, width)."""
    mask = np.zeros(size, dtype=bool)
    mask[shape.top : shape.bottom, shape.left : shape.right] = _own(shape)
    return mask


def _own(shape: Shape) -> Mask:
    return np.ones((shape.height, shape.width), dtype=bool) if shape.mask is None else shape.mask


def outline(shape: Shape) -> list[tuple[float, float]]:
    """The outer edge of a shape as points (x, y) in pixels of its image, holes filled; 0 is the edge of the image."""
    from scipy.ndimage import binary_fill_holes
    from skimage.measure import approximate_polygon, find_contours

    # Twice as large, so that the contour, which runs between the centres of pixels, hardly cuts corners off.
    filled = np.pad(binary_fill_holes(_own(shape), np.ones((3, 3))).repeat(2, 0).repeat(2, 1), 1)
    longest = max(find_contours(filled.astype(np.float32), 0.5, fully_connected="high"), key=len)
    points = approximate_polygon(longest, 2 * TOLERANCE)[:-1]
    if len(points) < 3:
        corners = ((shape.left, shape.top), (shape.right, shape.top))
        return [*corners, *((x, shape.bottom) for x, _ in reversed(corners))]
    limits = (shape.width, shape.height)
    return [
        (shape.left + min(max((x - 0.5) / 2, 0.0), limits[0]), shape.top + min(max((y - 0.5) / 2, 0.0), limits[1]))
        for y, x in points.tolist()
    ]
