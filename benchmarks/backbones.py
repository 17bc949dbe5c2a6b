"""What an image costs with each backbone: parameters, patches and milliseconds of one core, with random weights.

    python benchmarks/backbones.py [NAME...]

Times are of the processor, not of the clock, with one thread, so that other work on the machine counts little.
"""

import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import safetensors.torch
import timm
import torch

from blemish.detectors.parts.views import DEEP_VIEWS, specs_of, views_for
from blemish.features.backbones import BACKBONES, backbone, stride_of
from blemish.features.extract import PatchExtractor
from blemish.images import ImageSet

IMAGES = 3
SKIPPED = ("dinov2_vitl14", "dinov2_vitg14")  # minutes and gigabytes for a line


def main(names: list[str]) -> None:
    """Print a table with a line for each backbone of `names`."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    photos = [rng.integers(0, 256, (512, 512, 3), dtype=np.uint8) for _ in range(IMAGES + 1)]
    print("| name | millions of parameters | size, pixels | patches | width | ms an image on one core |")
    print("| --- | --- | --- | --- | --- | --- |")
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            print(line(name, photos, Path(folder)), flush=True)


def line(name: str, photos: list[np.ndarray], folder: Path) -> str:
    """A row of the table; weights that are not embedded are made up and saved to `folder`."""
    entry, weights = backbone(name), ""
    if not entry.package:
        torch.manual_seed(0)
        network = timm.create_model(entry.timm_name.partition(".")[0], num_classes=0)
        weights = str(folder / "random.safetensors")
        safetensors.torch.save_file(network.state_dict(), weights)
    cost, sizes, patches, widths = 0.0, [], [], []
    for spec in specs_of(views_for(name, DEEP_VIEWS), name, weights):
        spec = spec.resolved(ImageSet.of(photos))
        extract = PatchExtractor(spec).eval()
        pixels = [torch.from_numpy(photo).permute(2, 0, 1)[None] for photo in photos]
        with torch.inference_mode():
            extract(pixels[0])
            start = time.process_time()
            for each in pixels[1:]:
                extract(each)
        cost += (time.process_time() - start) / IMAGES
        sizes.append(str(spec.size[1]))
        for stage in spec.stages:
            patches.append(str((spec.size[0] // stride_of(stage)) ** 2))
            widths.append(str(entry.stages[stage][1]))
    columns = (name, entry.millions, "+".join(sizes), "+".join(patches), "+".join(widths), round(1000 * cost))
    return f"| {' | '.join(str(each) for each in columns)} |"


if __name__ == "__main__":
    main(sys.argv[1:] or [name for name in BACKBONES if not name.startswith(SKIPPED)])
