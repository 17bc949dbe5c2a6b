"""`export`: a Run as one graph from pixels to score, map and decision, measured against torch before it is written."""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import save_file

from blemish.deploy.graph import ExportedScoring, as_openvino, quantise, write_metadata, write_onnx
from blemish.deploy.parity import Parity, Precision, as_new, check, compared
from blemish.detectors import Detector
from blemish.features.backbones import backbone
from blemish.features.extract import box_in_grid
from blemish.images import ImageSet
from blemish.images.decoding import WORKING_SIDE
from blemish.images.roi import SIDE
from blemish.images.urls import is_url, joined
from blemish.machine.errors import RequestError, saved_as_usual
from blemish.machine.extras import versions
from blemish.machine.progress import progress_of
from blemish.machine.runtime import runtime, use_runtime
from blemish.runs.artifact import FILES, SCORES, hashes, write_config
from blemish.runs.exported import FORMATS, INPUT, KIND, MASK, MODEL_FILES, OUTPUTS, Format, graph_of, looking_masks
from blemish.runs.run import KNOWN_FILE, OWN_MASKS, Run, known_state, load
from blemish.runs.transaction import whole_or_absent

COMPARED = 64  # images that torch and the exported model are compared on
CALIBRATED = 32  # images that the ranges of an int8 model are found on
TRITON_FOLDER, TRITON_NAME = "triton", "blemish"
TRITON_BATCH = 16  # images scored together, as `serve` does by default
TRITON_KINDS = dict(zip(OUTPUTS, ("TYPE_FP32", "TYPE_BOOL", "TYPE_FP32"), strict=True))


def export(
    model: str | Path | Run,
    out: str | Path,
    *,
    format: Format = "onnx",  # noqa: A002 - the word a person types
    precision: Precision = "float32",
    size: tuple[int, int] | None = None,
    images: Any = None,
    triton: bool = False,
    force: bool = False,
    weights: str | Path | None = None,
    threads: int | None = None,
    progress: Any = None,
    tell: Callable[[str], None] | None = None,
) -> Parity:
    """Leave the Run in `out` as one file for the line; `blemish.load(out)` scores with it without torch.

    Parameters
    ----------
    size : (width, height) of the images it will take; the size of most images of the Run by default.
    precision : "int8" halves the time of the convolutions at some cost in exactness, which is measured.
    images : what to compare on, where the images of the Run are not where they were.
    triton : write `out`/triton as well, a model repository of NVIDIA's Triton Inference Server.
    tell : called with a sentence on what is about to be done, before the minute that it may take.

    Raises `RequestError` for detectors that cannot be exported, before anything is done; `JobError` if the exported
    model differs from torch by more than `parity.check` allows.
    """
    if format not in FORMATS:
        raise RequestError(f"`format` must be one of {', '.join(FORMATS)}; got '{format}'.")
    if precision not in ("float32", "int8"):
        raise RequestError(f"`precision` must be one of float32, int8; got '{precision}'.")
    if triton and format != "onnx":
        raise RequestError(f"`triton` works only with format onnx; got '{format}': leave out one of them.")
    run = model if isinstance(model, Run) else load(model, weights)
    detector = exportable(run)
    _check_installed(format)
    with (
        progress_of(progress) as shown,
        use_runtime(threads=threads, progress=shown),
        whole_or_absent(Path(out), force=force) as staging,
    ):
        looked_at = _images_of(run, images, size)
        whole = detector.whole_pixels
        width, height = looked_at.sizes[looked_at.ids[0]]
        pixels = np.stack([looked_at.read(name, full=whole) for name in looked_at.ids])
        scale = (run.map_scale.low, run.map_scale.high)
        scoring = ExportedScoring(detector.module(), run.threshold_, scale).eval()
        masked = run.decoding.range is not None  # such images may hold pixels without a measurement
        masks = (looking_masks(looked_at, looked_at.ids),) if masked else ()
        if tell:
            tell(f"Exporting the Run as {format}, then comparing it with torch on {len(pixels)} images.")
        runtime().progress("exporting", 0, 3)
        arrays = (pixels, *masks)
        write_onnx(scoring, tuple(each[:2] for each in arrays), staging / MODEL_FILES["onnx"][0])
        if precision == "int8":
            quantise(staging / MODEL_FILES["onnx"][0], tuple(each[:CALIBRATED] for each in arrays))
        write_metadata(staging / MODEL_FILES["onnx"][0], metadata(run, (width, height), precision))
        if format == "openvino":
            as_openvino(staging)
        runtime().progress("exporting", 1, 3)
        data = [(staging / name).read_bytes() for name in MODEL_FILES[format]]
        graph = graph_of(format, data, 1)
        arrays = (as_new(pixels), *masks)
        found = [graph(*(each[at : at + 1] for each in arrays)) for at in range(len(pixels))]
        runtime().progress("exporting", 2, 3)
        parity = compared(scoring, arrays, found, run.training_scores, run.threshold_)
        check(parity, precision)
        saved_as_usual(lambda path: save_file(known_state(run.known), path), staging / KNOWN_FILE)
        _write_training_scores(run, staging)
        if triton:
            grid = tuple(found[0][OUTPUTS.index("map")].shape[1:])
            write_triton(staging, size=(height, width), grid=(grid[0], grid[1]), masked=masked)
        about = {"format": format, "precision": precision, "mask": SIDE if masked else None, "parity": asdict(parity)}
        files = hashes(staging, (*MODEL_FILES[format], SCORES, KNOWN_FILE))
        write_config(staging, {**_config(run, (width, height)), **about, FILES: files})
        runtime().progress("exporting", 3, 3)
    return parity


def _config(run: Run, size: tuple[int, int]) -> dict[str, Any]:
    """What `load` has to know of a Run that became a graph for images of `size` (width, height)."""
    drawn = next(view.pixels for view in run.detector.views if view.draws)
    working = next(spec.size or (1, 1) for spec in run.detector.feature_specs() if spec.pixels == drawn)
    return {
        "kind": KIND,
        "size": size[::-1],
        "box": box_in_grid(size, working),
        "input": INPUT,
        "outputs": OUTPUTS,
        "detector": {"name": run.detector.name},
        "decision": run.decision.to_json(),
        "decoding": asdict(run.decoding),
        "map_scale": asdict(run.map_scale),
        "pixel_threshold": run.pixel_threshold,
        "versions": versions(),
    }


def exportable(run: Run) -> Detector:
    """The detector of a Run. Raises `RequestError` if it cannot become a graph, and says which can."""
    detector = run.detector
    if not detector.looks_at_patches:
        raise RequestError(
            f"The detector '{detector.name}' cannot be exported: it is not made of patch features. Detectors "
            "on patch features can, such as nearest_images and patchcore."
        )
    if not detector.reads_images:
        raise RequestError("A Run on features that were given cannot be exported: it does not know the images.")
    if run.about.get("roi") == OWN_MASKS:
        raise RequestError("A Run with a mask for each image cannot be exported; fit with one mask for all in `roi`.")
    return detector


def metadata(run: Run, size: tuple[int, int], precision: Precision) -> dict[str, str]:
    """What an ONNX file says of itself, by name; `size` is (width, height) of the images it takes."""
    used = {(spec.backbone, spec.weights) for spec in run.detector.feature_specs()}
    return {
        "name": f"blemish {run.detector.name}",
        "version": versions()["blemish"],
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "precision": precision,
        "threshold": f"{run.threshold_:.9g}",
        "width": str(size[0]),
        "height": str(size[1]),
        "backbone": ", ".join(sorted(name for name, _ in used)),
        "licence_of_weights": ", ".join(
            sorted({"unknown, from a file of the user" if file else backbone(name).licence for name, file in used})
        ),
    }


def _check_installed(format: Format) -> None:  # noqa: A002
    from importlib.util import find_spec

    needed = ["onnx", "onnxscript", "onnxruntime", *(["openvino"] if format == "openvino" else [])]
    if missing := [name for name in needed if find_spec(name) is None]:
        raise RequestError(f"{missing[0]} is not installed, which export needs; run: pip install 'blemish[{format}]'")


def _images_of(run: Run, images: Any, size: tuple[int, int] | None) -> ImageSet:
    """Images of one size to compare on, spread over the ranking of the Run. Raises `RequestError` if there are none."""
    if images is None:
        images = _paths_of(run)
    found = ImageSet.of(images, decoding=run.decoding, find_range=False)
    wanted = size or Counter(found.sizes[name] for name in found.ids).most_common(1)[0][0]
    if max(wanted) >= 2 * WORKING_SIDE and not run.detector.whole_pixels:
        raise RequestError(
            f"Images of {wanted[0]}x{wanted[1]} pixels are averaged over blocks of pixels as they are read, which an "
            f"exported model does not do: fit with `tile`, or give images below {2 * WORKING_SIDE} pixels a side, "
            "with `size`."
        )
    alike = [name for name in found.ids if found.sizes[name] == wanted][:COMPARED]
    if len(alike) < 2:
        raise RequestError(
            f"{len(alike)} of the {len(found)} images looked at have {wanted[0]}x{wanted[1]} pixels; an exported "
            "model is compared with torch on at least 2: give a folder of such images with `images`."
        )
    return found.subset(alike)


def _paths_of(run: Run) -> list[Path | str]:
    import pandas as pd

    root = run.about.get("image_root")
    names = (
        [] if run.folder is None else pd.read_csv(run.folder / SCORES, usecols=["path"])["path"].astype(str).tolist()
    )
    step = max(1, len(names) // (4 * COMPARED))
    if root and is_url(root):
        return [joined(root, name) for name in names[::step]]
    paths = [Path(root or "", name) for name in names[::step]]
    there: list[Path | str] = [path for path in paths if path.is_file()]
    if not there:
        raise RequestError(
            f"The images of the Run are not where they were ({root or 'arrays in memory'}); give a folder of such "
            "images with `images`."
        )
    return there


def _write_training_scores(run: Run, folder: Path) -> None:
    if run.folder is not None:
        (folder / SCORES).write_bytes((run.folder / SCORES).read_bytes())
    else:
        run.scores.to_csv(folder / SCORES, run.threshold_)


def write_triton(folder: Path, *, size: tuple[int, int], grid: tuple[int, int], masked: bool) -> None:
    """Leave `triton`/blemish/config.pbtxt and `1/model.onnx` in the folder of an export.

    `size` is (height, width) of the images, `grid` (rows, columns) of the map; it is `masked` if it takes masks.
    `tritonserver --model-repository` takes the folder `triton`.
    """
    target = folder / TRITON_FOLDER / TRITON_NAME
    (target / "1").mkdir(parents=True)
    shutil.copyfile(folder / MODEL_FILES["onnx"][0], target / "1" / "model.onnx")
    (target / "config.pbtxt").write_text(_triton_config(size, grid, masked), encoding="utf-8")


def _triton_config(size: tuple[int, int], grid: tuple[int, int], masked: bool) -> str:
    # Score and flag are one value an image without a separate axis, which Triton writes as a reshape to nothing.
    shapes = {name: f"dims: [ {grid[0]}, {grid[1]} ]" if name == "map" else "dims: [ 1 ] reshape { shape: [ ] }"
              for name in OUTPUTS}  # fmt: skip
    outputs = ",\n".join(f'  {{ name: "{name}" data_type: {TRITON_KINDS[name]} {shapes[name]} }}' for name in OUTPUTS)
    inputs = f'  {{ name: "{INPUT}" data_type: TYPE_UINT8 dims: [ {size[0]}, {size[1]}, 3 ] }}'
    inputs += f',\n  {{ name: "{MASK}" data_type: TYPE_BOOL dims: [ {SIDE}, {SIDE} ] }}' if masked else ""
    return f"""name: "{TRITON_NAME}"
backend: "onnxruntime"
max_batch_size: {TRITON_BATCH}
input [
{inputs}
]
output [
{outputs}
]
dynamic_batching {{ }}
"""
