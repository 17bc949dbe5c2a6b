"""Training a model of anomalib in anomalib's Engine on images of ours. Only this imports anomalib at once."""

import logging
import math
import os
import random
import signal
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # anomalib imports MLflow where it is installed
from anomalib.data import ImageBatch
from anomalib.engine import Engine
from anomalib.models import AnomalibModule
from anomalib.models.components import MemoryBankMixin
from anomalib.pre_processing import PreProcessor
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.utilities.seed import isolate_rng
from torch.utils.data import DataLoader
from torchvision.transforms.v2 import CenterCrop, Compose, Normalize, RandomCrop, Resize
from torchvision.tv_tensors import Image, Mask

from blemish.detectors.anomalib_adapter.working_images import Pictures
from blemish.machine.runtime import runtime

GEOMETRIC = (Resize, CenterCrop, RandomCrop)
NOISY = (
    "lightning",
    "lightning.pytorch",
    "lightning.fabric",
    "lightning_fabric",
    "anomalib",
    "timm",
    "torch.hub",
    "torchmetrics",
)


class Feed(LightningDataModule):  # type: ignore[misc]
    """Some of the pictures as anomalib's data modules give theirs: all are called normal, without labels."""

    name, category = "blemish", ""

    def __init__(self, pictures: Pictures, rows: Sequence[int], batch: int, *, every: bool) -> None:
        super().__init__()
        self.pictures, self.rows = pictures, list(rows)
        self.train_batch_size = min(batch, len(self.rows))
        self.every = every

    def train_dataloader(self) -> DataLoader[int]:
        """Shuffled batches; what is left over is dropped, unless `every` image has to be seen."""
        return self._loader(shuffle=True, drop_last=not self.every)

    def val_dataloader(self) -> DataLoader[int]:
        """The same images in order."""
        return self._loader(shuffle=False, drop_last=False)

    def _loader(self, **how: Any) -> DataLoader[int]:
        return DataLoader(self.rows, batch_size=self.train_batch_size, collate_fn=self._batch, **how)  # type: ignore[arg-type]

    def _batch(self, rows: list[int]) -> ImageBatch:
        levels = self.pictures.levels_of(rows)
        return ImageBatch(
            image=Image(levels.float() / 255),
            gt_label=torch.zeros(len(rows), dtype=torch.long),
            gt_mask=Mask(torch.zeros(len(rows), *levels.shape[-2:], dtype=torch.bool)),
            image_path=[self.pictures.ids[row] for row in rows],
        )


class _Told(Callback):  # type: ignore[misc]
    """Passes on how far the training is."""

    def __init__(self, stage: str, total: int) -> None:
        self.stage, self.total, self.done = stage, total, 0

    def on_train_batch_end(self, *_: Any, **__: Any) -> None:
        self.done += 1
        runtime().progress(self.stage, min(self.done, self.total), self.total)


def looks_once(model: AnomalibModule) -> bool:
    """Whether the model sets the number of its passes itself: banks and Gaussians, which do not train."""
    return "max_epochs" in model.trainer_arguments


def working_side(kind: type[AnomalibModule]) -> int:
    """The side of the square that models of this kind look at, by anomalib's defaults."""
    transform = kind.configure_pre_processor().transform
    return int(transform(torch.zeros(1, 3, 8, 8)).shape[-1])


def pre_processing(kind: type[AnomalibModule], side: int, standard: tuple[Any, Any] | None) -> PreProcessor:
    """What anomalib does to images of this kind of model, but for resizing and cropping: images come at their size.

    `standard` are mean and deviation (0..1) that the backbone was made with, where they are known to differ.
    """
    default = kind.configure_pre_processor().transform
    steps = default.transforms if isinstance(default, Compose) else [default]
    kept = [step for step in steps if not isinstance(step, GEOMETRIC)]
    if standard is not None:
        kept = [Normalize(*standard) if isinstance(step, Normalize) else step for step in kept]
    return PreProcessor(Compose([Resize((side, side), antialias=True), *kept]))  # models read their size off the Resize


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """All global random numbers from `seed` inside the block; outside, nothing has happened."""
    with isolate_rng():
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002 - anomalib's models draw from it
        torch.manual_seed(seed)
        yield


@contextmanager
def quietly() -> Iterator[None]:
    """No messages and bars of libraries inside the block; bars of theirs become progress of ours."""
    from anomalib.data.utils import download
    from anomalib.models.components.sampling import k_center_greedy

    levels = {name: logging.getLogger(name).level for name in NOISY}
    for name in NOISY:
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            mock.patch.object(k_center_greedy, "tqdm", _told_of),
            mock.patch("tqdm.tqdm", _told_of),
            mock.patch.object(download, "DownloadProgressBar", mock.MagicMock()),  # it will be refused
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _told_of(items: Any, desc: str = "passing over images", **_: Any) -> Iterator[Any]:
    """In place of tqdm."""
    stage, total = desc.rstrip(".").lower(), len(items)
    for done, item in enumerate(items, start=1):
        yield item
        runtime().progress(stage, done, total)


def trained(
    model: AnomalibModule,
    pictures: Pictures,
    rows: Sequence[int],
    *,
    batch: int,
    steps: int,
    epochs: int,
    seed: int,
    stage: str,
) -> AnomalibModule:
    """Train `model` on `rows` of the pictures, for `epochs` or, if that is 0, `steps`.

    Nothing is left in the working folder: no checkpoints, no logs.
    """
    once = looks_once(model)
    feed = Feed(pictures, rows, batch, every=once)
    an_epoch = len(feed.train_dataloader())
    total = model.trainer_arguments["max_epochs"] * an_epoch if once else epochs * an_epoch or steps
    limits = {} if once else {"max_steps": total, "max_epochs": math.ceil(total / an_epoch)}
    device = torch.device(runtime().device)
    aside = tempfile.TemporaryDirectory(prefix="blemish-")
    with seeded(seed), quietly(), _interruptible(), aside as folder, torch.enable_grad():
        engine = Engine(
            default_root_dir=Path(folder),
            accelerator="gpu" if device.type == "cuda" else device.type,
            devices=[device.index or 0] if device.type == "cuda" else 1,
            plugins=[LightningEnvironment()],  # this process alone, also within a job of a cluster
            barebones=True,
            limit_val_batches=0,
            callbacks=[_Told(stage, total)],
            **limits,
        )
        engine.fit(model, datamodule=feed)
        if _settles_in_validation(model):
            engine.trainer.limit_val_batches = 1.0
            engine.trainer.validate(model, datamodule=feed, verbose=False)
    model.trainer = None  # it holds the pictures
    return _laid_out(model.cpu().eval())


@contextmanager
def _interruptible() -> Iterator[None]:
    """Ctrl-C stays what it is; Lightning turns it into the end of the process, and off for good."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as error:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)
        raise KeyboardInterrupt from error


def _settles_in_validation(model: AnomalibModule) -> bool:
    """Whether the model takes something from a validation pass, as EfficientAd does its quantiles."""
    own = type(model).on_validation_start
    return own not in (LightningModule.on_validation_start, MemoryBankMixin.on_validation_start)


def _laid_out(model: AnomalibModule) -> AnomalibModule:
    """All tensors row by row, as a file holds them: another layout would round otherwise after loading."""
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.data = tensor.data.contiguous()
    return model
