"""A Run's scoring as a graph in a file: ONNX from torch, its convolutions in 8 bits, and OpenVINO's own format."""

import io
import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from blemish.machine.errors import JobError
from blemish.runs.exported import INPUT, MASK, MODEL_FILES, OUTPUTS, Arrays, import_openvino

SPLIT = np.float32(2**13 + 1)  # float32 has 13 bits more than float16
LARGEST_BATCH = 1024


class ExportedScoring(nn.Module):
    """All of scoring and the decision: uint8 RGB (B, H, W, 3), 0..255, to `OUTPUTS`.

    These are the scores (B,) float32, higher is worse; flagged (B,) bool, above the threshold; and the map
    (B, h, w) float32, of which 0 is an ordinary patch and 1 a clearly anomalous one, neither clamped. `mask` (B, R, R)
    bool is where to look in each image, for a Run whose images may hold pixels without a measurement.
    """

    def __init__(self, module: nn.Module, threshold: float, scale: tuple[float, float]) -> None:
        super().__init__()
        self.module, self.threshold, self.scale = module, threshold, scale

    def forward(self, images: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """See the class."""
        score, grid = self.module(images.permute(0, 3, 1, 2), mask)
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


def without_in_place(module: nn.Module) -> None:
    """Let activations leave their input as it is: the exporter spends a quarter of its time on those that do not."""
    for part in module.modules():
        if getattr(part, "inplace", False):
            part.inplace = False  # type: ignore[assignment]


def write_onnx(scoring: ExportedScoring, example: Arrays, path: Path) -> None:
    """Write the graph for any batch of images like `example` as ONNX.

    That is uint8 RGB (B, H, W, 3), and their masks (B, R, R) bool if the graph is to take some.
    """
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    without_in_place(scoring)
    with _silenced(), torch.no_grad():
        program = torch.onnx.export(
            scoring,
            tuple(map(torch.from_numpy, example)),
            dynamo=True,
            dynamic_shapes=({0: batch}, {0: batch})[: len(example)],
            input_names=[INPUT, MASK][: len(example)],
            output_names=list(OUTPUTS),
            verbose=False,
        )
        if program is None:
            raise JobError("torch could not export the model; this is a fault, report it.")
        program.save(path)


def quantise(path: Path, images: Arrays) -> None:
    """Convolutions in 8 bits, ranges found on images of the Run; what compares patches stays exact.

    `images` are as the `example` of `write_onnx`.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Pixels(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = zip(*images, strict=True)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            one = next(self.rest, None)
            return None if one is None else dict(zip((INPUT, MASK), (each[None] for each in one), strict=False))

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


def write_metadata(path: Path, values: Mapping[str, str]) -> None:
    """Have an ONNX file say what it is: its `metadata_props`, in place of what the exporters write."""
    import onnx

    model = onnx.load(path)
    model.producer_name, model.producer_version = "blemish", values["version"]
    onnx.helper.set_model_props(model, dict(values))
    onnx.save(model, path)


def as_openvino(folder: Path) -> None:
    """The ONNX file of `folder` as OpenVINO's own, in its place, to be run in float32 wherever it is opened.

    On processors with bfloat16, and on GPUs, OpenVINO rounds what passes between its nodes to 8 or 11 bits unless it is
    told otherwise, and distances of like patches drown in that: good parts score as bad ones. Nodes that are marked as
    precise keep float32, which is in the file; a mark is lost where the runtime puts another node in a node's place, so
    that such nodes are written here as what they would become.
    """
    openvino = import_openvino()
    from openvino import opset11
    from openvino._offline_transformations import apply_moc_transformations

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
    apply_moc_transformations(model, cf=True, smart_reshape=False)
    _settle(model)
    openvino.save_model(model, folder / MODEL_FILES["openvino"][0], compress_to_fp16=False)
    _mark_as_precise(folder / MODEL_FILES["openvino"][0])
    source.unlink()


def _settle(model: Any) -> None:
    """Put in place of nodes of float32 what OpenVINO's plugin for CPUs would put there."""
    from openvino import opset11 as op
    from openvino.utils.node_factory import NodeFactory

    minus = op.constant(np.float32(-1))
    for node in model.get_ordered_ops():
        kind = node.get_type_name()
        if node.get_output_size() != 1 or node.get_output_element_type(0).to_string() != "f32":
            continue
        new: Any = None
        shape = [side.get_length() if side.is_static else -1 for side in node.output(0).get_partial_shape()]
        if kind == "Divide":
            new = op.multiply(node.input_value(0), op.power(node.input_value(1), minus))
        elif kind == "Subtract":
            new = op.add(node.input_value(0), op.multiply(node.input_value(1), minus))
        elif kind in ("Unsqueeze", "Squeeze") and shape.count(-1) <= 1:
            new = op.reshape(node.input_value(0), op.constant(np.array(shape, dtype=np.int64)), special_zero=False)
        elif kind == "Interpolate" and node.get_attributes()["mode"] == "linear_onnx":
            before = [side.get_length() for side in list(node.input(0).get_partial_shape())[2:]]
            sides, axes = np.array(shape[2:], dtype=np.int64), np.array([2, 3], dtype=np.int64)
            scales = (sides / np.array(before)).astype(np.float32)
            inputs = [node.input_value(0), *(op.constant(each).output(0) for each in (sides, scales, axes))]
            settings = {**node.get_attributes(), "pads_begin": [0] * 4, "pads_end": [0] * 4}
            new = NodeFactory("opset4").create("Interpolate", inputs, settings)
        elif kind == "MatMul" and len(shape) == 2 and _by_constant(node):
            weights = node.input_value(1).get_node().data  # (N, D), or (D, N)
            weights = weights if node.get_attributes()["transpose_b"] else weights.T
            rows, width = weights.shape
            pixels = op.reshape(node.input_value(0), op.constant(np.array([-1, width, 1, 1])), special_zero=False)
            kernels = op.constant(np.ascontiguousarray(weights.reshape(rows, width, 1, 1), dtype=np.float32))
            found = op.convolution(pixels, kernels, [1, 1], [0, 0], [0, 0], [1, 1])
            new = op.reshape(found, op.constant(np.array([-1, rows])), special_zero=False)
        if new is not None:
            node.output(0).replace(new.output(0))
    model.validate_nodes_and_infer_types()


def _by_constant(product: Any) -> bool:
    """Whether a matrix product takes its first factor as it is and its second one from the file."""
    second = product.input_value(1).get_node().get_type_name()
    return second == "Constant" and not product.get_attributes()["transpose_a"]


def _mark_as_precise(path: Path) -> None:
    """Let every node of a model in OpenVINO's format keep float32."""
    tree = ElementTree.parse(path)  # noqa: S314 - OpenVINO has just written it
    for layer in tree.getroot().iter("layer"):
        about = layer.find("rt_info")
        if about is None:
            about = ElementTree.Element("rt_info")
            layer.insert(sum(child.tag == "data" for child in layer), about)
        ElementTree.SubElement(about, "attribute", {"name": "precise", "version": "0"})
    tree.write(path, encoding="utf-8", xml_declaration=True)
