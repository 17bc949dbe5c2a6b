"""What a command looks at: images, or features that were made elsewhere."""

import os
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blemish.cli.console import check_exists
from blemish.machine.errors import RequestError

if TYPE_CHECKING:
    from blemish.images import ImageSet


def images_or_features(
    images: str | None, features: Path | None, ids: Path | None, grid: str | None, class_token: Any
) -> "str | ImageSet":
    """The folder, URL or list of images, or the ImageSet of the features. Raises `RequestError` unless there is one."""
    if images is not None and features is None:
        if ids or grid or class_token != "none":
            raise RequestError("--ids, --grid and --class-token need --features; images have their paths for ids.")
        check_exists(images)
        return images
    if features is None or images is not None:
        raise RequestError("Give either IMAGES, a folder or a list, or --features FILE.npy.")
    from blemish.images import ImageSet
    from blemish.images.feature_arrays import parsed_grid, read_ids

    return ImageSet.of_features(
        features,
        ids=read_ids(ids) if ids else None,
        grid=parsed_grid(grid) if grid else None,
        class_token=class_token,
    )


def out_beside(source: str | Path, ending: str, *, taken: bool = False) -> Path:
    """A folder for the results, named after what they are made of and beside it: parts/ -> parts-run.

    It is one that does not exist, parts-run-2 and so on, unless it may be `taken`. For a URL, for one image, which is
    among others, and where nothing can be written beside `source`, it is in the current directory.
    """
    from blemish.images.finding import is_image_file
    from blemish.images.urls import located

    place = located(source)
    if isinstance(place, Path):
        place = place if place.name and place.name != ".." else place.resolve()  # "." and "/" have no name
        parent, name = place.parent, place.stem if place.is_file() else place.name
        if (place.is_file() and is_image_file(place)) or not os.access(parent, os.W_OK):
            parent = Path()
    else:
        parent, name = Path(), place.rstrip("/").rpartition("/")[2]
    first = parent / f"{name or 'images'}-{ending}"
    if taken or not os.path.lexists(first):
        return first
    numbered = (first.with_name(f"{first.name}-{number}") for number in count(2))
    return next(each for each in numbered if not os.path.lexists(each))


def parsed_size(text: str) -> tuple[int, int]:
    """WIDTHxHEIGHT in pixels. Raises `RequestError`."""
    width, _, height = text.lower().partition("x")
    if not (width.isdigit() and height.isdigit() and int(width) and int(height)):
        raise RequestError(f"--size takes WIDTHxHEIGHT in pixels, such as 900x600; got '{text}'.")
    return int(width), int(height)
