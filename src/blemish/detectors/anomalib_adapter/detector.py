"""The detector around a model of anomalib: fit, cross-fitted scores, state."""

import inspect
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from dataclasses import dataclass, field, fields, make_dataclass, replace
from enum import Enum
from functools import cache
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.anomalib_adapter import weights_at_hand
from blemish.detectors.anomalib_adapter.catalogue import DEFAULTS, EMBEDDED, NEEDS, NOT_TRIED, PREFIX, anomalib_class
from blemish.detectors.anomalib_adapter.image_scorer import ImageScorer, Unit, scored
from blemish.detectors.anomalib_adapter.weights_at_hand import NetworkRefusedError, no_network
from blemish.detectors.anomalib_adapter.working_images import Pictures, working_images
from blemish.detectors.base import Detector
from blemish.detectors.parts.sampling import split_in_folds
from blemish.detectors.parts.scoring_head import State
from blemish.detectors.settings import check_folds, check_least
from blemish.features.backbones import DEFAULT_BACKBONE
from blemish.features.extract import box_in_grid
from blemish.images import NORMAL, UNKNOWN, ImageSet
from blemish.machine.errors import BlemishError, JobError, NotFittedError, RequestError, none_read
from blemish.machine.runtime import intra_op_threads, runtime
from blemish.scores import Scores

SIDES = (32, 2048)  # pixels
_one_at_a_time = threading.RLock()  # anomalib, Lightning and the seeds are global to the process
# Parameters of constructors that the detector sets by itself.
NOT_SETTINGS = frozenset({
    "pre_trained", "pre_processor", "post_processor", "evaluator", "visualizer",
    "batch_size", "image_size", "input_shape",
})  # fmt: skip


@dataclass(kw_only=True)
class AnomalibDetector(Detector):
    """A model of anomalib, trained in anomalib's Engine on images that blemish reads, without labels.

    Scores and maps are what the model gives before anomalib scales them to 0..1. The detector "anomalib:MODEL" has the
    settings of the model's own constructor beside these.

    Parameters
    ----------
    weights : str, default ""
        File with the backbone's weights, where they are neither embedded nor in a local cache.
    size : int, default 0
        Side of the square that images are letterboxed to, in pixels, 32 to 2,048; 0 is what anomalib has for the model.
    steps : int, default 1000
        Steps of the training, 1 or more; they count if `epochs` is 0. Models that only pass over the images, such as
        Padim and Patchcore, take neither.
    epochs : int, default 0
        Passes over the images in place of `steps`.
    batch : int, default 8
        Images a step, 1 or more.
    folds : int, default 3
        Parts that the images are split into, 2 or more; each is scored by a training on the others, and the first
        training scores new images.
    training_scores : bool, default True
        Whether there are training scores. Without, there is one training on all images: for sub-models of a
        purification, and for folders of good images only.
    random_state : int, default 0
        Seed of every random choice, 0 or more.

    Attributes
    ----------
    training_scores_ : Scores of the images of `fit`, each by a training that did not see it.
    scorer_ : the module that scores images; what is saved.
    """

    weights: str = ""
    size: int = 0
    epochs: int = 0
    steps: int = 1000
    batch: int = 8
    folds: int = 3
    training_scores: bool = True

    model: ClassVar[str]
    own: ClassVar[tuple[str, ...]] = ()  # settings that the model takes itself
    budget_settings: ClassVar[Mapping[str, Any]] = {"training_scores": False, "epochs": 0, "steps": 300}

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        self.weights = str(Path(self.weights).expanduser().absolute()) if self.weights else ""
        check_least(self, size=0, epochs=0, steps=1, batch=1)
        check_folds(self.folds)
        if self.size and not SIDES[0] <= self.size <= SIDES[1]:
            raise RequestError(f"'size' must be 0 or between {SIDES[0]} and {SIDES[1]}; got {self.size}.")

    def obtain_needs(self) -> None:
        """Refuse a model whose packages are not installed. Weights of a hub are refused when the model is made."""
        with self._explained():
            self._kind()

    def budget(self) -> Detector:
        """An unfitted detector for sub-models, trained in few steps; what is set to fewer stays so."""
        steps = self.budget_settings["steps"] if self.epochs else min(self.steps, self.budget_settings["steps"])
        return super().budget().clone(steps=steps)

    def fit(self, images: ImageSet) -> Self:
        """Train on the images that are not known to be bad: once for each fold, or once on all."""
        self._check_enough(images)
        with self._alone(), tempfile.TemporaryDirectory(prefix="blemish-") as folder:
            model = self._new(learned=False)  # first: what it lacks is reported before images are read
            pictures = Pictures.of(images, self._side(), Path(folder))
            images = images.without(pictures.skipped)
            trusted = images.subset(n for n in images.ids if images.labels.get(n, UNKNOWN) in (UNKNOWN, NORMAL))
            self._check_enough(trusted)
            if self.training_scores:
                scores = self._cross_fitted(model, pictures, images, trusted)
                self._training_scores = replace(scores, skipped=pictures.skipped)
            else:
                self.scorer_ = self._trained(model, pictures, trusted, "learning")
        return self

    @property
    def cross_fits(self) -> bool:
        """Whether `fit` leaves training scores."""
        return self.training_scores

    def score(self, images: ImageSet) -> Scores:
        """Scores of any images; those that cannot be read are named in `Scores.skipped`."""
        scorer = self._fitted().scorer_
        ids: list[str] = []
        skipped: dict[str, str] = {}

        def readable() -> Iterator[Tensor]:
            for name, levels in working_images(images, scorer.side, "scoring"):
                if isinstance(levels, str):
                    skipped[name] = levels
                else:
                    ids.append(name)
                    yield levels

        with self._explained(), intra_op_threads(runtime().threads):
            score, grid = scored(scorer, readable())
        if not ids:
            raise none_read(len(images), skipped)
        self._check_numbers(score, grid)
        return replace(self._scores(images, ids, score, grid), skipped=skipped)

    def module(self) -> ImageScorer:
        """All of scoring as one module, for images that are already decoded."""
        return self._fitted().scorer_

    def state(self) -> State:
        """All parameters of the model, the backbone's among them: a Run needs no file besides."""
        return {
            name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, tensor in self._fitted().scorer_.model.state_dict().items()
        }

    def restore(self, state: State) -> Self:
        """Take up what `state` gave."""
        with self._alone():
            model = self._new(learned=True)
        model.load_state_dict(state)
        self.scorer_ = ImageScorer(model, self._side()).eval()
        return self

    def _trained(self, model: Any, pictures: Pictures, images: ImageSet, stage: str) -> ImageScorer:
        from blemish.detectors.anomalib_adapter.engine import trained

        # By content, not by name: a fit on the same images elsewhere is the same fit.
        ids = sorted(images.ids, key=lambda name: (images.content[name], name))
        model = trained(
            model,
            pictures,
            pictures.rows(ids),
            batch=self.batch,
            steps=self.steps,
            epochs=self.epochs,
            seed=self.random_state,
            stage=stage,
        )
        return ImageScorer(model, self._side()).eval()

    def _cross_fitted(self, model: Any, pictures: Pictures, images: ImageSet, trusted: ImageSet) -> Scores:
        """Each image's score by a training that did not learn from it, all in the unit of the first.

        The first is what scores new images, so theirs are of one kind with the scores of the first fold; the other
        folds are random parts of the same images, and so brought to its unit by what they have in common.
        """
        split = split_in_folds(images, self.folds, self.random_state)
        score: dict[int, Tensor] = {}
        grid: dict[int, Tensor] = {}
        unit: Unit | None = None
        for fold in range(self.folds):
            known = trusted.subset(name for name in trusted.ids if split[name] != fold)
            held_out = pictures.rows([name for name in images.ids if split[name] == fold])
            part = self._trained(
                model if fold == 0 else self._new(learned=False), pictures, known, f"fold {fold + 1} of {self.folds}"
            )
            found = scored(part, pictures.each(held_out))
            self._check_numbers(*found)
            if unit is None:
                self.scorer_, unit = part, Unit.of(*found)
            moved = Unit.of(*found).to(unit, *found)
            score |= dict(zip(held_out, moved[0], strict=True))
            grid |= dict(zip(held_out, moved[1], strict=True))
        rows = pictures.rows(images.ids)
        return self._scores(
            images, images.ids, torch.stack([score[row] for row in rows]), torch.stack([grid[row] for row in rows])
        )

    def _scores(self, images: ImageSet, ids: Sequence[str], score: Tensor, grid: Tensor) -> Scores:
        side = self.module().side
        boxes = np.array([box_in_grid(images.sizes[name], (side, side)) for name in ids], dtype=np.float32)
        sizes = np.array([images.sizes[name] for name in ids], dtype=np.int64)
        return Scores(tuple(ids), score.numpy(), grid.numpy(), boxes, sizes)

    def _check_numbers(self, score: Tensor, grid: Tensor) -> None:
        """Raises `JobError` if the model gave anything but numbers."""
        wrong = int((~(score.isfinite() & grid.flatten(1).isfinite().all(dim=1))).sum())
        if wrong:
            raise JobError(
                f"'{self.name}' gave {wrong} of {len(score)} images a score that is no finite number: its training "
                "diverged; set fewer steps or a larger batch."
            )

    def _new(self, *, learned: bool) -> Any:
        """The model with its backbone, not trained; `learned` if parameters follow from a Run.

        Raises `RequestError` for weights that are not there.
        """
        kind, side = self._kind(), self._side()
        from blemish.detectors.anomalib_adapter.engine import pre_processing, quietly, seeded

        takes = inspect.signature(kind).parameters
        backbone = getattr(self, "backbone", "")
        standard = weights_at_hand.standard_of(backbone) if backbone else None
        arguments = {
            **self._arguments(),
            "pre_processor": pre_processing(kind, side, standard),
            **dict.fromkeys(("post_processor", "evaluator", "visualizer"), False),
            "pre_trained": True,
            "batch_size": self.batch,
            "image_size": side,
            "input_shape": (side, side),
        }
        at_hand = weights_at_hand.backbones_at_hand(backbone, self.weights, self.model, learned=learned)
        silent = redirect_stdout(StringIO())  # torch.hub announces there what it will download, before it is refused
        with seeded(self.random_state), quietly(), silent, at_hand, self._while_made():
            return kind(**{name: value for name, value in arguments.items() if name in takes})

    def _arguments(self) -> dict[str, Any]:
        """The settings of the model itself, as its constructor takes them."""
        found = {name: getattr(self, name) for name in self.own}
        if "backbone" in found:
            found |= weights_at_hand.as_taken(self.model, found)
        return found

    def _while_made(self) -> AbstractContextManager[Any]:
        """What has to be in force while the model is made."""
        return nullcontext()

    def _kind(self) -> Any:
        """The class of anomalib. Raises `RequestError` if anomalib is not installed."""
        return anomalib_class(self.model)

    def _side(self) -> int:
        if self.size:
            return self.size
        kind = self._kind()
        from blemish.detectors.anomalib_adapter.engine import working_side

        return working_side(kind)

    def _fitted(self) -> Self:
        if "scorer_" not in self.__dict__:
            raise NotFittedError(f"{self.name} has not learned anything yet; call fit(images) first.")
        return self

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The block has the process' globals to itself, all cores, and no network."""
        with _one_at_a_time, self._explained(), no_network(), intra_op_threads(runtime().threads):
            yield

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what anomalib raises into one sentence."""
        from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

        try:
            yield
        except BlemishError:
            raise
        except (NetworkRefusedError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
            wanted = f"'{error.wanted}'" if isinstance(error, NetworkRefusedError) else "a file of a model hub"
            raise RequestError(
                f"'{self.name}' would download {wanted}, and nothing is downloaded. Models of this kind "
                f"{NEEDS.get(self.model, NOT_TRIED)} (docs/anomalib.md)."
            ) from error
        except ImportError as error:
            raise RequestError(f"'{self.name}' needs a package that is not installed ({error}).") from error
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            raise JobError(
                f"anomalib's {self.model} failed on these images and settings ({type(error).__name__}: {reason}); "
                "`debug` shows where."
            ) from error


@cache
def model_class(name: str) -> type[AnomalibDetector]:
    """The detector called `name`, such as "anomalib:Padim". Raises `RequestError`, with near names."""
    model = name.removeprefix(PREFIX)
    kind = anomalib_class(model)
    ours = {each.name for each in fields(AnomalibDetector)}
    defaults = {
        parameter.name: _plain(parameter.default)
        for parameter in inspect.signature(kind).parameters.values()
        if parameter.name not in ours | NOT_SETTINGS
    }
    own = tuple(defaults)
    if NEEDS.get(model) == EMBEDDED:
        defaults["backbone"] = DEFAULT_BACKBONE
    defaults |= DEFAULTS.get(model, {})
    about = {
        "name": name,
        "model": model,
        "own": own,
        "summary": (inspect.getdoc(kind) or model).splitlines()[0].rstrip("."),
        "source": f"anomalib {version('anomalib')}",
    }
    settings = [(name, type(default), field(default=default)) for name, default in defaults.items()]
    return make_dataclass(model, settings, bases=(AnomalibDetector,), kw_only=True, namespace=about)


def _plain(value: Any) -> Any:
    """A default that JSON and a frozen field can hold."""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Path):
        return str(value)
    return tuple(value) if isinstance(value, list) else value
