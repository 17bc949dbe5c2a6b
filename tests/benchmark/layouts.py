"""Miniature trees of the true layouts of datasets, generated."""

import json
import pickle
import tarfile
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from conftest import picture

SIDE = 64


def image(path: Path, index: int, *, square: bool = False) -> Path:
    """A picture of its own; with `square` a bright defect in its middle."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rgb = picture(1 + index)
    if square:
        rgb[24:40, 24:40] = 255
    Image.fromarray(rgb).save(path)
    return path


def mask(path: Path, side: int = SIDE) -> Path:
    """The mask of such a defect."""
    path.parent.mkdir(parents=True, exist_ok=True)
    drawn = np.zeros((side, side), np.uint8)
    drawn[24 * side // 64 : 40 * side // 64, 24 * side // 64 : 40 * side // 64] = 255
    Image.fromarray(drawn).save(path)
    return path


def mvtec(
    root: Path,
    name: str = "bolt",
    train: int = 12,
    good: int = 4,
    bad: int = 3,
    suffix: str = ".png",
    end: str = "_mask",
) -> Path:
    """A category with two kinds of defect, `bad` images each."""
    for index in range(train):
        image(root / name / "train" / "good" / f"{index:03d}{suffix}", index)
    for index in range(good):
        image(root / name / "test" / "good" / f"{index:03d}{suffix}", 100 + index)
    for number, defect in enumerate(("dent", "scratch")):
        for index in range(bad):
            image(root / name / "test" / defect / f"{index:03d}{suffix}", 200 + 50 * number + index, square=True)
            mask(root / name / "ground_truth" / defect / f"{index:03d}{end}.png")
    return root


def table(path: Path, header: str, rows: list[str]) -> Path:
    """A CSV file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def visa(root: Path, name: str = "candle", split: bool = True) -> Path:
    """A category with ten normal images, eight of them for training, and three anomalies of two kinds."""
    rows, kinds = [], []
    for index in range(10):
        path = f"{name}/Data/Images/Normal/{index:04d}.JPG"
        image(root / path, index)
        rows.append(f"{name},{'train' if index < 8 else 'test'},normal,{path},")
    for index in range(3):
        path, drawn = f"{name}/Data/Images/Anomaly/{index:03d}.JPG", f"{name}/Data/Masks/Anomaly/{index:03d}.png"
        image(root / path, 50 + index, square=True)
        mask(root / drawn)
        rows.append(f"{name},test,anomaly,{path},{drawn}")
        kinds.append(f"{path},{'melted' if index else 'chip'},{drawn}")
    if split:
        table(root / "split_csv" / "1cls.csv", "object,split,label,image,mask", rows)
    table(root / name / "image_anno.csv", "image,label,mask", kinds)
    return root


def realiad(root: Path, name: str = "audiojack", views: int = 2) -> Path:
    """A category of several views, its split, and a FUIAD split that trains on an anomaly."""

    def entries(kind: str, samples: range, anomaly: str = "OK") -> list[dict[str, str | None]]:
        made: list[dict[str, str | None]] = []
        for sample in samples:
            for view in range(1, views + 1):
                path = f"{kind}/S{sample:04d}/{name}_{sample:04d}_{kind[:2]}_C{view}.jpg"
                home = root / "realiad_512" / name
                image(home / path, 10 * sample + view, square=anomaly != "OK")
                drawn = None if anomaly == "OK" else path.replace(".jpg", "_mask.png")
                if drawn:
                    mask(home / drawn)
                made.append({"category": name, "anomaly_class": anomaly, "image_path": path, "mask_path": drawn})
        return made

    train, good = entries("OK", range(6)), entries("OK", range(6, 8))
    bad = entries("NG/BX", range(10, 13), "BX")
    meta = {"prefix": f"{name}/", "normal_class": "OK"}
    for folder, split in (
        ("realiad_jsons/realiad_jsons", {"meta": meta, "train": train, "test": good + bad}),
        ("realiad_jsons_fuiad_0.1", {"meta": meta, "train": train + bad[:1], "test": good + bad}),
    ):
        (root / folder).mkdir(parents=True, exist_ok=True)
        (root / folder / f"{name}.json").write_text(json.dumps(split), encoding="utf-8")
    return root


def class_pixels(rows: int, side: int) -> NDArray[np.uint8]:
    """(rows, side, side, 3); the first level of image i is i."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (rows, side, side, 3), dtype=np.uint8)
    pixels[:, 0, 0, 0] = np.arange(rows)
    return pixels


def cifar_rows(count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Levels (count, 3072) as CIFAR stores them, and labels (count,) that run through the classes."""
    return class_pixels(count, 32).transpose(0, 3, 1, 2).reshape(count, -1), np.arange(count, dtype=np.uint8) % 10


def cifar_binary(folder: Path) -> Path:
    """`cifar-10-batches-bin` with 20 images a file."""
    folder.mkdir(parents=True)
    levels, labels = cifar_rows(20)
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        (folder / f"{name}.bin").write_bytes(np.concatenate([labels[:, None], levels], 1).tobytes())
    return folder


def cifar_python(folder: Path) -> Path:
    """`cifar-10-batches-py`: pickled dictionaries of bytes, as Python 2 wrote them."""
    folder.mkdir(parents=True)
    levels, labels = cifar_rows(20)
    for name in (*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"):
        batch = {b"batch_label": b"batch", b"labels": labels.tolist(), b"data": levels, b"filenames": [b"a.png"] * 20}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder


def stl_binary(folder: Path) -> Path:
    """`stl10_binary` with 20 images a part; pixels lie column by column, labels count from 1."""
    folder.mkdir(parents=True)
    pixels = class_pixels(20, 96).transpose(0, 3, 2, 1)
    for part in ("train", "test"):
        (folder / f"{part}_X.bin").write_bytes(np.ascontiguousarray(pixels).tobytes())
        (folder / f"{part}_y.bin").write_bytes((np.arange(20, dtype=np.uint8) % 10 + 1).tobytes())
    return folder


def class_folders(root: Path, names: Sequence[str], parts: Sequence[str] = ("train", "test"), count: int = 3) -> Path:
    """`count` images a class and part."""
    for part in parts:
        for name in names:
            for index in range(count):
                image(root / part / name / f"{index:04d}.png", index)
    return root


def zipped(folder: Path, target: Path) -> Path:
    """`folder` as a zip at `target`, paths relative to its parent."""
    with zipfile.ZipFile(target, "w") as archive:
        for path in sorted(folder.rglob("*.*")):
            archive.write(path, path.relative_to(folder.parent))
    return target


def tarred(folder: Path) -> Path:
    """`folder` as `.tar.gz` beside it, under the name that the set is published with."""
    target = folder.with_name(
        {"cifar-10-batches-bin": "cifar-10-binary", "cifar-10-batches-py": "cifar-10-python"}.get(
            folder.name, folder.name
        )
        + ".tar.gz"
    )
    with tarfile.open(target, "w:gz") as archive:
        archive.add(folder, folder.name)
    return target
