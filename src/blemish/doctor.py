"""What is installed here, which weights are there, and what a job of N images will cost on this machine."""

import shutil
import time
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import numpy as np

from blemish.detectors import DEFAULT_DETECTOR, FeatureDetector, detector_class
from blemish.features.backbones import BACKBONES, weights_path, weights_sha256
from blemish.images import ImageSet
from blemish.jobs import peak_memory_mib
from blemish.run import versions
from blemish.runtime import available_cores, runtime, use_runtime

HUB = "https://huggingface.co"
HUB_SECONDS = 3.0
PROBES = 8  # images timed for the estimate


def examine(images: int, *, network: bool, threads: int | None, cache: Path | None) -> dict[str, Any]:
    """Findings by name, in the order to print them."""
    findings: dict[str, Any] = dict(versions())
    for name in BACKBONES:
        weights_sha256(name)
        findings[f"weights {name}"] = f"present, hash right ({weights_path(name)})"
    with use_runtime(threads=threads, cache=cache, keep_features=False):
        free = shutil.disk_usage(_existing(runtime().cache)).free / 2**30
        findings["cores"] = f"{runtime().threads} of {available_cores()}"
        findings["cache"] = f"{runtime().cache}, {free:.1f} GiB free"
        findings |= _estimate(images)
    if network:
        findings["hub"] = _reach_hub()
    return findings


def _estimate(images: int) -> dict[str, str]:
    """Time a few random images and scale up; learning adds a part that grows with the images, too."""
    detector = detector_class(DEFAULT_DETECTOR)()
    if not isinstance(detector, FeatureDetector):
        return {}
    noise = np.random.default_rng(0).integers(0, 256, (PROBES + 2, 384, 384, 3), dtype=np.uint8)
    each, size = 0.0, 0
    for spec in detector.feature_specs():
        first = ImageSet.of(list(noise[:2])).features(spec)
        next(first.batches())  # loads the network
        probe = ImageSet.of(list(noise[2:])).features(spec)
        start = time.perf_counter()
        batch = next(probe.batches())
        each += (time.perf_counter() - start) / PROBES
        size += batch.patches[0].nbytes + batch.globals[0].nbytes
    minutes = images * each / 60
    return {
        f"time for {images} images": f"about {minutes:.1f} min for features, and as long again to learn",
        f"disk for {images} images": f"{images * size / 2**30:.2f} GiB of features",
        "memory": f"about 1.5 GiB, whatever the number of images ({peak_memory_mib()} MiB so far)",
    }


def _reach_hub() -> str:
    request = Request(HUB, method="HEAD")
    try:
        with urlopen(request, timeout=HUB_SECONDS):  # noqa: S310
            return f"{HUB} can be reached"
    except HTTPError as error:
        return f"{HUB} answers with {error.code}"
    except (URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        return f"{HUB} cannot be reached ({reason}); the embedded backbones work without it"


def _existing(folder: Path) -> Path:
    return next(parent for parent in (folder, *folder.parents) if parent.exists())
