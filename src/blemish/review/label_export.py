"""`export_labels`: what a Run found and what people said of its images, for labelling programs and training."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemish.images import UNKNOWN, defect_boxes
from blemish.images.defect_boxes import BOXES, DefectBox
from blemish.images.labels import LABELS, WORDS, latest, read
from blemish.jobs.request import REQUEST
from blemish.jobs.sorting import Sorting, check_outside, folders_by_id, put, sort_images
from blemish.label_formats import coco, cvat, fiftyone, label_studio, table, yolo
from blemish.label_formats.annotated import BAD, DEFECT, GOOD, Annotated, category
from blemish.machine.errors import JobError, RequestError, UnreadableImageError, sha256_of, writing_to
from blemish.machine.runtime import in_threads, runtime
from blemish.review.gallery import Gallery
from blemish.runs.artifact import read_config, write_config
from blemish.runs.transaction import whole_or_absent
from blemish.scores import above
from blemish.scores.regions import MOST_REGIONS, Region, regions_of

if TYPE_CHECKING:
    from blemish.runs.run import Run

FORMATS = ("coco", "yolo", "label-studio", "cvat", "fiftyone", "csv")
ONE_FILE = {"coco": coco.FILE, "label-studio": label_studio.FILE, "cvat": cvat.FILE}
WITH_IMAGES = ("yolo", "fiftyone")  # whose layouts hold the images
KIND = "labels"


@dataclass(frozen=True)
class Exported:
    """What an export left: how many images and boxes, and sentences a person should read."""

    images: int
    boxes: int
    notes: tuple[str, ...]


@dataclass
class Annotations:
    """The images of a gallery with what is known of them, made one at a time, most anomalous first.

    Attributes
    ----------
    labels : by id, `NORMAL` or `ANOMALOUS`, as people found.
    threshold : images with a higher score are bad, where nobody looked.
    masks : whether regions have their pixels.
    files : whether images have to be where they were, and as they were scored.
    changed, gone, unnameable : ids of images left out.
    without_box : ids of bad images that nothing can be drawn on.
    boxes, names : how many there were so far, and what they are called.
    """

    gallery: Gallery
    labels: Mapping[str, int]
    threshold: float
    masks: bool = False
    files: bool = True
    changed: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    without_box: list[str] = field(default_factory=list)
    unnameable: list[str] = field(default_factory=list)
    boxes: int = 0
    images: int = 0
    names: dict[str, None] = field(default_factory=lambda: {DEFECT: None})

    def __iter__(self) -> Iterator[Annotated]:
        gallery, scores = self.gallery, self.gallery.scores
        bands = gallery.decision.bands(scores.image)
        chances = gallery.decision.chances(scores.image)
        flags = above(scores.image, self.threshold)
        drawn = defect_boxes.standing(defect_boxes.read(gallery.folder / BOXES)[0])
        with closing(in_threads(self._state, range(len(gallery)), runtime().threads)) as states:
            for row, state in enumerate(states):
                runtime().progress("labels", row + 1, len(gallery))
                name = gallery.name(row)
                if state is not None:
                    state.append(name)
                    continue
                label = WORDS[self.labels[name]] if name in self.labels else ""
                predicted = BAD if flags[row] else GOOD
                bad = (label or predicted) == BAD
                regions = self._regions(name, drawn.get(gallery.content[row], ())) if bad else ()
                if bad and not regions:
                    self.without_box.append(name)
                self.boxes += len(regions)
                self.names.update(dict.fromkeys(category(region) for region in regions))
                self.images += 1
                width, height = (int(each) for each in scores.sizes[row])
                yield Annotated(
                    name, gallery.root / name, width, height, gallery.content[row], float(scores.image[row]),
                    predicted, label, bands[row], None if chances is None else round(float(chances[row]), 4), regions,
                )  # fmt: skip

    def _state(self, row: int) -> list[str] | None:
        """The list of left out images that this one belongs to; None if the image is unchanged."""
        if not self.files:
            return None
        try:
            same = sha256_of(self.gallery.file(row)) == self.gallery.content[row]
        except (OSError, UnreadableImageError):
            return self.gone
        return None if same else self.changed

    def _regions(self, name: str, drawn: Sequence[DefectBox]) -> tuple[Region, ...]:
        """What people drew on the image; where nobody did, the places above the level."""
        if drawn:
            levels = self.gallery.scores.map(name)
            return tuple(self._drawn(each, levels) for each in drawn)
        levels = self.gallery.scores.map(name)
        found = regions_of(levels > self.gallery.pixel_threshold, levels)[:MOST_REGIONS]
        return tuple(each if self.masks else replace(each, mask=None) for each in found)

    def _drawn(self, box: DefectBox, levels: NDArray[np.float32]) -> Region:
        own = box.pixels()
        part = levels[box.y : box.y + box.height, box.x : box.x + box.width]
        peak = float(part[own].max()) if part.shape == own.shape else float("nan")
        return Region(
            box.x, box.y, box.x + box.width, box.y + box.height, int(own.sum()), peak,
            own if self.masks and box.mask else None, box.type, drawn=True,
        )  # fmt: skip

    @property
    def notes(self) -> list[str]:
        """On what is missing, once all images were made."""
        place = self.gallery.root
        return [
            *_note(
                self.gone, f"not found in '{place}' and left out", "if images moved, name their folder with `images`"
            ),
            *_note(self.changed, "changed since the images were scored, and left out", "score the images again"),
            *_note(self.unnameable, "left out, with a character in the name that XML cannot hold", "rename it"),
            *_note(
                self.without_box,
                "bad with no place above the pixel threshold, and without a box",
                "draw the defect in your labelling program",
            ),
        ]


def export_labels(
    run: "str | Path | Run",
    out: str | Path,
    *,
    format: str = "coco",  # noqa: A002 - as `export` has it
    masks: str = coco.POLYGONS,
    images: str | Path | None = None,
    force: bool = False,
) -> Exported:
    """Write what a Run found, and what people said of its images, for another program.

    An image is good or bad as a person found, else by the threshold. Bad ones have the boxes and masks that people drew
    on them, with their defect types; where nobody drew one, a box around each place above the pixel threshold.

    Parameters
    ----------
    run : a Run, or the folder that `fit` or `score` left.
    out : folder to leave the files in.
    format : "coco", "yolo", "label-studio", "cvat", "fiftyone" or "csv".
    masks : "polygons" or "rle", for COCO.
    images : where the images are now, if they moved.
    force : replace an earlier export in `out`.

    Raises
    ------
    RequestError, JobError

    >>> blemish.export_labels("run", "coco")  # doctest: +SKIP
    """
    if format not in FORMATS:
        raise RequestError(f"`format` is {', '.join(FORMATS)}; got '{format}'.")
    if masks not in coco.MASKS:
        raise RequestError(f"`masks` is {' or '.join(coco.MASKS)}; got '{masks}'.")
    if masks != coco.POLYGONS and format != "coco":
        raise RequestError(f"`masks` is for coco; leave it out for {format}.")
    from blemish.runs.run import folder_of  # here: the page, which offers the same files, is there before torch is

    run, out = folder_of(run), Path(out).expanduser()
    gallery = Gallery.open(run, None if images is None else Path(images).expanduser(), follow_links=True)
    if format in WITH_IMAGES:
        check_outside(out.absolute(), images or source_of(run), "out")
    found = Annotations(gallery, labels_of(gallery), gallery.decision.threshold, format == "coco", format != "csv")
    with whole_or_absent(out, force=force) as staging, writing_to(out.parent):
        more = _write(found, staging, format, masks)
        if not found.images:
            raise JobError(f"No image of '{run}' can be exported. {' '.join(found.notes)}")
        notes = (*found.notes, *more)
        write_config(staging, {"kind": KIND, "format": format, "run": str(gallery.folder), "notes": notes})
    return Exported(found.images, found.boxes, notes)


def as_text(found: Annotations, format: str, masks: str = coco.POLYGONS) -> str:  # noqa: A002
    """The main file of a format that has one. Raises `RequestError` for another format."""
    if format == "coco":
        return coco.to_coco(found, masks)
    if format == "label-studio":
        return label_studio.to_label_studio(found)
    if format == "cvat":
        return cvat.to_cvat(each for each in found if not _outside_xml(found, each))
    raise RequestError(f"One file holds all of {', '.join(ONE_FILE)}; got '{format}'.")


def _write(found: Annotations, folder: Path, format: str, masks: str) -> list[str]:  # noqa: A002
    """Leave the files of a format in `folder`; more sentences a person should read."""
    if format == "yolo":
        return _write_yolo(found, folder)
    if format == "fiftyone":
        return _write_fiftyone(found, folder)
    if format == "csv":
        listed = list(found)
        _text(folder / table.IMAGES, table.images_csv(listed))
        _text(folder / table.BOXES, table.boxes_csv(listed))
        return []
    _text(folder / ONE_FILE[format], as_text(found, format, masks))
    if format == "label-studio":
        _text(folder / label_studio.CONFIG_FILE, label_studio.config(found.names))
    return []


def _write_yolo(found: Annotations, folder: Path) -> list[str]:
    listed = list(found)
    # Without a box, YOLO would learn a bad image as one that shows nothing.
    usable = [each for each in listed if each.verdict == GOOD or each.regions]
    names = yolo.stems([each.name for each in usable])
    copied = _put_images(
        {each.file: f"{names[each.name]}{Path(each.name).suffix}" for each in usable}, folder / yolo.IMAGES
    )
    for each in usable:
        _text(folder / yolo.LABELS / f"{names[each.name]}.txt", yolo.to_yolo(each, list(found.names)))
    _text(folder / yolo.DATA, yolo.data_yaml(list(found.names)))
    left_out = [each.name for each in listed if each not in usable]
    return [
        *copied,
        *_note(left_out, "left out, since YOLO would learn a bad image without a box as a good one", "draw its box"),
    ]


def _write_fiftyone(found: Annotations, folder: Path) -> list[str]:
    listed = list(found)
    names = yolo.stems([each.name for each in listed])
    copied = _put_images(
        {each.file: f"{names[each.name]}{Path(each.name).suffix}" for each in listed}, folder / fiftyone.DATA
    )
    _text(folder / fiftyone.CLASSES, fiftyone.to_classes(listed, names))
    _text(folder / fiftyone.DETECTIONS, fiftyone.to_detections(listed, names, list(found.names)))
    return copied


def _put_images(names: Mapping[Path, str], folder: Path) -> list[str]:
    """Put files below `folder` under their new names, as hard links where that can be; a sentence where it cannot."""
    copied = [file.name for file, name in names.items() if not put(file, folder / name, link=True)]
    return _note(copied, "copied, since no hard link to their disk can be made", "nothing is to be done")


def _outside_xml(found: Annotations, image: Annotated) -> bool:
    """Note an image whose name no XML can hold."""
    broken = bool(cvat.NOT_IN_XML.search(image.name))
    if broken:
        found.unnameable.append(image.name)
        found.images, found.boxes = found.images - 1, found.boxes - len(image.regions)
    return broken


def sort_run(run: Path, sorting: Sorting, images: Path | None = None) -> dict[str, Any]:
    """Put the images of a Run into good, look and bad: as people found, else by their band. See `sort_images`."""
    gallery = Gallery.open(run, images, follow_links=True)
    bands = gallery.decision.bands(gallery.scores.image)
    sources = {gallery.name(row): _file(gallery, row) for row in range(len(gallery))}
    return sort_images(sources, folders_by_id(gallery.scores.ids, bands, labels_of(gallery)), sorting)


def _file(gallery: Gallery, row: int) -> Path:
    """Where an image lies; where it would lie, if it is gone. Raises `RequestError` for a name that leads elsewhere."""
    try:
        return gallery.file(row)
    except UnreadableImageError as error:
        path = gallery.root / gallery.name(row)
        if path.exists():
            raise RequestError(f"'{gallery.name(row)}' cannot be sorted: {error}.") from None
        return path


def labels_of(gallery: Gallery) -> dict[str, int]:
    """By id, `NORMAL` or `ANOMALOUS`, as people found."""
    file = gallery.folder / LABELS
    if not file.exists():
        return {}
    rows, _ = latest(read(file)[0], dict(zip(gallery.scores.ids, gallery.content, strict=True)))
    return {name: row.meaning for name, row in rows.items() if row.meaning != UNKNOWN}


def source_of(run: Path) -> Any:
    """What the images of a fit were named by, if it says that."""
    return (read_config(run).get(REQUEST) or {}).get("images")


def _text(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode("utf-8", "backslashreplace"))


def _note(names: Sequence[str], what: str, fix: str) -> list[str]:
    if not names:
        return []
    many = "1 image was" if len(names) == 1 else f"{len(names):,} images were"
    return [f"{many} {what}, such as {names[0]!r}; {fix}."]
