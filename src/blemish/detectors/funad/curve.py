"""What happened while a net learned: losses, labels, bank and scores over the steps."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from blemish.detectors.funad.pseudo_labels import Labels

MEANS = ("classification", "smoothness", "positives", "unsure")
COLUMNS = ("step", "minibatches", *MEANS, "normal_images", "bank_images")


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

    def rebuilt(self, step: int, normal: Tensor, held: Tensor, most: int = 200) -> None:
        """Begin a row; with a bank rebuilt every step, rows are as many as `most`, each for some steps."""
        if len(self.rows) >= most:  # thin out: keep every other row
            for kept in (self.rows, self.looked_normal, self.held):
                del kept[1::2]
        if self._due(step, most):
            row = {"step": step, "normal_images": int(normal.sum()), "bank_images": int(held.sum())}
            self.rows.append({name: row.get(name, 0) for name in COLUMNS})
            self.looked_normal.append(normal.cpu())
            self.held.append(held.cpu())

    def _due(self, step: int, most: int) -> bool:
        if len(self.rows) < 2:
            return True
        gap = self.rows[-1]["step"] - self.rows[-2]["step"]
        return len(self.rows) < most // 2 or step - self.rows[-1]["step"] >= gap

    def step(self, classification: float, smoothness: float, labels: Labels) -> None:
        """Add a minibatch to the last row."""
        row = self.rows[-1]
        row["minibatches"] += 1
        shares = [float(mask.float().mean()) for mask in (labels.anomalous, labels.unsure)]
        for name, value in zip(MEANS, (classification, smoothness, *shares), strict=True):
            row[name] += (value - row[name]) / row["minibatches"]

    def score(self, step: int, looks: Tensor, most: int = 40) -> None:
        """Keep the images' scores of a step."""
        if len(self.scored) >= most:
            del self.scored[1::2]
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
