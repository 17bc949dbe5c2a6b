"""What an install takes on disk: the megabytes of each distribution that blemish needs, by itself and by extra.

python benchmarks/install_size.py              # the base install
python benchmarks/install_size.py onnx         # what the extra `onnx` adds to it
"""

import argparse
from importlib.metadata import PackageNotFoundError, distribution, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def needed(name: str, extras: tuple[str, ...] = ()) -> set[str]:
    """The distributions that an install of `name` brings here, itself among them, as PyPI spells them.

    Those that are not installed are left out: they are of other platforms.
    """
    found: set[str] = set()
    waiting = [(name, extras)]
    seen = set()
    while waiting:
        item = waiting.pop()
        if item in seen:
            continue
        seen.add(item)
        current, wanted = item
        try:
            asked = requires(current) or []
        except PackageNotFoundError:
            continue
        found.add(canonicalize_name(current))
        for text in asked:
            each = Requirement(text)
            if each.marker is None or any(each.marker.evaluate({"extra": extra}) for extra in ("", *wanted)):
                waiting.append((canonicalize_name(each.name), tuple(sorted(each.extras))))
    return found


def megabytes(name: str) -> float:
    """What the files of a distribution take, in MB of 10^6 bytes; compiled Python left out."""
    paths = (Path(str(file.locate())) for file in distribution(name).files or [] if file.suffix != ".pyc")
    return sum(path.stat().st_size for path in paths if path.is_file()) / 1e6


def main() -> None:
    """Print the table, the largest first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("extra", nargs="?")
    extra = parser.parse_args().extra
    names = needed("blemish", (extra,)) - needed("blemish") if extra else needed("blemish")
    sizes = sorted(((megabytes(name), name) for name in names), reverse=True)
    torch = [
        name for _, name in sizes if name in ("torch", "torchvision", "triton") or name.startswith(("nvidia", "cuda"))
    ]
    for size, name in sizes:
        print(f"{size:8.1f} MB  {name}")
    print(f"{sum(size for size, _ in sizes):8.1f} MB  all")
    print(f"{sum(size for size, name in sizes if name not in torch):8.1f} MB  without {', '.join(torch)}")


if __name__ == "__main__":
    main()
