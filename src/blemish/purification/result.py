"""What a purification finds: scores, what is kept, and why."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from blemish.images import ImageSet
from blemish.images.notebook_cards import SIDE, card, data_uri
from blemish.machine.errors import UnreadableImageError
from blemish.purification.kept_scores import KeptScores

if TYPE_CHECKING:
    import pandas as pd


SHOWN = 6  # images on a card


@dataclass(frozen=True, repr=False)
class Purification:
    """Which images to learn from, and why.

    Attributes
    ----------
    ids : the images.
    scores : (N,) float64, aggregated over the sub-models, higher is more anomalous.
    spread : (N,) float64, standard deviation between the sub-models.
    kept : (N,) bool.
    limit : images that score higher are set aside, but for those known to be good.
    rule : how the limit was found, one sentence.
    notes : sentences a person should read, such as what was done about a cut that kept too few.
    settings : of the purification, with the seed and the detector.
    skipped : files that could not be used, with the reason; they are none of the ids.
    partial : what an interrupted purification would continue from, see `forget`.
    images : the images themselves, to be shown.
    """

    ids: tuple[str, ...]
    scores: NDArray[np.float64]
    spread: NDArray[np.float64]
    kept: NDArray[np.bool_]
    limit: float
    rule: str
    notes: tuple[str, ...]
    settings: dict[str, Any]
    skipped: Mapping[str, str] = field(default_factory=dict)
    partial: KeptScores | None = None
    images: ImageSet | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        aside = self.set_aside_ids
        first = f"; highest: {', '.join(aside[:3])}" if aside else ""
        return (
            f"Purification(kept {len(self) - len(aside):,} of {len(self):,} images, {len(aside):,} set aside above "
            f"{self.limit:.4g}{first})"
        )

    def _repr_html_(self) -> str:
        """A card with the first images that were set aside, for notebooks."""
        pictures, row = [], {name: at for at, name in enumerate(self.ids)}
        for name in self.set_aside_ids[:SHOWN] if self.images else ():
            try:
                picture = Image.fromarray(self.images.read(name))  # type: ignore[union-attr]
            except UnreadableImageError:
                continue
            picture.thumbnail((SIDE, SIDE))
            pictures.append((f"{name}\n{self.scores[row[name]]:.4g}", data_uri(picture)))
        headline = repr(self).partition(";")[0].removeprefix("Purification(").removesuffix(")")
        return card(headline, (self.rule, *self.notes), pictures)

    @property
    def kept_ids(self) -> tuple[str, ...]:
        """The images to learn from, in the order of `ids`."""
        return tuple(name for name, kept in zip(self.ids, self.kept, strict=True) if kept)

    @property
    def set_aside_ids(self) -> tuple[str, ...]:
        """The others, the highest score first."""
        return tuple(self.ids[row] for row in self._ranking() if not self.kept[row])

    def _ranking(self) -> list[int]:
        return sorted(range(len(self.ids)), key=lambda row: (-self.scores[row], self.ids[row]))

    def subset(self, ids: Iterable[str]) -> "Purification":
        """The same for `ids` only, in their order here."""
        wanted = set(ids)
        rows = [row for row, name in enumerate(self.ids) if name in wanted]
        arrays = {name: getattr(self, name)[rows] for name in ("scores", "spread", "kept")}
        return replace(self, ids=tuple(self.ids[row] for row in rows), **arrays)

    def forget(self) -> None:
        """Remove what was kept on disk to continue from: the result is safe."""
        if self.partial is not None:
            self.partial.remove()

    def to_json(self) -> dict[str, Any]:
        """For `config.json`: settings and outcome."""
        outcome = {"images": len(self.ids), "kept": int(self.kept.sum()), "limit": self.limit, "rule": self.rule}
        return {**self.settings, **outcome, "notes": list(self.notes)}

    def to_frame(self) -> "pd.DataFrame":
        """A table `path,score,spread,kept` (kept is 0 or 1), the highest score first."""
        import pandas as pd

        order = self._ranking()
        columns = {"score": self.scores[order], "spread": self.spread[order], "kept": self.kept[order].astype(int)}
        return pd.DataFrame({"path": [self.ids[row] for row in order], **columns})

    def to_csv(self, path: Path) -> None:
        """Write `to_frame` as UTF-8 CSV."""
        self.to_frame().to_csv(path, index=False, encoding="utf-8")
