"""A Run's scoring as a graph in a file: ONNX from torch, its convolutions in 8 bits, and OpenVINO's own format."""

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blemish.machine.errors import JobError
from blemish.runs.exported import INPUT, MODEL_FILES, OUTPUTS, import_openvino

SPLIT = np.float32(2**13 + 1)  # float32 has 13 bits more than float16
LARGEST_BATCH = 1024


class ExportedScoring(nn.Module):
    """All of scoring and the decision: uint8 RGB (B, H, W, 3), 0..255, to `OUTPUTS`.

    These are the scores (B,) float32, higher is worse; flagged (B,) bool, above the threshold; and the map
    (B, h, w) float32, of which 0 is an ordinary patch and 1 a clearly anomalous one, neither clamped.
    """

    def __init__(self, module: nn.Module, threshold: float, scale: tuple[float, float]) -> None:
        super().__init__()
        self.module, self.threshold, self.scale = module, threshold, scale

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        score, grid = self.module(images.permute(0, 3, 1, 2))
        low, high = self.scale
        return score, score > self.threshold, (grid - low) / (high - low)


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


def write_onnx(scoring: ExportedScoring, example: NDArray[np.uint8], path: Path) -> None:
    """Write the graph for any batch of images like `example`, uint8 RGB (B, H, W, 3), as ONNX."""
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


def quantise(path: Path, pixels: NDArray[np.uint8]) -> None:
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


def as_openvino(folder: Path) -> None:
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
