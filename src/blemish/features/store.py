"""Features of an ImageSet: made where they are missing, kept, and read in slices."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass

import torch

from blemish.errors import JobError, RequestError, UnreadableImageError
from blemish.features.backbones import GIVEN
from blemish.features.batches import SLICE, FeatureBatch, PatchFeatures, valid_patches
from blemish.features.cache import IN_USE_SECONDS, prune
from blemish.features.extract import FeatureSpec, box_in_grid, extractor
from blemish.features.given import HandedIn
from blemish.features.shards import GLOBALS, Features, FeatureStore
from blemish.images import ImageSet
from blemish.runtime import in_threads, intra_op_threads, runtime

__all__ = ["GLOBALS", "FeatureBatch", "FeatureStore", "PatchFeatures", "features_of", "valid_patches"]

SHARD_IMAGES = SLICE  # at most this many images are lost when an extraction is killed


def features_of(images: ImageSet, spec: FeatureSpec) -> PatchFeatures:
    """Features of `images` through the cache of the runtime, or those that were handed in."""
    if spec.backbone == GIVEN:
        return HandedIn.of(images, spec)
    if images.features_alone:
        raise RequestError(
            f"These {len(images)} images are known by their features alone, which '{spec.backbone}' cannot be made of; "
            f"give the detector the backbone '{GIVEN}', or hand in images."
        )
    return StoredFeatures(images, spec, store=FeatureStore.at(runtime().cache, spec, images))


@dataclass(kw_only=True)
class StoredFeatures(PatchFeatures):
    """Features that a backbone makes, each at most once, kept in `store`."""

    store: FeatureStore

    def make(self) -> int:
        """See `PatchFeatures`."""
        names = self._one_each(
            self.images.ids, self.store.missing(self.images.content[name] for name in self.images.ids)
        )
        if names:
            prune(runtime().cache, runtime().cache_bytes, unused_for=IN_USE_SECONDS)
            runtime().progress("features", 0, len(names))
        together = self.spec.at_once(SHARD_IMAGES)
        for start in range(0, len(names), together):
            part = names[start : start + together]
            self._compute(part, keep=True)
            runtime().progress("features", start + len(part), len(names))
        self._spread_reasons(self.images.ids)
        return len(names)

    def _read(self, names: Sequence[str]) -> FeatureBatch | None:
        content = self.images.content
        names = [name for name in names if name not in self.unreadable]
        found = self.store.read(content[name] for name in names)
        if missing := self._one_each(names, {content[name] for name in names}.difference(found)):
            found |= self._compute(missing, keep=runtime().keep_features)
            self._spread_reasons(names)
            names = [name for name in names if name not in self.unreadable]
        if not names:
            return None
        parts = [found[content[name]] for name in names]
        boxes = [box_in_grid(self.images.sizes[name], self.spec.size or (1, 1)) for name in names]
        return FeatureBatch(
            tuple(names),
            torch.stack([part[GLOBALS] for part in parts]),
            {stage: torch.stack([part[stage] for part in parts]) for stage in self.spec.stages},
            torch.tensor(boxes, dtype=torch.float32),
        )

    def _compute(self, names: Sequence[str], *, keep: bool) -> dict[str, Features]:
        """Decode and pass the backbone, one image a thread; returns the features by content.

        One image at a time a core is the fastest on a CPU (its activations stay in the cache), and makes an
        image's features independent of the company it came in and of the number of threads. What was made
        before an interruption is kept.
        """
        network, device = extractor(self.spec, runtime().device), runtime().device

        def one(name: str) -> Features | str:
            try:
                rgb = torch.from_numpy(self.images.read(name, full=bool(self.spec.tile)))
            except UnreadableImageError as error:
                return str(error)
            with torch.inference_mode():
                whole, stages = network(rgb.permute(2, 0, 1)[None].to(device))
            named = {GLOBALS: whole, **dict(zip(self.spec.stages, stages, strict=True))}
            if not all(tensor.isfinite().all() for tensor in named.values()):
                raise JobError(
                    f"The backbone '{self.spec.backbone}' gives values for '{name}' that float16 cannot hold; its "
                    "weights are damaged or of another architecture: name others with --weights FILE."
                )
            return {name: tensor[0].half().cpu() for name, tensor in named.items()}

        made: dict[str, Features] = {}
        try:
            with intra_op_threads(1), closing(in_threads(one, names, runtime().threads)) as results:
                for name, result in zip(names, results, strict=True):
                    if isinstance(result, str):
                        self.unreadable[name] = result
                    else:
                        made[name] = result
        finally:
            if keep:
                self.store.add(made, self.images)
        return {self.images.content[name]: features for name, features in made.items()}

    def _one_each(self, names: Sequence[str], contents: set[str]) -> list[str]:
        """One of `names` for each of `contents`, so that copies pass the backbone once."""
        first = {self.images.content[name]: name for name in reversed(names)}
        return sorted(first[content] for content in contents)

    def _spread_reasons(self, names: Sequence[str]) -> None:
        """What is wrong with an image is wrong with its copies."""
        content = self.images.content
        reasons = {content[name]: reason for name, reason in self.unreadable.items()}
        self.unreadable.update({name: reasons[content[name]] for name in names if content[name] in reasons})
