"""Masks as COCO's run lengths, column by column, as numbers or as text."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
OFFSET = 48  # of the first character, "0"


def run_lengths(mask: Mask) -> list[int]:
    """How many pixels of a mask (H, W) are off, then on, then off, ..., column after column from the top left."""
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    return [0, *lengths] if flat.size and flat[0] else lengths


def mask_of(lengths: Sequence[int], size: tuple[int, int]) -> Mask:
    """The mask that `run_lengths` was made of; `size` is (height, width). Raises `ValueError` for others."""
    if sum(lengths) != size[0] * size[1] or min(lengths) < 0:
        raise ValueError("The run lengths are not those of a mask of this size.")
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
