"""Damaged uploads to `blemish serve`: each is answered by a score or one sentence, and the server stays as it was.

Sound PNGs and JPEGs (8 and 16 bits, grey, colour, alpha), raw arrays and multipart bodies are cut, spliced, overwritten
and mislabelled. At the end a sound image must score what it scored at the start.

    python benchmarks/fuzzed_uploads.py run --requests 10000
"""

import argparse
import collections
import io
import struct
import subprocess
import sys
import time
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
from PIL import Image

KINDS = (
    "image/png",
    "image/jpeg",
    "image/jpg",
    "application/octet-stream",
    "multipart/form-data; boundary=b",
    "text/plain",
    "",
)
RIGHT = {200, 400, 413, 415, 422, 429}
SIDE = 96


def png16(pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits of (H, W, C) uint16."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width, channels = pixels.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def sound(rng: np.random.Generator) -> list[bytes]:
    """Bodies that are right."""
    found = [png16(rng.integers(0, 4096, (SIDE, SIDE, channels))) for channels in (1, 2, 3, 4)]
    pixels = rng.integers(0, 256, (SIDE, SIDE, 4), dtype=np.uint8)
    for mode, form in (
        ("L", "PNG"),
        ("RGB", "PNG"),
        ("RGBA", "PNG"),
        ("P", "PNG"),
        ("1", "PNG"),
        ("RGB", "JPEG"),
        ("L", "JPEG"),
        ("CMYK", "JPEG"),
    ):
        file = io.BytesIO()
        Image.fromarray(pixels).convert("RGB").convert(mode).save(file, form)
        found.append(file.getvalue())
    found.append(rng.integers(0, 256, SIDE * SIDE * 3, dtype=np.uint8).tobytes())
    part = b'--b\r\nContent-Disposition: form-data; name="images"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    found.append(part + found[5] + b"\r\n--b--\r\n")
    return found


def damaged(data: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """One of the bodies after up to three accidents."""
    body = bytearray(data)
    for _ in range(rng.integers(0, 4)):
        at = int(rng.integers(0, max(1, len(body))))
        accident = int(rng.integers(0, 6))
        if accident == 0:
            del body[at:]
        elif accident == 1 and body:
            body[at] = int(rng.integers(0, 256))
        elif accident == 2:
            body[at : at + 4] = rng.integers(0, 256, 4, dtype=np.uint8).tobytes()
        elif accident == 3:
            body[at:at] = others[int(rng.integers(len(others)))][:200]
        elif accident == 4:
            body[16:24] = struct.pack(">II", *(int(side) for side in rng.integers(0, 2**31, 2)))  # a PNG's size
        else:
            body[at : at + 64] = b"\xff" * 64
    return bytes(body)


def main() -> None:
    """Send them, count the answers, end with code 1 for a wrong one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    words = [sys.executable, "-m", "blemish", "serve", str(given.run), "--port", "0", "--threads", "1"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    address = (server.stdout.readline() if server.stdout else "").split()[-1]
    bodies = sound(np.random.default_rng(given.seed))
    wrong: list[str] = []
    slowest = 0.0

    def client(number: int) -> collections.Counter[int]:
        nonlocal slowest
        seen: collections.Counter[int] = collections.Counter()
        with httpx.Client(base_url=address, timeout=90) as http:
            for at in range(number, given.requests, given.clients):
                rng = np.random.default_rng([given.seed, at])
                body = damaged(bodies[int(rng.integers(len(bodies)))], bodies, rng)
                headers = {"content-type": KINDS[int(rng.integers(len(KINDS)))]}
                words = {"shape": f"{SIDE},{SIDE},3", "maps": "1"} if rng.random() < 0.5 else {}
                start = time.perf_counter()
                try:
                    answer = http.post("/score", content=body, headers=headers, params=words)
                    seen[answer.status_code] += 1
                    right = answer.status_code in RIGHT and ("error" in answer.json()) != (answer.status_code == 200)
                    if not right:
                        wrong.append(f"request {at}: {answer.status_code} {answer.text[:200]}")
                except (httpx.HTTPError, ValueError) as error:
                    wrong.append(f"request {at}: {error!r}")
                slowest = max(slowest, time.perf_counter() - start)
        return seen

    try:
        with httpx.Client(base_url=address, timeout=90) as http:
            score = http.post("/score", content=bodies[5], headers={"content-type": "image/png"}).json()["results"]
            with ThreadPoolExecutor(given.clients) as clients:
                counts = sum(clients.map(client, range(given.clients)), collections.Counter())
            again = http.post("/score", content=bodies[5], headers={"content-type": "image/png"}).json()["results"]
            if score != again:
                wrong.append(f"a sound image scored {score} and then {again}")
            status = Path(f"/proc/{server.pid}/status")
            peak = next((line for line in status.read_text().splitlines() if line.startswith("VmHWM")), "")
    finally:
        server.terminate()
        server.wait(60)
    answers = dict(sorted(counts.items()))
    print(f"{given.requests} requests: {answers}; slowest {slowest:.1f} s; {peak}; {len(wrong)} wrong")
    print(*wrong[:20], sep="\n")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
