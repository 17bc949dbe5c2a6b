"""`blemish detectors`."""

from blemish.cli.console import tell
from blemish.cli.options import Json


def detectors(as_json: Json = False) -> None:
    """List the detectors and what they need."""
    from blemish.detectors import DEFAULT_DETECTOR, REGISTRY, detector_class
    from blemish.detectors.anomalib_adapter import catalogue

    kinds = [(name, detector_class(name)) for name in REGISTRY]
    adopted = catalogue.by_need()
    rows = [
        {
            "name": name,
            "default": name == DEFAULT_DETECTOR,
            "summary": kind.summary,
            "source": kind.source,
            "least_images": kind.min_images,
            "patent": kind.patent,
            "settings": {key: str(value) for key, value in kind().settings().items()},
        }
        for name, kind in kinds
    ]
    lines = []
    for row in rows:
        lines.append(f"{row['name']}{' (default)' if row['default'] else ''}: {row['summary']}")
        lines.append(f"    after {row['source']}; needs {row['least_images']} images or more")
        if row["patent"]:
            lines.append(f"    {row['patent']}")
    installed = bool(catalogue.models())
    lines.append(f"{catalogue.PREFIX}MODEL: an image model of anomalib; docs/anomalib.md has examples")
    if not installed:
        lines.append(f"    needs anomalib, which is not installed; run: {catalogue.INSTALL}")
    lines += [f"    {', '.join(names)}: {need}" for need, names in adopted.items()]
    anomalib = {"installed": installed, "install": catalogue.INSTALL, "models": adopted}
    tell(lines, {"detectors": rows, "anomalib": anomalib}, quiet=False, as_json=as_json)
