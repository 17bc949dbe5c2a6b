"""All that the rest of a training depends on, as tensors and text: what a checkpoint holds."""

import json

import torch
from torch import Tensor

from blemish.detectors.funad.curve import Curve
from blemish.detectors.funad.training import Training


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
    told = json.loads(text)
    training.done, training.rng.bit_generator.state = told["done"], told["rng"]
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
    training.curve = Curve.restored(told["curve"], tensors)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
