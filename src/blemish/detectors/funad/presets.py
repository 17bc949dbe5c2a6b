"""Sets of settings with a name."""

from collections.abc import Mapping
from typing import Any

from blemish.detectors.views import PAPER_VIEWS

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
