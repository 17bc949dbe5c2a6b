"""Detectors of blemish as models of anomalib: its Engine, data modules, metrics and command line take them.

    anomalib train --model blemish.deploy.anomalib_model.BlemishModel --model.detector funad --data ...

Needs anomalib: pip install 'blemish[anomalib]'.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from anomalib import LearningType
from anomalib.data import Batch, InferenceBatch
from anomalib.metrics import Evaluator
from anomalib.models import AnomalibModule
from anomalib.models.components import MemoryBankMixin
from anomalib.post_processing import PostProcessor
from anomalib.pre_processing import PreProcessor
from anomalib.visualization import Visualizer
from torch import Tensor, nn

from blemish.detectors import DEFAULT_DETECTOR, Detector, detector_class, restored_detector
from blemish.detectors.parts.views import View
from blemish.detectors.settings import check_names
from blemish.features.extract import box_in_grid
from blemish.images import ImageSet
from blemish.machine.errors import RequestError
from blemish.machine.runtime import use_runtime


class BlemishModel(MemoryBankMixin, AnomalibModule):  # type: ignore[misc]
    """Any feature detector of blemish in anomalib's Engine.

    One pass over the training data collects the paths of the images; then the detector is fitted to the files, in
    which some may show defects. Labels that the data module has for them are not looked at. Images are scored at
    the size that the data module gives them; resizing and standardising are part of the detector.

    Parameters
    ----------
    detector : a name of `blemish detectors`; "nearest_images" by default.
    settings : settings of the detector by name, as they stand in the `config.json` of a Run.
    seed : of the detector's random choices.
    pre_processor, post_processor, evaluator, visualizer : see `AnomalibModule`.

    Raises `RequestError` for names that are not known, and for detectors that are anomalib's own.
    """

    def __init__(
        self,
        detector: str = DEFAULT_DETECTOR,
        settings: dict[str, Any] | None = None,
        seed: int = 0,
        pre_processor: PreProcessor | bool = True,
        post_processor: PostProcessor | bool = True,
        evaluator: Evaluator | bool = True,
        visualizer: Visualizer | bool = True,
    ) -> None:
        super().__init__(
            pre_processor=pre_processor, post_processor=post_processor, evaluator=evaluator, visualizer=visualizer
        )
        kind = detector_class(detector)
        if not kind.looks_at_patches:
            raise RequestError(
                f"{detector} is anomalib's already; take its own model, or a detector that looks at features."
            )
        check_names(kind.setting_names(), settings or {})
        self.detector: Detector = restored_detector(detector, {"random_state": seed, **(settings or {})})
        self.model: nn.Module = nn.Identity()
        self.paths: list[str] = []

    def training_step(self, batch: Batch, *_: Any, **__: Any) -> Tensor:
        """Collect the paths of the images of a batch; `fit` learns once all are known."""
        if batch.image_path is None:
            raise RequestError("blemish reads the training images itself; take a data module that knows their paths.")
        self.paths += batch.image_path
        return torch.zeros((), requires_grad=True, device=self.device)

    def fit(self) -> None:
        """Fit the detector to the files whose paths were collected."""
        with use_runtime(device=str(self.device)):
            self.detector.fit(ImageSet.of(sorted(set(self.paths))))
        self._take_up()

    def validation_step(self, batch: Batch, *_: Any, **__: Any) -> Batch:
        """Scores and maps, for anomalib's threshold and metrics."""
        return batch.update(**self.model(batch.image)._asdict())

    def configure_optimizers(self) -> None:
        """There is nothing for anomalib to optimise."""

    @staticmethod
    def configure_pre_processor(image_size: tuple[int, int] | None = None) -> PreProcessor:  # noqa: ARG004
        """Images stay as they are: the detector has its own working size."""
        return PreProcessor()

    @property
    def trainer_arguments(self) -> dict[str, Any]:
        """One pass."""
        return {"max_epochs": 1, "num_sanity_val_steps": 0, "devices": 1}

    @property
    def learning_type(self) -> LearningType:
        """As anomalib calls what sees no defects that are marked as such."""
        return LearningType.ONE_CLASS

    @classmethod
    def checkpoint_safe_globals(cls) -> Sequence[Any]:
        """What settings may hold besides numbers and words."""
        return (View,)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What the detector learned goes along: the shapes of the model depend on it."""
        super().on_save_checkpoint(checkpoint)
        checkpoint["blemish_detector"] = self.detector.state() if self._is_fitted else {}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up what the detector had learned."""
        super().on_load_checkpoint(checkpoint)
        state: Mapping[str, Tensor] = checkpoint.get("blemish_detector", {})
        if state:
            self.detector.restore(dict(state))
            self._take_up()

    def _take_up(self) -> None:
        self.model = Scoring(self.detector).to(self.device)


class Scoring(nn.Module):
    """A detector's scoring as anomalib calls it: RGB (B, 3, H, W), 0..1, to scores and maps of the images' size."""

    def __init__(self, detector: Detector) -> None:
        super().__init__()
        self.module = detector.module()
        drawn = next(view.pixels for view in detector.views if view.draws)
        self.size = next(spec.size for spec in detector.feature_specs() if spec.pixels == drawn)

    def forward(self, images: Tensor) -> InferenceBatch:
        """Scores (B,) and maps (B, 1, H, W), neither clamped nor rescaled."""
        score, grid = self.module((images * 255).round())
        return InferenceBatch(pred_score=score, anomaly_map=self._at_size(grid, (images.shape[-2], images.shape[-1])))

    def _at_size(self, grid: Tensor, size: tuple[int, int]) -> Tensor:
        """Maps (B, h, w) at the size of the images, the padding of the working size cut away."""
        left, top, right, bottom = box_in_grid((size[1], size[0]), self.size or size)
        rows = _centres(top, bottom, size[0]).to(grid)
        columns = _centres(left, right, size[1]).to(grid)
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij")[::-1], dim=-1)
        places = places.expand(len(grid), *places.shape)
        return F.grid_sample(grid[:, None], places, mode="bilinear", padding_mode="border", align_corners=False)


def _centres(low: float, high: float, count: int) -> Tensor:
    """Where the middles of `count` pixels lie that fill low..high (0..1) of a map, as `grid_sample` counts: -1..1."""
    return 2 * (low + (torch.arange(count) + 0.5) / count * (high - low)) - 1
