"""What a report says, as one dict: `report.json` is this dict, `report.html` and `report.md` show it."""

import os
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from blemish.calibration import CLEAN, UNCLEAR, Band, Decision, ReliabilityBin, threshold_for
from blemish.images import ANOMALOUS, NORMAL, ImageSet
from blemish.images.labels import WORDS
from blemish.scores import Scores, above
from blemish.scores.heatmaps import MapScale, heatmap_path

if TYPE_CHECKING:
    from blemish.purification import Purification

Report = dict[str, Any]


def of_job(
    images: ImageSet,
    *,
    source: Any,
    detector: Any,
    settings: Mapping[str, Any],
    versions: Mapping[str, str],
    seconds: Mapping[str, float],
    memory: float | None,
    skipped: Mapping[str, str],
    notes: Sequence[str],
) -> Report:
    """What the reports of all jobs say.

    `source` is what the images were named by: a folder, a list, a URL, or objects. `memory` is the most that was in
    use, MiB.
    """
    place = str(source) if isinstance(source, (str, Path)) else None
    return {
        "title": Path(place).name if place else "features" if images.features_alone else "images",
        "source": place,
        "features_alone": images.features_alone,
        "detector": {
            "name": str(getattr(detector, "name", type(detector).__name__)),
            "summary": str(getattr(detector, "summary", "not a detector of blemish")),
            "patent": getattr(detector, "patent", None),
        },
        "settings": dict(settings),
        "versions": dict(versions),
        "seconds": {name: round(each, 3) for name, each in seconds.items()},
        "peak_memory_mib": memory,
        "skipped": dict(skipped),
        "notes": list(notes),
        "identical": _identical(images),
    }


def of_scores(
    job: Report,
    images: ImageSet,
    scores: Scores,
    decision: Decision,
    scale: MapScale,
    *,
    folder: Path,
    heatmaps: Path,
    out: Path | None,
    model: Path | None = None,
    labels: NDArray[np.int64] | None = None,
    reviewed: int = 0,
    reliability: Sequence[ReliabilityBin] = (),
    set_aside: frozenset[str] | None = None,
) -> Report:
    """The report of a fit, or of new images where `model` names the folder of the detector.

    The files are in `folder` now, and in `out` in the end; `heatmaps` is the folder of those that were drawn. `labels`
    (N,) are what a person found.
    """
    total, flags = len(scores), above(scores.image, decision.threshold)
    bands, chances = decision.bands(scores.image, labels), decision.chances(scores.image, labels)
    judged = [WORDS[label] if label in (NORMAL, ANOMALOUS) else "" for label in ([] if labels is None else labels)]
    judged = judged or [""] * total
    images_by_rank: list[dict[str, Any]] = []
    for rank, name in enumerate(scores.ranking(), start=1):
        row = scores.index(name)
        drawn = heatmap_path(heatmaps, name)
        images_by_rank.append({
            "rank": rank,
            "path": name,
            "score": float(scores.image[row]),
            "flagged": bool(flags[row]),
            "band": bands[row],
            "chance": None if chances is None else round(float(chances[row]), 4),
            "judged": judged[row],
            "set_aside": name in (set_aside or ()),
            "file": _file_of(images, name, folder),
            "heatmap": link(drawn, folder) if drawn.is_file() else None,
        })  # fmt: skip
    flagged = int(flags.sum())
    counts = Counter(bands)
    unjudged = Counter(band for band, word in zip(bands, judged, strict=True) if not word)
    look_at = unjudged["reject"] + unjudged["look"]
    more = min(total, counts["reject"] + counts["look"] if counts["look"] else flagged + 1)
    lower = threshold_for(scores.image, more) if total else decision.threshold
    run = os.fspath(out or folder)
    inputs = ["--features", "NEW_FEATURES.npy"] if job["features_alone"] else [job["source"] or "IMAGES"]
    again = ["--model", os.fspath(model or run), "--out", "NEW_FOLDER", "--threshold", f"{lower:.6g}"]
    return job | {
        "kind": "report",
        "headline": headline(total, unjudged, None if model else decision),
        "total": total,
        "new_images": model is not None,
        "believed_bad": flagged if model else round(decision.contamination * total),
        "expected_bad": None if chances is None else round(float(chances.sum()), 1),
        "between": _between(decision, total) if model is None else None,
        "flagged": flagged,
        "bands": dict(counts),
        "decision": {
            "threshold": decision.threshold,
            "contamination": decision.contamination,
            "answer": decision.answer,
            "rule": decision.rule,
            "assumption": decision.assumption,
            "advice": decision.advice,
            "sensitivity": decision.sensitivity,
            "look_between": decision.look_between,
            "chances": decision.chance is not None,
        },
        "reviewed": reviewed,
        "reliability": [{"promised": each.promised, "bad": each.bad, "count": each.count} for each in reliability],
        "set_aside": None if set_aside is None else len(set_aside),
        "look_at": look_at,
        "lower": {"threshold": lower, "flags": int((scores.image > np.float32(lower)).sum())},
        "map_scale": {"low": scale.low, "high": scale.high, "labels": list(scale.labels)},
        "commands": {
            "review": shlex.join(["blemish", "review", run]),
            "score": shlex.join(["blemish", "score", *inputs, *again]),
        },
        "images": images_by_rank,
    }


def of_purification(
    job: Report, images: ImageSet, found: "Purification", *, folder: Path, thumbnails: Path, kept_list: Path
) -> Report:
    """The report of a purification; `kept_list` is where the list of kept images will be in the end."""
    rows = {name: row for row, name in enumerate(found.ids)}
    aside = found.set_aside_ids
    kept = [name for name in found.ids if name not in set(aside)]
    kept.sort(key=lambda name: (-float(found.scores[rows[name]]), name))
    ranked = []
    for rank, name in enumerate((*aside, *kept), start=1):
        small = heatmap_path(thumbnails, name, ".jpg")
        ranked.append({
            "rank": rank,
            "path": name,
            "score": float(found.scores[rows[name]]),
            "spread": float(found.spread[rows[name]]),
            "set_aside": rank <= len(aside),
            "file": _file_of(images, name, folder),
            "thumbnail": link(small, folder) if small.is_file() else None,
        })  # fmt: skip
    from blemish.detectors import REGISTRY

    detector = ["--detector", job["detector"]["name"]] if job["detector"]["name"] in REGISTRY else []
    command = ["blemish", "fit", os.fspath(kept_list), *detector, "--out", "NEW_FOLDER"]
    return job | {
        "kind": "purification",
        "headline": _purified(len(aside), len(found.ids)),
        "total": len(found.ids),
        "kept": int(found.kept.sum()),
        "set_aside": len(aside),
        "limit": found.limit,
        "rule": found.rule,
        "commands": {"fit": shlex.join(command)},
        "images": ranked,
    }


def headline(total: int, bands: Mapping[Band, int], decision: Decision | None = None) -> str:
    """The result in a sentence that agrees with `bands`, the number of images that nobody judged by what to do.

    `decision` is the decision of a fit; new images have none, since it was made for the images of the fit.
    """
    if total == 0:
        return "No image could be scored."
    rejected, looked_at = bands.get("reject", 0), bands.get("look", 0)
    bad = round(decision.contamination * total) if decision else 0
    if decision and decision.answer == UNCLEAR:
        found = f"We cannot tell which of {counted(total)} {'shows' if total == 1 else 'show'} a defect"
    elif bad and decision and decision.answer != CLEAN:
        found = f"About {bad:,} of {counted(total)} {'shows' if bad == 1 else 'show'} a defect"
    elif rejected:
        found = f"{rejected:,} of {counted(total)} {'is' if rejected == 1 else 'are'} to be rejected"
    elif looked_at:
        found = f"Nothing stands out clearly in {counted(total)}"
    else:
        return f"No sign of defects in {counted(total)}."
    first = rejected + looked_at
    return f"{found}: look at {'this one' if first == 1 else f'these {first:,}'} first." if first else f"{found}."


def counted(count: int) -> str:
    """A number of images in words."""
    return "1 image" if count == 1 else f"{count:,} images"


def link(file: Path, folder: Path) -> str:
    """Make a link that survives moving the report together with the files beside it, else a file URI."""
    absolute, base = file.absolute(), folder.absolute()
    if absolute.is_relative_to(base):
        return quote(os.fsencode(absolute.relative_to(base).as_posix()))
    return absolute.as_uri()


def _purified(aside: int, total: int) -> str:
    if not aside:
        return f"Nothing was set aside: all {counted(total)} are left to learn from."
    were = "was" if aside == 1 else "were"
    return f"{aside:,} of {counted(total)} {were} set aside; {total - aside:,} are left to learn from."


def _between(decision: Decision, total: int) -> list[int] | None:
    """How many bad images there may be, as numbers of images; None where no interval was found."""
    if decision.contamination_interval is None or not total:
        return None
    low, high = (round(share * total) for share in decision.contamination_interval)
    return [low, high] if low < high else None


def _file_of(images: ImageSet, name: str, folder: Path) -> str | None:
    source = images.sources.get(name)
    return link(source, folder) if isinstance(source, Path) else None


def _identical(images: ImageSet) -> list[list[str]]:
    """Groups of ids with equal content."""
    by_content: dict[str, list[str]] = {}
    for name in images.ids:
        by_content.setdefault(images.content[name], []).append(name)
    return [names for names in by_content.values() if len(names) > 1]
