"""BibTeX of what was compared."""

from collections.abc import Iterable

from blemish.benchmark.cells import Cell
from blemish.detectors import REGISTRY, detector_class
from blemish.detectors.anomalib_adapter.catalogue import PREFIX

# By detector or part of one; the fields as the papers and the arXiv have them.
PAPERS = {
    "nearest_images": ("spade", "musc"),
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


def _entry(key: str, kind: str, **fields: str) -> str:
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def _arxiv(number: str) -> str:
    return f"arXiv:{number}"


BIBTEX = {
    "spade": _entry(
        "spade", "article", author="Cohen, Niv and Hoshen, Yedid",
        title="Sub-Image Anomaly Detection with Deep Pyramid Correspondences",
        journal=_arxiv("2005.02357"), year="2020",
    ),
    "musc": _entry(
        "musc", "inproceedings", author="Li, Xurui and Huang, Ziming and Xue, Feng and Zhou, Yu",
        title="{MuSc}: Zero-Shot Industrial Anomaly Classification and Segmentation with Mutual Scoring of the "
        "Unlabeled Images", booktitle="ICLR", year="2024", note=_arxiv("2401.16753"),
    ),
    "patchcore": _entry(
        "patchcore", "inproceedings",
        author="Roth, Karsten and Pemula, Latha and Zepeda, Joaquin and Sch{\\\"o}lkopf, Bernhard and Brox, Thomas and "
        "Gehler, Peter", title="Towards Total Recall in Industrial Anomaly Detection", booktitle="CVPR", year="2022",
        note=_arxiv("2106.08265"),
    ),
    "softpatch": _entry(
        "softpatch", "inproceedings",
        author="Jiang, Xi and Liu, Jianlin and Wang, Jinbao and Nie, Qiang and Wu, Kai and Liu, Yong and "
        "Wang, Chengjie and Zheng, Feng", title="{SoftPatch}: Unsupervised Anomaly Detection with Noisy Data",
        booktitle="NeurIPS", year="2022", note=_arxiv("2403.14233"),
    ),
    "padim": _entry(
        "padim", "inproceedings",
        author="Defard, Thomas and Setkov, Aleksandr and Loesch, Angelique and Audigier, Romaric",
        title="{PaDiM}: a Patch Distribution Modeling Framework for Anomaly Detection and Localization",
        booktitle="ICPR Workshops", year="2021", note=_arxiv("2011.08785"),
    ),
    "simplenet": _entry(
        "simplenet", "inproceedings", author="Liu, Zhikang and Zhou, Yiming and Xu, Yuansheng and Wang, Zilei",
        title="{SimpleNet}: A Simple Network for Image Anomaly Detection and Localization", booktitle="CVPR",
        year="2023", note=_arxiv("2303.15140"),
    ),
    "inreach": _entry(
        "inreach", "inproceedings", author="McIntosh, Declan and Albu, Alexandra Branzan",
        title="Inter-Realization Channels: Unsupervised Anomaly Detection Beyond One-Class Classification",
        booktitle="ICCV", year="2023",
    ),
    "funad": _entry(
        "funad", "inproceedings", author="Im, Jiin and Son, Yongho and Hong, Je Hyeong",
        title="{FUN-AD}: Fully Unsupervised Learning for Anomaly Detection with Noisy Training Data",
        booktitle="WACV", year="2025", note=_arxiv("2411.16110"),
    ),
    "dinomaly": _entry(
        "dinomaly", "inproceedings",
        author="Guo, Jia and Lu, Shuai and Zhang, Weihang and Chen, Fang and Li, Huiqi and Liao, Hongen",
        title="Dinomaly: The Less Is More Philosophy in Multi-Class Unsupervised Anomaly Detection",
        booktitle="CVPR", year="2025", note=_arxiv("2405.14325"),
    ),
    "anomalib": _entry(
        "anomalib", "inproceedings",
        author="Akcay, Samet and Ameln, Dick and Vaidya, Ashwin and Lakshmanan, Barath and Ahuja, Nilesh and "
        "Genc, Utku", title="Anomalib: A Deep Learning Library for Anomaly Detection", booktitle="ICIP", year="2022",
        note=_arxiv("2202.08341"),
    ),
    "reversedistillation": _entry(
        "reversedistillation", "inproceedings", author="Deng, Hanqiu and Li, Xingyu",
        title="Anomaly Detection via Reverse Distillation from One-Class Embedding", booktitle="CVPR", year="2022",
        note=_arxiv("2201.10703"),
    ),
    "efficientad": _entry(
        "efficientad", "inproceedings", author="Batzner, Kilian and Heckler, Lars and K{\\\"o}nig, Rebecca",
        title="{EfficientAD}: Accurate Visual Anomaly Detection at Millisecond-Level Latencies", booktitle="WACV",
        year="2024", note=_arxiv("2303.14535"),
    ),
    "supersimplenet": _entry(
        "supersimplenet", "inproceedings",
        author="Rolih, Bla{\\v{z}} and Fu{\\v{c}}ka, Matic and Sko{\\v{c}}aj, Danijel",
        title="{SuperSimpleNet}: Unifying Unsupervised and Supervised Learning for Fast and Reliable Surface Defect "
        "Detection", booktitle="ICPR", year="2024", note=_arxiv("2408.03143"),
    ),
    "llbnad": _entry(
        "llbnad", "article", author="Zhang, Yuxin and Cao, Yunkang and Cheng, Yuqi and Sun, Yihan and Shen, Weiming",
        title="Leveraging Learning Bias for Noisy Anomaly Detection", journal=_arxiv("2508.07441"), year="2025",
    ),
}  # fmt: skip


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
