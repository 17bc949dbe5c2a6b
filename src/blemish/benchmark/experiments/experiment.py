"""What an experiment is: cells to run, and how their rows become a table. Nothing in it computes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from blemish.benchmark.cells import Cell, Limit
from blemish.benchmark.datasets import Category
from blemish.benchmark.published import Published

EVERYTHING = Limit()
PAIR = ("image_auroc", "pixel_auroc")


@dataclass(frozen=True)
class Size:
    """How much of an experiment is run.

    Attributes
    ----------
    seeds : how many.
    limit, sweep_limit : of images in each category, and where settings or ratios are swept.
    categories, ablated : at most so many categories, and so many where settings or ratios are swept; None takes all.
    preset : of every detector, see `Cell`.
    values : at most so many values of a swept setting, the ends and the usual one among them; None takes all.
    variants : at most so many alternatives that lie on no scale, the first and the last among them; None takes all.
    """

    name: str
    about: str
    seeds: int = 1
    limit: Limit = EVERYTHING
    sweep_limit: Limit = EVERYTHING
    categories: int | None = None
    ablated: int | None = None
    preset: str = ""
    values: int | None = None
    variants: int | None = None

    @property
    def about_it(self) -> str:
        """A sentence for the head of a table."""
        return f"Form: {self.name} ({self.about})."

    def swept(self, values: Sequence[Any], usual: Any = None) -> list[Any]:
        """The values of a setting that are run: both ends and what lies evenly between, `usual` if there is room."""
        chosen = _spread(len(values), self.values)
        if usual in values and values.index(usual) not in chosen and len(chosen) > 2:
            at = values.index(usual)
            chosen.remove(min(chosen[1:-1], key=lambda other: abs(other - at)))
            chosen = sorted([*chosen, at])
        return [values[at] for at in chosen]

    def some(self, alternatives: Sequence[Any]) -> list[Any]:
        """The alternatives that are run."""
        return [alternatives[at] for at in _spread(len(alternatives), self.variants)]


def _spread(count: int, most: int | None) -> list[int]:
    """Up to `most` of 0 .. count - 1, evenly spread, both ends among them."""
    if most is None or count <= most:
        return list(range(count))
    return [round(i * (count - 1) / (most - 1)) for i in range(most)]


FEW = Limit(32, 12, 24)
QUICK = Size(
    "quick",
    "a check that everything runs, in minutes; its figures mean little",
    limit=FEW,
    sweep_limit=FEW,
    categories=1,
    ablated=1,
    preset="quick",
    values=2,
    variants=2,
)
STANDARD = Size(
    "standard",
    "two cores and about an hour a paper; of each category at most 150 training images; sweeps on the first category "
    "alone, at four values and with at most 60 training images",
    limit=Limit(150, 60, 90),
    sweep_limit=Limit(60, 20, 40),
    ablated=1,
    values=4,
)
FULL = Size("full", "all categories, images and values, three seeds", seeds=3)


@dataclass(frozen=True)
class Planned:
    """A cell and its place in the table.

    Attributes
    ----------
    variant : what is compared, a column.
    group : what is swept, such as the ratio; "" without.
    row : what stands for the category, its name by default.
    kind : "objects" or "textures", where means are wanted apart.
    """

    cell: Cell
    variant: str
    group: str = ""
    row: str = ""
    kind: str = ""

    @property
    def label(self) -> str:
        """The row's name."""
        return self.row or self.cell.category.partition("/")[2] or "-"


@dataclass(frozen=True)
class Entry:
    """A planned run with its row of results.csv: a cell of the table."""

    planned: Planned
    row: Mapping[str, str]

    @property
    def variant(self) -> str:
        """The column: what is compared, and for iterative detectors what chose the epoch."""
        choice = self.row.get("choice", "")
        return f"{self.planned.variant} ({choice})" if choice else self.planned.variant

    @property
    def group(self) -> str:
        """What is swept: planned, or a part of the run that has its own figures."""
        return self.row.get("part", "") or self.planned.group

    def value(self, measure: str) -> float | None:
        """A measure, None where it is empty."""
        text = self.row.get(measure, "")
        return float(text) if text else None


Plotter = Callable[[Sequence[Any], Path], list[str]]


@dataclass(frozen=True)
class Experiment:
    """One entry of `blemish bench`.

    Attributes
    ----------
    name, about : what it is called and shows, a line.
    plan : the cells for some categories and a size.
    needs : the images it needs, in words; "" for none.
    measures : what the table holds by label; a pair is image / pixel.
    paired : whether variants are columns and cells hold a pair; else measures are columns.
    group : what is swept, in words.
    published : figures of papers by dataset.
    tolerance : points of image and pixel AUROC within which a figure of the whole published data set counts as equal
        to the paper's; None where ours are never laid beside them.
    protocol : the one that is shown where measures are columns; all by default.
    draw : its own plots, from the rows and the folder of runs.
    own_sizes : whether its images, ratios and seeds are other than `Size.about` says.
    differences : measures by label of a table that shows each variant beside the first of its group.
    """

    name: str
    about: str
    plan: Callable[[Sequence[Category], Size], list[Planned]]
    needs: str = "categories with test images, normal and anomalous"
    measures: Mapping[str, str] = field(default_factory=lambda: {"image AUROC": PAIR[0], "pixel AUROC": PAIR[1]})
    paired: bool = True
    group: str = ""
    published: Mapping[str, Published] = field(default_factory=dict)
    tolerance: tuple[float, float] | None = None
    protocol: str = ""
    draw: Plotter | None = None
    own_sizes: bool = False
    differences: Mapping[str, str] = field(default_factory=dict)


def defective(categories: Sequence[Category], most: int | None = None) -> list[Category]:
    """Up to `most` categories whose defects can be tested for, semantic ones apart."""
    found = [each for each in categories if not lacking(each) and not each.semantic]
    return found[:most]


def on_each(
    categories: Sequence[Category], size: Size, cells: Iterable[tuple[str, str, Mapping[str, Any]]], **common: Any
) -> list[Planned]:
    """Cells, each a variant, its group and what is its own, with each seed on each of the categories.

    `common` is what all of them have.
    """
    listed = list(cells)
    return [
        Planned(Cell(category=str(category), seed=seed, **{"preset": size.preset, **common, **own}), variant, group)
        for category in categories
        for variant, group, own in listed
        for seed in seeds_of(size)
    ]


def lacking(category: Category) -> str:
    """The images without which nothing can be measured on the category, in words; "" if it has them all."""
    parts = {
        "training images": category.train,
        "normal test images": category.normals,
        "test anomalies": category.anomalies,
    }
    return " and no ".join(name for name, samples in parts.items() if not samples)


def seeds_of(size: Size) -> range:
    """The seeds that are run."""
    return range(size.seeds)


def paired_seeds(size: Size) -> range:
    """The same where variants are compared pair by pair: three in the form without a flag, too."""
    return range(3) if size.name == "standard" and size.seeds == 1 else seeds_of(size)
