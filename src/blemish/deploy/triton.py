"""An exported model as a model repository of NVIDIA's Triton Inference Server."""

import shutil
from pathlib import Path

from blemish.images.roi import SIDE
from blemish.runs.exported import INPUT, MASK, MODEL_FILES, OUTPUTS

FOLDER, NAME = "triton", "blemish"
LARGEST_BATCH = 16  # images scored together, as `serve` does by default
KINDS = dict(zip(OUTPUTS, ("TYPE_FP32", "TYPE_BOOL", "TYPE_FP32"), strict=True))


def write_triton(folder: Path, *, size: tuple[int, int], grid: tuple[int, int], masked: bool) -> None:
    """Leave `triton`/blemish/config.pbtxt and `1/model.onnx` in the folder of an export.

    `size` is (height, width) of the images, `grid` (rows, columns) of the map; it is `masked` if it takes masks.
    `tritonserver --model-repository` takes the folder `triton`.
    """
    target = folder / FOLDER / NAME
    (target / "1").mkdir(parents=True)
    shutil.copyfile(folder / MODEL_FILES["onnx"][0], target / "1" / "model.onnx")
    (target / "config.pbtxt").write_text(_config(size, grid, masked), encoding="utf-8")


def _config(size: tuple[int, int], grid: tuple[int, int], masked: bool) -> str:
    # Score and flag are one value an image without an axis of its own, which Triton writes as a reshape to nothing.
    shapes = {name: f"dims: [ {grid[0]}, {grid[1]} ]" if name == "map" else "dims: [ 1 ] reshape { shape: [ ] }"
              for name in OUTPUTS}  # fmt: skip
    outputs = ",\n".join(f'  {{ name: "{name}" data_type: {KINDS[name]} {shapes[name]} }}' for name in OUTPUTS)
    inputs = f'  {{ name: "{INPUT}" data_type: TYPE_UINT8 dims: [ {size[0]}, {size[1]}, 3 ] }}'
    inputs += f',\n  {{ name: "{MASK}" data_type: TYPE_BOOL dims: [ {SIDE}, {SIDE} ] }}' if masked else ""
    return f"""name: "{NAME}"
backend: "onnxruntime"
max_batch_size: {LARGEST_BATCH}
input [
{inputs}
]
output [
{outputs}
]
dynamic_batching {{ }}
"""
