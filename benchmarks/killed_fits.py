"""`fit` ended by SIGKILL at many moments: no result is left or a whole one, and the next fit is as if never killed.

python benchmarks/killed_fits.py ../shared/data/magnetic_tile/train/good --moments 50

Each fit is a process of a fork server that has imported everything, so that all moments lie in the job itself.
"""

import argparse
import multiprocessing
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import blemish

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["torch", "timm", "scipy.stats", "sklearn.mixture", "pandas", "blemish.jobs.fitting"])


def fit(images: Path, out: Path, cache: Path) -> None:
    """One fit from nothing."""
    blemish.fit(images, out, cache=cache, threads=1, progress=False)


def main() -> None:
    """Fit once to the end, then again and again to a moment of it; end with code 1 for a wrong one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--moments", type=int, default=50)
    options = parser.parse_args()
    wrong = []
    whole = broken = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)

        def started(out: Path, cache: Path) -> BaseProcess:
            process = SERVER.Process(target=fit, args=(options.images, out, cache))
            process.start()
            return process

        def failed(out: Path, cache: Path) -> bool:
            process = started(out, cache)
            process.join()
            return process.exitcode != 0

        if failed(folder / "warm", folder / "cache warm"):
            sys.exit("the fit without a kill failed")
        start = time.perf_counter()
        failed(folder / "first", folder / "cache first")
        seconds = time.perf_counter() - start
        expected = (folder / "first" / "scores.csv").read_bytes()
        # spread, so that a run which is stopped has seen all of the job
        for done, moment in enumerate(sorted(range(options.moments), key=lambda number: number * 0.618 % 1), start=1):
            out, cache = folder / f"run {moment}", folder / f"cache {moment}"
            process = started(out, cache)
            process.join(seconds * 1.1 * (moment + 0.5) / options.moments)
            process.kill()
            process.join()
            if out.exists():
                whole += 1
                if (out / "scores.csv").read_bytes() != expected or len(blemish.load(out).training_scores) == 0:
                    wrong.append(f"moment {moment}: a result that is not whole")
                continue
            broken += 1
            if failed(out, cache) or (out / "scores.csv").read_bytes() != expected:
                wrong.append(f"moment {moment}: the fit after it differs")
            if left := [each.name for each in folder.iterdir() if ".partial-" in each.name]:
                wrong.append(f"moment {moment}: {left[0]} was left")
            print(f"{done} of {options.moments}: {broken} ended before the result, {len(wrong)} wrong", file=sys.stderr)
    ends = f"{broken} ended before the result, {whole} after it"
    print(f"{options.moments} moments of {seconds:.1f} s: {ends}; {len(wrong)} wrong")
    print(*wrong[:20], sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
