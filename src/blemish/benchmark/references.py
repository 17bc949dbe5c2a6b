"""BibTeX of what was compared."""

from collections.abc import Iterable
from importlib.resources import files

from blemish.benchmark.cells import Cell
from blemish.detectors import REGISTRY, detector_class
from blemish.detectors.anomalib_adapter.catalogue import PREFIX

# By detector or part of one, the keys of its entries.
PAPERS = {
    "nearest_images": ("blemish", "spade", "musc"),
    "patchcore": ("patchcore",),
    "softpatch": ("softpatch",),
    "padim": ("padim",),
    "simplenet": ("simplenet",),
    "inreach": ("inreach",),
    "funad": ("funad",),
    "dinomaly": ("dinomaly", "anomalib"),
    f"{PREFIX}Patchcore": ("patchcore", "anomalib"),
    f"{PREFIX}Padim": ("padim", "anomalib"),
    f"{PREFIX}ReverseDistillation": ("reversedistillation", "anomalib"),
    f"{PREFIX}EfficientAd": ("efficientad", "anomalib"),
    f"{PREFIX}Supersimplenet": ("supersimplenet", "anomalib"),
    f"{PREFIX}Dinomaly": ("dinomaly", "anomalib"),
}
PURIFIED = "llbnad"
# By key, the entries of `references.bib`, whose fields are as the papers and the arXiv have them.
BIBTEX = {
    entry.partition("{")[2].partition(",")[0]: entry
    for entry in files(__package__).joinpath("references.bib").read_text(encoding="utf-8").strip().split("\n\n")
}


def bibtex(cells: Iterable[Cell]) -> str:
    """The entries of the cells' detectors and purification, and a comment for a detector without one."""
    keys: dict[str, None] = {}
    unknown: dict[str, None] = {}
    for cell in cells:
        if cell.detector and cell.detector not in PAPERS:
            unknown[cell.detector] = None
        for key in PAPERS.get(cell.detector, ()):
            keys[key] = None
        if cell.purify is not None:
            keys[PURIFIED] = None
    sources = {name: f"; its source: {detector_class(name).source}" for name in unknown if name in REGISTRY}
    comments = [f"% No entry is known for {name}{sources.get(name, '')}." for name in unknown]
    return "\n\n".join([*comments, *(BIBTEX[key] for key in keys)]) + "\n"
