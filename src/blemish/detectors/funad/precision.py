"""In what precision a net is run, and what it makes of images when it is not being trained."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from blemish.detectors.funad.local_net import LocalNet
from blemish.detectors.funad.pool import Pool
from blemish.detectors.funad.schedule import Precision

AT_ONCE = 2**14  # patches that pass the net together where no gradient is needed: 40 MB of activations


@torch.no_grad()
def image_scores(net: LocalNet, pool: Pool, precision: Precision = "float32") -> Tensor:
    """The largest logit of each image's patches in the pool, (N,); minus infinity for images without any."""
    device = pool.patches.device
    with autocast(device, precision):
        logits = torch.cat([
            net(net.adapted(pool.patches[rows], pool.wholes, pool.owners[rows]))
            for rows in torch.split(torch.arange(len(pool.patches), device=device), AT_ONCE)
        ]).float()  # fmt: skip
    looks = torch.full((len(pool.groups),), -torch.inf, device=device)
    return looks.scatter_reduce(0, pool.owners, logits, "amax")


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Matrix products in bfloat16 inside the block if that is asked for."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")


@contextmanager
def fast_products(device: torch.device) -> Iterator[None]:
    """TF32 in matrix products, on the devices that have it."""
    if device.type != "cuda":
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
