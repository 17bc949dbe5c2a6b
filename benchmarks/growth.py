"""Cost of `fit` as the folder grows: real images, copied with noise; each size in a process of its own, resumable.

Asked for: cost at most linear from 1,000 to 20,000 images, peak memory flat within 10 %. Cost is processor time, which
other jobs on the machine do not lengthen.

    python benchmarks/growth.py ../shared/data/magnetic_tile --counts 1000 2000 5000 10000 20000 --place growth
"""

import argparse
import json
import shutil
import time
from pathlib import Path

import numpy as np
from PIL import Image

from kept_rows import in_process, is_kept, keep, show


def fill(source: Path, folder: Path, count: int) -> None:
    """Images of `source`, again and again with noise of another seed, until there are `count`."""
    files = sorted(path for path in source.rglob("*") if path.suffix.lower() in (".png", ".jpg", ".jpeg", ".bmp"))
    files = [path for path in files if "ground_truth" not in path.parts]
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        target = folder / f"{number:06d}.jpg"
        if not target.exists():
            rgb = np.asarray(Image.open(files[number % len(files)]).convert("RGB"), dtype=np.float32)
            noisy = rgb + np.random.default_rng(number).normal(0, 3, rgb.shape)
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(target, quality=92)


def one(words: dict) -> None:
    """Fit and print what it cost."""
    import blemish
    from blemish.machine.measuring import peak_memory_mib

    place = Path(words["place"])
    shutil.rmtree(place / "cache", ignore_errors=True)
    listed = place / "list.txt"
    listed.write_text("".join(f"images/{number:06d}.jpg\n" for number in range(words["count"])))
    start, busy = time.perf_counter(), time.process_time()
    run = blemish.fit(
        listed, place / "run", detector=words["detector"], threads=words["threads"],
        cache=place / "cache", force=True,
    )  # fmt: skip
    seconds, busy = time.perf_counter() - start, time.process_time() - busy
    disk = sum(path.stat().st_size for path in (place / "cache").rglob("*") if path.is_file()) / 2**30
    told = {
        "seconds": round(seconds, 1),
        "cpu_s": round(busy, 1),
        "cpu_ms_an_image": round(1000 * busy / len(run.scores), 1),
    }
    print(json.dumps({**told, "peak_mib": peak_memory_mib(), "cache_gib": round(disk, 3)}))


def main() -> None:
    """Each size that is not in the results yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path, nargs="?")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--counts", type=int, nargs="+", default=[1000, 2000, 5000, 10_000, 20_000])
    parser.add_argument("--place", type=Path, default=Path("growth"))
    parser.add_argument("--results", type=Path, default=Path("growth.csv"))
    parser.add_argument("--detector", default="nearest_images")
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    if given.one:
        one(json.loads(given.one))
        return
    for count in given.counts:
        words = {"detector": given.detector, "threads": given.threads, "count": count}
        if not is_kept(given.results, **words):
            fill(given.images, given.place / "images", count)
            keep(given.results, in_process(__file__, **words, place=str(given.place)))
    show(given.results)


if __name__ == "__main__":
    main()
