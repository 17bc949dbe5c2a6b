"""What a layout is: how to read its datasets, and what tells that a folder nearly is one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from blemish.benchmark.datasets.category import Category


@dataclass(frozen=True)
class Layout:
    """One way of laying out datasets.

    Attributes
    ----------
    name : of the family, such as "mvtec".
    looked_for : the layout in a line, for messages.
    read : the categories of a dataset whose root is the given folder; an empty list if it is not of this layout.
    signs : by what is looked for, whether the given folder has it.
    """

    name: str
    looked_for: str
    read: Callable[[Path], list[Category]]
    signs: Callable[[Path], Mapping[str, bool]]
