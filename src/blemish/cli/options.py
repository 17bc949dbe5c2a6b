"""Options that several commands take."""

from pathlib import Path
from typing import Annotated, Optional

import typer

Out = Annotated[Path, typer.Option("--out", help="Folder to leave the results in.", show_default=False)]
Force = Annotated[bool, typer.Option("--force", help="Replace earlier results in that folder.")]
Strict = Annotated[bool, typer.Option("--strict", help="Stop at an unreadable file instead of skipping it.")]
Normals = Annotated[Optional[str], typer.Option(help="A folder of images known to be good.")]  # noqa: UP045
GroupRegex = Annotated[
    str,
    typer.Option(
        "--group-regex",
        metavar="REGEX",
        help="Images whose paths hold the same text where this matches count as one, such as 'part(\\d+)_'.",
    ),
]
Device = Annotated[str, typer.Option("--device", help="A torch device, such as cpu or cuda:0.")]
Threads = Annotated[Optional[int], typer.Option("--threads", min=1, help="Cores to use; all by default.")]  # noqa: UP045
Ray = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option("--ray", metavar="ADDRESS", help="A Ray cluster to share the work with; local starts one here."),
]
Cache = Annotated[Optional[Path], typer.Option("--cache", help="Folder to keep features in.")]  # noqa: UP045
MaxPixels = Annotated[
    Optional[int],  # noqa: UP045
    typer.Option("--max-pixels", min=1, help="Skip images with more pixels; 180,000,000, or what the fit had."),
]
Levels = Annotated[
    Optional[tuple[float, float]],  # noqa: UP045
    typer.Option("--range", metavar="LOW HIGH", help="Levels of 16-bit images that become black and white."),
]
Images = Annotated[
    Optional[str],  # noqa: UP045
    typer.Argument(
        help="A folder of images, its URL such as s3://bucket/folder, or a list of paths (.txt, .csv).",
        show_default=False,
    ),
]
Features = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--features", metavar="FILE.npy", help="Features instead of images: (images, patches, width) floats."),
]
Ids = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--ids", help="With --features: an id for each image, one a line (.txt, .csv)."),
]
Grid = Annotated[
    Optional[str],  # noqa: UP045
    typer.Option(
        "--grid", metavar="ROWSxCOLUMNS", help="With --features: the grid of the patches; a square by default."
    ),
]
Weights = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--weights", help="File with the backbone's weights (.safetensors, .pth)."),
]
Threshold = Annotated[Optional[float], typer.Option("--threshold", help="Flag scores above this.")]  # noqa: UP045
Contamination = Annotated[
    Optional[float],  # noqa: UP045
    typer.Option("--contamination", help="Share of the training images that is bad, 0 to 1: sets the threshold."),
]
RegionOfInterest = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option("--roi", help="A mask, white where to look, or a folder of masks named IMAGE.png."),
]
Masks = Annotated[bool, typer.Option("--masks", help="Leave masks of the flagged images, too.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print errors only.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the stack trace of an error.")]


How = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option(
        "--how",
        metavar="NAME=VALUE",
        help="A setting of the purification, such as subsets, repeats, keep or k; may be repeated.",
    ),
]
Settings = Annotated[
    Optional[list[str]],  # noqa: UP045
    typer.Option("--set", metavar="NAME=VALUE", help="A setting of the detector; may be repeated."),
]
