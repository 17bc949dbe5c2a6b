"""The settings of training one Local-Net, each a switch of the ablations; the published values stand beside ours."""

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
Stop = Literal["average", "last", "synthetic", "entropy", "agreement"]
SyntheticLabels = Literal["pseudo", "mask"]

LEAST = {
    "width": 1, "hidden": 1, "narrow": 1, "batch": 2, "steps": 1, "epochs": 0, "rebuild_every": 1, "refresh_every": 1,
    "bank_entries": 0, "noise_batch": 0, "snapshots": 1, "learning_rate": 0.0, "smoothness": 0.0,
}  # fmt: skip
SHARES = ("warm_up", "hard_share", "bank_share", "tau_bank", "tau_normal", "tau_confident", "synthetic")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How a Local-Net is taught. The defaults are for a CPU; "published" is FUN-AD (spec/fun-ad.md).

    Attributes
    ----------
    width, hidden, narrow : of the adaptor and of the head's two layers; published 1536, 1024, 128.
    minibatch : "patches" at random from all images, or "images" with all their patches, as published.
    batch : how many of those are a minibatch; published 32 images.
    steps, epochs : minibatches, or passes over the images if `epochs` is not 0; published 1500 epochs.
    hard_share : share of a minibatch of patches taken from the 2 % with the largest distances; published 0.
    warm_up : share of the steps whose labels come from the first distances; 0 starts from a random net, as published.
    rebuild_every : steps after which the bank's images are chosen again; published 1.
    refresh_every : steps after which the bank's entries pass the adaptor again; published 1.
    bank_share : share of the normal-looking images that the bank holds; published 0.5.
    bank_entries : most patches the bank holds, drawn from those images; 0 holds all, as published.
    tau_bank : an image whose normalised score is below looks normal, for the cut "minmax"; published 0.5.
    tau_normal, tau_confident : normalised distance above which a patch is labelled an anomaly, and surely so;
        published 0.5 and 0.9.
    cut : which images look normal: those below `tau_bank` of the range of scores ("minmax", published), or not far
        above the median ("mad"), which one extreme image cannot spoil.
    scale : what distances are measured in: the range in the minibatch ("minmax", published), which finds anomalies
        in every minibatch, clean or not, or a high quantile of the normal-looking patches' own ("quantile").
    exclude : what of a patch's own is no neighbour: the "patch" itself (published), its "image", or its "group".
    noise : deviation of the noise on unsure anomalies, by channel: over all patches ("pool"), over the "batch"
        (the paper), the largest over grid positions ("position_max", the authors' script), or "none" is added.
    noise_batch : normal patches that are also shown with noise of random size, as anomalies; published 0.
    noise_from : which of them: "any", or mostly those of the "suspects", images that stand out by their distances,
        the more the farther: what a defect looks like is in there, and in few others (benchmarks/LOG.md).
    smoothness, smoothness_form : lambda and form of the mutual smoothness loss; published 2.5 and "mae".
    optimiser, learning_rate : published "rmsprop" (momentum 0.2) and 2e-5.
    precision : "bfloat16" for matrix products where the device has it.
    stop : which weights are kept: their "average" to the end, the "last", or the snapshot that a label-free rule
        finds best (`stopping`).
    snapshots : how many are kept for those rules.
    synthetic : images with a drawn defect, as a share of the folder, that are learned from too (FUN-AD*, published
        0.05); `synthetic_labels` "pseudo" treats them as any other image, "mask" tells the net where the defect is.
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
