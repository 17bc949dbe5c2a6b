"""Throughput of `blemish serve` against the in-process rate, with many clients; every answer is checked.

Each image has a name of its own and its score is known: an answer that is lost, or is another image's, ends the script.

    python benchmarks/server.py run ../shared/data/mvtec_bottle/test --clients 16 --requests 10000
"""

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np

import blemish
from blemish.images import ImageSet
from blemish.machine.runtime import use_runtime
from blemish.scores import Scores
from kept_rows import keep, show


def main() -> None:
    """Measure in process, over HTTP, and in process again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("--results", type=Path, default=Path("server.csv"))
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=2)
    given = parser.parse_args()
    run = blemish.load(given.run)
    found = ImageSet.of(given.images, decoding=run.decoding, find_range=False)
    files = [found.root / name for name in found.ids if Path(name).suffix.lower() in (".png", ".jpg", ".jpeg")]
    data = [path.read_bytes() for path in files]

    def measured() -> tuple[float, Scores]:
        # an empty cache: features that an earlier job kept would be read in place of being made
        with (
            tempfile.TemporaryDirectory() as cache,
            use_runtime(threads=given.threads, cache=Path(cache), keep_features=False),
        ):
            run.scored(found.subset(found.ids[:8]))
            start = time.perf_counter()
            scores = run.scored(found)
            return len(scores) / (time.perf_counter() - start), scores

    before, scores = measured()
    expected = [scores[path.relative_to(found.root).as_posix()] for path in files]
    words = [sys.executable, "-m", "blemish", "serve", given.run, "--port", "0", "--threads", given.threads]
    server = subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True)
    try:
        address = server.stdout.readline().split()[-1]
        seconds: list[float] = []
        wrong: list[str] = []
        spread = np.subtract(*np.percentile(run.training_scores, (75, 25)))

        def client(number: int) -> int:
            done = 0
            with httpx.Client(base_url=address, timeout=300) as http:
                for at in range(number, given.requests, given.clients):
                    which = at % len(data)
                    kind = "image/png" if files[which].suffix.lower() == ".png" else "image/jpeg"
                    start = time.perf_counter()
                    while True:
                        answer = http.post("/score", content=data[which], headers={"content-type": kind})
                        if answer.status_code != 429:
                            break
                        time.sleep(0.05)
                    seconds.append(time.perf_counter() - start)
                    score = answer.json()["results"][0]["score"]
                    if abs(score - expected[which]) > 1e-3 * spread:
                        wrong.append(f"{files[which]}: {score} instead of {expected[which]}")
                    done += 1
            return done

        client(given.requests - 1)  # starts what the server starts with its first image
        seconds.clear()
        start = time.perf_counter()
        with ThreadPoolExecutor(given.clients) as clients:
            answered = sum(clients.map(client, range(given.clients)))
        rate = answered / (time.perf_counter() - start)
    finally:
        server.terminate()
        server.wait()
    in_process = max(before, measured()[0])  # the machine's better moment
    if wrong or answered != given.requests:
        raise SystemExit(f"{len(wrong)} wrong, {given.requests - answered} lost; the first: {wrong[:1]}")
    p50, p90, p99 = (round(1000 * float(each)) for each in np.percentile(seconds, (50, 90, 99)))
    keep(given.results, {
        "run": given.run.name, "clients": given.clients, "requests": given.requests,
        "in_process_per_s": round(in_process, 1), "server_per_s": round(rate, 1),
        "share": round(rate / in_process, 3), "p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "wrong": 0, "lost": 0,
    })  # fmt: skip
    show(given.results)


if __name__ == "__main__":
    main()
