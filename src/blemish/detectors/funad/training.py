"""Training one Local-Net on pseudo-labels that sharpen as it learns."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.embedding import Standardised
from blemish.detectors.funad.local_net import LocalNet, averaged
from blemish.detectors.funad.losses import balanced_cross_entropy, mutual_pairs, mutual_smoothness
from blemish.detectors.funad.memory_bank import Cut, normal_looking, sampled
from blemish.detectors.funad.pseudo_labels import Scale, labels_of, nearest_distances, normalised

SMOOTHNESS = 2.5  # lambda, FUN-AD Sec. 4.3
DECAY = 0.98  # of the average of the weights: the last 50 steps count, so that no step has to be chosen
BANK_IMAGES = 8  # fewer would let single images decide what is normal
CALIBRATION = 1000  # patches of normal-looking images whose distances set the scale of the labels


@dataclass(frozen=True)
class Schedule:
    """How a net is trained; the settings of `FunAD` of the same names say what each means."""

    width: int
    steps: int
    batch: int
    noise_batch: int
    bank_entries: int
    rebuilds: int
    warm_up: float
    learning_rate: float
    smoothness: float
    scale: Scale
    cut: Cut


@dataclass(frozen=True)
class Pool:
    """Patches to learn from, of all images, those that stand out more densely.

    Attributes
    ----------
    patches : (n, D) float32.
    owners : (n,) row of each patch's image.
    distances : (n,) to the banks that hold nothing of the image.
    globals : (N, G) standardised global vectors.
    groups : (N,) numbers of the images' groups.
    looks : (N,) image scores by those banks.
    """

    patches: Tensor
    owners: Tensor
    distances: Tensor
    globals: Tensor
    groups: Tensor
    looks: Tensor

    def of(self, images: Tensor, embedding: Standardised) -> "Pool":
        """The embedded patches of the images that are true in the mask (N,); the images keep their rows."""
        inside = images[self.owners]
        patches = embedding(self.patches[inside])
        return Pool(patches, self.owners[inside], self.distances[inside], self.globals, self.groups, self.looks)


def new_net(pool: Pool, width: int, seed: int) -> LocalNet:
    """A net with random weights that depend on `seed` alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LocalNet(pool.patches.shape[1], pool.globals.shape[1], width, (width, 64))


def train(net: LocalNet, pool: Pool, schedule: Schedule, seed: int, tell: Callable[[int], None]) -> LocalNet:
    """The average of the weights of `net` over the last steps of training it on the patches of `pool`."""
    torch_rng, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    average = copy.deepcopy(net)
    optimiser = torch.optim.AdamW(net.parameters(), lr=schedule.learning_rate, weight_decay=1e-2)
    rate = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: (1 - step / schedule.steps) ** 0.5)
    every = max(1, schedule.steps // schedule.rebuilds)
    draw = _Draw(pool, schedule, torch_rng)
    for step in range(schedule.steps):
        if step % every == 0:
            warm = step < schedule.warm_up * schedule.steps
            bank = _rebuild(pool, None if warm else average, schedule, rng)
        rows = draw.rows()
        patches, wholes = pool.patches[rows], pool.globals[pool.owners[rows]]
        adapted = net.adapted(patches, wholes)
        labels, unsure = _labelled(pool, net, bank, rows, adapted.detach(), schedule)
        perturbed, whose = draw.perturbed(patches, labels, unsure)
        logits = net(adapted)
        logits_perturbed = net(net.adapted(perturbed, wholes[whose]))
        sure = ~unsure
        loss = balanced_cross_entropy(
            torch.cat([logits[sure], logits_perturbed]),
            torch.cat([labels[sure], torch.ones(len(whose), dtype=torch.bool)]),
        )
        if schedule.smoothness:
            loss = loss + schedule.smoothness * mutual_smoothness(logits.sigmoid(), mutual_pairs(adapted))
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        rate.step()
        averaged(average, net, DECAY)
        tell(step + 1)
    return average.eval()


@dataclass(frozen=True)
class _Bank:
    """Rows of the pool that the bank holds, and those that set the scale of distances."""

    entries: Tensor
    reference: Tensor
    from_look: bool


def _rebuild(pool: Pool, net: LocalNet | None, schedule: Schedule, rng: np.random.Generator) -> _Bank:
    """Choose the images that look normal, by the first banks or by the net, and a random part of their patches."""
    images = torch.unique(pool.owners)
    if net is None:
        looks = pool.looks
    else:
        with torch.no_grad():
            logits = net(net.adapted(pool.patches, pool.globals[pool.owners]))
        looks = torch.full_like(pool.looks, -torch.inf).scatter_reduce(0, pool.owners, logits, "amax")
    looking = normal_looking(looks[images].numpy(), schedule.cut)
    normal = torch.zeros(len(pool.looks), dtype=torch.bool)
    normal[images[torch.from_numpy(looking)]] = True
    chosen = torch.zeros_like(normal)
    chosen[images[torch.from_numpy(sampled(looking, rng, BANK_IMAGES))]] = True
    return _Bank(
        _some(torch.nonzero(chosen[pool.owners])[:, 0], schedule.bank_entries, rng),
        _some(torch.nonzero(normal[pool.owners])[:, 0], CALIBRATION, rng),
        net is None,
    )


def _labelled(
    pool: Pool, net: LocalNet, bank: _Bank, rows: Tensor, adapted: Tensor, schedule: Schedule
) -> tuple[Tensor, Tensor]:
    """Pseudo-labels (n,) of the patches `rows`, and which of the anomalies are not sure."""
    if bank.from_look:
        return labels_of(normalised(pool.distances[rows], schedule.scale, pool.distances[bank.reference]))
    with torch.no_grad():
        entries = _adapted(pool, net, bank.entries)
        groups = pool.groups[pool.owners]
        known = groups[bank.entries]
        distances = nearest_distances(adapted, groups[rows], entries, known)
        reference = None
        if schedule.scale == "quantile":
            some = bank.reference
            reference = nearest_distances(_adapted(pool, net, some), groups[some], entries, known)
        return labels_of(normalised(distances, schedule.scale, reference))


def _adapted(pool: Pool, net: LocalNet, rows: Tensor) -> Tensor:
    return net.adapted(pool.patches[rows], pool.globals[pool.owners[rows]])


def _some(rows: Tensor, count: int, rng: np.random.Generator) -> Tensor:
    return rows[torch.from_numpy(rng.permutation(len(rows))[:count])]


class _Draw:
    """Minibatches: patches at random, a share of them among those that stand out, and noisy copies."""

    def __init__(self, pool: Pool, schedule: Schedule, rng: torch.Generator) -> None:
        self.count, self.schedule, self.rng = len(pool.patches), schedule, rng
        self.deviation = pool.patches.std(dim=0)
        self.far = pool.distances.argsort(descending=True)[: max(1, self.count // 50)]

    def rows(self) -> Tensor:
        """Rows of the pool, three in four anywhere and one in four among its most distant 2 %."""
        quarter = self.schedule.batch // 4
        anywhere = torch.randint(self.count, (self.schedule.batch - quarter,), generator=self.rng)
        far = self.far[torch.randint(len(self.far), (quarter,), generator=self.rng)]
        rows: Tensor = torch.unique(torch.cat([anywhere, far]))
        return rows

    def perturbed(self, patches: Tensor, labels: Tensor, unsure: Tensor) -> tuple[Tensor, Tensor]:
        """Noisy copies (m, D) that count as anomalies, and which of the patches (n, D) each was made from.

        The unsure anomalies, with noise as wide as the channels (spec section 5), and some normal patches, with
        noise from barely visible to beyond doubt: so there is something to tell normal from in clean data, too.
        """
        normal = torch.nonzero(~labels)[: self.schedule.noise_batch, 0]
        whose = torch.cat([torch.nonzero(unsure)[:, 0], normal])
        scale = torch.ones(len(whose), 1)
        scale[len(whose) - len(normal) :] = 0.2 + 1.3 * torch.rand((len(normal), 1), generator=self.rng)
        noise = torch.randn((len(whose), patches.shape[1]), generator=self.rng)
        return patches[whose] + noise * self.deviation * scale, whose
