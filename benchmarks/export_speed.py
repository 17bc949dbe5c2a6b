"""Images a second of one Run by torch and as exported models, side by side, and how far from the machine's limit.

Images are decoded beforehand; the ways take turns, so that what else the machine does meets all alike. The limit is the
backbone's operations over the peak of a float32 matrix product on this machine.

    python benchmarks/export_speed.py ../shared/data/mvtec_bottle/train/good --results export_speed.csv
"""

import argparse
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

import blemish
from blemish.deploy.export import export
from blemish.images import ImageSet
from blemish.machine.errors import BlemishError
from blemish.machine.runtime import intra_op_threads, use_runtime
from kept_rows import keep, show


def peak_flops(threads: int) -> float:
    """Operations a second of a float32 matrix product of 2,048, the best of several."""
    a = torch.rand(2048, 2048)
    best = 0.0
    with intra_op_threads(threads):
        for _ in range(5):
            start = time.perf_counter()
            a @ a
            best = max(best, 2 * 2048**3 / (time.perf_counter() - start))
    return best


def main() -> None:
    """Fit, export, measure in turns."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--results", type=Path, default=Path("export_speed.csv"))
    parser.add_argument("--run", type=Path, help="a Run that is there; otherwise one is fitted")
    parser.add_argument("--detector", default="nearest_images")
    parser.add_argument("--count", type=int, default=64)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--ways", nargs="+", default=["onnx", "openvino", "onnx int8", "openvino int8"])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, use_runtime(threads=given.threads, keep_features=False):
        folder = Path(place)
        run = given.run or folder / "run"
        if not given.run:
            blemish.fit(given.images, run, detector=given.detector, cache=folder / "cache")
        ways, notes = {"torch": blemish.load(run)}, {"torch": ""}
        for way in given.ways:
            format, _, precision = way.partition(" ")  # noqa: A001
            out = folder / way.replace(" ", "_")
            try:
                parity = export(run, out, format=format, precision=precision or "float32", images=given.images)
                notes[way] = f"{parity.score:.1e} of the spread, {parity.equal_decisions:.3f} equal, " + (
                    f"rank correlation {parity.rank_correlation:.4f}"
                )
                ways[way] = blemish.load(out)
            except BlemishError as error:
                notes[way] = str(error)
        whole = ImageSet.of(given.images, decoding=ways["torch"].decoding, find_range=False)
        pixels = [whole.read(name) for name in whole.ids[: given.count]]
        module = ways["torch"].detector.module()
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            module(torch.from_numpy(pixels[0]).permute(2, 0, 1)[None])
        limit = peak_flops(given.threads) / counter.get_total_flops()
        rates: dict[str, list[float]] = {name: [] for name in ways}
        with ThreadPoolExecutor(given.threads) as pool:

            def by_torch(each: np.ndarray) -> float:
                with torch.inference_mode():
                    return float(module(torch.from_numpy(each).permute(2, 0, 1)[None])[0])

            for _ in range(given.turns):
                for name, run_of in ways.items():
                    one = (
                        by_torch if name == "torch" else (lambda each, run_of=run_of: run_of.detector.graph(each[None]))
                    )
                    with intra_op_threads(1):
                        list(pool.map(one, pixels[: given.threads]))
                        start = time.perf_counter()
                        list(pool.map(one, pixels))
                        rates[name].append(len(pixels) / (time.perf_counter() - start))
        for name, note in notes.items():
            rate = median(rates[name]) if name in rates else float("nan")
            keep(given.results, {
                "images": given.images.as_posix()[-40:], "detector": given.detector, "way": name,
                "threads": given.threads, "per_second": round(rate, 2),
                "times_torch": round(rate / median(rates["torch"]), 2), "limit_per_second": round(limit, 1),
                "share_of_limit": round(rate / limit, 3), "parity": note,
            })  # fmt: skip
    show(given.results)


if __name__ == "__main__":
    main()
