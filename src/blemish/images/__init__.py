"""Everything that turns files into pixels: finding, decoding, groups, labels, the region of interest."""

from blemish.images.image_set import ANOMALOUS, NORMAL, SUSPECTED, UNKNOWN, ImageSet

__all__ = ["ANOMALOUS", "NORMAL", "SUSPECTED", "UNKNOWN", "ImageSet"]
