"""The report: true numbers, escaped names, bounded size, no script."""

import dataclasses
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from blemish.calibration import Chance, Decision, ReliabilityBin
from blemish.images import ImageSet
from blemish.report import headline, of_job, of_scores, pictures, pictures_of, write_report
from blemish.report import page as page_module
from blemish.report.histogram import bars, histogram
from blemish.scores import Scores
from blemish.scores.heatmaps import MapScale, write_heatmaps

EVIL = "<img src=x onerror=alert(1)>.png"


DECISION = Decision(2.0, 0.1, "The threshold is the median plus five MAD.", "It assumes few bad images.")
SCALE = MapScale(0, 2)


def scores_of(images):
    rng = np.random.default_rng(0)
    count = len(images)
    maps = rng.random((count, 4, 4)).astype(np.float32)
    maps[0] += 5
    return Scores(
        images.ids,
        maps.max((1, 2)),
        maps,
        np.tile(np.array([0, 0, 1, 1], np.float32), (count, 1)),
        np.array([images.sizes[name] for name in images.ids]),
    )


def report_of(images, folder, *, source="parts", job=None, decision=DECISION, **options):
    about = {"settings": {}, "versions": {}, "seconds": {"finding images": 1.0}, "memory": 100.0}
    detector = SimpleNamespace(name="funad", summary="a detector", patent=None)
    job = of_job(images, source=source, detector=detector, **about, **{"skipped": {}, "notes": [], **(job or {})})
    places = {"folder": folder, "heatmaps": folder / "heatmaps", "out": None}
    return of_scores(job, images, scores_of(images), decision, SCALE, **{**places, **options})


def arrays(count=12, side=48):
    rng = np.random.default_rng(1)
    return ImageSet.of([rng.integers(0, 255, (side, side, 3), dtype=np.uint8) for _ in range(count)])


class Page(HTMLParser):
    """Tags with their attributes, and that every opened one is closed."""

    VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def written(folder, images, report=None, **options):
    report = report_of(images, folder, **options) if report is None else report
    scores = scores_of(images)
    write_report(folder, report, pictures_of(images, scores.ranking(), scores, SCALE))
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def test_a_report_of_arrays_shows_every_image_with_its_heatmap(tmp_path):
    page = written(tmp_path, arrays())
    sources = [image["src"] for image in page.all("img")]
    assert len(sources) == 24
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert all(image["alt"] for image in page.all("img"))
    assert "About 1 of 12 images shows a defect: look at this one first." in page.text
    assert "image-000000" in page.text
    assert page.text.count("reject") == 1


def test_nothing_in_a_report_runs_or_reaches_the_network(tmp_path):
    page = written(tmp_path, arrays())
    assert not page.all("script")
    assert not page.all("link")
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    used = [attrs.get("src") or attrs.get("href") or "" for _, attrs in page.tags]
    assert not [address for address in used if re.match("https?:|//", address)]


def test_file_names_are_text(tmp_path):
    for name in (EVIL, "b & c's #1.png"):
        Image.new("RGB", (32, 32)).save(tmp_path / name, "PNG")
    images = ImageSet.of(tmp_path)
    write_heatmaps(images, scores_of(images), images.ids, SCALE, tmp_path / "heatmaps")
    report = report_of(images, tmp_path, source=EVIL, job={"skipped": {EVIL: EVIL}, "notes": [EVIL]})
    report |= {"identical": [[EVIL, EVIL]], "settings": {EVIL: {"a": EVIL}}}
    page = written(tmp_path, images, report)
    assert all(image["src"].startswith("data:") for image in page.all("img"))
    links = [attrs["href"] for attrs in page.all("a")]
    assert "%3Cimg%20src%3Dx%20onerror%3Dalert%281%29%3E.png" in links
    assert "b%20%26%20c%27s%20%231.png" in links
    assert "heatmaps/b%20%26%20c%27s%20%231.png.png" in links


def test_files_elsewhere_are_linked_by_uri_and_broken_ones_say_why(tmp_path):
    folder, run = tmp_path / "in put", tmp_path / "run"
    folder.mkdir()
    run.mkdir()
    for name in ("a.png", "b.png"):
        Image.new("RGB", (32, 32), "red" if name == "a.png" else "blue").save(folder / name)
    images = ImageSet.of(folder)
    (folder / "b.png").write_bytes(b"gone")
    page = written(run, images)
    assert (folder / "a.png").as_uri() in [attrs["href"] for attrs in page.all("a")]
    assert any("Cannot be shown: not an image" in text for text in page.text)


def test_names_that_are_not_unicode_do_not_stop_the_report(tmp_path):
    images = arrays(1)
    name = "\udcff.png"
    odd = dataclasses.replace(
        images,
        ids=(name,),
        sources={name: images.read(images.ids[0])},
        sizes={name: (48, 48)},
        content={name: "a" * 64},
    )
    written(tmp_path, odd)


def test_the_file_stays_below_its_limit_and_the_rest_is_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "PICTURE_BYTES", 60_000)
    images = arrays(30, side=200)
    page = written(tmp_path, images)
    assert (tmp_path / "report.html").stat().st_size < 60_000 + 2_500_000
    assert 0 < len(page.all("img")) < 60
    assert all(name in page.text for name in images.ids)


def test_at_most_so_many_images_are_shown_and_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "EMBEDDED", 5)
    monkeypatch.setattr(page_module, "LISTED", 4)
    page = written(tmp_path, arrays(12))
    assert len(page.all("img")) == 10
    assert any("3 images more" in text for text in page.text)


@pytest.mark.parametrize("look_between", [None, (0.97, 2.0)])
def test_the_next_command_names_the_run_and_a_threshold_that_changes_something(tmp_path, look_between):
    images = arrays(12)
    scores, decision = scores_of(images).image, dataclasses.replace(DECISION, look_between=look_between)
    report = report_of(images, tmp_path, decision=decision, source="my parts", out=tmp_path / "run 1")
    page = written(tmp_path, images, report)
    begins = f"blemish score 'my parts' --model '{tmp_path}/run 1' --out NEW_FOLDER --threshold "
    threshold = float("".join(page.text).partition(begins)[2].split()[0])
    flags = report["look_at"] if look_between else 2
    assert report["lower"]["flags"] == (scores > threshold).sum() == flags > (scores > 2).sum()


def test_a_report_says_how_sure_it_is_and_where_no_threshold_is_supported(tmp_path):
    chance = Chance((0.0, 3.0), (0.1, 0.9))
    known = Decision(2.0, 0.1, "r", "a", "defects", "Ask.", (0.0, 0.5), (1.0, 2.0), chance, sensitivity=0.5)
    bins = [ReliabilityBin(0.1, 0.2, 5), ReliabilityBin(0.9, 0.8, 5)]
    page = written(tmp_path, arrays(), decision=known, reviewed=10, reliability=bins)
    text = "".join(page.text)
    assert "90\xa0%, 0 to 6 of them do" in text
    assert "3 of 12" not in text
    assert text.index("To reject") < text.index("How sure that is")
    assert any("come to" in text for text in page.text)
    assert any("bad 20% of 5; promised 90%" in dict(each).get("alt", "") for each in page.all("img"))
    assert f"blemish review {tmp_path}" in "".join(page.text)
    unclear = dataclasses.replace(known, answer="unclear", chance=None)
    page = written(tmp_path, arrays(), decision=unclear)
    assert "We cannot tell which of 12 images show a defect: look at this one first." in page.text
    assert any("three words" in text for text in page.text)


def test_one_number_says_what_to_look_at_first_and_the_headline_has_it(tmp_path):
    images = arrays()
    scores = scores_of(images).image
    clean = Decision(9.0, 0.1, "r", "a", "none", "Ask `normals`.", (0.0, 0.5), (float(np.sort(scores)[-4]), 9.0))
    report = report_of(images, tmp_path, decision=clean)
    assert report["headline"] == "Nothing stands out clearly in 12 images: look at these 3 first."
    assert report["look_at"] == report["bands"]["look"] == 3
    page = written(tmp_path, images, report)
    assert "Look at the first 3 images, in order." in page.text
    assert ("code", {}) in page.tags
    assert "normals" in page.text
    assert "`" not in "".join(page.text)


def test_flags_agree_with_the_table(tmp_path):
    images = arrays(12)
    scores = scores_of(images)
    tie = float(np.format_float_positional(scores.image[3], precision=4))
    report = report_of(images, tmp_path, decision=dataclasses.replace(DECISION, threshold=tie))
    frame = scores.to_frame(tie)
    assert [each["path"] for each in report["images"]] == frame["path"].tolist()
    assert [each["flagged"] for each in report["images"]] == frame["flagged"].astype(bool).tolist()
    assert sum(bar.count for bar in bars(scores.image, tie) if bar.flagged) == frame["flagged"].sum()


def test_the_json_is_the_report_and_the_markdown_says_the_same(tmp_path):
    images = arrays()
    report = report_of(images, tmp_path, job={"notes": ["Look | here."], "skipped": {"a": "b"}})
    written(tmp_path, images, report)
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == json.loads(json.dumps(report))
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert report["headline"] in text
    assert "1 to reject, 0 to look at, 11 pass. 1 image flagged, above 2" in text
    assert re.search(r"\| 1 \| image-000000 \| 5\.\d+ \| reject \|", text)
    assert "1 file could not be used" in text


def test_the_images_stand_before_the_figures_and_can_be_filtered_without_a_script(tmp_path):
    written(tmp_path, arrays())
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert text.index('<ol class="cards">') < text.index('id="next"') < text.index('class="chart"')
    assert text.count('<li id="item-') == 12
    assert text.count(' class="reject" style="--place: ') == 1
    assert 'id="only-reject"' in text


@pytest.mark.parametrize(
    ("answer", "bands", "said"),
    [
        (
            "defects",
            {"reject": 20, "look": 4, "pass": 76},
            "About 10 of 100 images show a defect: look at these 24 first.",
        ),
        ("none", {"pass": 100}, "No sign of defects in 100 images."),
        ("none", {"look": 7, "pass": 93}, "Nothing stands out clearly in 100 images: look at these 7 first."),
        ("none", {"reject": 1, "pass": 99}, "1 of 100 images is to be rejected: look at this one first."),
        ("unclear", {"pass": 1}, "We cannot tell which of 1 image shows a defect."),
        ("defects", {}, "No image could be scored."),
        (None, {"reject": 2, "pass": 3}, "2 of 5 images are to be rejected: look at these 2 first."),
        (None, {"pass": 5}, "No sign of defects in 5 images."),
    ],
)
def test_the_headline_agrees_with_the_bands(answer, bands, said):
    decision = answer and dataclasses.replace(DECISION, answer=answer)
    assert headline(sum(bands.values()), bands, decision) == said


DISTRIBUTIONS = {
    "bulk": np.random.default_rng(0).normal(1, 0.1, 500),
    "long tail": np.r_[np.random.default_rng(0).normal(1, 0.1, 500), [5, 80, 3000]],
    "equal": np.full(9, 0.3),
    "one": np.array([-4.0]),
    "tiny": np.random.default_rng(0).normal(0, 1e-7, 50),
    "huge": np.random.default_rng(0).normal(0, 1e9, 50),
}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("quantile", [-1, 0.0, 0.5, 0.93, 1.0, 2])
def test_every_image_is_in_one_bar_and_no_bar_is_half_flagged(name, quantile):
    values = DISTRIBUTIONS[name].astype(np.float32)
    outside = {-1: values.min() - 1, 2: values.max() + 1}
    threshold = float(outside.get(quantile, np.quantile(values, min(max(quantile, 0), 1))))
    found = bars(values, threshold)
    assert sum(bar.count for bar in found) == len(values)
    assert sum(bar.count for bar in found if bar.flagged) == (values > np.float32(threshold)).sum()
    for width in (350, 760):
        assert "nan" not in histogram(values, threshold, width, "x")


def test_a_long_tail_leaves_the_bulk_readable():
    values = DISTRIBUTIONS["long tail"].astype(np.float32)
    found = bars(values, 1.5)
    assert found[-1].beyond
    assert found[-1].count == 3 - (found[-2].high >= 5)
    assert sum(bar.count > 0 for bar in found) > 5
