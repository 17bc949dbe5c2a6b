"""Scores of finished sub-models on disk, so that an interrupted purification takes up where it stopped."""

import hashlib
import json
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemish.detectors import Detector
from blemish.images import ImageSet
from blemish.machine.errors import replacing, writing_to
from blemish.purification.purify_settings import PurifySettings

if TYPE_CHECKING:
    from blemish.purification.sub_models import SubModel

KEPT_FORMAT = 2  # raise it when sub-models of the same settings give other scores
KEPT_SCORES = "purification"  # folder in the cache
FORGOTTEN_AFTER = 30 * 24 * 3600  # seconds without use after which nobody will take up from there


@dataclass(frozen=True)
class KeptScores:
    """A folder with one file of scores (N,) for each finished sub-model.

    It belongs to one purification: the folder's name is made of all that the scores depend on, the images in their
    order among it.
    """

    folder: Path

    @classmethod
    def at(cls, place: Path, images: ImageSet, sub_model: Any, settings: PurifySettings, seed: int) -> "KeptScores":
        """The folder below `place` of the purification that these make.

        Of an object that is no `Detector` only the type is known: its settings must not change between two calls.
        """
        about = {
            "format": KEPT_FORMAT,
            "detector": _described(sub_model, images),
            "subsets": settings.subsets,
            "image_score": settings.image_score,
            "cross_fit": settings.own_subset == "cross_fit",
            "seed": seed,
            "images": [[n, images.content[n], images.groups[n], images.labels.get(n)] for n in images.ids],
            "range": images.decoding.range,
            "missing": images.decoding.missing,
            **({"roi": images.roi.key} if images.roi else {}),
        }
        key = hashlib.sha256(json.dumps(about, sort_keys=True, default=repr).encode()).hexdigest()[:24]
        return cls(place / key)

    def read(self, sub_model: "SubModel", ids: Sequence[str]) -> NDArray[np.float64] | None:
        """The scores (N,) in the order of `ids`; None if there are none, or what is there is damaged."""
        try:
            found = np.load(self._file(sub_model), allow_pickle=False)
        except (OSError, ValueError, EOFError):
            return None
        return found if found.shape == (len(ids),) else None

    def write(self, sub_model: "SubModel", scores: NDArray[np.float64]) -> None:
        """Keep the scores (N,), whole or not at all."""
        with writing_to(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            with replacing(self._file(sub_model)) as partial, partial.open("wb") as file:
                np.save(file, scores)

    def remove(self) -> None:
        """Forget them: the job is done. Folders beside it that nobody came back for go too."""
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):
            for other in self.folder.parent.iterdir():
                if time.time() - other.stat().st_mtime > FORGOTTEN_AFTER:
                    shutil.rmtree(other, ignore_errors=True)

    def _file(self, sub_model: "SubModel") -> Path:
        return self.folder / f"sub-model-{sub_model.number:03d}.npy"


def _described(detector: Any, images: ImageSet) -> list[Any]:
    kind = type(detector)
    described: list[Any] = [f"{kind.__module__}.{kind.__qualname__}"]
    if isinstance(detector, Detector):
        described.append(detector.settings())
        if detector.looks_at_patches and not images.features_alone:  # which their content tells of
            described.append([spec.resolved(images).key() for spec in detector.feature_specs()])
    return described
