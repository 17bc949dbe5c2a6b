"""The backbone's forward with weights and pixels channels-last and without, and in bfloat16: one image, one core."""

import time
from contextlib import nullcontext
from itertools import product

import torch

from blemish.features.extract import FeatureSpec, PatchExtractor

SIDES, REPEATS = (256, 384), 15
FORMATS = {"channels-last": torch.channels_last, "contiguous": torch.contiguous_format}


def main() -> None:
    """Print milliseconds of processor time for one image, the best of interleaved repeats."""
    torch.set_num_threads(1)
    print("| pixels | memory | ms an image |\n| --- | --- | --- |")
    for side in SIDES:
        spec, best = FeatureSpec(pixels=side, size=(side, side)), {}
        pixels = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        ways = dict(product(FORMATS, ("float32",))) | {"channels-last bfloat16": "bfloat16"}
        networks = {way: PatchExtractor(spec).network.to(memory_format=FORMATS[way.split()[0]]) for way in ways}
        for _ in range(REPEATS):
            for way, network in networks.items():
                image = pixels.contiguous(memory_format=FORMATS[way.split()[0]])
                half = torch.autocast("cpu", dtype=torch.bfloat16) if ways[way] == "bfloat16" else nullcontext()
                start = time.thread_time()
                with half:
                    network(image)
                best[way] = min(best.get(way, 9.0), time.thread_time() - start)
        for way, seconds in best.items():
            print(f"| {side} | {way} | {1000 * seconds:.1f} |", flush=True)


if __name__ == "__main__":
    with torch.inference_mode():
        main()
