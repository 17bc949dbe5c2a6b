"""The one result of scoring: an image score and an anomaly map for every image. Higher is more anomalous."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from blemish.images.notebook_cards import SIDE, card, data_uri
from blemish.machine.errors import RequestError
from blemish.scores.flags import above

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from blemish.calibration import Band, Decision

BARS = 40  # of a histogram
SHOWN, SAMPLED = 5, 200  # images on a card, and those that its colours are set by


@dataclass(frozen=True, repr=False)
class Scores:
    """An image score and an anomaly map for every image; higher is more anomalous.

    Scores are raw, never clamped or rescaled. A threshold is no part of them; where a Run made them, `decision`
    is the Run's. Iterating gives `(id, score)` in the order of `ids`; `scores[id]` is one score, and so is
    `scores[path]` where the path is that of a file that a Run scored. There is no `scores[0]`: the first is
    `head(1)` where the highest is meant, `image[0]` where the first of `ids` is.

    Attributes
    ----------
    ids : the images, in the order of the arrays.
    image : (N,) float32, one score per image.
    maps : (N, h, w) float32 at the size of the patch grid; read one at a time with `map`.
    boxes : (N, 4) float32, where the image is in its grid as (left, top, right, bottom), each 0..1; the rest
        is padding.
    sizes : (N, 2) int, (width, height) of the images in pixels.
    skipped : images that could not be read, with the reason; they are in none of the arrays.
    notes : sentences a person should read, such as on images without a measurement at some pixels.
    decision : threshold and chances that go with these scores; None for the scores of a detector alone.
    root : the folder that the ids are relative to, where they are files.

    Examples
    --------
    >>> import numpy as np
    >>> box, size = np.array([[0, 0, 1, 1]] * 2, np.float32), np.array([[8, 8]] * 2)
    >>> maps = np.zeros((2, 4, 4), np.float32)
    >>> scores = Scores(("a.png", "b.png"), np.array([0.5, 3], np.float32), maps, box, size)
    >>> scores
    Scores(2 images, 0.5 to 3; highest: b.png 3, a.png 0.5)
    >>> dict(scores)
    {'a.png': 0.5, 'b.png': 3.0}
    >>> "b.png" in scores
    True
    >>> scores.ranking()
    ['b.png', 'a.png']
    >>> scores.head(1)
        path  score
    0  b.png    3.0
    """

    ids: tuple[str, ...]
    image: NDArray[np.float32]
    maps: NDArray[np.float32]
    boxes: NDArray[np.float32]
    sizes: NDArray[np.int64]
    skipped: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    decision: "Decision | None" = None
    root: Path | str | None = None

    def __post_init__(self) -> None:
        """Check that all parts are of the same images."""
        lengths = {len(self.ids), len(self.image), len(self.maps), len(self.boxes), len(self.sizes)}
        if len(lengths) != 1:
            raise RequestError(f"The parts of Scores must have one length; got {sorted(lengths)}.")
        if not np.isfinite(self.image).all():
            bad = self.ids[int(np.flatnonzero(~np.isfinite(self.image))[0])]
            raise RequestError(f"The score of '{bad}' is not a finite number; scores must be finite.")

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, name: str | Path) -> float:
        """The image score of `name`, an id or the path of its file."""
        return float(self.image[self.index(name)])

    def __contains__(self, name: object) -> bool:
        """Whether the image of this id was scored."""
        return name in self._rows

    def __iter__(self) -> Iterator[tuple[str, float]]:
        """Pairs of id and image score, in the order of `ids`."""
        return zip(self.ids, self.image.tolist(), strict=True)

    def __repr__(self) -> str:
        images = "1 image" if len(self) == 1 else f"{len(self):,} images"
        if not len(self):
            return f"Scores({images})"
        flags = f", {len(self.flagged)} flagged above {self.decision.threshold:.4g}" if self.decision else ""
        worst = ", ".join(f"{name} {self[name]:.4g}" for name in self.ranking()[:3])
        return f"Scores({images}, {self.image.min():.4g} to {self.image.max():.4g}{flags}; highest: {worst})"

    def _repr_html_(self) -> str:
        """A card with the highest scores and their maps, for notebooks."""
        from PIL import Image

        from blemish.scores.heatmaps import MapScale, colours

        headline = repr(self).partition(";")[0].removesuffix(")")
        ranking, pictures = self.ranking(), []
        if ranking:
            some = self.subset(ranking[:: max(1, len(self) // SAMPLED)])
            scale = MapScale.of(some, self.decision.unusual_above(some.image) if self.decision else None)
        for name in ranking[:SHOWN]:
            width, height = self.sizes[self.index(name)] * (SIDE / self.sizes[self.index(name)].max())
            levels = scale.levels(self.map(name, (max(1, round(width)), max(1, round(height)))))
            pictures.append((f"{name}\n{self[name]:.4g}", data_uri(Image.fromarray(colours()[levels]))))
        return card(headline.removeprefix("Scores("), pictures=pictures)

    def plot(self, threshold: float | None = None, ax: "Axes | None" = None) -> "Axes":
        """Draw how the scores are spread: a histogram, and the threshold as a line.

        Parameters
        ----------
        threshold : where the line is; that of `decision` by default, none without one.
        ax : matplotlib axes to draw on; the axes of a new figure by default, which `ax.figure.savefig` keeps.
        """
        from matplotlib.figure import Figure

        if ax is None:
            ax = Figure(figsize=(6, 3), layout="constrained").subplots()
        if threshold is None and self.decision is not None:
            threshold = self.decision.threshold
        low, high = float(self.image.min()), float(self.image.max())
        width = max((high - low) / BARS, 1e-9)
        at = low if threshold is None else threshold  # a bar begins there, so that none holds both kinds
        edges = at + width * np.arange(np.floor((min(low, at) - at) / width), np.ceil((high - at) / width) + 1)
        if threshold is None:
            ax.hist(self.image, edges.tolist(), color="0.6")
        else:
            flags = above(self.image, threshold)
            parts, labels = [self.image[~flags], self.image[flags]], ["not flagged", "flagged"]
            ax.hist(parts, edges.tolist(), stacked=True, color=["0.6", "tab:red"], label=labels)
            ax.axvline(threshold, color="black", linestyle="--", label=f"threshold {threshold:.4g}")
            ax.legend()
        ax.set(xlabel="score, higher is more anomalous", ylabel="images")
        return ax

    @property
    def flagged(self) -> list[str]:
        """The ids of the images above the threshold of `decision`, most anomalous first. Raises without a decision."""
        flags = above(self.image, self._decided.threshold)
        return [name for name in self.ranking() if flags[self.index(name)]]

    @property
    def bands(self) -> "dict[str, Band]":
        """By id what to do: "reject", "look" or "pass", most anomalous first. Raises without a decision."""
        bands = self._decided.bands(self.image)
        return {name: bands[self.index(name)] for name in self.ranking()}

    @property
    def probability(self) -> dict[str, float] | None:
        """By id the chance of being bad, most anomalous first; None where scores tell too little. Raises as `bands`."""
        chances = self._decided.chances(self.image)
        return None if chances is None else {name: float(chances[self.index(name)]) for name in self.ranking()}

    @property
    def _decided(self) -> "Decision":
        if self.decision is None:
            raise RequestError("These scores come without a decision; compare them with a threshold of your own.")
        return self.decision

    def index(self, name: str | Path) -> int:
        """The row of `name`, an id or the path of its file. Raises `RequestError` if it was not scored."""
        if not isinstance(name, (str, Path)):
            raise RequestError(
                f"Scores are found by the id of one image, not by {name!r}; `head(10)` has the highest, `subset(ids)` "
                "those of some, `image` all scores in the order of `ids`."
            )
        if (row := self._rows.get(str(name))) is not None:
            return row
        if isinstance(self.root, Path):
            relative = Path(os.path.relpath(Path(name).expanduser(), self.root)).as_posix()
            if (row := self._rows.get(relative)) is not None:
                return row
        near = get_close_matches(str(name), self.ids, n=1)
        meant = f"did you mean '{near[0]}'?" if near else f"it is none of the {len(self)} images."
        raise RequestError(f"'{name}' was not scored; {meant}")

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {name: row for row, name in enumerate(self.ids)}

    def subset(self, ids: "tuple[str, ...] | list[str]") -> "Scores":
        """The scores of `ids`, in that order."""
        rows = [self.index(name) for name in ids]
        arrays = {name: getattr(self, name)[rows] for name in ("image", "maps", "boxes", "sizes")}
        return replace(self, ids=tuple(ids), **arrays, skipped={}, notes=())

    def joined(self, others: "Scores") -> "Scores":
        """Both as one, in the order of the ids. Maps must have one size. Raises `RequestError` where they do not."""
        if self.maps.shape[1:] != others.maps.shape[1:]:
            raise RequestError(f"Maps must have one size; got {self.maps.shape[1:]} and {others.maps.shape[1:]}.")
        ids = (*self.ids, *others.ids)
        order = sorted(range(len(ids)), key=ids.__getitem__)

        def both(name: str) -> NDArray[Any]:
            return np.concatenate([getattr(self, name), getattr(others, name)])[order]

        arrays: dict[str, Any] = {name: both(name) for name in ("image", "maps", "boxes", "sizes")}
        return Scores(tuple(ids[at] for at in order), **arrays, skipped={**self.skipped, **others.skipped})

    def ranking(self) -> list[str]:
        """The ids, most anomalous first; equal scores in the order of their names."""
        return [self.ids[i] for i in sorted(range(len(self)), key=lambda i: (-float(self.image[i]), self.ids[i]))]

    def map(self, name: str, size: tuple[int, int] | None = None) -> NDArray[np.float32]:
        """The anomaly map of one image, (height, width) float32, padding cut away, bilinear.

        `size` is (width, height); the image's own by default.
        """
        row = self.index(name)
        width, height = size or (int(self.sizes[row, 0]), int(self.sizes[row, 1]))
        grid = self.maps[row]
        left, top, right, bottom = self.boxes[row]
        rows = _centres(top, bottom, height) * grid.shape[0] - 0.5
        columns = _centres(left, right, width) * grid.shape[1] - 0.5
        return _bilinear(grid, rows, columns)

    def inside(self, row: int) -> NDArray[np.float32]:
        """The finite values of one map, padding left out, (P,) float32."""
        grid = np.asarray(self.maps[row])
        left, top, right, bottom = self.boxes[row] * np.array([grid.shape[1], grid.shape[0]] * 2)
        inner = grid[int(np.floor(top)) : int(np.ceil(bottom)), int(np.floor(left)) : int(np.ceil(right))].ravel()
        finite: NDArray[np.float32] = inner[np.isfinite(inner)]
        return finite

    def head(self, n: int = 10) -> "pd.DataFrame":
        """The `n` most anomalous images as a table, see `to_frame`."""
        return self.to_frame().head(n)

    def to_frame(
        self,
        threshold: float | None = None,
        probability: "NDArray[np.floating] | None" = None,
        bands: Sequence[str] | None = None,
    ) -> "pd.DataFrame":
        """A pandas table `path,score`, most anomalous first.

        With a threshold it has the column `flagged`, 0 or 1; with the chances of being bad (N,), `probability`; with
        what to do with each image (N,), `band`. All three come from `decision` by default.
        """
        import pandas as pd

        if self.decision is not None and threshold is None and probability is None and bands is None:
            threshold, bands = self.decision.threshold, self.decision.bands(self.image)
            probability = self.decision.chances(self.image)

        order = self.ranking()
        score = np.array([self.image[self._rows[name]] for name in order], dtype=np.float32)
        frame = pd.DataFrame({"path": order, "score": score})
        if threshold is not None:
            frame["flagged"] = above(score, threshold).astype(int)
        if probability is not None:
            frame["probability"] = np.round([probability[self._rows[name]] for name in order], 4)
        if bands is not None:
            frame["band"] = [bands[self._rows[name]] for name in order]
        return frame

    def to_csv(
        self,
        path: Path,
        threshold: float | None = None,
        probability: "NDArray[np.floating] | None" = None,
        bands: Sequence[str] | None = None,
    ) -> None:
        """Write `to_frame` as UTF-8 CSV; scores round-trip to the same float32."""
        frame = self.to_frame(threshold, probability, bands)
        frame.to_csv(path, index=False, encoding="utf-8", float_format="%.9g")


def _centres(low: float, high: float, count: int) -> NDArray[np.float64]:
    return low + (np.arange(count) + 0.5) / count * (high - low)


def _bilinear(
    grid: NDArray[np.float32], rows: NDArray[np.float64], columns: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Sample `grid` at fractional rows and columns, edges repeated."""

    def along(values: NDArray[np.float32], at: NDArray[np.float64]) -> NDArray[np.float32]:
        at = at.clip(0, len(values) - 1)
        low = np.floor(at).astype(int)
        high = np.minimum(low + 1, len(values) - 1)
        weight = (at - low).astype(np.float32)[:, None]
        mixed: NDArray[np.float32] = values[low] * (1 - weight) + values[high] * weight
        return mixed

    return along(along(grid, rows).T, columns).T
