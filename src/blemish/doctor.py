"""What is installed here, which weights are there, and what a job of N images will cost on this machine."""

import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np

from blemish.detectors import DEFAULT_DETECTOR, FeatureDetector, detector_class
from blemish.errors import RequestError
from blemish.features.backbones import BACKBONES
from blemish.features.hub import asked
from blemish.features.weights import weights_found
from blemish.images import ImageSet
from blemish.jobs import peak_memory_mib
from blemish.jobs.streaming import learned_from
from blemish.run import versions
from blemish.runtime import available_cores, runtime, use_runtime

BASE_GIB = 1.5  # torch, networks and banks, measured (benchmarks/RESULTS.md)
MAP_BYTES = 40_000  # an image: its maps in each view (7 KB), their smoothed copies and the drawn one
HUB = "https://huggingface.co"
HUB_SECONDS = 3.0
PROBES = 8  # images timed for the estimate
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
        return f"{folder}, UNREADABLE: {error.strerror}; name another with --cache"
    return f"{folder}, {free / 2**30:.1f} GiB free"


def _estimate(images: int) -> dict[str, str]:
    """Time a few random images and scale up; learning adds a part that grows with the images, too."""
    detector = detector_class(DEFAULT_DETECTOR)()
    if not isinstance(detector, FeatureDetector):
        return {}
    noise = list(np.random.default_rng(0).integers(0, 256, (PROBES + 1, PROBE_SIDE, PROBE_SIDE, 3), dtype=np.uint8))
    each, size, sample = 0.0, 0, learned_from(images)
    try:
        for spec in detector.feature_specs():
            next(ImageSet.of(noise[:1]).features(spec).batches())  # loads the network
            probe = ImageSet.of(noise[1:]).features(spec)
            start = time.perf_counter()
            batch = next(probe.batches())
            each += (time.perf_counter() - start) / PROBES
            size += (batch.globals.nbytes + sum(stage.nbytes for stage in batch.stages.values())) // PROBES
    except RequestError as error:
        return {f"a job of {images} images": f"cannot be run: {error}"}
    return {
        f"time for {images} images": (
            f"about {_duration(images * each)} for features, and {_duration(sample * each)} to learn from {sample}"
        ),
        f"disk for {images} images": f"about {sample * size / 2**30:.2f} GiB of features in the cache",
        "memory": f"about {BASE_GIB + sample * MAP_BYTES / 2**30:.1f} GiB ({peak_memory_mib()} MiB so far)",
    }


def _duration(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )


def _reach_hub() -> str:
    answer = asked(HUB, HUB_SECONDS)
    if answer == 200:
        return f"{HUB} can be reached"
    said = f"answers with {answer}" if isinstance(answer, int) else f"cannot be reached ({answer})"
    return f"{HUB} {said}; the embedded backbones work without it"
