"""Frames of a video or a camera are scored like files: each once, also after a kill, and a fault is one sentence."""

import time
from pathlib import Path

import numpy as np
import pytest
from test_notifying import PATIENCE, Brightness, rows

from blemish.deploy import frames as frames_module
from blemish.deploy import watch
from blemish.deploy.frames import Frames
from blemish.machine.errors import JobError, RequestError

av = pytest.importorskip("av")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(watch, "CurrentRun", Brightness)
    monkeypatch.setattr(frames_module, "FIRST_WAIT", 0.05)


def video(path, seconds=4, rate=10):
    """A film that is dark, and bright in its third second."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=rate)
        stream.width = stream.height = 64
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 5
        for number in range(seconds * rate):
            level = 200 if number // rate == 2 else 20
            pixels = np.random.default_rng(number).integers(level - 15, level + 15, (64, 64, 3), dtype=np.uint8)
            for packet in stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


def watched(source, out, notes=None, **words):
    return watch.watch(str(source), out, out, tell=(notes if notes is not None else []).append, **words)


def seconds_of(out):
    return sorted(float(Path(row["path"]).stem.rpartition("-")[2]) for row in rows(out))


def test_a_video_is_scored_every_so_many_seconds_and_ends(tmp_path):
    out = tmp_path / "out"
    assert watched(video(tmp_path / "film.mp4"), out, every=0.5) == 8
    assert seconds_of(out) == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5, 3, 3.5])
    bad = {Path(row["path"]).stem[-5:] for row in rows(out) if row["flagged"] == "1"}
    assert bad == {"2.000", "2.500"}
    assert all((out / row["to"]).is_file() for row in rows(out))
    assert watched(tmp_path / "film.mp4", out, every=0.5) == 0  # nothing of it is new


def test_ended_in_the_middle_it_goes_on_with_what_is_missing(tmp_path, monkeypatch):
    out = tmp_path / "out"
    film = video(tmp_path / "film.mp4")
    monkeypatch.setattr(frames_module, "MOST_WAITING", 3)

    def interrupt(self, noted, add=watch._Counts.add):
        add(self, noted)
        if self.all >= 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(watch._Counts, "add", interrupt)
        with pytest.raises(KeyboardInterrupt):
            watched(film, out, every=0.2)
    assert 2 <= len(rows(out)) < 20
    watched(film, out, every=0.2)
    assert seconds_of(out) == pytest.approx(np.arange(20) * 0.2)


def test_a_video_that_was_cut_short_or_is_damaged_has_its_frames_scored_and_is_named(tmp_path):
    whole = video(tmp_path / "film.mkv").read_bytes()
    (tmp_path / "short.mkv").write_bytes(whole[: len(whole) * 5 // 6])
    with pytest.raises(JobError, match=r"short\.mkv' (ends before|cannot be read further) .* scored"):
        watched(tmp_path / "short.mkv", tmp_path / "out", every=0.5)
    assert 2 <= len(rows(tmp_path / "out")) <= 5
    middle = len(whole) * 5 // 6
    (tmp_path / "hit.mkv").write_bytes(whole[:middle] + bytes(300) + whole[middle + 300 :])
    hit = tmp_path / "hit"
    try:
        watched(tmp_path / "hit.mkv", hit, every=0.5)
    except JobError as error:
        assert "hit.mkv" in str(error)  # noqa: PT017 - a decoder may also mend it
    assert {0.0, 0.5, 1.0} <= set(seconds_of(hit))


def test_what_is_no_video_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no film")
    with pytest.raises(RequestError, match=r"notes\.txt'"):
        watched(tmp_path / "notes.txt", tmp_path / "out")
    with pytest.raises(RequestError, match="`action` 'link'"):
        watched(video(tmp_path / "film.mp4", seconds=1), tmp_path / "out", action="link")


def test_a_camera_that_drops_out_is_named_once_and_taken_up_again(tmp_path, monkeypatch):
    """The camera is a film that is opened as a stream; between its end and the next opening it is away."""
    film, opened = video(tmp_path / "film.mp4", seconds=1), []

    def camera(self, real=Frames._opened):
        opened.append(time.monotonic())
        if 1 < len(opened) < 5:
            raise OSError("Connection refused")
        self.source = str(film)
        return real(self)

    monkeypatch.setattr(Frames, "_opened", camera)
    (tmp_path / "frames").mkdir()
    found = Frames("rtsp://user:s3cret@10.0.0.9/stream", tmp_path / "frames", every=0)
    found.start(skip=())
    until = time.monotonic() + PATIENCE
    while len(opened) < 6 and time.monotonic() < until:
        time.sleep(0.02)
    found.stop()
    assert len(list((tmp_path / "frames").glob("*.png"))) >= 15
    assert sum("dropped out" in each for each in found.news[:2]) == 1
    assert "is there again" in found.news[1]
    assert not any("s3cret" in each for each in found.news)


def test_a_camera_that_nobody_answers_for_stops_no_watch(tmp_path):
    import socket

    notes = []
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts, and says nothing
        port = silent.getsockname()[1]

        until = time.monotonic() + 2

        def interrupt(*_):
            if time.monotonic() > until:
                raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(watch._Counts, "add", interrupt)
            start = time.monotonic()
            with pytest.raises(KeyboardInterrupt, match="stopped after 0 images"):
                watched(f"rtsp://127.0.0.1:{port}/stream", tmp_path / "out", notes)
    assert time.monotonic() - start < 20
