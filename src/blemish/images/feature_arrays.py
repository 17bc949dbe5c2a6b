"""Features in place of images: one array of numbers an image, read from disk as needed."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from blemish.images.finding import names_in
from blemish.machine.errors import RequestError
from blemish.machine.runtime import runtime

ClassToken = Literal["none", "first", "repeated"]
Array = NDArray[np.floating[Any]]
LARGEST = 1e6  # beyond, squared distances lose what float32 can hold


@dataclass(frozen=True)
class FeatureArray:
    """The features of one image, a row of the array.

    Attributes
    ----------
    tokens : (P or P + 1, width) floats, on disk until read.
    grid : (rows, columns) of the P patches.
    class_token : "none" beside the patches; "first", before them; or "repeated" in the first half of every patch, as
        FUN-AD's features [global ; patch] come.
    """

    tokens: Array
    grid: tuple[int, int]
    class_token: ClassToken

    @property
    def widths(self) -> tuple[int, int]:
        """Of the global vector and of a patch."""
        width = int(self.tokens.shape[-1])
        return (width // 2, width - width // 2) if self.class_token == "repeated" else (width, width)

    def patches(self) -> NDArray[np.float32]:
        """(rows, columns, width of a patch) float32."""
        tokens = np.asarray(self.tokens, dtype=np.float32)
        if self.class_token == "first":
            tokens = tokens[1:]
        elif self.class_token == "repeated":
            tokens = tokens[:, self.widths[0] :]
        return tokens.reshape(*self.grid, -1)

    def whole(self) -> NDArray[np.float32]:
        """The global vector, (width,) float32: the class token, or the mean patch where there is none."""
        if self.class_token == "none":
            mean: NDArray[np.float32] = self.patches().mean(axis=(0, 1))
            return mean
        return np.asarray(self.tokens[0, : self.widths[0]], dtype=np.float32)


def read_features(
    source: str | Path | Array,
    ids: Sequence[str] | None,
    grid: tuple[int, int] | None,
    class_token: ClassToken,
) -> tuple[list[str], list[FeatureArray], list[str]]:
    """Ids, features and content hashes of the images in an array (N, P, D), or a .npy file that holds one.

    `class_token` says where the class token is: see `FeatureArray`. P is a square unless `grid` gives (rows, columns).
    An array (N, D) is one feature an image. Raises `RequestError`.
    """
    array, named = _opened(source), _called(source)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if array.ndim == 2:
        array = array[:, None]
    if array.ndim != 3 or 0 in array.shape or array.dtype not in (np.float16, np.float32, np.float64):
        raise RequestError(
            f"{named} is {array.dtype} of shape {array.shape}; features are floats of shape (images, patches, width)."
        )
    names = [f"image-{index:06d}" for index in range(len(array))] if ids is None else list(ids)
    _check_ids(names, len(array), named)
    if class_token not in get_args(ClassToken):
        raise RequestError(f"`class_token` is {', '.join(get_args(ClassToken))}; got '{class_token}'.")
    shape = _grid_of(array.shape[1] - (class_token == "first"), grid, class_token, named)
    content = []
    for index, tokens in enumerate(array):
        _check_values(tokens, names[index], named)
        if class_token == "repeated":
            _check_repeated(tokens, names[index], named)
        content.append(hashlib.sha256(repr(tokens.shape).encode() + np.ascontiguousarray(tokens).data).hexdigest())
        if index % 16 == 15 or index == len(array) - 1:
            runtime().progress("reading features", index + 1, len(array))
    return names, [FeatureArray(tokens, shape, class_token) for tokens in array], content


def read_ids(path: str | Path) -> list[str]:
    """The ids of a list: one per line of a .txt file, or the column `path` or `id` of a .csv file."""
    path = Path(path).expanduser()
    try:
        return names_in(path, columns=("path", "id"))
    except OSError as error:
        raise RequestError(f"The ids '{path}' cannot be read ({error.strerror}); give another file.") from None


def parsed_grid(text: str) -> tuple[int, int]:
    """Rows and columns of a text such as 28x28. Raises `RequestError`."""
    rows, _, columns = text.lower().partition("x")
    if not (rows.isdecimal() and columns.isdecimal() and int(rows) and int(columns)):
        raise RequestError(f"`grid` takes ROWSxCOLUMNS, such as 28x28; got '{text}'.")
    return int(rows), int(columns)


def _opened(source: str | Path | Array) -> Array:
    if isinstance(source, np.ndarray):
        return source
    path = Path(source).expanduser()
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise RequestError(f"The features '{path}' do not exist; give a .npy file.") from None
    except (OSError, ValueError, EOFError) as error:
        raise RequestError(
            f"The features '{path}' cannot be read ({error}); save one array of floats with numpy.save."
        ) from None
    if not isinstance(array, np.ndarray):
        raise RequestError(f"'{path}' holds several arrays; save the features alone with numpy.save.")
    return array


def _called(source: str | Path | Array) -> str:
    return "The array of features" if isinstance(source, np.ndarray) else f"'{source}'"


def _check_ids(ids: Sequence[str], count: int, named: str) -> None:
    if len(ids) != count:
        first = f", the first is '{ids[0]}'" if ids else ""
        raise RequestError(
            f"There are {len(ids)} ids for the {count} images of {named}{first}; give one for each, in order. Their "
            "column in a table is headed 'path' or 'id'."
        )
    seen: set[str] = set()
    for name in ids:
        if not isinstance(name, str):
            raise RequestError(f"The ids must be texts; got {name!r}, of type {type(name).__name__}.")
        if not name or name in seen:
            raise RequestError(f"The id '{name}' occurs twice or is empty; each image needs its own id.")
        seen.add(name)


def _grid_of(patches: int, grid: tuple[int, int] | None, class_token: str, named: str) -> tuple[int, int]:
    """The grid of the patches."""
    beside = " beside the class token" if class_token == "first" else ""
    if grid is not None:
        if patches != math.prod(grid):
            raise RequestError(
                f"{named} has {patches} patches an image{beside}, and `grid` is {grid[0]}x{grid[1]}; give another "
                "`grid`, or set `class_token` to where the class token is."
            )
        return grid
    side = math.isqrt(max(patches, 0))
    if not side or side * side != patches:
        raise RequestError(
            f"{named} has {patches} patches an image{beside}, which is no square; give `grid` ROWSxCOLUMNS, or say "
            "with `class_token` where the class token is, and leave register tokens out."
        )
    return side, side


def _check_repeated(tokens: Array, name: str, named: str) -> None:
    half = tokens.shape[1] // 2
    if tokens.shape[1] % 2 or not (tokens[:, :half] == tokens[:1, :half]).all():
        raise RequestError(
            f"`class_token` is repeated, and the first halves of the patches of '{name}' in {named} are not equal; "
            "give another."
        )


def _check_values(tokens: Array, name: str, named: str) -> None:
    largest = float(np.abs(tokens).max())  # not a number if one of them is none
    if not largest <= LARGEST:
        what = f"{largest:.3g} in size" if np.isfinite(largest) else "no finite number"
        raise RequestError(
            f"{named} holds a value that is {what}, at '{name}'; features must be finite and at most {LARGEST:.0e}."
        )
