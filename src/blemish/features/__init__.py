"""Frozen backbones, the features they give, and the disk those are kept on."""

from blemish.features.extract import FeatureSpec
from blemish.features.store import FeatureBatch, PatchFeatures

__all__ = ["FeatureBatch", "FeatureSpec", "PatchFeatures"]
