"""What is installed here, which weights are there, and what a job of N images will cost on this machine."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np

from blemish.detectors import DEFAULT_DETECTOR, detector_class
from blemish.features.backbones import BACKBONES
from blemish.features.hub import http_status
from blemish.features.weights import weights_found
from blemish.images import ImageSet
from blemish.jobs.cost import PROBES, duration, estimated
from blemish.jobs.streaming import sample_size
from blemish.machine.errors import RequestError
from blemish.machine.extras import versions
from blemish.machine.runtime import available_cores, runtime, use_runtime

HUB = "https://huggingface.co"
HUB_SECONDS = 3.0
PROBE_SIDE = 512  # pixels: decoding, a smaller part, is not timed


def examine(images: int, *, network: bool, threads: int | None, cache: Path | None) -> dict[str, Any]:
    """Findings by name, in the order to print them. What is missing is a finding, not an error."""
    findings: dict[str, Any] = dict(versions())
    findings |= {f"weights {name}": _weights(name) for name in BACKBONES}
    with use_runtime(threads=threads, cache=cache, keep_features=False):
        findings["cores"] = f"{runtime().threads} of {available_cores()}"
        findings["cache"] = _cache()
        findings |= _estimate(images)
    if network:
        findings["hub"] = _reach_hub()
    return findings


def _weights(name: str) -> str:
    try:
        return weights_found(name)
    except (RequestError, OSError) as error:
        return f"MISSING: {error}"


def _cache() -> str:
    folder = runtime().cache
    try:
        free = shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists())).free
    except OSError as error:
        return f"{folder}, UNREADABLE: {error.strerror}; give another with `cache`"
    return f"{folder}, {free / 2**30:.1f} GiB free"


def _estimate(images: int) -> dict[str, str]:
    """What the default detector will cost, by a few random images; `fit` estimates its job by the images of the job."""
    detector = detector_class(DEFAULT_DETECTOR)()
    noise = list(np.random.default_rng(0).integers(0, 256, (PROBES + 1, PROBE_SIDE, PROBE_SIDE, 3), dtype=np.uint8))
    try:
        found = estimated(detector, ImageSet.of(noise), images, sample_size(images), made=images)
    except RequestError as error:
        return {f"a job of {images} images": f"cannot be run: {error}"}
    return {
        f"time for {images} images": (
            f"about {duration(found.features)} for features, "
            f"and {duration(found.learning)} to learn from {found.sample}"
        ),
        f"disk for {images} images": f"about {found.disk:.2f} GiB of features in the cache",
        "memory": f"about {found.memory:.1f} GiB",
    }


def _reach_hub() -> str:
    answer = http_status(HUB, HUB_SECONDS)
    if answer == 200:
        return f"{HUB} can be reached"
    status = f"answers with {answer}" if isinstance(answer, int) else f"cannot be reached ({answer})"
    return f"{HUB} {status}; the embedded backbones work without it"
