"""Nearest-neighbour indexes against the matrix product that scoring uses, on patches of real images, on one core.

Needs faiss-cpu and hnswlib, which blemish does not: `pip install --target DIR ...` and DIR in PYTHONPATH.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import hnswlib
import numpy as np
import torch

from blemish.detectors.embedding import Standardised
from blemish.detectors.nearest import Bank
from blemish.features import FeatureSpec
from blemish.images import ImageSet
from blemish.runtime import use_runtime

ENTRIES, QUERIES, REPEATS = (4_000, 12_000), 2_304, 5  # queries: four images at 384 pixels


def patches(folder: Path) -> torch.Tensor:
    """(n, 328) float32, standardised, in random order: patches of 30 images."""
    images = ImageSet.of(folder)
    found = []
    for batch in images.subset(images.ids[:30]).features(FeatureSpec()).batches():
        fine, coarse = (batch.stages[name].float() for name in ("16", "32"))
        coarse = coarse.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
        found.append(torch.cat([fine, coarse], dim=-1).flatten(0, 2))
    rows = torch.cat(found)
    rows = (rows - rows.mean(0)) / rows.std(0)
    return rows[torch.randperm(len(rows), generator=torch.Generator().manual_seed(0))].contiguous()


def searches(entries: torch.Tensor) -> dict[str, Callable[[np.ndarray[Any, Any]], Any]]:
    """By name, a function from queries (n, 328) to the index of the nearest entry (n,)."""
    rows, width = entries.numpy(), entries.shape[1]
    bank = Bank.of_embedded(Standardised(width), entries, torch.arange(len(entries)), relative=False)
    flat = faiss.IndexFlatL2(width)
    flat.add(rows)
    found = {
        "matrix product (blemish)": lambda q: bank.measured(torch.from_numpy(q))[1].numpy(),
        "faiss Flat": lambda q: flat.search(q, 1)[1][:, 0],
    }
    for effort in (16, 64, 256):
        graph = faiss.IndexHNSWFlat(width, 32)
        graph.hnsw.efConstruction, graph.hnsw.efSearch = 200, effort
        graph.add(rows)
        found[f"faiss HNSW32, ef {effort}"] = lambda q, graph=graph: graph.search(q, 1)[1][:, 0]
        index = hnswlib.Index("l2", width)
        index.init_index(len(rows), ef_construction=200, M=32)
        index.add_items(rows, num_threads=1)
        index.set_ef(effort)
        found[f"hnswlib M 32, ef {effort}"] = lambda q, index=index: index.knn_query(q, 1, num_threads=1)[0][:, 0]
    return found


def main(folder: Path) -> None:
    """Print queries a second of processor time (the machine may be shared) and recall@1."""
    rows = patches(folder)
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    queries = rows[max(ENTRIES) : max(ENTRIES) + QUERIES].numpy()
    print("| entries | search | queries a second of one core | recall@1 |\n| --- | --- | --- | --- |")
    for count in ENTRIES:
        entries = rows[:count].contiguous()
        truth = torch.cdist(torch.from_numpy(queries).double(), entries.double()).argmin(1).numpy()
        for name, search in searches(entries).items():
            answer, seconds = search(queries), []
            for _ in range(REPEATS):
                start = time.process_time()
                search(queries)
                seconds.append(time.process_time() - start)
            print(f"| {count:,} | {name} | {len(queries) / min(seconds):,.0f} | {np.mean(answer == truth):.4f} |")


if __name__ == "__main__":
    with use_runtime(threads=1), torch.inference_mode():
        main(Path(sys.argv[1]))
