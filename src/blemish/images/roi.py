"""The region of interest: what is outside of it is neither learned from nor scored."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from blemish.machine.errors import RequestError

SIDE = 256  # cells of a mask, each way, whatever the size of the images
SUFFIX = ".png"
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Roi:
    """One mask for all images of an aligned product, or one per image.

    Attributes
    ----------
    one : (SIDE, SIDE) bool over the whole image; None where each image has its own.
    folder : where the masks of the images are, `<path of the image>.png`; an image without one counts as a whole.
    """

    one: Mask | None = None
    folder: Path | None = None
    _read: dict[str, Mask] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def read(cls, path: str | Path) -> "Roi":
        """A mask file, white inside and black outside, or a folder of them. Raises `RequestError`."""
        path = Path(path).expanduser()
        if path.is_dir():
            if not any(path.rglob(f"*{SUFFIX}")):
                raise RequestError(f"'{path}' holds no masks; a mask is called as its image with {SUFFIX} behind it.")
            return cls(folder=path)
        return cls(one=_mask(path))

    def of(self, name: str) -> Mask:
        """The mask of an image, (SIDE, SIDE). Raises `RequestError` for one that cannot be read."""
        if self.one is not None or self.folder is None:
            return self.one if self.one is not None else np.ones((SIDE, SIDE), dtype=np.bool_)
        if name not in self._read:
            path = self.folder / f"{name}{SUFFIX}"
            inside = path.resolve().is_relative_to(self.folder.resolve())
            self._read[name] = _mask(path) if inside and path.is_file() else np.ones((SIDE, SIDE), dtype=np.bool_)
        return self._read[name]

    def renamed(self, sources: Mapping[str, str]) -> "Roi":
        """The same for images made from others: by new id, the id of the image whose mask it has."""
        if self.one is not None:
            return self
        return Roi(folder=self.folder, _read={new: self.of(old) for new, old in sources.items()})

    @cached_property
    def key(self) -> str:
        """What tells this region from others, as long as no mask in a folder changes."""
        if self.one is not None:
            return hashlib.sha256(self.one.tobytes()).hexdigest()[:16]
        files = sorted(self.folder.rglob(f"*{SUFFIX}")) if self.folder else []
        return hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files)).hexdigest()[:16]


def _mask(path: Path) -> Mask:
    try:
        with Image.open(path) as image:
            small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
    except FileNotFoundError:
        raise RequestError(f"The mask '{path}' does not exist; give a picture, white where to look.") from None
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise RequestError(f"The mask '{path}' cannot be read ({error}); give a picture.") from None
    mask: Mask = np.asarray(small) >= 128
    if not mask.any():
        raise RequestError(f"The mask '{path}' is black all over; it must be white where to look.")
    return mask
