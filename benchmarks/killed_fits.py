"""`fit` ended by SIGKILL at many moments: no result is left or a whole one, and the next fit is as if never killed.

python benchmarks/killed_fits.py ../shared/data/magnetic_tile/train/good --moments 50
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import blemish


def main() -> None:
    """Fit once to the end, then again and again to a moment of it; end with code 1 for a wrong one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--moments", type=int, default=50)
    given = parser.parse_args()
    wrong = []
    whole = broken = 0
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)

        def fit(out: Path, cache: Path) -> subprocess.Popen[bytes]:
            words = [
                sys.executable,
                "-m",
                "blemish",
                "fit",
                str(given.images),
                "--out",
                str(out),
                "--cache",
                str(cache),
            ]
            return subprocess.Popen([*words, "--quiet", "--threads", "1"])

        start = time.perf_counter()
        if fit(folder / "first", folder / "cache first").wait():
            sys.exit("the fit without a kill failed")
        seconds = time.perf_counter() - start
        expected = (folder / "first" / "scores.csv").read_bytes()
        for moment in range(given.moments):
            out = folder / f"run {moment}"
            process = fit(out, folder / f"cache {moment}")
            time.sleep(seconds * (0.2 + 0.9 * moment / given.moments))
            process.kill()
            process.wait()
            if out.exists():
                whole += 1
                if (out / "scores.csv").read_bytes() != expected or len(blemish.load(out).training_scores) == 0:
                    wrong.append(f"moment {moment}: a result that is not whole")
                continue
            broken += 1
            if fit(out, folder / f"cache {moment}").wait() or (out / "scores.csv").read_bytes() != expected:
                wrong.append(f"moment {moment}: the fit after it differs")
            if left := [each.name for each in folder.iterdir() if ".partial-" in each.name]:
                wrong.append(f"moment {moment}: {left[0]} was left")
    ends = f"{broken} ended before the result, {whole} after it"
    print(f"{given.moments} moments of {seconds:.1f} s: {ends}; {len(wrong)} wrong")
    print(*wrong[:20], sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
