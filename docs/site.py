"""What MkDocs needs beside the pages of `docs/`: README, changelog, `benchmarks/*.md`, and the notebooks as pages.

Pages link to each other as they lie in the repository, so that the links work there; here they are rewritten to where
the pages lie on the site.
"""

import base64
import json
import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[1]
MOVED = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CITATION.cff": "CITATION.cff"}  # repository: site
LINK = re.compile(r"(?<=\]\()(?!https?:|mailto:|#)([^)\s#]+)")
CODE = re.compile(r"(```.*?```|`[^`\n]*`)", re.DOTALL)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside of `docs/`."""
    for path in [*(ROOT / name for name in MOVED), *sorted((ROOT / "benchmarks").rglob("*.md"))]:
        name = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, site_path(name), content=path.read_text(encoding="utf-8")))
    for path in sorted((ROOT / "docs/notebooks").glob("*.ipynb")):
        for name, content in notebook_page(path).items():
            files.append(File.generated(config, f"notebooks/{name}", content=content))
    return files


def notebook_page(path: Path) -> dict[str, str | bytes]:
    """A notebook as a Markdown page, and its pictures, by file name."""
    parts: list[str] = []
    files: dict[str, str | bytes] = {}
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        parts.append(text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```")
        for output in cell.get("outputs", []):
            if output["output_type"] == "stream":
                parts.append(f"```text\n{''.join(output['text'])}```")
            elif picture := output.get("data", {}).get("image/png"):
                name = f"{path.stem}-{len(files) + 1}.png"
                files[name] = base64.b64decode(picture)
                parts.append(f"![What the cell above draws]({name})")
    parts.append(f"[Download this notebook]({path.name})")
    return {**files, f"{path.stem}.md": "\n\n".join(parts)}


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links of a page."""
    here = page.file.src_uri
    source = next((name for name, site in MOVED.items() if site == here), None)
    if source is None:
        source = here if here.startswith("benchmarks/") else f"docs/{here}"
    parts = CODE.split(markdown)
    return "".join(part if at % 2 else LINK.sub(lambda found: moved(found[1], source, here), part)
                   for at, part in enumerate(parts))  # fmt: skip


def moved(link: str, source: str, here: str) -> str:
    """A link of the repository's file `source` as the page `here` of the site has it."""
    target = normpath(join(dirname(source), link))
    if target.endswith(".ipynb") and target != source.removesuffix(".md") + ".ipynb":
        target = target.removesuffix(".ipynb") + ".md"
    return relpath(site_path(target), dirname(here) or ".")


def site_path(name: str) -> str:
    """Where a file of the repository lies on the site."""
    return MOVED.get(name, name.removeprefix("docs/"))
