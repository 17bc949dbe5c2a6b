"""An exported detector: one graph from pixels to score, map and decision, run by ONNX Runtime or OpenVINO, not torch.

`deploy/export.py` writes what is read here.
"""

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
from numpy.typing import NDArray

from blemish.detectors import Detector, State
from blemish.detectors.parts.regions_of_interest import roi_masks
from blemish.images import ImageSet
from blemish.images.roi import SIDE
from blemish.machine.errors import RequestError, UnreadableImageError, none_read
from blemish.machine.runtime import in_threads, runtime
from blemish.runs.artifact import checked_bytes
from blemish.scores import Scores

Format = Literal["onnx", "openvino"]
FORMATS: tuple[Format, ...] = ("onnx", "openvino")
MODEL_FILES = {"onnx": ("model.onnx",), "openvino": ("model.xml", "model.bin")}
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino"}
INPUT, MASK, OUTPUTS = "images", "mask", ("score", "flagged", "map")
KIND = "export"  # of `config.json`
Arrays = tuple[NDArray[Any], ...]
Graph = Callable[..., Arrays]
"""Images (B, H, W, 3) uint8, and masks (B, R, R) bool if it takes some, to `OUTPUTS`.

It may be called from several threads at once.
"""
CHUNK = 64  # images between two reports of progress


@dataclass(kw_only=True)
class ExportedModel(Detector):
    """A detector that was exported: it scores images of one size, and can neither learn nor be saved.

    Attributes
    ----------
    graph : the loaded model.
    format : what runs it.
    size : (height, width) in pixels of the images it takes.
    masked : whether it takes masks of where to look, which images of its Run differ in.
    box : where an image is in the map's grid, see `Scores`.
    scale : (low, high), the levels that the graph's map has as 0 and 1.
    """

    graph: Graph = field(repr=False)
    format: Format = "onnx"
    size: tuple[int, int] = (0, 0)
    masked: bool = False
    box: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0)
    scale: tuple[float, float] = (0.0, 1.0)

    name: ClassVar[str] = "exported"
    summary: ClassVar[str] = "a detector as one graph for ONNX Runtime or OpenVINO"
    source: ClassVar[str] = "blemish export"

    @classmethod
    def of(cls, folder: Path, config: dict[str, Any]) -> "ExportedModel":
        """The model in `folder`. Raises `RequestError` if it was changed, or what runs it is not installed."""
        names = MODEL_FILES[config["format"]]
        data = [checked_bytes(folder, config, name) for name in names]
        return cls(
            graph=graph_of(config["format"], data, runtime().threads),
            format=config["format"],
            size=(int(config["size"][0]), int(config["size"][1])),
            masked=bool(config.get("mask")),
            box=tuple(config["box"]),
            scale=(config["map_scale"]["low"], config["map_scale"]["high"]),
        )

    @property
    def whole_pixels(self) -> bool:
        """See `Detector`. The size of an image tells whether the graph takes it."""
        return True

    def score(self, images: ImageSet) -> Scores:
        """See `Detector`. Raises `RequestError` for images of another size."""
        height, width = self.size
        if other := [name for name in images.ids if images.sizes[name] != (width, height)]:
            size = "x".join(map(str, images.sizes[other[0]]))
            raise RequestError(
                f"The exported model takes images of {width}x{height} pixels, and {len(other)} of {len(images)} have "
                f"another size, such as '{other[0]}' with {size}; export again with `size` {size}, or score with "
                "the Run itself."
            )

        def one(name: str) -> Arrays | str:
            try:
                masks = (looking_masks(images, (name,)),) if self.masked else ()
                return self.graph(images.read(name, full=True)[None], *masks)
            except UnreadableImageError as error:
                return str(error)

        found: list[Arrays] = []
        ids, skipped = [], {}
        for start in range(0, len(images), CHUNK):
            names = images.ids[start : start + CHUNK]
            with closing(in_threads(one, names, runtime().threads)) as results:
                for name, result in zip(names, results, strict=True):
                    if isinstance(result, str):
                        skipped[name] = result
                    else:
                        ids.append(name)
                        found.append(result)
            runtime().progress("scoring", start + len(names), len(images))
        if not ids:
            raise none_read(len(images), skipped)
        score, _, level = (np.concatenate(each) for each in zip(*found, strict=True))
        low, high = self.scale
        return Scores(
            tuple(ids),
            score.astype(np.float32),
            (level * (high - low) + low).astype(np.float32),
            np.tile(np.array(self.box, dtype=np.float32), (len(ids), 1)),
            np.tile(np.array([width, height]), (len(ids), 1)),
            skipped,
        )

    def fit(self, images: ImageSet) -> NoReturn:  # noqa: ARG002
        """Refused."""
        raise RequestError("An exported model only scores; fit a detector and export that.")

    def state(self) -> State:
        """Refused."""
        raise RequestError("An exported model cannot be saved again; copy its folder.")

    def restore(self, state: State) -> NoReturn:  # noqa: ARG002
        """Refused."""
        raise RequestError("An exported model is loaded from its folder; see `blemish.load`.")


def looking_masks(images: ImageSet, ids: Sequence[str]) -> NDArray[np.bool_]:
    """Where to look in each of `ids`, (N, R, R), as a graph takes it."""
    masks = roi_masks(images, ids)
    whole = np.ones((len(ids), SIDE, SIDE), dtype=np.bool_)
    return whole if masks is None else whole & masks.numpy()


def graph_of(kind: Format, data: Sequence[bytes], threads: int) -> Graph:
    """The graph in the bytes of its files, for up to `threads` calls at a time, one core each.

    One image a core keeps its activations in the core's cache, and its score does not depend on the others'. Raises
    `RequestError` if its runtime is not installed or does not take it.
    """
    run = _onnx if kind == "onnx" else _openvino
    try:
        return run(data, threads)
    except ImportError:
        raise RequestError(
            f"{PACKAGES[kind]} is not installed, which runs models of the format '{kind}'; run: "
            f"pip install 'blemish[{kind}]'"
        ) from None
    except RuntimeError as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise RequestError(f"{PACKAGES[kind]} does not take the model ({reason}); export it again.") from error


def _onnx(data: Sequence[bytes], threads: int) -> Graph:  # noqa: ARG001 - sessions take any number of calls
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3  # messages on its own optimisations
    try:
        session = onnxruntime.InferenceSession(data[0], options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its own classes, none of them public
        raise RuntimeError(str(error)) from error
    return lambda *arrays: tuple(session.run(list(OUTPUTS), dict(zip((INPUT, MASK), arrays, strict=False))))


def _openvino(data: Sequence[bytes], threads: int) -> Graph:
    from threading import local

    openvino = import_openvino()
    core = openvino.Core()
    model = core.read_model(data[0], data[1])
    compiled = core.compile_model(
        model,
        "CPU",
        {"INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": threads, "INFERENCE_NUM_THREADS": threads},
    )
    mine = local()

    def graph(*arrays: NDArray[Any]) -> Arrays:
        if not hasattr(mine, "request"):
            mine.request = compiled.create_infer_request()
        found = mine.request.infer(dict(zip((INPUT, MASK), map(np.ascontiguousarray, arrays), strict=False)))
        return tuple(found[name].copy() for name in OUTPUTS)

    return graph


def import_openvino() -> Any:
    """The package, its telemetry shut out: it would send the usage of some functions, and it asks nobody."""
    # With the package absent openvino puts a stub of its own in its place; ours to decide only where it is not in use.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return import_module("openvino")
