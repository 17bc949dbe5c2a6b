"""An experiment is a file that runs it again, and says when that would be another one."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from blemish.benchmark import jobs
from blemish.benchmark.bench import bench
from blemish.benchmark.provenance import commit, machine, slug
from blemish.cli import app
from blemish.machine.errors import RequestError
from layouts import image, mvtec

Rows = list[dict[str, object]]


@pytest.fixture
def done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The experiment.yaml of a comparison whose job measures nothing."""

    def job(task: jobs.Task) -> Rows:
        return [{"mode": mode, "image_auroc": 0.5, "pixel_auroc": 0.5} for mode in ("overlap", "no_overlap")]

    monkeypatch.setattr("blemish.benchmark.plan.job", lambda _: job)
    mvtec(tmp_path / "data", "bolt", train=20, bad=5)
    bench(["compare"], tmp_path / "out", data=tmp_path / "data", detectors=["padim"], ratios=[0.0, 0.1], seeds=2)
    return tmp_path / "out" / "compare" / "experiment.yaml"


def test_it_holds_the_request_the_hashes_the_versions_and_the_commit(done: Path) -> None:
    content = yaml.safe_load(done.read_text())
    assert content["request"]["detectors"] == ["padim"]
    assert content["request"]["ratios"] == [0.0, 0.1]
    assert list(content["hashes"]["sets"]) == ["mvtec/bolt"]
    assert len(content["hashes"]["manifests"]) == 3  # without anomalies, both seeds train on the same
    assert content["hashes"]["runs"]["count"] == 4
    assert {"python", "torch", "scipy", "blemish"} <= set(content["versions"])
    assert (content["commit"], content["machine"]) == (commit(), machine())


def test_it_runs_again_wherever_the_images_are_now(done: Path, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "moved")
    command = ["bench", str(done), "--data", str(tmp_path / "moved"), "--out", str(tmp_path / "again"), "--quiet"]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    again = yaml.safe_load((tmp_path / "again" / "compare" / "experiment.yaml").read_text())
    assert again["hashes"] == yaml.safe_load(done.read_text())["hashes"]


def test_other_images_are_refused(done: Path, tmp_path: Path) -> None:
    image(tmp_path / "data" / "bolt" / "test" / "good" / "900.png", 900)
    with pytest.raises(RequestError, match=r"mvtec/bolt .*`data`"):
        bench([str(done)], tmp_path / "again")
    mvtec(tmp_path / "other", "nut")
    with pytest.raises(RequestError, match="mvtec/bolt"):
        bench([str(done)], tmp_path / "again", data=tmp_path / "other")
    assert not (tmp_path / "again").exists()


def test_other_versions_are_named(done: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(done.read_text())
    content["versions"]["torch"] = "1.0"
    done.write_text(yaml.safe_dump(content))
    lines = bench([str(done)], tmp_path / "again").lines
    assert "Run with other versions than before: torch " in lines[0]
    assert ", not 1.0" in lines[0]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "is no experiment"),
        ("- 1", "is no experiment"),
        ("!!python/object/apply:os.getcwd []", "is no experiment"),
        ("format: 9\nrequest: {}\nhashes: {}", "has format 9"),
        ("format: 1\nrequest: {speed: 3}\nhashes: {}", "has 'speed'"),
        ("format: 1\nrequest: {}\nhashes: {sets: {}}", "is no experiment"),
    ],
)
def test_a_file_that_is_no_experiment_is_refused(text: str, problem: str, tmp_path: Path) -> None:
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(RequestError, match=problem):
        bench([str(tmp_path / "x.yaml")], tmp_path / "out")


def test_what_the_file_says_cannot_be_changed_beside_it(done: Path, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="give it `data`, `manifest` and `out` alone"):
        bench([str(done)], tmp_path / "again", seeds=5)


def test_a_machine_is_a_part_of_a_file_name() -> None:
    assert slug("Intel(R) Xeon(R) CPU @ 2.20GHz 2 cores") == "intel-xeon-cpu-2.20ghz-2-cores"
    assert machine() == slug(machine())


def test_a_list_may_lie_elsewhere_and_has_to_be_the_same(done: Path, tmp_path: Path) -> None:
    here, there = tmp_path / "list.txt", tmp_path / "moved.txt"
    rows = [f"bolt/train/good/{number:03d}.png" for number in range(4)]
    here.write_text("\n".join(rows), encoding="utf-8")
    bench(["compare"], tmp_path / "listed", data=tmp_path / "data", detectors=["padim"], manifest=here)
    kept = tmp_path / "listed" / "compare" / "experiment.yaml"
    here.rename(there)
    assert bench([str(kept)], tmp_path / "again", manifest=there).summary["runs"] == 1
    there.write_text("\n".join(rows[:3]), encoding="utf-8")
    with pytest.raises(RequestError, match=r"other images than it did.*the same list with `manifest`"):
        bench([str(kept)], tmp_path / "again", manifest=there)
    with pytest.raises(RequestError, match="draws its training images by seed; leave out `manifest`"):
        bench([str(done)], tmp_path / "again", manifest=there)
