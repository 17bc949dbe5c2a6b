"""Frozen backbones, the features they give, and the disk those are kept on."""

from blemish.features.extract import FeatureSpec
from blemish.features.store import FeatureBatch, PatchFeatures, features_of

__all__ = ["FeatureBatch", "FeatureSpec", "PatchFeatures", "features_of"]
