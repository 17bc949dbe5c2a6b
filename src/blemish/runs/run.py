"""A Run: a fitted detector with its decision, the scores it was decided on, and where it lies."""

import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors

from blemish.calibration import Decision
from blemish.detectors import Detector, State, restored_detector
from blemish.images import ImageSet
from blemish.images.decoding import Decoding
from blemish.images.gathering import listed_ids
from blemish.images.urls import located
from blemish.machine.errors import JobError, RequestError, WeightsError
from blemish.machine.ray_tasks import in_tasks
from blemish.machine.runtime import runtime, use_runtime
from blemish.runs.artifact import SCORES, checked_bytes, fetched, read_artifact, read_config
from blemish.runs.exported import KIND, ExportedModel
from blemish.scores import Scores
from blemish.scores.drift import Usual
from blemish.scores.heatmaps import MapScale

KNOWN_CONTENT, KNOWN_SCORES = "run.known.content", "run.known.scores"  # (N, 32) uint8 and (N,), in the artifact
OWN_MASKS = "a mask an image"  # what `about` says of the region of interest where each image has its own
KNOWN_FILE = "known.safetensors"  # both, beside an exported model
SHOWN_VERSIONS = ("blemish", "torch", "timm", "numpy", "pillow", "scikit-learn", "safetensors", "anomalib")


@dataclass
class Run:
    """What a fit leaves.

    Attributes
    ----------
    detector : fitted.
    decision : threshold, count and chances, changed without refitting.
    decoding : how files were read, so that new ones are read alike.
    map_scale : the levels of the heatmaps' colours.
    scores : cross-fitted training scores with their maps; None for a Run loaded from disk.
    known : by the SHA-256 of its content, the cross-fitted score of each image that was learned from.
    training_scores : (N,) their image scores, as `scores.csv` holds them.
    pixel_threshold : the level of the map above which a place counts as defective.
    usual : what the maps of the images learned from have in common, to notice when new ones are unlike them.
    skipped : files that were left out, with the reason.
    about : image root, counts, seconds, memory.
    """

    detector: Detector
    decision: Decision
    decoding: Decoding
    map_scale: MapScale
    training_scores: NDArray[np.float32]
    scores: Scores | None = None
    pixel_threshold: float | None = None
    usual: Usual | None = None
    known: Mapping[str, float] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def threshold_(self) -> float:
        """Images with a higher score are flagged."""
        return self.decision.threshold

    @property
    def contamination_(self) -> float:
        """Estimated share of bad images in the training pile, 0..1."""
        return self.decision.contamination

    def score(self, images: Any, *, device: str | None = None, threads: int | None = None) -> Scores:
        """Scores of new images: a folder or list file, paths, PIL images or uint8 RGB arrays (H, W, 3).

        The result is in the order of the list, or of the ids in a folder. Unreadable files are left out of it and
        named in its `skipped`. Raises `RequestError` for anything that is no image.
        """
        images = (
            images if isinstance(images, (str, Path, ImageSet)) or not isinstance(images, Iterable) else list(images)
        )
        found = ImageSet.of(images, decoding=self.decoding, find_range=False)
        with use_runtime(device=device, threads=threads, keep_features=False):
            scores = self.scored(found)
        return in_order_of(images, replace(scores, skipped={**found.skipped, **scores.skipped}, notes=found.notes))

    def scored(self, images: ImageSet) -> Scores:
        """Scores of `images`; one that was learned from keeps its cross-fitted score.

        The detector holds patches of it, which would vouch for it: it would score lower than it did in the fit, and
        the threshold would mean something else. Its map is drawn by the detector all the same.
        """
        if images.roi is None and self.about.get("roi") == OWN_MASKS:
            raise RequestError("The fit had a mask for each image; name the masks of these ones with `roi`.")
        scores = scored_in_tasks(self.detector, images) if runtime().ray else self.detector.score(images)
        image = [self.known.get(images.content[name], own) for name, own in zip(scores.ids, scores.image, strict=True)]
        return replace(scores, image=np.array(image, dtype=np.float32))

    def to_state(self) -> State:
        """All of the Run that tensors can hold: what the detector learned, and the known scores."""
        return {**self.detector.state(), **known_state(self.known)}

    def to_config(self) -> dict[str, Any]:
        """All of the Run that JSON can hold."""
        return {
            "detector": {"name": self.detector.name, "settings": asdict(self.detector)},
            "decision": self.decision.to_json(),
            "decoding": asdict(self.decoding),
            "map_scale": asdict(self.map_scale),
            "pixel_threshold": self.pixel_threshold,
            "usual": self.usual.to_json() if self.usual else None,
            "seed": self.detector.random_state,
            "versions": versions(),
            **self.about,
        }


def in_order_of(images: Any, scores: Scores) -> Scores:
    """The scores in the order of a list of paths, those left out apart; as they are for anything else."""
    names = listed_ids(images)
    if names is None:
        return scores
    scored = set(scores.ids)
    ordered = scores.subset([name for name in names if name in scored])
    return replace(ordered, skipped=scores.skipped, notes=scores.notes)


TASK_IMAGES = 32  # scored by a worker of a cluster together


def scored_in_tasks(detector: Detector, images: ImageSet) -> Scores:
    """`detector.score(images)` on the cluster of the runtime, a part of the images a task.

    Raises `JobError` if none of them could be read.
    """
    if isinstance(detector, ExportedModel):
        raise RequestError("An exported model is tied to this machine; leave out `ray`, or name the Run itself.")
    names = [images.ids[at : at + TASK_IMAGES] for at in range(0, len(images), TASK_IMAGES)]
    found: list[Scores] = []
    skipped: dict[str, str] = {}
    packed = (images.packed(some) for some in names)  # one by one: all at once would be all files in memory
    for done, part in enumerate(in_tasks(_scored_part, detector, packed), start=1):
        for each in part:
            if isinstance(each, Scores):
                found.append(each)
                skipped |= each.skipped
            else:
                skipped |= each
        runtime().progress("scoring", min(done * TASK_IMAGES, len(images)), len(images))
    if not found:
        name, reason = next(iter(skipped.items()))
        raise JobError(f"None of the {len(images)} images could be read; the first is '{name}': {reason}.")
    parts = ("image", "maps", "boxes", "sizes")
    arrays: dict[str, Any] = {name: np.concatenate([getattr(each, name) for each in found]) for name in parts}
    return Scores(tuple(name for each in found for name in each.ids), **arrays, skipped=skipped)


def _scored_part(detector: Detector, images: ImageSet) -> list[Scores | dict[str, str]]:
    """On a worker: scores, and where no image of a part can be read, why."""
    try:
        return [detector.score(images)]
    except JobError as error:
        if len(images) == 1:
            return [{images.ids[0]: str(error)}]
        return [each for name in images.ids for each in _scored_part(detector, images.subset([name]))]


def load(folder: str | Path, weights: str | Path | None = None) -> Run:
    """The Run that a fit left in `folder`. Raises `RequestError` if it is none, or damaged.

    `folder` is a path, or a URL of fsspec such as "s3://bucket/run" (`pip install 'blemish[remote]'`); of a URL, only
    the files that `config.json` lists with their hashes are fetched, and `Run.folder` is None.
    `weights` is where the file with the backbone's weights is now, if the fit was given one and it has moved.

    >>> run = blemish.load("run")  # doctest: +SKIP
    >>> run = blemish.load("s3://bucket/run")  # doctest: +SKIP
    """
    place = located(folder)
    if isinstance(place, str):
        with fetched(place) as copy:
            return replace(load(copy, weights), folder=None)
    folder = place
    config = read_config(folder)
    exported = config.get("kind") == KIND
    if not exported:
        config, state = read_artifact(folder)
    try:
        if exported:
            detector: Detector = ExportedModel.of(folder, config)
            checked_bytes(folder, config, SCORES)
            known = _known_of(load_tensors(checked_bytes(folder, config, KNOWN_FILE)))
        else:
            settings = config["detector"]["settings"] | ({"weights": str(weights)} if weights else {})
            known = _known_of(state)
            detector = restored_detector(config["detector"]["name"], settings).restore(state)
        return Run(
            detector,
            Decision.from_json(config["decision"]),
            Decoding.from_json(config["decoding"]),
            MapScale(**config["map_scale"]),
            _read_training_scores(folder),
            pixel_threshold=config.get("pixel_threshold"),
            usual=Usual.from_json(config["usual"]) if config.get("usual") else None,
            known=known,
            about={name: config[name] for name in ("image_root", "images", "roi") if name in config},
            folder=folder,
        )
    except WeightsError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RuntimeError) as error:
        if exported and isinstance(error, RequestError):
            raise
        raise RequestError(
            f"'{folder}' is not a complete Run ({type(error).__name__}: {error}); fit again with `force`."
        ) from error


def known_state(known: Mapping[str, float]) -> State:
    """Scores by content as tensors; see `Run.known`."""
    content = np.frombuffer(b"".join(bytes.fromhex(each) for each in known), dtype=np.uint8)
    return {
        KNOWN_CONTENT: torch.from_numpy(content.reshape(-1, 32).copy()),
        KNOWN_SCORES: torch.tensor(list(known.values()), dtype=torch.float32),
    }


def _known_of(state: State) -> dict[str, float]:
    """What `known_state` gave, taken out of `state`."""
    content, scores = state.pop(KNOWN_CONTENT).numpy(), state.pop(KNOWN_SCORES).tolist()
    return {row.tobytes().hex(): score for row, score in zip(content, scores, strict=True)}


def _read_training_scores(folder: Path) -> NDArray[np.float32]:
    import pandas as pd

    try:
        scores: NDArray[np.float32] = pd.read_csv(folder / SCORES, usecols=["score"])["score"].to_numpy(np.float32)
    except (OSError, ValueError) as error:
        raise RequestError(f"'{folder / SCORES}' cannot be read ({error}); fit again with `force`.") from None
    return scores


def versions() -> dict[str, str]:
    """Version by program or library, as stored with every Run."""
    found = {"python": platform.python_version()}
    for name in SHOWN_VERSIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found
