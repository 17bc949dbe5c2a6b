"""Datasets by their layout on disk. A layout is a file here and a line in `LAYOUTS`."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from blemish.benchmark.datasets import classes, folder, mvtec, realiad, visa
from blemish.benchmark.datasets.category import GOOD, Category, Layout, Sample, folders_in, images_in, read_mask
from blemish.machine.errors import RequestError

PUBLISHED = (mvtec.LAYOUT, visa.LAYOUT, realiad.LAYOUT, classes.LAYOUT)
LAYOUTS = (*PUBLISHED, folder.LAYOUT)
NEARLY = 0.5  # of its signs: a folder with as many counts as a damaged dataset, not as a folder of images
SUGGESTED_FOLDERS = 300  # looked into at most for a dataset that lies elsewhere

__all__ = ["GOOD", "Category", "Sample", "open_datasets", "read_mask", "recognised"]


def open_datasets(root: str | Path, names: Sequence[str] | None = None) -> list[Category]:
    """The categories at `root`, or those that `names` call: CATEGORY, DATASET or DATASET/CATEGORY.

    Raises `RequestError` if there is no dataset, or no such category.
    """
    root = Path(root).expanduser()
    found = recognised(root)
    if not names:
        return found
    chosen: dict[str, Category] = {}
    for name in names:
        matching = [each for each in found if name in (each.name, each.dataset, str(each))]
        if not matching:
            held = ", ".join(dict.fromkeys(str(each) for each in found))
            raise RequestError(f"There is no category '{name}' at '{root}'; there are {held}.")
        chosen |= {f"{each.root}:{each}": each for each in matching}
    return list(chosen.values())


def recognised(root: Path) -> list[Category]:
    """Every category at `root` and in the folders directly below it. Raises `RequestError` if there is none.

    A folder of images that nobody labelled is one category without a test set.
    """
    if not root.is_dir():
        raise RequestError(f"'{root}' is not a folder; name the folder that holds the dataset.")
    try:
        if found := _shipped(root):
            return found
        if elsewhere := _elsewhere(root):
            raise RequestError(f"'{root}' is no dataset, but '{elsewhere}' holds one; name that folder.")
        if labelled := folder.categories(root):
            return labelled
        if _nearest(root)[0] < NEARLY and (plain := folder.unlabelled(root)):
            return plain
    except PermissionError as error:
        raise RequestError(f"'{error.filename}' cannot be opened; fix its permissions.") from None
    raise RequestError(_not_recognised(root))


def _shipped(root: Path) -> list[Category]:
    """The categories of published layouts at `root`, and those below it that are not part of them."""
    found = _at(root)
    if any(each.root != root for each in found):  # `root` is itself a category
        return found
    taken = {each.path.partition("/")[0] for category in found for each in category.samples.values()}
    taken |= {each.name for each in found}  # one that is empty is not to be looked for a second time
    return found + [each for below in folders_in(root) if below.name not in taken for each in _at(below)]


def _at(root: Path) -> list[Category]:
    return [category for layout in PUBLISHED for category in layout.read(root)]


def _elsewhere(root: Path) -> Path | None:
    """The dataset that `root` lies in, or one that lies two levels down."""
    here = root.resolve()
    for above in (here.parent, here.parent.parent):
        for category in _at(above):
            if any((category.root / path).is_relative_to(here) for path in category.samples):
                return above
    inner = [deep for below in folders_in(root)[:SUGGESTED_FOLDERS] for deep in folders_in(below)]
    return next((deep for deep in inner[:SUGGESTED_FOLDERS] if _at(deep)), None)


def _nearest(root: Path) -> tuple[float, Layout, Mapping[str, bool]]:
    """How much of a layout's signs `root` has, 0..1, for the layout it resembles most."""
    rated = [(layout, layout.signs(root)) for layout in LAYOUTS]
    layout, signs = max(rated, key=lambda each: sum(each[1].values()) / len(each[1]))
    return sum(signs.values()) / len(signs), layout, signs


def _not_recognised(root: Path) -> str:
    wanted = "; ".join(f"{layout.name}: {layout.looked_for}" for layout in LAYOUTS)
    inner, images = folders_in(root), images_in(root)
    named = ", ".join(path.name for path in inner[:6]) + (", ..." if len(inner) > 6 else "")
    others = sum(path.is_file() for path in root.iterdir()) - len(images)
    held = f"{len(inner)} folders{f' ({named})' if inner else ''}, {len(images)} images and {others} other files"
    share, layout, signs = _nearest(root)
    has, lacks = ([sign for sign, there in signs.items() if there == kind] for kind in (True, False))
    nearest = f" Nearest is {layout.name}: it has {', '.join(has)} but not {', '.join(lacks)}." if share else ""
    return f"No dataset was recognised at '{root}', which holds {held}.{nearest} Looked for {wanted}."
