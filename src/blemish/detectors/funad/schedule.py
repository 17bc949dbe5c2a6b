"""The settings of training one Local-Net, each a switch of the ablations, with the published value beside ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from blemish.detectors.parts.views import PAPER_VIEWS
from blemish.detectors.settings import check_least, check_numbers, check_words
from blemish.machine.errors import RequestError

Minibatch = Literal["patches", "images"]
Scale = Literal["quantile", "minmax"]
Cut = Literal["mad", "minmax"]
Exclusion = Literal["group", "image", "patch"]
NoiseFrom = Literal["any", "suspects"]
NoiseScale = Literal["pool", "batch", "position_max", "none"]
SmoothnessForm = Literal["mae", "mse", "kl"]
Optimiser = Literal["adamw", "rmsprop"]
Precision = Literal["float32", "bfloat16"]
Stop = Literal["average", "last"]
SyntheticLabels = Literal["pseudo", "mask"]

LEAST = {
    "width": 1, "hidden": 1, "narrow": 1, "batch": 2, "steps": 1, "epochs": 0, "rebuild_every": 1, "refresh_every": 1,
    "bank_entries": 0, "noise_batch": 0, "snapshots": 1, "learning_rate": 0.0, "smoothness": 0.0,
}  # fmt: skip
SHARES = ("warm_up", "hard_share", "bank_share", "tau_bank", "tau_normal", "tau_confident", "synthetic")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a Local-Net is trained. The defaults are for a CPU; "published" is FUN-AD's value.

    Parameters
    ----------
    width, hidden, narrow : int, default 128, 128, 64
        Neurons of the adaptor and of the head's two layers, 1 or more; published 1536, 1024, 128.
    minibatch : "patches" (default) or "images"
        Patches at random from all images, or images with all their patches, as published.
    batch : int, default 768
        How many of those are a minibatch, 2 or more; published 32 images.
    steps, epochs : int, default 300 and 0
        Minibatches, or passes over the images if `epochs` is not 0; published 1500 epochs.
    hard_share : float, default 0.25
        Share, 0 to 1, of a minibatch of patches taken from the 2 % with the largest distances; published 0.
    warm_up : float, default 0.5
        Share, 0 to 1, of the steps whose labels come from the distances of `NearestImages`; 0 starts from a random net,
        as published.
    rebuild_every : int, default 50
        Steps after which the bank's images are chosen again, 1 or more; published 1.
    refresh_every : int, default 5
        Steps after which the bank's entries pass the adaptor again, 1 or more; published 1.
    bank_share : float, default 0.5
        Share, 0 to 1, of the normal-looking images that the bank holds; published 0.5.
    bank_entries : int, default 2000
        Most patches the bank holds, drawn from those images; 0 holds all, as published.
    tau_bank : float, default 0.5
        An image whose normalised score, 0 to 1, is below it looks normal, for the cut "minmax"; published 0.5.
    tau_normal, tau_confident : float, default 0.5 and 0.9
        Normalised distance, 0 to 1, above which a patch is labelled an anomaly, and surely so; published 0.5 and 0.9.
    cut : "mad" (default) or "minmax"
        Which images look normal: those not far above the median, which one extreme image cannot spoil; or those below
        `tau_bank` of the range of scores, as published.
    scale : "quantile" (default) or "minmax"
        What distances are measured in: a high quantile of the normal-looking patches' own; or the range in the
        minibatch, as published, which finds anomalies in every minibatch, clean or not.
    exclude : "group" (default), "image" or "patch"
        What of a patch's own is no neighbour: its group of images, its image, or the patch itself, as published.
    noise : "pool" (default), "batch", "position_max" or "none"
        Deviation of the noise on unsure anomalies, by channel: over all patches, over the minibatch (the paper), the
        largest over grid positions (the authors' script), or no noise.
    noise_batch : int, default 128
        Normal patches of a minibatch that are also shown with noise of random size, as anomalies; published 0.
    noise_from : "suspects" (default) or "any"
        Which of them: mostly patches of images with large distances, the more the farther, since what a
        defect looks like is in there and in few others (benchmarks/LOG.md); or any.
    smoothness : float, default 2.5
        Weight (lambda) of the mutual smoothness loss, 0 or more; published 2.5.
    smoothness_form : "mae" (default), "mse" or "kl"
        Form of that loss; published "mae".
    optimiser : "adamw" (default) or "rmsprop"
        Published "rmsprop", with a momentum of 0.2.
    learning_rate : float, default 0.001
        At the start for "adamw", throughout for "rmsprop", 0 to 1; published 2e-5.
    precision : "float32" (default) or "bfloat16"
        Of matrix products; "bfloat16" is quicker where the device has it.
    stop : "average" (default) or "last"
        Which weights are kept: their average over the last steps, or the last; published is the best on test images.
    snapshots : int, default 10
        Weights on the way that are kept, 1 or more: `blemish bench` shows what the best of them would have given.
    synthetic : float, default 0.0
        Images with a synthetic defect that are learned from, too, as a share, 0 to 1, of the folder (FUN-AD*);
        published 0.05.
    synthetic_labels : "pseudo" (default) or "mask"
        "pseudo" treats those as any other image, "mask" tells the net where the defect is.

    Examples
    --------
    >>> Schedule(steps=100).steps_for(images=230)
    100
    >>> Schedule(minibatch="images", batch=32, epochs=1500).steps_for(images=230)  # as published
    10500
    """

    width: int = 128
    hidden: int = 128
    narrow: int = 64
    minibatch: Minibatch = "patches"
    batch: int = 768
    steps: int = 300
    epochs: int = 0
    hard_share: float = 0.25
    warm_up: float = 0.5
    rebuild_every: int = 50
    refresh_every: int = 5
    bank_share: float = 0.5
    bank_entries: int = 2000
    tau_bank: float = 0.5
    tau_normal: float = 0.5
    tau_confident: float = 0.9
    cut: Cut = "mad"
    scale: Scale = "quantile"
    exclude: Exclusion = "group"
    noise: NoiseScale = "pool"
    noise_batch: int = 128
    noise_from: NoiseFrom = "suspects"
    smoothness: float = 2.5
    smoothness_form: SmoothnessForm = "mae"
    optimiser: Optimiser = "adamw"
    learning_rate: float = 1e-3
    precision: Precision = "float32"
    stop: Stop = "average"
    snapshots: int = 10
    synthetic: float = 0.0
    synthetic_labels: SyntheticLabels = "pseudo"

    def __post_init__(self) -> None:
        """Raise `RequestError` for a value outside its range."""
        check_numbers(self)
        check_words(self)
        check_least(self, **LEAST)
        for name in SHARES:
            if not 0 <= getattr(self, name) <= 1:
                raise RequestError(f"'{name}' must be between 0 and 1; got {getattr(self, name)}.")
        if self.learning_rate > 1:
            raise RequestError(f"'learning_rate' must be at most 1; got {self.learning_rate}.")
        if not self.tau_normal <= self.tau_confident:
            raise RequestError(
                f"'tau_normal' ({self.tau_normal}) must not be above 'tau_confident' ({self.tau_confident})."
            )
        if self.epochs and self.minibatch == "patches":
            raise RequestError("'epochs' needs 'minibatch=images'; for minibatches of patches set 'steps'.")

    def steps_for(self, images: int) -> int:
        """Minibatches in all, for so many images; the last incomplete minibatch of an epoch is dropped."""
        return self.epochs * max(1, images // self.batch) if self.epochs else self.steps


# FUN-AD Sec. 5 and Appendix 3, spec/fun-ad.md sections 1 to 9.
PAPER: Mapping[str, Any] = {
    "backbone": "dino_vitb8",
    "views": PAPER_VIEWS,
    "embedding": "none",
    "use_globals": True,
    "output": "sigmoid",
    "width": 1536,
    "hidden": 1024,
    "narrow": 128,
    "minibatch": "images",
    "batch": 32,
    "epochs": 1500,
    "hard_share": 0.0,
    "warm_up": 0.0,
    "rebuild_every": 1,
    "refresh_every": 1,
    "bank_entries": 0,
    "cut": "minmax",
    "scale": "minmax",
    "exclude": "patch",
    "noise": "batch",
    "noise_batch": 0,
    "noise_from": "any",
    "optimiser": "rmsprop",
    "learning_rate": 2e-5,
    "stop": "last",
    "pool_patches": 0,
    "cross_fit": False,
    "distance_weight": 0.0,
    "net_weight": 1.0,
    "image_score": "max",
    "smoothing": 0.5,  # sigma 4 px of 224 px on patches of 8
}
