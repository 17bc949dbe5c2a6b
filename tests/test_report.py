"""The report: true numbers, escaped names, bounded size, no script."""

import dataclasses
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from blemish.calibration import Chance, Decision, ReliabilityBin
from blemish.images import ImageSet
from blemish.machine.errors import RequestError
from blemish.report import headline, ranking, write_report
from blemish.report.content import ReportContent
from blemish.report.histogram import bars, histogram
from blemish.scores import Scores
from blemish.scores.heatmaps import MapScale, write_heatmaps

EVIL = "<img src=x onerror=alert(1)>.png"


def content_of(images, **changes):
    rng = np.random.default_rng(0)
    count = len(images)
    maps = rng.random((count, 4, 4)).astype(np.float32)
    maps[0] += 5
    scores = Scores(
        images.ids,
        maps.max((1, 2)),
        maps,
        np.tile(np.array([0, 0, 1, 1], np.float32), (count, 1)),
        np.array([images.sizes[name] for name in images.ids]),
    )
    content = ReportContent(
        title="parts",
        images=images,
        scores=scores,
        threshold=2.0,
        contamination=0.1,
        estimated_bad=1,
        threshold_method="The threshold is the median plus five MAD.",
        threshold_assumption="It assumes few bad images.",
        scale=MapScale(0, 2),
        detector="funad",
        detector_description="a detector",
    )
    return dataclasses.replace(content, **changes)


def arrays(count=12, side=48):
    rng = np.random.default_rng(1)
    return ImageSet.of([rng.integers(0, 255, (side, side, 3), dtype=np.uint8) for _ in range(count)])


class Page(HTMLParser):
    """Tags with their attributes, and that every opened one is closed."""

    VOID = frozenset({"meta", "img", "br", "link"})

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


def written(tmp_path, content):
    path = tmp_path / "report.html"
    write_report(path, content)
    return Page(path.read_text(encoding="utf-8"))


def test_a_report_of_arrays_shows_every_image_with_its_heatmap(tmp_path):
    page = written(tmp_path, content_of(arrays()))
    sources = [image["src"] for image in page.all("img")]
    assert len(sources) == 24
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert all(image["alt"] for image in page.all("img"))
    assert "We believe about 1 of 12 images shows a defect." in page.text
    assert "image-000000" in page.text
    assert page.text.count("flagged") == 1


def test_nothing_in_a_report_runs_or_reaches_the_network(tmp_path):
    page = written(tmp_path, content_of(arrays()))
    assert not page.all("script")
    assert not page.all("link")
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    used = [attrs.get("src") or attrs.get("href") or "" for _, attrs in page.tags]
    assert not [address for address in used if re.match("https?:|//", address)]


def test_file_names_are_text(tmp_path):
    for name in (EVIL, "b & c's #1.png"):
        Image.new("RGB", (32, 32)).save(tmp_path / name, "PNG")
    images = ImageSet.of(tmp_path)
    content = content_of(
        images,
        title=EVIL,
        source=EVIL,
        skipped={EVIL: EVIL},
        notes=[EVIL],
        identical=[(EVIL, EVIL)],
        settings={EVIL: {"a": EVIL}},
        heatmaps=tmp_path / "heatmaps",
    )
    write_heatmaps(images, content.scores, images.ids, content.scale, tmp_path / "heatmaps")
    page = written(tmp_path, content)
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
    page = written(run, content_of(images))
    assert (folder / "a.png").as_uri() in [attrs["href"] for attrs in page.all("a")]
    assert any("Cannot be shown: not an image" in text for text in page.text)


def test_names_that_are_not_unicode_do_not_stop_the_report(tmp_path):
    images = arrays(1)
    name = "\udcff.png"
    odd = dataclasses.replace(images, ids=(name,), sources={name: images.read(images.ids[0])}, sizes={name: (48, 48)})
    written(tmp_path, content_of(odd))


def test_the_file_stays_below_its_limit_and_the_rest_is_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(ranking, "MAX_BYTES", 2_560_000)
    images = arrays(30, side=200)
    page = written(tmp_path, content_of(images))
    assert (tmp_path / "report.html").stat().st_size < ranking.MAX_BYTES
    assert 0 < len(page.all("img")) < 60
    assert all(name in page.text for name in images.ids)


def test_at_most_so_many_images_are_shown_and_listed(tmp_path, monkeypatch):
    monkeypatch.setattr(ranking, "EMBEDDED", 5)
    monkeypatch.setattr(ranking, "LISTED", 4)
    page = written(tmp_path, content_of(arrays(12)))
    assert len(page.all("img")) == 10
    assert any("3 images more" in text for text in page.text)


def test_the_next_command_names_the_run_and_its_threshold(tmp_path):
    page = written(tmp_path, content_of(arrays(2), source="my parts", run=tmp_path / "run 1"))
    command = f"blemish score 'my parts' --model '{tmp_path}/run 1' --out NEW_FOLDER --threshold 2"
    assert command in "".join(page.text)


def test_a_report_says_how_sure_it_is_and_where_no_threshold_is_supported(tmp_path):
    chance = Chance((0.0, 3.0), (0.1, 0.9))
    known = Decision(2.0, 0.1, "r", "a", "defects", "Ask.", (0.0, 0.5), (1.0, 2.0), chance, sensitivity=0.5)
    bins = [ReliabilityBin(0.1, 0.2, 5), ReliabilityBin(0.9, 0.8, 5)]
    content = content_of(arrays(), decision=known, reviewed=10, reliability=bins)
    page = written(tmp_path, content)
    assert "0 to 6" in page.text
    assert "Reject, look at, pass" in page.text
    assert any("come to" in text for text in page.text)
    assert len(page.all("circle")) == 2
    assert f"blemish review {tmp_path}" in "".join(page.text)
    unclear = dataclasses.replace(known, answer="unclear", chance=None)
    page = written(tmp_path, content_of(arrays(), decision=unclear))
    assert "We cannot tell which of 12 images show a defect." in page.text
    assert any("three words" in text for text in page.text)
    clean = dataclasses.replace(known, answer="none")
    page = written(tmp_path, content_of(arrays(), decision=clean))
    assert "We see no sign of defects in 12 images." in page.text


def test_flags_agree_with_the_table(tmp_path):
    images = arrays(12)
    content = content_of(images)
    tie = float(np.format_float_positional(content.scores.image[3], precision=4))
    content = dataclasses.replace(content, threshold=tie)
    frame = content.scores.to_frame(tie)
    assert [content.flags(score) for score in frame["score"]] == frame["flagged"].astype(bool).tolist()
    assert sum(bar.count for bar in bars(content.scores.image, tie) if bar.flagged) == frame["flagged"].sum()


@pytest.mark.parametrize(
    ("bad", "total", "said"),
    [
        (21, 230, "We believe about 21 of 230 images show a defect."),
        (0, 5, "We see no sign of defects in 5 images."),
        (1, 1, "We believe about 1 of 1 image shows a defect."),
        (0, 0, "No image could be scored."),
    ],
)
def test_the_headline_is_a_sentence(bad, total, said):
    assert headline(bad, total) == said


def test_a_threshold_that_is_no_number_is_refused():
    with pytest.raises(RequestError, match="finite"):
        content_of(arrays(2), threshold=float("nan"))


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
