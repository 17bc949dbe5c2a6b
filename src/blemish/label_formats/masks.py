"""The masks of regions in their images, and their outlines as polygons."""

import numpy as np

from blemish.images.run_lengths import Mask
from blemish.scores.regions import Region

TOLERANCE = 0.5  # pixels by which a polygon may leave the edge of its region


def whole(region: Region, size: tuple[int, int]) -> Mask:
    """The mask of a region in its image; `size` is (height, width)."""
    mask = np.zeros(size, dtype=bool)
    mask[region.top : region.bottom, region.left : region.right] = _own(region)
    return mask


def _own(region: Region) -> Mask:
    return np.ones((region.height, region.width), dtype=bool) if region.mask is None else region.mask


def outline(region: Region) -> list[tuple[float, float]]:
    """The outer edge of a region as points (x, y) in pixels of its image, holes filled; 0 is the edge of the image."""
    from scipy.ndimage import binary_fill_holes
    from skimage.measure import approximate_polygon, find_contours

    # Twice as large, so that the contour, which runs between the centres of pixels, hardly cuts corners off.
    filled = np.pad(binary_fill_holes(_own(region), np.ones((3, 3))).repeat(2, 0).repeat(2, 1), 1)
    longest = max(find_contours(filled.astype(np.float32), 0.5, fully_connected="high"), key=len)
    points = approximate_polygon(longest, 2 * TOLERANCE)[:-1]
    if len(points) < 3:
        corners = ((region.left, region.top), (region.right, region.top))
        return [*corners, *((x, region.bottom) for x, _ in reversed(corners))]
    limits = (region.width, region.height)
    return [
        (region.left + min(max((x - 0.5) / 2, 0.0), limits[0]), region.top + min(max((y - 0.5) / 2, 0.0), limits[1]))
        for y, x in points.tolist()
    ]
