"""What is handed out works where there is no checkout: the wheel, the sdist, and what they say they need."""

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from email.parser import Parser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

import blemish

ROOT = Path(__file__).parents[1]
OUTSIDE = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
pytestmark = pytest.mark.package


def program(*words: object, cwd: Path) -> str:
    """What a program prints, run as in a shell that knows nothing of the checkout."""
    environment = {**OUTSIDE, "XDG_CACHE_HOME": str(cwd / "cache")}
    done = subprocess.run([str(word) for word in words], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist of the checkout, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    program(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    [sdist], [wheel] = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="session")
def installed(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `bin` of an environment with the wheel, on the dependencies that these tests run with.

    Those are on its path, not installed again: torch alone is gigabytes. The editable install of the checkout is not
    among them, since the `.pth` file that names it is read in its own environment only.
    """
    folder = tmp_path_factory.mktemp("empty")
    venv.create(folder / "venv", with_pip=True)
    python = next(path for name in ("bin/python", "Scripts/python.exe") if (path := folder / "venv" / name).exists())
    own = Path(program(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    wheel = built[1]
    program(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=folder)
    paths = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
    (own / "dependencies.pth").write_text("".join(f"{path}\n" for path in paths))
    where = Path(program(python, "-c", "import blemish; print(blemish.__file__)", cwd=folder).strip())
    assert where.is_relative_to(own)
    return python.parent


def test_the_wheel_and_the_sdist_hold_every_file_of_the_package(built: tuple[Path, Path]) -> None:
    source = ROOT / "src/blemish"
    wanted = {
        path.relative_to(source).as_posix()
        for path in source.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {"py.typed", "report/templates/report.html", "review/static/review.js"} <= wanted
    sdist, wheel = built
    with zipfile.ZipFile(wheel) as archive:
        held = {name.removeprefix("blemish/") for name in archive.namelist() if name.startswith("blemish/")}
    assert held == wanted
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"src/blemish/{name}" for name in wanted} <= names
    assert {"README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff", "tests/conftest.py", "Makefile"} <= names


def test_there_is_one_version(built: tuple[Path, Path]) -> None:
    sdist, wheel = built
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        assert Parser().parsestr(archive.read(name).decode())["Version"] == blemish.__version__
    assert sdist.name == f"blemish-{blemish.__version__}.tar.gz"
    assert f"\nversion: {blemish.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## {blemish.__version__} " in (ROOT / "CHANGELOG.md").read_text()


def test_the_demo_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    said = program(installed / "blemish", "demo", "--count", 24, "--out", "demo", cwd=tmp_path)
    assert "Report: demo/run/report.html" in said
    assert (tmp_path / "demo/run/report.html").stat().st_size > 10_000


def test_the_module_is_the_program(installed: Path, tmp_path: Path) -> None:
    words = ("detectors",)
    assert program(installed / "python", "-m", "blemish", *words, cwd=tmp_path) == program(
        installed / "blemish", *words, cwd=tmp_path
    )


JOB = """
import json, sys
from importlib.machinery import PathFinder
absent = set(json.load(open("absent.json")))

class Present(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.partition(".")[0] in absent else super().find_spec(name, path, target)

sys.meta_path = [Present if finder is PathFinder else finder for finder in sys.meta_path]
import blemish
from blemish.jobs.demo import make_demo_folder
make_demo_folder("images", count=12)
blemish.fit("images", "run")
print(len(blemish.load("run").score("images")))
"""


def test_a_job_runs_where_only_what_the_wheel_declares_can_be_imported(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from install_size import needed

    declared = needed("blemish")
    assert {"torch", "timm", "scikit-image"} <= declared
    homes = packages_distributions().items()
    absent = [name for name, owners in homes if not declared.intersection(map(canonicalize_name, owners))]
    assert {"fastapi", "anomalib"} <= set(absent)
    (tmp_path / "absent.json").write_text(json.dumps(absent))
    (tmp_path / "job.py").write_text(JOB)
    assert program(installed / "python", "job.py", cwd=tmp_path).splitlines()[-1] == "12"


def test_pip_can_install_the_wheel_with_all_that_it_declares(
    built: tuple[Path, Path], installed: Path, tmp_path: Path
) -> None:
    words = ("install", "--dry-run", "--ignore-installed", "--quiet", "--constraint", ROOT / "constraints.txt")
    program(
        *(installed / "python", "-m", "pip", *words, "--report", tmp_path / "report.json", f"{built[1]}[review,serve]"),
        cwd=tmp_path,
    )
    chosen = json.loads((tmp_path / "report.json").read_text())["install"]
    names = {canonicalize_name(each["metadata"]["name"]) for each in chosen}
    assert {"blemish", "torch", "timm", "fastapi"} <= names
