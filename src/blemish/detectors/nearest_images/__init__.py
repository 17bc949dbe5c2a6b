"""Compare each image with the images most like it: the distance of a patch to its k-th nearest image."""

from blemish.detectors.nearest_images.detector import FittedNeighbours, NearestImages
from blemish.detectors.nearest_images.scorer import (
    ImageNeighbours,
    NearestPatches,
    empty_neighbours,
    layouts_of,
    relative_distances,
)

__all__ = [
    "FittedNeighbours",
    "ImageNeighbours",
    "NearestImages",
    "NearestPatches",
    "empty_neighbours",
    "layouts_of",
    "relative_distances",
]
