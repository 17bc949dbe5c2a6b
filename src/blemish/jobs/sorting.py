"""Images in the folders good, look and bad of a folder, as copies or hard links: what any other tool takes."""

import os
import shutil
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from blemish.images import ANOMALOUS, NORMAL, ImageSet
from blemish.images.gathering import Source
from blemish.images.urls import RemoteFile, located
from blemish.jobs.option_groups import OutputOptions
from blemish.machine.errors import JobError, RequestError, UnreadableImageError, writing_to
from blemish.machine.progress import progress_of
from blemish.runs.artifact import read_config, write_config
from blemish.runs.transaction import check_place, whole_or_absent

GOOD, LOOK, BAD = FOLDERS = ("good", "look", "bad")
OF_BAND = {"pass": GOOD, "look": LOOK, "reject": BAD}
OF_LABEL = {NORMAL: GOOD, ANOMALOUS: BAD}
KIND = "sorted images"


@dataclass(frozen=True)
class Sorting:
    """Where images go, and how; `link` for hard links."""

    folder: Path
    link: bool
    force: bool

    @classmethod
    def of(cls, copy: Path | None, link: Path | None, *, force: bool = False) -> "Sorting | None":
        """The sorting that the options name; None for neither. Raises `RequestError` for both."""
        if copy and link:
            raise RequestError(f"The images are sorted by `copy` or by `link`, not both; got '{copy}' and '{link}'.")
        folder = link or copy
        return None if folder is None else cls(Path(os.path.abspath(folder.expanduser())), link is not None, force)  # noqa: PTH100

    def check(self, source: Any, out: Path | None = None) -> None:
        """Raise `RequestError` for a folder that is in the way.

        `source` is what the images were named by, `out` where results go.
        """
        flag = "link" if self.link else "copy"
        check_place(self.folder, force=self.force)
        if out and Path(os.path.abspath(out.expanduser())).is_relative_to(self.folder):  # noqa: PTH100
            raise RequestError(f"'{out}' is in '{self.folder}', which `{flag}` fills; give another folder.")
        check_outside(self.folder, source, flag)

    def check_files(self, images: ImageSet) -> None:
        """Raise `RequestError` for images without files."""
        flag = "link" if self.link else "copy"
        if not any(isinstance(images.sources[name], (Path, RemoteFile)) for name in images.ids):
            raise RequestError(
                f"`{flag}` sorts files, and these {len(images)} images came from the memory of a Python program; "
                f"leave out `{flag}`."
            )


def check_outside(folder: Path, source: Any, option: str) -> None:
    """Raise `RequestError` for a folder in the one that images were named by: copies there would be images, too."""
    root = located(source) if isinstance(source, (str, Path)) else None
    if isinstance(root, Path) and root.is_dir() and folder.resolve().is_relative_to(root.resolve()):
        raise RequestError(
            f"'{folder}' is in '{root}', where the next fit would count the copies as more images; give a "
            f"folder elsewhere with `{option}`."
        )


def sorting_of(request: OutputOptions, images: ImageSet, source: Any) -> Sorting | None:
    """What a request wants sorted, checked before the work. Raises `RequestError`."""
    sorting = Sorting.of(request.copy, request.link, force=request.force)
    if sorting:
        sorting.check(source, request.out)
        sorting.check_files(images)
    return sorting


def folders_by_id(ids: Iterable[str], bands: Iterable[str], labels: Mapping[str, int]) -> dict[str, str]:
    """By id the folder for an image: what a person found, else its band."""
    return {name: OF_LABEL.get(labels.get(name, -1), OF_BAND[band]) for name, band in zip(ids, bands, strict=True)}


def sort_images(
    sources: Mapping[str, Source], folders: Mapping[str, str], sorting: Sorting, progress: Any = None
) -> dict[str, Any]:
    """Put each image into `good/`, `look/` or `bad/` below its id; whole or not at all.

    `folders` is by id, as of `folders_by_id`. Returns what `config.json` there says: counts, and `notes` on images
    that were copied in place of linked, got another name, or could not be read. Raises `RequestError`, `JobError`.
    """
    copied: list[str] = []
    renamed: list[str] = []
    missing: list[str] = []
    counts: Counter[str] = Counter()
    with (
        progress_of(progress) as shown,
        whole_or_absent(sorting.folder, force=sorting.force) as staging,
        writing_to(sorting.folder.parent),
    ):
        for folder in FOLDERS:
            (staging / folder).mkdir()
        for done, (name, folder) in enumerate(folders.items(), start=1):
            target = free_name(below(staging / folder, name))
            try:
                linked = put(sources[name], target, link=sorting.link)
            except (FileNotFoundError, UnreadableImageError):
                missing.append(name)
                continue
            counts[folder] += 1
            if sorting.link and not linked:
                copied.append(name)
            if target.relative_to(staging / folder).as_posix() != name:
                renamed.append(name)
            shown("sorting", done, len(folders))
        if not counts:
            raise JobError(
                f"None of the {len(folders)} images is where it was; nothing was written to '{sorting.folder}'."
            )
        notes = [
            *_note(copied, "copied, since no hard link from '{place}' to their disk can be made", sorting.folder),
            *_note(renamed, "given another name in '{place}', where theirs cannot be or was taken", sorting.folder),
            *_note(missing, "no longer where it was, and not put into '{place}'", sorting.folder),
        ]
        about = {name: counts[name] for name in FOLDERS}
        left = {"kind": KIND, "linked": sorting.link, "images": about, "notes": notes}
        write_config(staging, left)
    return left


def sorted_lines(copy: Path | None, link: Path | None) -> list[str]:
    """What to tell of a folder of sorted images that a job left; nothing if there is none."""
    folder = link or copy
    if folder is None:
        return []
    about = read_config(folder.expanduser())
    held = ", ".join(f"{about['images'][name]} in {name}" for name in FOLDERS)
    return [f"Sorted images: {held}, below {folder}.", *about["notes"]]


def put(source: Source, target: Path, *, link: bool) -> bool:
    """Link or copy an image to `target`; whether it was linked.

    Raises `FileNotFoundError` or `UnreadableImageError` for one that is missing, `OSError` for what the disk refuses.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, RemoteFile):
        target.write_bytes(source.read_bytes())
        return False
    if not isinstance(source, Path):
        raise UnreadableImageError("it is no file")
    real = source.resolve(strict=True)  # a hard link to a link would be that link
    if link:
        try:
            os.link(real, target)
            return True
        except FileNotFoundError:
            raise
        except OSError:  # another disk, or one without hard links
            pass
    shutil.copy2(real, target)
    return False


def below(folder: Path, name: str) -> Path:
    """Where image `name` is put in `folder`, never outside of it."""
    parts = [part for part in PurePosixPath(name).parts if part not in ("/", "..", ".")]
    return folder.joinpath(*(part.replace("\0", "_") for part in parts))


def free_name(path: Path) -> Path:
    """`path`, or where there is a file of that name the first free one of `name-2.png`, `name-3.png`, ..."""
    free, number = path, 1
    while os.path.lexists(free):
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return free


def _note(names: list[str], what: str, place: Path) -> list[str]:
    if not names:
        return []
    many = "1 image was" if len(names) == 1 else f"{len(names):,} images were"
    return [f"{many} {what.format(place=place)}: such as '{names[0]}'."]
