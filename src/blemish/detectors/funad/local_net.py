"""Local-Net: a small network from a patch, and the image it is in, to how anomalous it is; and the scorer with it."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from blemish.detectors.funad.pool import Pool
from blemish.detectors.funad.schedule import Precision
from blemish.detectors.nearest_images import ImageNeighbours
from blemish.detectors.parts.embedding import Standardised
from blemish.detectors.parts.sampling import seeded_weights
from blemish.detectors.parts.scoring_head import PatchScorer

Output = Literal["logit", "sigmoid"]
SLOPE = 0.2  # of the leaky rectifiers, spec/fun-ad.md section 2
SMALLEST = 1e-6  # deviation that scales are divided by, at least
AT_ONCE = 2**14  # patches that pass the net together where no gradient is needed: 40 MB of activations


class LocalNet(nn.Module):
    """Feature adaptor a and head h on f = [g ; p] (FUN-AD Sec. 4, spec section 2).

    The global half g of a feature is the same for all patches of an image. Since W [g ; p] = W_g g + W_p p, it is
    stored once an image and passes its half of the first layer once.
    """

    def __init__(self, patch_width: int, global_width: int, width: int, hidden: tuple[int, int]) -> None:
        super().__init__()
        self.of_patch = nn.Linear(patch_width, width)
        self.of_global = nn.Linear(global_width, width, bias=False) if global_width else None
        self.bend = nn.LeakyReLU(SLOPE)
        self.head = nn.Sequential(
            nn.Linear(width, hidden[0]),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden[0], hidden[1]),
            nn.LeakyReLU(SLOPE),
            nn.Linear(hidden[1], 1),
        )

    def adapted(self, patches: Tensor, wholes: Tensor, image: Tensor) -> Tensor:
        """a(f), (n, width), of patches (n, D) in the images of rows `image` (n,) of the global vectors (N, G)."""
        first = self.of_patch(patches)
        if self.of_global is not None:
            used, place = torch.unique(image, return_inverse=True)
            # not [place], whose gradient several threads add up in no fixed order
            first = first + self.of_global(wholes[used]).index_select(0, place)
        adapted: Tensor = self.bend(first)
        return adapted

    def of_images(self, patches: Tensor, wholes: Tensor) -> Tensor:
        """Logits (B, P) of all patches (B, P, D) of images with global vectors (B, G)."""
        first = self.of_patch(patches)
        if self.of_global is not None:
            first = first + self.of_global(wholes)[:, None]
        logits: Tensor = self.head(self.bend(first))[..., 0]
        return logits

    def forward(self, adapted: Tensor) -> Tensor:
        """The logit (n,) of adapted features (n, width); its sigmoid is the score s of the paper."""
        logits: Tensor = self.head(adapted)[:, 0]
        return logits


def new_net(patch_width: int, global_width: int, width: int, hidden: tuple[int, int], seed: int) -> LocalNet:
    """A net with random weights that depend on `seed` alone; both halves of the first layer are drawn as one layer."""
    net = seeded_weights(LocalNet(patch_width, global_width, width, hidden), seed)
    with torch.no_grad():
        if net.of_global is not None:
            for layer in (net.of_patch, net.of_global):
                for values in layer.parameters():
                    values.mul_((layer.in_features / (patch_width + global_width)) ** 0.5)
    return net


def averaged(average: LocalNet, net: LocalNet, decay: float) -> None:
    """Move the weights of `average` a step of 1 - decay towards the weights of `net`."""
    with torch.no_grad():
        for mean, now in zip(average.parameters(), net.parameters(), strict=True):
            mean.lerp_(now, 1 - decay)


@torch.no_grad()
def net_scores(net: LocalNet, pool: Pool, precision: Precision = "float32") -> Tensor:
    """The largest logit of each image's patches in the pool, (N,); minus infinity for images without any."""
    device = pool.patches.device
    with autocast(device, precision):
        logits = torch.cat([
            net(net.adapted(pool.patches[rows], pool.wholes, pool.owners[rows]))
            for rows in torch.split(torch.arange(len(pool.patches), device=device), AT_ONCE)
        ]).float()  # fmt: skip
    scores = torch.full((len(pool.groups),), -torch.inf, device=device)
    return scores.scatter_reduce(0, pool.owners, logits, "amax")


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Matrix products in bfloat16 inside the block if `precision` is that."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def fast_products(device: torch.device) -> Iterator[None]:
    """TF32 in matrix products, on the devices that have it."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


class DistanceAndNet(PatchScorer):
    """The weighted sum of distance and Local-Net logit, both standardised on normal-looking images.

    A logit knows no bounds: all around a defect that the net is sure of, it would drown the distances.
    So beside them only its inverse hyperbolic sine counts, which is the logit near 0 and its logarithm far away.
    Without distances the logit is alone; or, as published, its sigmoid, the score s between 0 and 1.
    """

    def __init__(
        self,
        neighbours: ImageNeighbours | None,
        embedding: Standardised,
        net: LocalNet,
        weights: tuple[float, float],
        output: Output = "logit",
    ) -> None:
        super().__init__()
        self.neighbours, self.net, self.output = neighbours, net, output
        self.embedding: Standardised = embedding
        width = net.of_global.in_features if net.of_global is not None else 0
        self.weights: Tensor = nn.Buffer(torch.tensor(weights))  # of distance and net
        self.wholes_scale: Tensor = nn.Buffer(torch.stack([torch.zeros(width), torch.ones(width)]))  # mean, deviation
        self.scales: Tensor = nn.Buffer(torch.tensor([[0.0, 1.0], [0.0, 1.0]]))  # distance, net: mean, deviation

    def forward(self, patches: Tensor, globals: Tensor) -> Tensor:  # noqa: A002
        """Patches (B, h, w, D) and global vectors (B, G) to patch scores (B, h, w)."""
        embedded = self.embedding(patches).flatten(1, 2)
        logits = self.of_net(self.net, embedded, globals).view(patches.shape[:3])
        logits = (logits - self.scales[1, 0]) / self.scales[1, 1]
        if self.neighbours is None:
            return self.weights[1] * logits
        distances = (self.neighbours(patches, globals) - self.scales[0, 0]) / self.scales[0, 1]
        return self.combined(distances, logits)

    def of_net(self, net: LocalNet, embedded: Tensor, wholes: Tensor) -> Tensor:
        """What `net` gives embedded patches (B, P, D) of images with raw global vectors (B, G), (B, P)."""
        logits = net.of_images(embedded, self.standardised(wholes))
        return logits.sigmoid() if self.output == "sigmoid" else logits

    def combined(self, distances: Tensor, logits: Tensor) -> Tensor:
        """One map of both, each in deviations."""
        return self.weights[0] * distances + self.weights[1] * logits.asinh()

    def standardised(self, wholes: Tensor) -> Tensor:
        """Global vectors (B, G) as the net takes them; (B, 0) for a net that takes none."""
        return (wholes[:, : self.wholes_scale.shape[1]] - self.wholes_scale[0]) / self.wholes_scale[1]


def scale_of(values: Tensor) -> Tensor:
    """Mean and deviation along the first axis, (2, ...); 0 and 1 of nothing."""
    if not values.numel():
        return torch.stack([torch.zeros(values.shape[1:]), torch.ones(values.shape[1:])])
    return torch.stack([values.mean(0), values.std(0, correction=0).clamp_min(SMALLEST)])
