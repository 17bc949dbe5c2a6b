"""A Run: a fitted detector with its decision, the scores it was decided on, and where it is on disk."""

import webbrowser
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load as load_tensors

from blemish.calibration import BAND_WORDS, Decision, moved
from blemish.detectors import Detector, State, restored_detector
from blemish.images import ImageSet
from blemish.images.decoding import Decoding, Pixels, decode
from blemish.images.gathering import listed_ids
from blemish.images.notebook_cards import card, data_uri
from blemish.images.urls import is_url, joined, located, openable, remote_file
from blemish.machine.errors import RequestError, UnreadableImageError, WeightsError
from blemish.machine.extras import versions
from blemish.machine.progress import progress_of
from blemish.machine.runtime import quiet, runtime, use_runtime
from blemish.runs import act
from blemish.runs.artifact import SCORES, checked_bytes, fetched, read_artifact, read_config
from blemish.runs.cluster import scored_in_tasks
from blemish.runs.exported import KIND, ExportedModel
from blemish.runs.stored_scores import read_scores
from blemish.scores import Scores, above
from blemish.scores.drift import Usual
from blemish.scores.heatmaps import LIMIT, MapScale, overlay, sheet, shown
from blemish.scores.regions import MOST_REGIONS, Region, regions_of

TILE, ON_CARD = 240, 4  # pixels of an image among others, and how many are on a card
KNOWN_CONTENT, KNOWN_SCORES = "run.known.content", "run.known.scores"  # (N, 32) uint8 and (N,), in the artifact
OWN_MASKS = "a mask an image"  # what `about` says of the region of interest where each image has its own
KNOWN_FILE = "known.safetensors"  # both, beside an exported model


@dataclass(repr=False)
class Run:
    """What a fit leaves: a detector for new images, and what it made of the images it was fitted on.

    `blemish.fit` returns one, `blemish.load` reads one back. `show`, `heatmap` and `regions` make pictures; `report`,
    `review` and `export` do what the commands of these names do.

    Attributes
    ----------
    detector : fitted.
    decision : threshold, count and chances, changed without refitting.
    decoding : how files were read, so that new ones are read alike.
    map_scale : the levels of the heatmaps' colours.
    fit_scores : cross-fitted training scores with their maps; None until `scores` reads them from disk.
    known : by the SHA-256 of its content, the cross-fitted score of each image that was learned from.
    training_scores : (N,) their image scores, as `scores.csv` holds them.
    pixel_threshold : the level of the map above which a place counts as defective.
    usual : what the maps of the images learned from have in common, to notice when new ones are unlike them.
    skipped : files that were left out, with the reason.
    about : image root, counts, seconds, memory.
    folder : where the Run is on disk; None for one that was not written, or is behind a URL.
    images : those that were scored; None for a Run loaded from disk, which finds their files when it shows them.
    """

    detector: Detector
    decision: Decision
    decoding: Decoding
    map_scale: MapScale
    training_scores: NDArray[np.float32]
    fit_scores: Scores | None = None
    pixel_threshold: float | None = None
    usual: Usual | None = None
    known: Mapping[str, float] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    images: ImageSet | None = None

    def __repr__(self) -> str:
        count, flagged = len(self.training_scores), int(above(self.training_scores, self.threshold_).sum())
        place = f" in '{self.folder}'" if self.folder else ""
        return f"Run({self.detector.name}, {count:,} images, {flagged:,} flagged above {self.threshold_:.4g}{place})"

    def _repr_html_(self) -> str:
        """A card with the images that rank highest and their heatmaps, for notebooks."""
        facts, pictures = [self.decision.rule, *([self.decision.advice] if self.decision.advice else [])], []
        try:
            pictures = [("", data_uri(self.show(ON_CARD)))]
        except RequestError as error:  # features alone, or missing images: the facts are shown all the same
            facts.append(str(error))
        return card(repr(self).removeprefix("Run(").removesuffix(")"), facts, pictures, side=None)

    @property
    def scores(self) -> Scores:
        """The scores of the images of the fit with their maps and the decision; none is by what was learned from it.

        Of a Run loaded from disk they are read when first used, in the order of the ranking; maps there are
        float16. Raises `RequestError` for a Run behind a URL and for an exported model, which hold no maps.
        """
        if self.fit_scores is None:
            if self.folder is None or isinstance(self.detector, ExportedModel):
                what = "An exported model" if self.folder else "A Run that was loaded from a URL"
                raise RequestError(f"{what} holds no maps of the images of its fit; load the folder that `fit` left.")
            self.fit_scores = read_scores(self.folder).scores
        return replace(self.fit_scores, decision=self.decision)

    @property
    def threshold_(self) -> float:
        """Images with a higher score are flagged."""
        return self.decision.threshold

    @property
    def contamination_(self) -> float:
        """Estimated share of bad images in the folder, 0..1."""
        return self.decision.contamination

    def score(
        self,
        images: Any,
        *,
        threshold: float | None = None,
        contamination: float | None = None,
        sensitivity: float | None = None,
        device: str | None = None,
        threads: int | None = None,
        progress: Any = None,
    ) -> Scores:
        """Scores of new images, with the decision of this Run.

        They come in the order of a list, or of the ids in a folder. Unreadable files are left out and named in
        `skipped`. Raises `RequestError` for anything that is no image.

        Parameters
        ----------
        images : a folder or list file; one or many paths, PIL images or uint8 RGB arrays (H, W, 3), levels 0..255.
        threshold, contamination, sensitivity : in place of the Run's decision, at most one; see `blemish.score`.
        device, threads : where to compute; see `fit`.
        progress : a bar in a terminal or a notebook by default; False shows none; see `fit`.
        """
        decision = moved(
            self.training_scores, self.decision, threshold=threshold, contamination=contamination,
            sensitivity=sensitivity,
        )  # fmt: skip
        if isinstance(images, Iterator):
            images = list(images)
        with progress_of(progress) as shown:
            where = use_runtime(device=device, threads=threads, progress=shown, keep_features=False)
            with where:
                found = ImageSet.of(images, decoding=self.decoding, find_range=False)
                scores = self.scored(found)
        skipped = {**found.skipped, **scores.skipped}
        return in_order_of(
            images, replace(scores, skipped=skipped, notes=found.notes, decision=decision, root=found.root)
        )

    def show(self, n: int = 8) -> Image.Image:
        """The `n` images of the fit that rank highest, each beside its heatmap, as one picture.

        A notebook draws it; elsewhere `.show()` opens it and `.save("worst.png")` keeps it. Raises `RequestError` where
        no image can be shown: there are features alone, or the files are no longer where they were.
        """
        if n < 1:
            raise RequestError(f"`n` images are shown, 1 or more; got {n}.")
        scores, pairs, first_error = self.scores, [], ""
        for rank, name in enumerate(scores.ranking()[:n], start=1):
            try:
                rgb = self._pixels(name)
            except UnreadableImageError as error:
                first_error = first_error or f"'{name}' ({error})"
                continue
            plain = shown(rgb, TILE)
            heated = overlay(rgb, scores.map(name, plain.size), self.map_scale, TILE)
            pairs.append((plain, heated, f"{rank}. {name}  {scores[name]:.4g}, {BAND_WORDS[scores.bands[name]]}"))
        if not pairs:
            raise RequestError(f"No image can be shown: {first_error}; put the images back, or give one to `heatmap`.")
        return sheet(pairs)

    def heatmap(self, image: Any, limit: int = LIMIT) -> Image.Image:
        """One image with its anomaly map in colour over it; a colour means the same level in all heatmaps of a Run.

        Parameters
        ----------
        image : the id of an image of the fit, such as one of `scores.ranking()`; or any one image, which is scored: a
            path, a PIL image, a uint8 RGB array (H, W, 3).
        limit : pixels of the longer side at most.
        """
        if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
            raise RequestError(
                f"`limit` is the longer side in pixels, 1 or more; got {limit!r}. To keep the picture: "
                "`run.heatmap(image).save('heatmap.png')`."
            )
        name, scores, rgb = self._looked_at(image)
        plain = shown(rgb, limit)
        return overlay(rgb, scores.map(name, plain.size), self.map_scale, limit)

    def regions(self, image: Any) -> list[Region]:
        """The places of one image that are anomalous, the strongest first: boxes, areas and peaks in its own pixels.

        `image` is as in `heatmap`. A place counts where the map is above `pixel_threshold`. Raises `RequestError` for
        a Run without one.
        """
        if self.pixel_threshold is None:
            raise RequestError("The Run has no `pixel_threshold`, so the edge of a region is not defined; fit again.")
        name, scores, _ = self._looked_at(image)
        levels = scores.map(name)
        return regions_of(levels > self.pixel_threshold, levels)[:MOST_REGIONS]

    def report(self, *, open: bool = False) -> Path:  # noqa: A002 - what a person would call it
        """The file of the report, one HTML page. With `open=True` the browser of this machine opens it."""
        path = folder_of(self) / "report.html"
        if not path.is_file():
            raise RequestError(f"'{path}' does not exist; fit again with `out`, or with `force` to replace the Run.")
        if open:
            webbrowser.open(path.resolve().as_uri())
        return path

    def review(self, images: str | Path | None = None, **options: Any) -> None:
        """Serve the page on which images are labelled good and bad, until Ctrl-C; `blemish.refit` learns from that.

        `images` is where the images are now, if they moved; `options` are `host`, `port` and `follow_links` of
        `blemish review`. Needs `pip install 'blemish[review]'`.
        """
        with suppress(KeyboardInterrupt):  # the way to end it
            act("review", folder_of(self), images, **options)

    def export(self, out: str | Path, **options: Any) -> Any:
        """Leave this Run in `out` as one file for ONNX Runtime or OpenVINO; returns how it compares with torch.

        `options` are the options of `blemish export`: `format`, `precision`, `size`, `images`, `triton`, `force`,
        `threads`, `progress`.
        """
        return act("export", self, out, **options)

    def _pixels(self, name: str) -> Pixels:
        """An image of the fit, uint8 RGB (H, W, 3). Raises `UnreadableImageError`."""
        if self.images is not None:
            return self.images.read(name)
        root = self.about.get("image_root")
        if root and (PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts):
            raise UnreadableImageError("its name points outside the image folder")
        source = remote_file(joined(root, name)) if root and is_url(root) else Path(root or "", name)
        return decode(openable(source), self.decoding)

    def _looked_at(self, image: Any) -> tuple[str, Scores, Pixels]:
        """Id, scores and pixels of one image: of the fit, by its id, or a new one."""
        if isinstance(image, int):
            raise RequestError(f"An image is named by its id, such as run.scores.ranking()[{image}]; got {image}.")
        if isinstance(image, str) and (self.fit_scores or self.folder) and not isinstance(self.detector, ExportedModel):
            scores = self.scores
            if image in scores.ids:
                try:
                    return image, scores, self._pixels(image)
                except UnreadableImageError as error:
                    raise RequestError(f"'{image}' cannot be shown: {error}.") from None
            if not is_url(image) and not Path(image).expanduser().exists():
                near = get_close_matches(image, scores.ids, n=1)
                meant = f"; did you mean '{near[0]}'?" if near else ", such as one of run.scores.ranking()."
                raise RequestError(f"'{image}' is no file and no id of an image of the fit{meant}")
        found = ImageSet.of(image, decoding=self.decoding, find_range=False)
        if len(found) != 1:
            raise RequestError(f"`image` is one image; got {len(found)}.")
        with use_runtime(keep_features=False, progress=quiet):
            return found.ids[0], self.scored(found), found.read(found.ids[0])

    def scored(self, images: ImageSet) -> Scores:
        """Scores of `images`; one that was learned from keeps its cross-fitted score.

        The detector holds patches of it, to which its own are near: it would score lower than it did in the fit, and
        the threshold would mean something else. Its map is drawn by the detector all the same.
        """
        if images.roi is None and self.about.get("roi") == OWN_MASKS:
            raise RequestError("The fit had a mask for each image; give the masks of these ones with `roi`.")
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


def folder_of(run: "str | Path | Run") -> Path:
    """The folder of a Run. Raises `RequestError` for one that was not written to disk."""
    if not isinstance(run, Run):
        return Path(run).expanduser()
    if run.folder is None:
        raise RequestError("The Run is in no folder; fit with `out`, or load that folder.")
    return Path(run.folder).expanduser()


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
