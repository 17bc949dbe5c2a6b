"""Random weights that depend on a seed alone, also where several networks are made side by side."""

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


def seeded_weights(network: Network, seed: int) -> Network:
    """The network, the weights of its linear layers drawn as torch draws them, but from a generator of their own.

    Torch has one generator for all threads: what another thread draws would change what comes next here.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                bound = layer.in_features**-0.5
                layer.weight.uniform_(-bound, bound, generator=random)
                if layer.bias is not None:
                    layer.bias.uniform_(-bound, bound, generator=random)
    return network
