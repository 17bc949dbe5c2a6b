"""The masks of shapes in their images, and their outlines as polygons."""

import numpy as np

from blemish.images.run_lengths import Mask
from blemish.label_formats.annotated import Shape

TOLERANCE = 0.5  # pixels by which a polygon may leave the edge of its region


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
