"""How pure the rebuilt banks were while the nets learned, told by those who know the truth of some images."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from blemish.detectors.funad.curve import HELD
from blemish.machine.disk import writing_to
from blemish.machine.errors import RequestError


@dataclass(frozen=True)
class BankPurity:
    """A bank at one step: of the `images` in it whose truth is known, the share that is normal; None of no images."""

    net: str
    step: int
    images: int
    purity: float | None


def bank_purity(training: Path, anomalous: Mapping[str, bool]) -> tuple[BankPurity, ...]:
    """The purity of each bank, from what is known of some images by path; none where `training` tells of no banks.

    Raises `RequestError` if the file cannot be read.
    """
    file = training / HELD
    if not file.is_file():
        return ()
    try:
        table = pd.read_csv(file, dtype={"path": str}, keep_default_na=False).set_index("path")
        known = table.loc[[path for path in table.index if path in anomalous]].astype(bool)
        banks = [(*name.rsplit("@", 1), known.index[known[name]]) for name in known]
        return tuple(
            BankPurity(net, int(step), len(held), _purity([anomalous[path] for path in held]))
            for net, step, held in banks
        )
    except (OSError, ValueError, KeyError) as error:
        raise RequestError(f"'{file}' cannot be read ({error}); fit again with `force`.") from None


def write_purity(folder: Path, banks: Sequence[BankPurity]) -> None:
    """`bank_purity.csv` and `bank_purity.png`, the purity over the steps.

    Raises `RequestError` if there are no banks, `JobError` if the disk refuses.
    """
    if not banks:
        raise RequestError("The Run tells of no banks that were rebuilt; `purity` needs what a fit of funad left.")
    with writing_to(folder):
        folder.mkdir(parents=True, exist_ok=True)
        table = pd.DataFrame([asdict(each) for each in banks])
        table.to_csv(folder / "bank_purity.csv", index=False, lineterminator="\n")
        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        for net, rows in table.groupby("net", sort=False):
            axes.plot(rows["step"], rows["purity"].astype(float), marker=".", label=net)
        axes.set(xlabel="step", ylabel="share of normal images in the bank")
        axes.legend(fontsize="x-small")
        figure.savefig(folder / "bank_purity.png", dpi=100)


def _purity(anomalous: Sequence[bool]) -> float | None:
    return 1 - sum(anomalous) / len(anomalous) if anomalous else None
