"""Fit and score against anomalib's PatchCore: the same images, backbone and cores, each way in a process of its own.

Features are made anew in both: seconds are from files to a fitted detector, and from files to scores. The labels of the
test images are looked at by this script alone, for the AUROC. The ways take turns over `--turns`; rows are kept, so an
interrupted start goes on.

    python benchmarks/against_patchcore.py ../shared/data/mvtec_bottle --results against_patchcore.csv
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

from kept_rows import in_process, is_kept, keep, show

ALONE = "training_scores=false,size=256"
WAYS = {
    "anomalib PatchCore, coreset 10 % (its default)": f"anomalib:Patchcore,coreset_sampling_ratio=0.1,{ALONE}",
    "anomalib PatchCore, coreset 1 %": f"anomalib:Patchcore,coreset_sampling_ratio=0.01,{ALONE}",
    "blemish patchcore, coreset 3 % (its default)": "patchcore",
    "blemish patchcore, coreset 1 %": "patchcore,share=0.01",
    "blemish nearest_images (its default)": "nearest_images",
}


def one(words: dict) -> None:
    """Fit and score once, and print what it cost."""
    from sklearn.metrics import roc_auc_score

    from blemish.detectors import detector_class
    from blemish.detectors.settings import set_by_name
    from blemish.images import ImageSet
    from blemish.jobs.outputs import peak_memory_mib
    from blemish.machine.runtime import use_runtime

    name, *changes = words["detector"].split(",")
    kind = detector_class(name)
    texts = dict(each.split("=", 1) for each in changes if "=" in each)
    named = set_by_name(kind().settings(), texts)
    detector = kind(**{key: named[key] for key in texts})
    root = Path(words["root"])
    learned = sorted((root / "train" / "good").iterdir())[: words["most"]]
    test = sorted(root.glob("test/*/*"))[: words["most"]] if words["most"] else sorted(root.glob("test/*/*"))
    with tempfile.TemporaryDirectory() as empty, use_runtime(cache=Path(empty), threads=words["threads"]):
        start = time.perf_counter()
        detector.fit(ImageSet.of(learned))
        fitted = time.perf_counter()
        with use_runtime(keep_features=False):
            scores = detector.score(ImageSet.of(test))
        done = time.perf_counter()
    truth = ["good" not in Path(each).parts for each in scores.ids]
    told = {"fit_s": round(fitted - start, 1), "score_per_s": round(len(test) / (done - fitted), 2)}
    auroc = round(float(roc_auc_score(truth, scores.image)), 4) if len(set(truth)) == 2 else ""
    print(json.dumps({**told, "auroc": auroc, "peak_mib": peak_memory_mib()}))


def main() -> None:
    """Every way that is not in the results yet."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, nargs="?")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, default=Path("against_patchcore.csv"))
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--limit", type=float, help="seconds after which a way is stopped, which its row says")
    parser.add_argument("--most", type=int, help="images, for a try")
    parser.add_argument("--ways", nargs="+", default=list(WAYS))
    given = parser.parse_args()
    if given.one:
        one(json.loads(given.one))
        return
    for turn in range(given.turns):
        for way in given.ways:
            words = {"way": way, "set": given.root.name, "threads": given.threads, "turn": turn}
            if not is_kept(given.results, **words):
                asked = {"detector": WAYS[way], "root": str(given.root.absolute()), "threads": given.threads}
                row = in_process(__file__, limit=given.limit, **asked, most=given.most)
                told = {name: row.get(name, "") for name in ("fit_s", "score_per_s", "auroc", "peak_mib", "error")}
                keep(given.results, {**words, "detector": WAYS[way], **told})
    show(given.results)


if __name__ == "__main__":
    main()
