"""Our AUPRO is that of anomalib, where anomalib is installed."""

import numpy as np
import pytest
import torch

from test_metrics import case, measured


@pytest.mark.parametrize("shift", [0.0, 0.7, 2.0])
def test_aupro_equals_that_of_anomalib(shift: float) -> None:
    aupro = pytest.importorskip("anomalib.metrics.aupro")
    maps, masks = case(count=16, side=48, shift=shift)
    masks[3, 20, 20] = masks[3, 21, 21] = True  # two pixels that meet at a corner are one defect
    theirs = aupro._AUPRO()  # the plain metric; the public class wraps it for batches of their models
    spread = (maps - maps.min()) / np.ptp(maps)
    theirs.update(torch.from_numpy(spread), torch.from_numpy(masks.astype(np.int64)))
    assert measured(maps, masks)["aupro"] == pytest.approx(float(theirs.compute()), abs=1e-3)
