"""Features of an ImageSet: made where they are missing, kept, and read in slices."""

from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import torch

from blemish.features.backbones import GIVEN
from blemish.features.batches import SLICE, ArrayFeatures, FeatureBatch, PatchFeatures, valid_patches
from blemish.features.extract import FeatureSpec, box_in_grid, extractor
from blemish.features.kept_features import GLOBALS, IN_USE_SECONDS, Features, FeatureStore, prune
from blemish.images import ImageSet
from blemish.machine.errors import JobError, RequestError, UnreadableImageError
from blemish.machine.ray_tasks import in_tasks
from blemish.machine.runtime import in_threads, intra_op_threads, runtime

__all__ = ["GLOBALS", "FeatureBatch", "FeatureStore", "PatchFeatures", "features_of", "valid_patches"]

TASK_IMAGES = 8  # sent to a worker of a cluster together
RAY_IMAGES = 256  # sent to all workers together, before progress is reported
TOGETHER = SLICE  # at most this many images are lost when an extraction is killed


def features_of(images: ImageSet, spec: FeatureSpec) -> PatchFeatures:
    """Features of the readable images, each made once and kept in the runtime's cache, or those given as arrays.

    A `spec` without a working size gets the one for these images. Raises `RequestError` for a backbone that cannot be
    used on them.
    """
    spec = spec.resolved(images)
    if spec.backbone == GIVEN:
        return ArrayFeatures.of(images, spec)
    if images.features_alone:
        raise RequestError(
            f"These {len(images)} images are known by their features alone, which '{spec.backbone}' cannot be made of; "
            f"give the detector the backbone '{GIVEN}', or give images."
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
        together = self.spec.at_once(TOGETHER if not runtime().ray else RAY_IMAGES)
        for start in range(0, len(names), together):
            part = names[start : start + together]
            self._compute(part, keep=True, done=start, total=len(names))
        self._spread_reasons(self.images.ids)
        return len(names)

    def _read(self, names: Sequence[str]) -> FeatureBatch | None:
        content = self.images.content
        names = [name for name in names if name not in self.skipped]
        found = self.store.read(content[name] for name in names)
        if missing := self._one_each(names, {content[name] for name in names}.difference(found)):
            found |= self._compute(missing, keep=runtime().keep_features)
            self._spread_reasons(names)
            names = [name for name in names if name not in self.skipped]
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

    def _compute(self, names: Sequence[str], *, keep: bool, done: int = 0, total: int = 0) -> dict[str, Features]:
        """Decode and pass the backbone, one image a thread; returns the features by content.

        One image at a time a core is the fastest on a CPU (its activations stay in the cache), and makes an
        image's features independent of the company it came in and of the number of threads. What was made
        before an interruption is kept. With a `total`, progress is reported after each image, from `done` on.
        """
        if runtime().ray:
            found = self._compute_in_tasks(names, keep=keep)
            if total:
                runtime().progress("features", done + len(names), total)
            return found
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
                    "weights are damaged or of another architecture: give others with `weights`."
                )
            return {name: tensor[0].half().cpu() for name, tensor in named.items()}

        made: dict[str, Features] = {}
        try:
            with intra_op_threads(1), closing(in_threads(one, names, runtime().threads)) as results:
                for count, (name, result) in enumerate(zip(names, results, strict=True), start=done + 1):
                    if isinstance(result, str):
                        self.skipped[name] = result
                    else:
                        made[name] = result
                    if total:
                        runtime().progress("features", count, total)
        finally:
            if keep:
                self.store.add(made, self.images)
        return {self.images.content[name]: features for name, features in made.items()}

    def _compute_in_tasks(self, names: Sequence[str], *, keep: bool) -> dict[str, Features]:
        """As `_compute`, on the cluster of the runtime; what comes back is kept here."""
        parts = [self.images.packed(names[at : at + TASK_IMAGES]) for at in range(0, len(names), TASK_IMAGES)]
        made: dict[str, Features] = {}
        for part, (found, skipped) in zip(parts, in_tasks(_made_of, self.spec, parts), strict=True):
            named = {name: found[part.content[name]] for name in part.ids if name not in skipped}
            if keep:
                self.store.add(named, self.images)
            self.skipped.update(skipped)
            made |= found
        return made

    def _one_each(self, names: Sequence[str], contents: set[str]) -> list[str]:
        """One of `names` for each of `contents`, so that copies pass the backbone once."""
        first = {self.images.content[name]: name for name in reversed(names)}
        return sorted(first[content] for content in contents)

    def _spread_reasons(self, names: Sequence[str]) -> None:
        """What is wrong with an image is wrong with its copies."""
        content = self.images.content
        reasons = {content[name]: reason for name, reason in self.skipped.items()}
        self.skipped.update({name: reasons[content[name]] for name in names if content[name] in reasons})


def _made_of(spec: FeatureSpec, images: ImageSet) -> tuple[dict[str, Features], dict[str, str]]:
    """On a worker: features by content, and what could not be read."""
    features = StoredFeatures(images, spec, store=FeatureStore.at(runtime().cache, spec, images))
    made = features._compute(images.ids, keep=False)
    return made, features.skipped


@dataclass(frozen=True)
class PackedFeatures:
    """Kept features for a worker that may not see the disk they are on: by spec, rows of up to `SLICE` images each.

    `rows` holds what `put` made of each part, and `get` gives it back: references to Ray's object store.
    """

    specs: tuple[FeatureSpec, ...]
    parts: tuple[tuple[tuple[str, ...], Any], ...]

    @classmethod
    def of(cls, images: ImageSet, specs: Sequence[FeatureSpec], put: Callable[[Any], Any]) -> "PackedFeatures":
        """The features of `images` at `specs`, a part at a time in memory here."""
        parts = []
        for number, spec in enumerate(specs):
            store = FeatureStore.at(runtime().cache, spec, images)
            contents = sorted({images.content[name] for name in images.ids})
            for at in range(0, len(contents), SLICE):
                some = tuple(contents[at : at + SLICE])
                parts.append((some, put((number, store.read(some)))))
        return cls(tuple(specs), tuple(parts))

    def unpack(self, images: ImageSet, get: Callable[[Any], Any]) -> None:
        """See to it that they are in the cache of this machine; only what is missing travels."""
        stores = [FeatureStore.at(runtime().cache, spec, images) for spec in self.specs]
        wanted = {images.content[name] for name in images.ids}
        first = {images.content[name]: name for name in reversed(images.ids)}
        missing = [store.missing(wanted) for store in stores]
        for contents, part in self.parts:
            if any(lacks.intersection(contents) for lacks in missing):
                number, found = get(part)
                named = {first[content]: each for content, each in found.items() if content in missing[number]}
                stores[number].add(named, images)
