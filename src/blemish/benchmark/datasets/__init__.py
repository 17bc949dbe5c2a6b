"""Datasets by their layout on disk. A layout is a file here and a line in `LAYOUTS`."""

from pathlib import Path

from blemish.benchmark.datasets import mvtec
from blemish.benchmark.datasets.category import GOOD, Category, Sample, read_mask
from blemish.errors import RequestError

LAYOUTS = (mvtec,)

__all__ = ["GOOD", "Category", "Sample", "open_datasets", "read_mask"]


def open_datasets(root: str | Path, names: list[str] | None = None) -> list[Category]:
    """The categories of every dataset at `root`, or those called `names`. Raises `RequestError` if there are none."""
    root = Path(root).expanduser()
    if not root.is_dir():
        raise RequestError(f"'{root}' is not a folder; name the folder that holds the dataset.")
    found = [category for layout in LAYOUTS for category in layout.categories(root)]
    if not found:
        wanted = "; ".join(f"{layout.NAME}: {layout.LAYOUT}" for layout in LAYOUTS)
        raise RequestError(f"No dataset was recognised at '{root}'; looked for {wanted}.")
    if names is None:
        return found
    known = {category.name: category for category in found}
    if missing := [name for name in names if name not in known]:
        raise RequestError(f"There is no category '{missing[0]}' at '{root}'; there are {', '.join(known)}.")
    return [known[name] for name in names]
