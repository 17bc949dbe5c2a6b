"""What happened while a net learned: losses, labels, bank and scores over the steps."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from blemish.detectors.funad.pseudo_labels import Labels

MEANS = ("classification", "smoothness", "positives", "unsure")
COLUMNS = ("step", "minibatches", *MEANS, "normal_images", "bank_images")


MOST_ROWS, MOST_SCORED = 200, 40


@dataclass
class Curve:
    """Rows of `COLUMNS`, one each time the bank's images were chosen, with the means of the steps until the next.

    Attributes
    ----------
    rows : of `COLUMNS`; `positives` and `unsure` are shares of the minibatches' patches.
    looked_normal, held : of each row, (N,) bool, the images that looked normal and those whose patches the bank holds.
    scored : steps at which the net scored all images, with the largest logit of each, (N,).
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    looked_normal: list[Tensor] = field(default_factory=list)
    held: list[Tensor] = field(default_factory=list)
    scored: list[tuple[int, Tensor]] = field(default_factory=list)

    def rebuilt(self, step: int, normal: Tensor, held: Tensor) -> None:
        """Begin a row; with a bank rebuilt every step, rows are as many as `MOST_ROWS`, each for some steps."""
        if len(self.rows) >= MOST_ROWS:
            self._join_rows()
        if _due([int(row["step"]) for row in self.rows], step, MOST_ROWS):
            row = {"step": step, "normal_images": int(normal.sum()), "bank_images": int(held.sum())}
            self.rows.append({name: row.get(name, 0) for name in COLUMNS})
            self.looked_normal.append(normal.cpu())
            self.held.append(held.cpu())

    def _join_rows(self) -> None:
        """Make one row of every two."""
        for first, second in zip(self.rows[::2], self.rows[1::2], strict=False):
            first["minibatches"] += second["minibatches"]
            for name in MEANS:
                first[name] += (second[name] - first[name]) * second["minibatches"] / max(1, first["minibatches"])
        for joined in (self.rows, self.looked_normal, self.held):
            del joined[1::2]

    def step(self, classification: float, smoothness: float, labels: Labels) -> None:
        """Add a minibatch to the last row."""
        row = self.rows[-1]
        row["minibatches"] += 1
        shares = [float(mask.float().mean()) for mask in (labels.anomalous, labels.unsure)]
        for name, value in zip(MEANS, (classification, smoothness, *shares), strict=True):
            row[name] += (value - row[name]) / row["minibatches"]

    def score(self, step: int, looks: Tensor, *, last: bool = False) -> None:
        """Keep the images' scores of a step; of many steps, those of as many as `MOST_SCORED`, and the last."""
        if len(self.scored) >= MOST_SCORED:
            del self.scored[1::2]
        if last or _due([at for at, _ in self.scored], step, MOST_SCORED):
            self.scored.append((step, looks.cpu()))

    def tensors(self) -> dict[str, Tensor]:
        """The images' part, for a checkpoint."""
        parts = {"curve.looked_normal": self.looked_normal, "curve.held": self.held}
        stacked = {name: torch.stack(values) for name, values in parts.items() if values}
        if self.scored:
            stacked["curve.scored"] = torch.stack([looks for _, looks in self.scored])
            stacked["curve.scored_at"] = torch.tensor([step for step, _ in self.scored])
        return stacked

    @classmethod
    def restored(cls, rows: list[dict[str, float]], tensors: dict[str, Tensor]) -> "Curve":
        """From the rows and `tensors`, at a step where a row begins."""
        found = {name: list(tensors[f"curve.{name}"].cpu()) for name in ("looked_normal", "held") if rows}
        scored: list[tuple[int, Tensor]] = []
        if "curve.scored" in tensors:
            steps = tensors["curve.scored_at"].tolist()
            scored = list(zip(steps, tensors["curve.scored"].cpu(), strict=True))
        return cls(rows, found.get("looked_normal", []), found.get("held", []), scored)


def _due(kept: list[int], step: int, most: int) -> bool:
    """Whether something is to be kept of `step`: all until there are many, then at the distance of the last two."""
    return len(kept) < max(2, most // 2) or step - kept[-1] >= kept[-1] - kept[-2]
