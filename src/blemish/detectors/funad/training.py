"""Training one Local-Net on pseudo-labels that sharpen as it learns (spec/fun-ad.md sections 3 to 7)."""

import copy
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from blemish.detectors.funad.curve import Curve
from blemish.detectors.funad.local_net import LocalNet, averaged, new_net
from blemish.detectors.funad.losses import balanced_cross_entropy, mutual_pairs, mutual_smoothness
from blemish.detectors.funad.memory_bank import normal_looking, sampled
from blemish.detectors.funad.minibatches import minibatches
from blemish.detectors.funad.neighbours import nearest
from blemish.detectors.funad.noise import largest_spread_over_positions, spread_over_batch
from blemish.detectors.funad.pool import Pool
from blemish.detectors.funad.pseudo_labels import Labels, labels_of, normalised
from blemish.detectors.funad.schedule import Precision, Schedule
from blemish.errors import JobError

DECAY = 0.98  # of the average of the weights: about the last 50 steps count, so that no step has to be chosen
CALIBRATION = 1000  # patches of normal-looking images whose distances set the scale of the labels
# A suspect's patches are shown with noise more often, by how far it is above what ordinary images reach: so a clean
# pile, which has hardly any such image, is learned from as if there were no suspects.
ORDINARY, MOST_EXCESS, SUSPICION = 2.0, 6.0, 30.0  # deviations, deviations, chance a deviation
MOMENTUM = 0.2  # of RMSprop, spec section 7
AT_ONCE = 2**14  # patches that pass the net together where no gradient is needed: 40 MB of activations

State = dict[str, Tensor]


@dataclass(frozen=True)
class Trained:
    """What training leaves: the last weights, their average, snapshots on the way, and the curve."""

    last: LocalNet
    average: LocalNet
    snapshots: list[State]
    curve: Curve

    def at(self, snapshot: int) -> LocalNet:
        """The net as it was at a snapshot."""
        net = copy.deepcopy(self.last)
        net.load_state_dict(self.snapshots[snapshot])
        return net.eval()


@dataclass
class Bank:
    """Rows of the pool that the bank holds, those that set the scale of distances, and both as last refreshed."""

    entries: Tensor
    reference: Tensor
    from_first_banks: bool
    adapted: Tensor = field(default_factory=lambda: torch.empty(0))
    typical: Tensor = field(default_factory=lambda: torch.empty(0))


class Training:
    """One net on its way; `step` takes it one minibatch further, `state` and `restore` carry it over a break."""

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
        self.owned = pool.owned(schedule.exclude)
        self.spread = spread_over_batch(pool.patches)
        self.noisy = self._chances()
        self.bank: Bank | None = None
        self.done = 0
        self.snapshots: list[State] = []
        self.curve = Curve()

    def run(self, tell: Callable[[int], None], keep: Callable[["Training"], None], every: float = 60.0) -> Trained:
        """Train to the end; `keep` is called about every so many seconds, and then."""
        last = time.monotonic()
        tell(self.done)
        with _fast_products(self.device):
            while self.done < self.steps:
                if self.done % self.schedule.rebuild_every == 0:
                    if time.monotonic() - last > every:
                        keep(self)
                        last = time.monotonic()
                    self._rebuild()
                self._step()
                tell(self.done)
        keep(self)
        self.curve.score(self.done, image_scores(self.net, self.pool, self.schedule.precision))
        return Trained(self.net.cpu().eval(), self.average.cpu().eval(), self.snapshots, self.curve)

    def _step(self) -> None:
        pool, schedule = self.pool, self.schedule
        self._set_rate()
        bank = self._refreshed()
        rows = self.minibatches.rows(self.torch_rng)
        patches = pool.patches[rows]
        with self._autocast():
            adapted = self.net.adapted(patches, pool.wholes, pool.owners[rows])
            labels = self._labels(rows, adapted.detach(), bank)
            perturbed, whose = self._perturbed(rows, patches, labels)
            logits = self.net(adapted)
            noisy = self.net(self.net.adapted(perturbed, pool.wholes, pool.owners[rows[whose]]))
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
        """Choose the images that look normal, by the first banks or by the net, and the patches the bank holds."""
        pool, schedule = self.pool, self.schedule
        warm = pool.looks is not None and self.done < schedule.warm_up * self.steps
        looks = (
            pool.looks
            if warm and pool.looks is not None
            else image_scores(self.net, self.pool, self.schedule.precision)
        )
        if not warm:
            self.curve.score(self.done, looks)
        images = pool.images
        looking = normal_looking(looks[images].cpu().numpy(), schedule.cut, schedule.tau_bank)
        looking = looking & ~pool.barred[images].cpu().numpy()
        normal, chosen = (torch.zeros(len(pool.groups), dtype=torch.bool, device=self.device) for _ in range(2))
        normal[images[torch.from_numpy(looking).to(self.device)]] = True
        held = torch.from_numpy(sampled(looking, schedule.bank_share, self.rng)).to(self.device)
        chosen[images[held]] = True
        entries = torch.nonzero(chosen[pool.owners])[:, 0]
        reference = torch.nonzero(normal[pool.owners])[:, 0]
        self.bank = Bank(self._some(entries, schedule.bank_entries), self._some(reference, CALIBRATION), warm)
        self.curve.rebuilt(self.done, normal, chosen)

    @torch.no_grad()
    def _refreshed(self) -> Bank:
        """The bank, its entries passed through the adaptor as it is now if it is time to."""
        bank, schedule = self.bank, self.schedule
        if bank is None:
            raise RuntimeError("the bank is built before the first step")
        due = (self.done % schedule.rebuild_every) % schedule.refresh_every == 0
        if due and not bank.from_first_banks:
            bank.adapted = self._adapted(bank.entries)
            if schedule.scale == "quantile":
                bank.typical = self._distances(bank.reference, self._adapted(bank.reference), bank)
        elif due and self.pool.distances is not None:
            bank.typical = self.pool.distances[bank.reference]
        return bank

    @torch.no_grad()
    def _labels(self, rows: Tensor, adapted: Tensor, bank: Bank) -> Labels:
        schedule = self.schedule
        if bank.from_first_banks and self.pool.distances is not None:
            distances = self.pool.distances[rows]
        else:
            distances = self._distances(rows, adapted, bank)
        scaled = normalised(distances, schedule.scale, bank.typical)
        return labels_of(scaled, schedule.tau_normal, schedule.tau_confident, self.pool.given[rows])

    def _distances(self, rows: Tensor, adapted: Tensor, bank: Bank) -> Tensor:
        mine, owners = self.owned[rows], self.owned[bank.entries]
        rough = self.schedule.precision == "bfloat16"
        with torch.autocast(self.device.type, enabled=False):
            return nearest(adapted.float(), bank.adapted.float(), mine=mine, owners=owners, rough=rough)[0]

    def _perturbed(self, rows: Tensor, patches: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
        """Noisy copies (m, D) that count as anomalies, and which of the patches (n, D) each was made from.

        The unsure anomalies, with noise as wide as the channels (spec section 5), and some normal patches, with
        noise from barely visible to beyond doubt: so there is something to tell normal from in clean data, too.
        """
        schedule, rng = self.schedule, self.torch_rng
        normal = torch.nonzero(~labels.anomalous)[:, 0]
        # drawn: the rows are in the order of the names, which may tell what the images are
        drawn = min(schedule.noise_batch, len(normal))
        if drawn:
            normal = normal[torch.multinomial(self.noisy[rows[normal]], drawn, generator=rng)]
        whose = torch.cat([torch.nonzero(labels.unsure)[:, 0], normal])
        scale = torch.ones((len(whose), 1), device=self.device)
        scale[: len(whose) - len(normal)] = float(schedule.noise != "none")
        scale[len(whose) - len(normal) :] = 0.2 + 1.3 * torch.rand((len(normal), 1), generator=rng, device=self.device)
        spread = self.spread
        if schedule.noise == "batch":
            spread = spread_over_batch(patches)
        elif schedule.noise == "position_max":
            spread = largest_spread_over_positions(patches, self.pool.positions[rows])
        noise = torch.randn((len(whose), patches.shape[1]), generator=rng, device=self.device)
        return patches[whose] + noise * spread * scale, whose

    def _chances(self) -> Tensor:
        """How readily each patch of the pool (n,) is shown with noise."""
        if self.schedule.noise_from == "any" or self.pool.looks is None:
            return torch.ones(len(self.pool.patches), device=self.device)
        excess = (self.pool.looks - ORDINARY).clamp(0, MOST_EXCESS)
        return (1 + SUSPICION * excess)[self.pool.owners]

    def _adapted(self, rows: Tensor) -> Tensor:
        with self._autocast():
            return self.net.adapted(self.pool.patches[rows], self.pool.wholes, self.pool.owners[rows])

    def _some(self, rows: Tensor, count: int) -> Tensor:
        """`count` of the rows at random; all of them for 0."""
        if not count or len(rows) <= count:
            return rows
        return rows[torch.from_numpy(self.rng.permutation(len(rows))[:count]).to(self.device)]

    def _autocast(self) -> torch.autocast:
        return _products(self.device, self.schedule.precision)

    def state(self) -> tuple[State, str]:
        """All that the rest of the training depends on, at a step where the bank is due to be rebuilt."""
        tensors = {f"net.{name}": value for name, value in self.net.state_dict().items()}
        tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        for number, snapshot in enumerate(self.snapshots):
            tensors |= {f"snapshot.{number}.{name}": value for name, value in snapshot.items()}
        for number, values in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{number}.{name}": torch.as_tensor(value) for name, value in values.items()}
        tensors |= {"torch_rng": self.torch_rng.get_state(), "left": self.minibatches.left, **self.curve.tensors()}
        return tensors, json.dumps({"done": self.done, "rng": self.rng.bit_generator.state, "curve": self.curve.rows})

    def restore(self, tensors: State, text: str) -> None:
        """Take up what `state` gave."""
        told = json.loads(text)
        self.done, self.rng.bit_generator.state = told["done"], told["rng"]
        tensors = {name: value.to(self.device) for name, value in tensors.items()}
        self.net.load_state_dict(_under("net.", tensors))
        self.average.load_state_dict(_under("average.", tensors))
        count = len({name.split(".")[1] for name in tensors if name.startswith("snapshot.")})
        self.snapshots = [_under(f"snapshot.{number}.", tensors) for number in range(count)]
        groups = self.optimiser.state_dict()["param_groups"]
        numbers = [number for group in groups for number in group["params"]]
        known = {number: _under(f"optimiser.{number}.", tensors) for number in numbers}
        self.optimiser.load_state_dict({"state": known if any(known.values()) else {}, "param_groups": groups})
        self.torch_rng.set_state(tensors["torch_rng"].cpu())
        self.minibatches.left = tensors["left"]
        self.curve = Curve.restored(told["curve"], tensors)


@torch.no_grad()
def image_scores(net: LocalNet, pool: Pool, precision: Precision = "float32") -> Tensor:
    """The largest logit of each image's patches in the pool, (N,); minus infinity for images without any."""
    device = pool.patches.device
    with _products(device, precision):
        logits = torch.cat([
            net(net.adapted(pool.patches[rows], pool.wholes, pool.owners[rows]))
            for rows in torch.split(torch.arange(len(pool.patches), device=device), AT_ONCE)
        ]).float()  # fmt: skip
    looks = torch.full((len(pool.groups),), -torch.inf, device=device)
    return looks.scatter_reduce(0, pool.owners, logits, "amax")


def _products(device: torch.device, precision: Precision) -> torch.autocast:
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


def _under(prefix: str, tensors: State) -> State:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _optimiser(net: LocalNet, schedule: Schedule) -> torch.optim.Optimizer:
    if schedule.optimiser == "rmsprop":
        return torch.optim.RMSprop(net.parameters(), lr=schedule.learning_rate, momentum=MOMENTUM)
    return torch.optim.AdamW(net.parameters(), lr=schedule.learning_rate, weight_decay=1e-2)


@contextmanager
def _fast_products(device: torch.device) -> Iterator[None]:
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
