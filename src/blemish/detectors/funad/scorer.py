"""What FUN-AD scores patches with: a Local-Net, and beside it the banks that taught it."""

import torch
from torch import Tensor

from blemish.detectors.embedding import Standardised
from blemish.detectors.funad.local_net import LocalNet
from blemish.detectors.memory_bank import BankEnsemble
from blemish.detectors.scoring import PatchScorer

SMALLEST = 1e-6


class BankAndNet(PatchScorer):
    """The weighted sum of bank distance and Local-Net logit, both standardised on normal-looking images."""

    def __init__(
        self, ensemble: BankEnsemble, embedding: Standardised, net: LocalNet, weights: tuple[float, float]
    ) -> None:
        super().__init__()
        self.ensemble, self.net, self.weights = ensemble, net, weights
        self.embedding: Standardised = embedding
        width = net.of_global.in_features if net.of_global is not None else 0
        self.register_buffer("globals_scale", torch.zeros(2, width))  # mean, deviation
        self.register_buffer("scales", torch.tensor([[0.0, 1.0], [0.0, 1.0]]))  # bank, net: mean, deviation
        self.globals_scale: Tensor
        self.scales: Tensor

    def forward(self, patches: Tensor, globals: Tensor) -> Tensor:  # noqa: A002
        """See `PatchScorer`."""
        distances = self.ensemble(patches, globals) if self.weights[0] else patches.new_zeros(patches.shape[:3])
        embedded = self.embedding(patches).flatten(1, 2)
        logits = self.net.of_images(embedded, self.standardised(globals)).view(patches.shape[:3])
        (bank_mean, bank_deviation), (net_mean, net_deviation) = self.scales
        bank, net = (distances - bank_mean) / bank_deviation, (logits - net_mean) / net_deviation
        combined: Tensor = self.weights[0] * bank + self.weights[1] * net
        return combined

    def standardised(self, globals: Tensor) -> Tensor:  # noqa: A002
        """Global vectors (B, G) as the net takes them; (B, 0) for a net that takes none."""
        if not self.globals_scale.shape[1]:
            return globals[:, :0]
        return (globals - self.globals_scale[0]) / self.globals_scale[1]
