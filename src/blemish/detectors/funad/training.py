"""Training one Local-Net on pseudo-labels that sharpen as it learns (spec/fun-ad.md sections 3 to 7)."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from blemish.detectors.funad.curve import LearningCurve
from blemish.detectors.funad.local_net import LocalNet, autocast, averaged, fast_products, net_scores, new_net
from blemish.detectors.funad.memory_bank import MemoryBank
from blemish.detectors.funad.pool import Pool, minibatches
from blemish.detectors.funad.pseudo_labels import NoisyCopies
from blemish.detectors.funad.schedule import Schedule, SmoothnessForm
from blemish.detectors.parts.distances import nearest_of_others
from blemish.machine.errors import JobError

DECAY = 0.98  # of the average of the weights: about the last 50 steps count, so that no step has to be chosen
MOMENTUM = 0.2  # of RMSprop, spec section 7
SMALLEST = 1e-7  # a mean score of exactly 0 or 1 would have an infinite slope
State = dict[str, Tensor]


def balanced_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Mean of -log s over the patches labelled 1 plus mean of -log(1 - s) over those labelled 0.

    Logits and bool labels (n,); a class without patches adds nothing.
    """
    each = F.binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="none")
    parts = [each[labels], each[~labels]]
    return torch.stack([part.mean() for part in parts if len(part)]).sum()


def mutual_pairs(adapted: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (m,), (m,) of adapted features (n, d) that are each other's nearest, the lower row first."""
    with torch.no_grad():
        rows = torch.arange(len(adapted), device=adapted.device)
        if len(adapted) < 2:
            return rows[:0], rows[:0]
        _, closest = nearest_of_others(adapted, adapted, mine=rows, owners=rows)
        first = rows[(closest[closest] == rows) & (rows < closest)]
        return first, closest[first]


def mutual_smoothness(logits: Tensor, pairs: tuple[Tensor, Tensor], form: SmoothnessForm = "mae") -> Tensor:
    """How far the scores of mutual neighbours are apart; 0 without pairs. Logits (n,).

    With s the scores and m the mean of a pair: "mae" is the mean of half (|s_i - m| + |s_j - m|); "mse" of half
    ((s_i - m)^2 + (s_j - m)^2); "kl" of half (KL(m, s_i) + KL(m, s_j)) of the Bernoulli distributions, both classes,
    where the authors' script leaves out the normal one.
    """
    first, second = pairs
    if not len(first):
        return logits.new_zeros(())
    one, other = logits[first].float(), logits[second].float()
    if form == "kl":
        return (_divergence(one, other) + _divergence(other, one)).mean() / 2
    apart = (one.sigmoid() - other.sigmoid()).abs() / 2
    return (apart if form == "mae" else apart.square()).mean()


def _divergence(logits: Tensor, others: Tensor) -> Tensor:
    """KL(m, s) of Bernoulli distributions, m the mean of both scores; finite for scores at 0 or 1."""
    mean = ((logits.sigmoid() + others.sigmoid()) / 2).clamp(SMALLEST, 1 - SMALLEST)
    own = torch.special.entr(mean) + torch.special.entr(1 - mean)
    divergence: Tensor = -own - mean * F.logsigmoid(logits) - (1 - mean) * F.logsigmoid(-logits)
    return divergence


@dataclass(frozen=True)
class Trained:
    """What training leaves: the last weights, their average, snapshots on the way, and the curve."""

    last: LocalNet
    average: LocalNet
    snapshots: list[State]
    curve: LearningCurve

    def at(self, snapshot: int) -> LocalNet:
        """The net as it was at a snapshot."""
        net = copy.deepcopy(self.last)
        net.load_state_dict(self.snapshots[snapshot])
        return net.eval()


class Training:
    """One net on its way; `run` takes it to the end, `checkpoint.py` over a break."""

    def __init__(self, pool: Pool, schedule: Schedule, seed: int) -> None:
        self.pool, self.schedule, self.device = pool, schedule, pool.patches.device
        hidden = (schedule.hidden, schedule.narrow)
        net = new_net(pool.patches.shape[1], pool.wholes.shape[1], schedule.width, hidden, seed)
        self.net = net.to(self.device)
        self.average = copy.deepcopy(self.net)
        self.steps = schedule.steps_for(len(pool.images))
        self.optimiser = _optimiser(self.net, schedule)
        self.torch_rng = torch.Generator(self.device).manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.minibatches = minibatches(pool, schedule)
        self.noise = NoisyCopies(pool, schedule)
        self.bank: MemoryBank | None = None
        self.done = 0
        self.snapshots: list[State] = []
        self.curve = LearningCurve()

    def run(self, tell: Callable[[int], None], keep: Callable[["Training"], None], every: float = 60.0) -> Trained:
        """Train to the end; `keep` is called about every so many seconds, and then."""
        last = time.monotonic()
        tell(self.done)
        with fast_products(self.device):
            while self.done < self.steps:
                if self.done % self.schedule.rebuild_every == 0:
                    if time.monotonic() - last > every:
                        keep(self)
                        last = time.monotonic()
                    self._rebuild()
                self._step()
                tell(self.done)
        keep(self)
        self.curve.score(self.done, net_scores(self.net, self.pool, self.schedule.precision), last=True)
        return Trained(self.net.cpu().eval(), self.average.cpu().eval(), self.snapshots, self.curve)

    def _step(self) -> None:
        pool, schedule = self.pool, self.schedule
        self._set_rate()
        bank = self._refreshed()
        rows = self.minibatches.rows(self.torch_rng)
        patches = pool.patches[rows]
        with self._autocast():
            adapted = self.net.adapted(patches, pool.wholes, pool.owners[rows])
            labels = bank.labels(rows, adapted.detach())
            perturbed, wholes, whose = self.noise.of(rows, labels, self.torch_rng)
            logits = self.net(adapted)
            noisy = self.net(self.net.adapted(perturbed, wholes, torch.arange(len(whose), device=self.device)))
            sure = ~labels.unsure
            classified = torch.cat([logits[sure], noisy])
            classes = torch.cat([labels.anomalous[sure], torch.ones_like(whose, dtype=torch.bool)])
            classification = balanced_cross_entropy(classified, classes)
            smoothness = logits.new_zeros(())
            if schedule.smoothness:
                smoothness = mutual_smoothness(logits, mutual_pairs(adapted), schedule.smoothness_form)
        loss = classification + schedule.smoothness * smoothness
        if not loss.isfinite():
            raise JobError(
                f"Training broke down: the loss of step {self.done} is {loss.item()}; lower 'learning_rate'."
            )
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        averaged(self.average, self.net, DECAY)
        self.done += 1
        self.curve.step(classification.item(), smoothness.item(), labels)
        if len(self.snapshots) < self.schedule.snapshots * self.done // self.steps:
            self.snapshots.append({name: value.cpu().clone() for name, value in self.net.state_dict().items()})

    def _set_rate(self) -> None:
        """AdamW's rate falls to 0 with the root of what is left; RMSprop's stays, as published."""
        left = 1 - self.done / self.steps if self.schedule.optimiser == "adamw" else 1.0
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.learning_rate * left**0.5

    def _rebuild(self) -> None:
        """Build the bank anew, by the distances of `nearest_images` while warming up, then by the net."""
        pool, schedule = self.pool, self.schedule
        scores = pool.image_scores if self.done < schedule.warm_up * self.steps else None
        warm = scores is not None
        if scores is None:
            scores = net_scores(self.net, pool, schedule.precision)
            self.curve.score(self.done, scores)
        self.bank = MemoryBank.of(pool, schedule, scores, self.rng, warm=warm)
        self.curve.rebuilt(self.done, self.bank.normal, self.bank.held)

    @torch.no_grad()
    def _refreshed(self) -> MemoryBank:
        """The bank, its entries passed through the adaptor as it is now if it is time to."""
        if self.bank is None:
            raise RuntimeError("the bank is built before the first step")
        if (self.done % self.schedule.rebuild_every) % self.schedule.refresh_every == 0:
            self.bank.refresh(self._adapted)
        return self.bank

    def _adapted(self, rows: Tensor) -> Tensor:
        with self._autocast():
            return self.net.adapted(self.pool.patches[rows], self.pool.wholes, self.pool.owners[rows])

    def _autocast(self) -> torch.autocast:
        return autocast(self.device, self.schedule.precision)


def _optimiser(net: LocalNet, schedule: Schedule) -> torch.optim.Optimizer:
    if schedule.optimiser == "rmsprop":
        return torch.optim.RMSprop(net.parameters(), lr=schedule.learning_rate, momentum=MOMENTUM)
    return torch.optim.AdamW(net.parameters(), lr=schedule.learning_rate, weight_decay=1e-2)
