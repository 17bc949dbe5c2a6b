"""FUN-AD written out once more, from the paper's text alone: slow, in double precision, nothing shared with blemish.

What is drawn at random is handed in: minibatch, subset of the normal-looking images, and noise.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

TAU_B, TAU_N, TAU_C, LAMBDA = 0.5, 0.5, 0.9, 2.5  # Appendix 3
SLOPE, RATE, MOMENTUM = 0.2, 2e-5, 0.2
DECAY, EPSILON = 0.99, 1e-8  # of RMSprop, which the paper leaves at torch's values
PART = 256  # queries whose distances from all entries are held at a time


@dataclass
class Step:
    """What one step found, patch by patch of the minibatch where it is about patches."""

    image_scores: Tensor
    normal: Tensor
    distances: Tensor
    anomalous: Tensor
    unsure: Tensor
    classification: float
    smoothness: float


@dataclass
class PlainFunAD:
    """The Local-Net FC[D, D, 1024, 128, 1] on features f = [g ; p], and one step of its training.

    `layers` are weight and bias of adaptor and head; `features` (N, P, D) those of all images.
    """

    features: Tensor
    layers: list[tuple[Tensor, Tensor]]
    squares: list[Tensor] = field(default_factory=list)
    momenta: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.features = self.features.double()
        self.layers = [
            (w.clone().double().requires_grad_(), b.clone().double().requires_grad_()) for w, b in self.layers
        ]
        self.squares = [torch.zeros_like(each) for each in self.parameters()]
        self.momenta = [torch.zeros_like(each) for each in self.parameters()]

    def parameters(self) -> list[Tensor]:
        return [each for layer in self.layers for each in layer]

    def adaptor(self, f: Tensor) -> Tensor:
        weight, bias = self.layers[0]
        return torch.nn.functional.leaky_relu(f @ weight.T + bias, SLOPE)

    def head(self, adapted: Tensor) -> Tensor:
        """Scores s in (0, 1)."""
        for weight, bias in self.layers[1:-1]:
            adapted = torch.nn.functional.leaky_relu(adapted @ weight.T + bias, SLOPE)
        weight, bias = self.layers[-1]
        return (adapted @ weight.T + bias)[:, 0].sigmoid()

    @torch.no_grad()
    def looks_normal(self) -> tuple[Tensor, Tensor]:
        """S_i, the largest score of each image; and C, those below tau_b of the range (Sec. 4.1)."""
        scores = torch.stack([self.head(self.adaptor(image)).max() for image in self.features])
        normalised = (scores - scores.min()) / (scores.max() - scores.min())
        return scores, normalised < TAU_B

    @torch.no_grad()
    def distances(self, images: list[int], bank: list[int]) -> Tensor:
        """d_k, squared, of all patches of `images` to the nearest adapted patch of `bank` that is not the same one."""
        count = self.features.shape[1]
        entries = self.adaptor(self.features[bank].flatten(0, 1))
        which = [(image, patch) for image in bank for patch in range(count)]
        place = {each: at for at, each in enumerate(which)}
        found = []
        for image in images:
            queries = self.adaptor(self.features[image])
            for start in range(0, count, PART):
                some = queries[start : start + PART]
                squared = apart(some, entries)
                for row in range(len(some)):
                    own = place.get((image, start + row))
                    if own is not None:
                        squared[row, own] = torch.inf
                found.append(squared.min(1).values)
        return torch.cat(found)

    def step(self, images: list[int], bank: list[int], noise: Tensor) -> Step:
        """One step on the minibatch `images`; `noise` (n, D) of standard deviation 1, a row a patch."""
        image_scores, normal = self.looks_normal()
        f = self.features[images].flatten(0, 1)
        distances = self.distances(images, bank)
        scaled = (distances - distances.min()) / (distances.max() - distances.min())
        anomalous = scaled > TAU_N
        unsure = anomalous & (scaled < TAU_C)
        perturbed = torch.where(unsure[:, None], f + noise.double() * f.std(0, correction=0), f)  # Sec. 4.3
        scores, of_anomalies = self.head(self.adaptor(f)), self.head(self.adaptor(perturbed[anomalous]))
        classification = -(1 - scores[~anomalous]).log().mean() - of_anomalies.log().mean()
        pairs = self.mutual_pairs(f)
        means = [(scores[i] + scores[j]) / 2 for i, j in pairs]
        each = [((scores[i] - m).abs() + (scores[j] - m).abs()) / 2 for (i, j), m in zip(pairs, means, strict=True)]
        smoothness = torch.stack(each).mean()
        self.update(classification + LAMBDA * smoothness)
        return Step(image_scores, normal, distances, anomalous, unsure, classification.item(), smoothness.item())

    @torch.no_grad()
    def mutual_pairs(self, f: Tensor) -> list[tuple[int, int]]:
        """Pairs i < j of the minibatch that are each other's nearest once adapted (Sec. 4.2)."""
        adapted = self.adaptor(f)
        nearest = []
        for start in range(0, len(f), PART):
            some = adapted[start : start + PART]
            squared, rows = apart(some, adapted), torch.arange(len(some))
            squared[rows, start + rows] = torch.inf
            nearest += squared.argmin(1).tolist()
        return [(i, j) for i, j in enumerate(nearest) if i < j and nearest[j] == i]

    def update(self, loss: Tensor) -> None:
        """RMSprop with momentum (Appendix 3)."""
        parameters = self.parameters()
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for each, gradient, square, momentum in zip(parameters, gradients, self.squares, self.momenta, strict=True):
                square.mul_(DECAY).add_((1 - DECAY) * gradient**2)
                momentum.mul_(MOMENTUM).add_(gradient / (square.sqrt() + EPSILON))
                each.sub_(RATE * momentum)


def apart(queries: Tensor, entries: Tensor) -> Tensor:
    """Squared distances; in double precision the product loses nothing that a pseudo-label could tell."""
    return queries.square().sum(1)[:, None] + entries.square().sum(1) - 2 * queries @ entries.T
