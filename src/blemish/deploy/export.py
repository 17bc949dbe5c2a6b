"""`export`: a Run as one graph from pixels to score, map and decision, measured against torch before it is left."""

import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from blemish.artifact import FILES, SCORES, hashes, write_config
from blemish.decoding import WORKING_SIDE
from blemish.detectors import FeatureDetector
from blemish.detectors.scoring import ScoringModule
from blemish.errors import JobError, RequestError
from blemish.exported import FORMATS, INPUT, KIND, MODEL_FILES, OUTPUTS, Format, graph_of, import_openvino
from blemish.features.backbones import GIVEN
from blemish.features.extract import box_in_grid
from blemish.images import ImageSet
from blemish.run import KNOWN_FILE, Run, known_state, load, versions
from blemish.runtime import intra_op_threads, runtime, use_runtime
from blemish.transaction import whole_or_absent
from blemish.urls import is_url, joined

Precision = Literal["float32", "int8"]
SPLIT = np.float32(2**13 + 1)  # float32 has 13 bits more than float16
LARGEST_GAP = 1e-3  # of the interquartile range of the training scores, DESIGN.md
FEWEST_EQUAL, LEAST_CORRELATION = 0.95, 0.95  # of an int8 model: share of equal decisions, rank correlation
COMPARED = 64  # images that torch and the exported model are compared on
CALIBRATED = 32  # images that the ranges of an int8 model are found on
LARGEST_BATCH = 1024


@dataclass(frozen=True)
class Parity:
    """How far an exported model is from torch on images of the Run.

    Attributes
    ----------
    images : how many were compared.
    score : the largest difference of a score, in interquartile ranges of the training scores.
    map : the largest difference of a patch, in the levels from ordinary to clearly anomalous.
    equal_decisions : share of the images on which both decide alike, 0..1.
    rank_correlation : Spearman's, of the scores.
    """

    images: int
    score: float
    map: float
    equal_decisions: float
    rank_correlation: float


class ExportedScoring(nn.Module):
    """All of scoring and the decision: uint8 RGB (B, H, W, 3), 0..255, to `OUTPUTS`.

    These are the scores (B,) float32, higher is worse; flagged (B,) bool, above the threshold; and the map
    (B, h, w) float32, of which 0 is an ordinary patch and 1 a clearly anomalous one, neither clamped.
    """

    def __init__(self, module: ScoringModule, threshold: float, scale: tuple[float, float]) -> None:
        super().__init__()
        self.module, self.threshold, self.scale = module, threshold, scale

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        score, grid = self.module(images.permute(0, 3, 1, 2))
        low, high = self.scale
        return score, score > self.threshold, (grid - low) / (high - low)


def export(
    model: str | Path | Run,
    out: str | Path,
    *,
    format: Format = "onnx",  # noqa: A002 - the word a person types
    precision: Precision = "float32",
    size: tuple[int, int] | None = None,
    images: Any = None,
    force: bool = False,
    weights: str | Path | None = None,
    threads: int | None = None,
    progress: Any = None,
) -> Parity:
    """Leave the Run in `out` as one file for the line; `blemish.load(out)` scores with it without torch.

    Parameters
    ----------
    size : (width, height) of the images it will take; that of most images of the Run by default.
    precision : "int8" halves the time of the convolutions at some cost in exactness, which is measured.
    images : what to compare on, where the images of the Run are not where they were.

    Raises `RequestError` for detectors that cannot be exported, before anything is done; `JobError` if the exported
    model differs from torch by more than `LARGEST_GAP`.
    """
    if format not in FORMATS:
        raise RequestError(f"--format is {' or '.join(FORMATS)}; got '{format}'.")
    if precision not in ("float32", "int8"):
        raise RequestError(f"--precision is float32 or int8; got '{precision}'.")
    run = model if isinstance(model, Run) else load(model, weights)
    detector = exportable(run)
    _check_installed(format)
    with use_runtime(threads=threads, progress=progress), whole_or_absent(Path(out), force=force) as staging:
        looked_at = _images_of(run, images, size)
        whole = detector.whole_pixels
        width, height = looked_at.sizes[looked_at.ids[0]]
        pixels = np.stack([looked_at.read(name, full=whole) for name in looked_at.ids])
        scale = (run.map_scale.low, run.map_scale.high)
        scoring = ExportedScoring(detector.module(), run.threshold_, scale).eval()
        runtime().progress("exporting", 0, 3)
        _write_onnx(scoring, pixels[:2], staging / MODEL_FILES["onnx"][0])
        if precision == "int8":
            _quantise(staging / MODEL_FILES["onnx"][0], pixels[:CALIBRATED])
        if format == "openvino":
            _as_openvino(staging)
        runtime().progress("exporting", 1, 3)
        data = [(staging / name).read_bytes() for name in MODEL_FILES[format]]
        graph = graph_of(format, data, 1)
        found = [graph(pixels[at : at + 1]) for at in range(len(pixels))]
        runtime().progress("exporting", 2, 3)
        parity = _compared(scoring, pixels, found, run.training_scores, run.threshold_)
        _check(parity, precision)
        save_file(known_state(run.known), staging / KNOWN_FILE)
        _write_training_scores(run, staging)
        drawn = next(view.pixels for view in detector.views if view.draws)
        working = next(spec.size or (1, 1) for spec in detector.feature_specs() if spec.pixels == drawn)
        config = {
            "kind": KIND,
            "format": format,
            "precision": precision,
            "size": [height, width],
            "box": box_in_grid((width, height), working),
            "input": INPUT,
            "outputs": OUTPUTS,
            "detector": {"name": detector.name},
            "decision": run.decision.to_json(),
            "decoding": asdict(run.decoding),
            "map_scale": asdict(run.map_scale),
            "parity": asdict(parity),
            "versions": versions(),
            FILES: hashes(staging, (*MODEL_FILES[format], SCORES, KNOWN_FILE)),
        }
        write_config(staging, config)
        runtime().progress("exporting", 3, 3)
    return parity


def exportable(run: Run) -> FeatureDetector:
    """The detector of a Run. Raises `RequestError` if it cannot become a graph, and says which can."""
    detector = run.detector
    if not isinstance(detector, FeatureDetector):
        raise RequestError(
            f"The detector '{detector.name}' cannot be exported: it is not made of patch features. Those of "
            "`blemish detectors` that look at features can."
        )
    if detector.backbone == GIVEN:
        raise RequestError("A Run on features that were handed in cannot be exported: it does not know the images.")
    return detector


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
            f"exported model does not do: fit with --tile, or hand in images below {2 * WORKING_SIDE} pixels a side, "
            "with --size."
        )
    alike = [name for name in found.ids if found.sizes[name] == wanted][:COMPARED]
    if len(alike) < 2:
        raise RequestError(
            f"{len(alike)} of the {len(found)} images looked at have {wanted[0]}x{wanted[1]} pixels; an exported "
            "model is compared with torch on at least 2: name a folder of such images with --images."
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
            f"The images of the Run are not where they were ({root or 'they were no files'}); name a folder of such "
            "images with --images."
        )
    return there


@contextmanager
def _silenced() -> Iterator[None]:
    """Without what the exporters tell of themselves."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _write_onnx(scoring: ExportedScoring, example: NDArray[np.uint8], path: Path) -> None:
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    with _silenced(), torch.no_grad():
        program = torch.onnx.export(
            scoring,
            (torch.from_numpy(example),),
            dynamo=True,
            dynamic_shapes=({0: batch},),
            input_names=[INPUT],
            output_names=list(OUTPUTS),
            verbose=False,
        )
        if program is None:
            raise JobError("torch could not export the model; this is a fault, report it.")
        program.save(path)


def _quantise(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Convolutions in 8 bits, ranges found on images of the Run; what compares patches stays exact."""
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Pixels(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter(pixels)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            image = next(self.rest, None)
            return None if image is None else {INPUT: image[None]}

    exact = path.with_name("exact.onnx")
    path.rename(exact)
    with _silenced():
        quantize_static(
            exact,
            path,
            Pixels(),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    exact.unlink()


def _as_openvino(folder: Path) -> None:
    """The ONNX file of `folder` as OpenVINO's own, in its place."""
    openvino = import_openvino()
    from openvino import opset11

    source = folder / MODEL_FILES["onnx"][0]
    model = openvino.Core().read_model(source.read_bytes())
    for each in model.get_ops():
        # Its reader of ONNX drops `antialias`; the same arithmetic goes by another name there.
        if each.get_type_name() == "Interpolate" and each.get_attributes().get("antialias"):
            shape = each.output(0).get_partial_shape()
            size = np.array([shape[axis].get_length() for axis in (2, 3)], dtype=np.int64)
            axes = np.array([2, 3], dtype=np.int64)
            resized = opset11.interpolate(
                each.input_value(0), size, mode="bilinear_pillow", shape_calculation_mode="sizes", axes=axes
            )
            each.output(0).replace(resized.output(0))
        # It drops the rounding to float16 and back, too, by which a patch that was learned has a distance of 0.
        # Veltkamp's split rounds to the same 11 bits in float32.
        if each.get_type_name() == "Convert" and each.get_output_element_type(0) == openvino.Type.f16:
            value = each.input_value(0)
            scaled = opset11.multiply(value, SPLIT)
            rounded = opset11.subtract(scaled, opset11.subtract(scaled, value))
            for after in each.output(0).get_target_inputs():
                after.get_node().output(0).replace(rounded.output(0))
    openvino.save_model(model, folder / MODEL_FILES["openvino"][0], compress_to_fp16=False)
    source.unlink()


def _compared(
    scoring: ExportedScoring,
    pixels: NDArray[np.uint8],
    found: Sequence[tuple[NDArray[Any], ...]],
    training: NDArray[np.float32],
    threshold: float,
) -> Parity:
    from scipy.stats import spearmanr

    with torch.inference_mode(), intra_op_threads(1):
        expected = [
            [each.numpy() for each in scoring(torch.from_numpy(pixels[at : at + 1]))] for at in range(len(pixels))
        ]
    score, flagged, level = (np.concatenate(each) for each in zip(*found, strict=True))
    wanted, decided, wanted_level = (np.concatenate(each) for each in zip(*expected, strict=True))
    spread = float(np.subtract(*np.percentile(training, (75, 25)))) or max(1.0, abs(threshold))
    constant = len(set(wanted.tolist())) < 2 or len(set(score.tolist())) < 2
    return Parity(
        len(pixels),
        float(np.abs(score - wanted).max() / spread),
        float(np.abs(level - wanted_level).max()),
        float((flagged == decided).mean()),
        1.0 if constant else float(spearmanr(score, wanted).statistic),
    )


def _check(parity: Parity, precision: Precision) -> None:
    if precision == "int8":
        if parity.equal_decisions < FEWEST_EQUAL or parity.rank_correlation < LEAST_CORRELATION:
            raise JobError(
                f"In int8 the model decides like torch on {parity.equal_decisions:.1%} of {parity.images} images, and "
                f"the ranks of its scores correlate by {parity.rank_correlation:.3f}; at least {FEWEST_EQUAL:.0%} and "
                f"{LEAST_CORRELATION} are asked for: leave out --precision."
            )
    elif not parity.score <= LARGEST_GAP:
        raise JobError(
            f"The exported model differs from torch by {parity.score:.1e} of the spread of the training scores, more "
            f"than {LARGEST_GAP:.0e}; take another format, or score with the Run itself."
        )


def _write_training_scores(run: Run, folder: Path) -> None:
    if run.folder is not None:
        (folder / SCORES).write_bytes((run.folder / SCORES).read_bytes())
    elif run.scores is not None:
        run.scores.to_csv(folder / SCORES, run.threshold_)
    else:
        raise RequestError("The Run holds neither scores nor a folder; export the folder that the fit left.")
