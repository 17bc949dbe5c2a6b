"""blemish and anomalib, each as it comes, on the same unsorted folders: ranking, flags, processor time, memory.

A folder holds the good training images of a set and RATIO times as many bad ones, under neutral names. anomalib's
models are used as its documentation uses them: `Folder(normal_dir=...)`, `Engine().fit`, `Engine().predict` of the same
folder, all settings as they come. Two things had to differ. The backbone is EfficientNet-Lite2, in anomalib's models
and in blemish alike, since the weights of a ResNet could not be had here. The seed is set. anomalib is shown no bad
image by name, as nobody sorted the folder; `test_split_mode=synthetic`, its way to a threshold without such images, is
one of the ways. Images are ranked by the scores of the model itself: anomalib cuts those that it shows off at 0 and 1.
Only this script sees which images are bad.

Each way runs in a process of its own, features made anew. Rows are kept as they come; the same command goes on.

    python benchmarks/against_anomalib.py ../shared/data --results benchmarks/against_anomalib.csv
"""

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

from kept_rows import in_process, is_kept, keep, show
from ranking import contaminated

WAYS: dict[str, dict[str, str]] = {
    "blemish": {},
    "anomalib Patchcore": {"model": "Patchcore"},
    "anomalib Patchcore, coreset 1 %": {"model": "Patchcore", "coreset": "0.01"},
    "anomalib Patchcore, coreset 1 %, synthetic test": {
        "model": "Patchcore",
        "coreset": "0.01",
        "test_split_mode": "synthetic",
    },
    "anomalib Padim": {"model": "Padim"},
    "anomalib Padim, synthetic test": {"model": "Padim", "test_split_mode": "synthetic"},
}
SETS, RATIOS = ("mvtec_bottle", "mvtec_transistor"), (0.0, 0.1, 0.2)
MEASURED = (
    *("images", "bad", "auroc", "flags_right", "flags_wrong", "wall_seconds", "cpu_seconds", "peak_mib", "date"),
    "error",
)


def of_blemish(folder: Path, seed: int) -> dict[str, tuple[float, bool]]:
    """Score and flag by file name."""
    import blemish

    run = blemish.fit(folder, folder.parent / "run", seed=seed, cache=folder.parent / "cache")
    scores = run.scores
    return {name: (scores[name], scores[name] > run.threshold_) for name in scores.ids} if scores else {}


def of_anomalib(folder: Path, seed: int, way: dict[str, str]) -> dict[str, tuple[float, bool]]:
    """Score and flag by file name."""
    import anomalib.models.image as zoo
    from anomalib.data import Folder
    from anomalib.engine import Engine
    from lightning.pytorch import seed_everything

    from blemish.detectors.anomalib_adapter.weights_at_hand import as_taken, backbones_at_hand

    seed_everything(seed)
    name, network = way["model"], "efficientnet_lite2"
    layers = {"Padim": ["layer1", "layer2", "layer3"], "Patchcore": ["layer2", "layer3"]}[name]
    settings: dict[str, Any] = as_taken(name, {"backbone": network, "layers": layers})
    if name == "Padim":
        settings["n_features"] = 100  # what it has for a resnet18; for others it has to be given
    if "coreset" in way:
        settings["coreset_sampling_ratio"] = float(way["coreset"])
    with backbones_at_hand(network, "", name, learned=False):
        model = getattr(zoo, name)(**settings)
    split = {key: value for key, value in way.items() if key == "test_split_mode"}
    engine = Engine(default_root_dir=folder.parent / "results")
    engine.fit(model, datamodule=Folder(name="parts", normal_dir=folder, seed=seed, **split))
    own: list[Any] = []
    model.model.register_forward_hook(lambda _network, _inputs, output: own.append(output.pred_score))
    batches = engine.predict(model, data_path=folder) or []
    return {
        Path(path).name: (float(score), bool(label))
        for batch, scores in zip(batches, own, strict=True)
        for path, score, label in zip(batch.image_path, scores, batch.pred_label, strict=True)
    }


def one(words: dict[str, Any]) -> None:
    """Fit and score a folder once, and print what came of it."""
    from sklearn.metrics import roc_auc_score

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "unsorted")
        folder.mkdir()
        truth = contaminated(Path(words["root"]), folder, words["ratio"], words["seed"])
        start = time.perf_counter()
        if words["options"]:
            found = of_anomalib(folder, words["seed"], words["options"])
        else:
            found = of_blemish(folder, words["seed"])
        seconds = time.perf_counter() - start
    if found.keys() != truth.keys():
        raise SystemExit(f"{len(found)} scores of {len(truth)} images")
    bad = [truth[name] for name in truth]
    flags = [found[name][1] for name in truth]
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    auroc = round(float(roc_auc_score(bad, [found[name][0] for name in truth])), 4) if any(bad) else ""
    print(
        json.dumps(
            {
                "images": len(truth),
                "bad": sum(bad),
                "auroc": auroc,
                "flags_right": sum(flag and each for flag, each in zip(flags, bad, strict=True)),
                "flags_wrong": sum(flag and not each for flag, each in zip(flags, bad, strict=True)),
                "wall_seconds": round(seconds, 1),
                "cpu_seconds": round(sum(each.ru_utime + each.ru_stime for each in used), 1),
                "peak_mib": used[0].ru_maxrss // 1024,
                "date": time.strftime("%Y-%m-%d"),
            }
        )
    )


def main() -> None:
    """Measure what is not in the results yet, then show them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    parser.add_argument("--results", type=Path, default=Path("against_anomalib.csv"))
    parser.add_argument("--sets", nargs="+", default=SETS)
    parser.add_argument("--ratios", nargs="+", type=float, default=RATIOS)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0,))
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=list(WAYS), metavar="WAY")
    parser.add_argument("--limit", type=float, help="seconds after which a way is stopped, which its row says")
    given = parser.parse_args()
    if given.one:
        one(json.loads(given.one))
        return
    if given.data is None:
        parser.error("name the folder that holds the sets")
    for way in given.ways:
        for seed in given.seeds:
            for name in given.sets:
                for ratio in given.ratios:
                    cell = {"way": way, "set": name, "ratio": ratio, "seed": seed}
                    if is_kept(given.results, **cell):
                        continue
                    asked = {"root": str((given.data / name).absolute()), "ratio": ratio, "seed": seed}
                    row = in_process(__file__, limit=given.limit, **asked, options=WAYS[way])
                    keep(given.results, {**cell, **{each: row.get(each, "") for each in MEASURED}})
    show(given.results)


if __name__ == "__main__":
    main()
