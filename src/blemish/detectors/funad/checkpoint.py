"""Training that survives a break: states of the nets in a folder, taken up by the same job with the same result."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from blemish.detectors.funad.curve import LearningCurve
from blemish.detectors.funad.training import Training
from blemish.machine.errors import RequestError, replacing, saved_as_usual, writing_to

FORMAT = "2"


@dataclass(frozen=True)
class Checkpoint:
    """The file of one net, or nothing where no folder was given.

    Attributes
    ----------
    path : the safetensors file, with the rest of the state in its header.
    settings : of the job, and a hash of its images: a state of other ones is refused.
    """

    path: Path | None
    settings: Mapping[str, Any]

    def keep(self, training: Training) -> None:
        """Write the state, whole or not at all."""
        if self.path is None:
            return
        tensors, text = state_of(training)
        about = {"format": FORMAT, "settings": json.dumps(self.settings, sort_keys=True), "state": text}
        copies: dict[str, Tensor] = {
            name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()
        }
        with writing_to(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as partial:
                saved_as_usual(lambda path: save_file(copies, path, metadata=about), partial)

    def take_up(self, training: Training) -> bool:
        """Restore a state that was kept; whether there was one. Raises `RequestError` for another job's."""
        if self.path is None or not self.path.exists():
            return False
        try:
            with safe_open(self.path, framework="pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
        except (SafetensorError, OSError) as error:
            raise RequestError(f"The checkpoint '{self.path}' cannot be read ({error}); delete it.") from None
        if about.get("format") != FORMAT:
            raise RequestError(f"'{self.path}' is no checkpoint of this version of blemish; delete it.")
        before, now = json.loads(about["settings"]), json.loads(json.dumps(self.settings))
        if before != now:
            name = next(name for name in sorted({*before, *now}) if before.get(name) != now.get(name))
            raise RequestError(
                f"The checkpoint '{self.path}' is of another job: '{name}' was {before.get(name)} and is "
                f"{now.get(name)}; give another `checkpoints` folder, or delete it."
            )
        restore(training, tensors, about["state"])
        return True


def hash_of(contents: list[str]) -> str:
    """A short hash of the images of a job."""
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()[:16]


def state_of(training: Training) -> tuple[dict[str, Tensor], str]:
    """All that the rest of the training depends on, at a step where the bank is due to be rebuilt."""
    tensors = {f"net.{name}": value for name, value in training.net.state_dict().items()}
    tensors |= {f"average.{name}": value for name, value in training.average.state_dict().items()}
    for number, snapshot in enumerate(training.snapshots):
        tensors |= {f"snapshot.{number}.{name}": value for name, value in snapshot.items()}
    for number, values in training.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{number}.{name}": torch.as_tensor(value) for name, value in values.items()}
    tensors |= {
        "torch_rng": training.torch_rng.get_state(),
        "left": training.minibatches.left,
        **training.curve.tensors(),
    }
    return tensors, json.dumps(
        {"done": training.done, "rng": training.rng.bit_generator.state, "curve": training.curve.rows}
    )


def restore(training: Training, tensors: dict[str, Tensor], text: str) -> None:
    """Take up what `state_of` gave."""
    found = json.loads(text)
    training.done, training.rng.bit_generator.state = found["done"], found["rng"]
    tensors = {name: value.to(training.device) for name, value in tensors.items()}
    training.net.load_state_dict(_under("net.", tensors))
    training.average.load_state_dict(_under("average.", tensors))
    count = len({name.split(".")[1] for name in tensors if name.startswith("snapshot.")})
    training.snapshots = [_under(f"snapshot.{number}.", tensors) for number in range(count)]
    groups = training.optimiser.state_dict()["param_groups"]
    numbers = [number for group in groups for number in group["params"]]
    known = {number: _under(f"optimiser.{number}.", tensors) for number in numbers}
    training.optimiser.load_state_dict({"state": known if any(known.values()) else {}, "param_groups": groups})
    training.torch_rng.set_state(tensors["torch_rng"].cpu())
    training.minibatches.left = tensors["left"]
    training.curve = LearningCurve.restored(found["curve"], tensors)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
