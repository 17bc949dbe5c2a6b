"""A cell: all that decides what a run computes. Experiments name cells; equal cells are run once."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from blemish.benchmark.contamination import TEST_SHARE, Manifest, contaminate, read_manifest
from blemish.benchmark.datasets import Category

DRAWING = ("ratio", "policy", "test_share", "defects", "given")  # how images are drawn; a manifest holds which
PROTOCOL, MODES_KEPT = PLACING = ("protocol", "modes")  # in `Cell.extra`: the table of the rows, and which of them


@dataclass(frozen=True)
class Limit:
    """At most so many images of each part of a category; None takes all."""

    train: int | None = None
    normals: int | None = None
    anomalies: int | None = None

    def __str__(self) -> str:
        parts = {"training": self.train, "normal test": self.normals, "anomalous": self.anomalies}
        said = [f"{count} {what}" for what, count in parts.items() if count is not None]
        return f"at most {', '.join(said)} images" if said else "all images"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run.

    Attributes
    ----------
    job : what is done, a name of `jobs.JOBS`; most fit a detector and measure it.
    category : DATASET/CATEGORY, or "" for a job that needs no images.
    detector, settings : the detector, and its settings by name.
    preset : set of settings that those stand on: a preset of the detector, "semantic", or "quick" (`jobs.LEAST_WORK`).
    purify : settings of a purification before the fit; None for none.
    ratio, policy, test_share, defects, seed : see `contaminate`; the detector's seed is the same.
    limit : of images.
    given : a manifest to train on, instead of one drawn by ratio and seed.
    extra : what else the job needs to know.
    """

    job: str = "fit"
    category: str = ""
    detector: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    preset: str = ""
    purify: Mapping[str, Any] | None = None
    ratio: float = 0.1
    policy: str = "shrink"
    test_share: float = TEST_SHARE
    defects: tuple[str, ...] | None = None
    seed: int = 0
    limit: Limit = field(default_factory=Limit)
    given: str = ""
    extra: Mapping[str, Any] = field(default_factory=dict)

    def run(self, manifest: Manifest | None, category: Category | None = None) -> str:
        """16 hex digits by which the run is known again: of every field, the training images, and the category.

        So a category that got further test images, or better masks, is measured anew.
        """
        known = [manifest.hash if manifest else "", category.signature if category else ""]
        fields = {**asdict(self), "given": "" if manifest else self.given}  # wherever the list lies now
        text = json.dumps([fields, *known], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def work(self, manifest: Manifest | None, category: Category | None) -> str:
        """What is computed, as text: equal for two runs that draw the same images in two ways."""
        if manifest is None:
            return self.run(manifest, category)
        known = {name: value for name, value in asdict(self).items() if name not in DRAWING}
        known["extra"] = {name: value for name, value in self.extra.items() if name not in PLACING}
        return json.dumps([known, manifest.hash, category.signature if category else ""], sort_keys=True)

    def of(self, category: Category) -> Category:
        """The images that the run takes from its category."""
        return category.limited(self.limit.train, self.limit.normals, self.limit.anomalies)

    def manifest(self, category: Category) -> Manifest:
        """The training images. Raises `RequestError` if there cannot be any."""
        if self.given:
            return read_manifest(Path(self.given), category)
        return contaminate(
            self.of(category),
            self.ratio,
            seed=self.seed,
            policy=self.policy,
            test_share=self.test_share,
            defects=self.defects,
        )
