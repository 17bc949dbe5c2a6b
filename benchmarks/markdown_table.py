"""Tables for the pages of this folder."""

import numpy as np
import pandas as pd


def markdown(frame: pd.DataFrame, digits: int = 3) -> str:
    """The frame, without its index, as a Markdown table; NaN is an empty cell."""

    def shown(value: object) -> str:
        if isinstance(value, (float, np.floating)):
            return "" if np.isnan(value) else f"{value:.{digits}f}"
        return str(value)

    lines = ["| " + " | ".join(map(str, frame.columns)) + " |", "|" + " --- |" * len(frame.columns)]
    return "\n".join([*lines, *("| " + " | ".join(map(shown, row)) + " |" for row in frame.to_numpy())]) + "\n"
