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

from blemish.detectors.funad.training import Training
from blemish.detectors.funad.training_state import restore, state_of
from blemish.machine.disk import saved_as_usual, writing_to
from blemish.machine.errors import RequestError

FORMAT = "1"


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
            half = self.path.with_suffix(".half")
            saved_as_usual(lambda path: save_file(copies, path, metadata=about), half)
            half.replace(self.path)

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
                f"{now.get(name)}; name another `checkpoints` folder, or delete it."
            )
        restore(training, tensors, about["state"])
        return True


def hash_of(contents: list[str]) -> str:
    """What stands for the images of a job."""
    return hashlib.sha256("\n".join(contents).encode()).hexdigest()[:16]
