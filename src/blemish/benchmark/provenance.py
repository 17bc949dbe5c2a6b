"""Where figures come from: machine, versions, commit, and the experiment as a file that runs it again.

`experiment.yaml` is written beside the tables of each experiment. PyYAML reads and writes it, which timm brings.
"""

import hashlib
import os
import platform
import re
import subprocess
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from blemish.machine.errors import RequestError
from blemish.machine.extras import NOT_INSTALLED
from blemish.machine.extras import versions as installed

EXPERIMENT, FORMAT_VERSION = "experiment.yaml", 1
PACKAGES = ("blemish", "torch", "torchvision", "timm", "numpy", "scipy", "scikit-learn", "anomalib")
SOURCE = Path(__file__).resolve().parents[3]  # the checkout, where there is one


@cache
def machine() -> str:
    """The processor and its cores as a name for files, such as "amd-epyc-7b13-2-cores"."""
    about = Path("/proc/cpuinfo")
    lines = about.read_text(encoding="utf-8").splitlines() if about.exists() else []
    named = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    processor = named[0] if named else platform.processor() or platform.machine()
    return slug(f"{processor} {os.cpu_count()} cores")


@cache
def commit() -> str:
    """The commit of the checkout that runs, with "-dirty" where files differ from it; "" without a checkout."""
    if not (SOURCE / ".git").exists():
        return ""
    command = ["git", "-C", str(SOURCE), "describe", "--always", "--dirty", "--abbrev=10", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)  # noqa: S603
    except (OSError, subprocess.SubprocessError):
        return ""
    return found.stdout.strip()


def slug(text: str) -> str:
    """The text as a part of a file's name: lower-case letters, digits, dots and dashes."""
    return re.sub(r"[^a-z0-9.]+", "-", re.sub(r"\(r\)|\(tm\)", "", text.lower())).strip("-.")


def versions() -> dict[str, str]:
    """Python's version, and the versions of the packages that figures depend on and that are installed."""
    return {name: found for name, found in installed(PACKAGES).items() if found != NOT_INSTALLED}


def hashes(runs: Iterable[str], manifests: Iterable[str], sets: Mapping[str, str]) -> dict[str, Any]:
    """What the experiment ran on: the signature of each set, the hash of each manifest, one hash of all runs."""
    names = sorted(set(runs))
    return {
        "sets": dict(sorted(sets.items())),
        "manifests": sorted(set(manifests)),
        "runs": {"count": len(names), "sha256": hashlib.sha256("\n".join(names).encode()).hexdigest()},
    }


def write_experiment(folder: Path, request: Mapping[str, Any], of: Mapping[str, Any]) -> Path:
    """Leave `experiment.yaml`: the request, what it ran on (`hashes`), and with which versions."""
    content = {
        "format": FORMAT_VERSION,
        "request": dict(request),
        "hashes": dict(of),
        "versions": versions(),
        "commit": commit(),
        "machine": machine(),
    }
    path = folder / EXPERIMENT
    path.write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    return path


def read_experiment(path: Path, keys: Iterable[str]) -> dict[str, Any]:
    """What `write_experiment` wrote; its request may have `keys` only. Raises `RequestError`."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        request, of = content["request"], content["hashes"]
        if content["format"] != FORMAT_VERSION:
            raise RequestError(f"'{path}' has format {content['format']}; this blemish reads {FORMAT_VERSION}.")
        if unknown := sorted(set(request) - set(keys)):
            raise RequestError(
                f"'{path}' has '{unknown[0]}', which this blemish does not know; install the version that wrote it."
            )
        if not (isinstance(of["sets"], dict) and isinstance(of["runs"]["sha256"], str)):
            raise TypeError("'hashes' must hold sets and runs")
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise RequestError(
            f"'{path}' is no experiment ({type(error).__name__}: {reason}); name an {EXPERIMENT} that bench left."
        ) from None
    found: dict[str, Any] = content
    return found


def check_hashes(path: Path, kept: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    """Raise `RequestError` where an experiment would run on other images or cells than it did."""
    for name, signature in kept["sets"].items():
        if name not in found["sets"]:
            raise RequestError(f"'{path}' ran on {name}, which is not there; name its folder with `data`.")
        if found["sets"][name] != signature:
            raise RequestError(
                f"The images of {name} are not those of '{path}' (signature {found['sets'][name]}, then {signature}); "
                "name the same images with `data`."
            )
    if sorted(kept.get("manifests", [])) != sorted(found["manifests"]):
        raise RequestError(
            f"'{path}' would train on other images than it did: its list was changed, or this version draws others; "
            "name the same list with `manifest`, or take the version and commit that it names."
        )
    if kept["runs"]["sha256"] != found["runs"]["sha256"]:
        raise RequestError(
            f"'{path}' would run {found['runs']['count']} other runs than its {kept['runs']['count']}: this version "
            "plans it differently; take the version and commit that it names."
        )
