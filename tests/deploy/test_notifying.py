"""Who should know of an image learns of it once, whatever hangs, is down or is killed; and the line never waits."""

import asyncio
import csv
import json
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from blemish.calibration.decision import Decision
from blemish.deploy import hot_folder, notifying, receivers, watch
from blemish.deploy.hot_folder import Settled
from blemish.deploy.notifying import Notifier
from blemish.deploy.receivers import receiver_of
from blemish.images.decoding import Decoding
from blemish.machine.errors import RequestError
from blemish.scores import Scores

PATIENCE = 60  # seconds: the machine may be busy


class Brightness:
    """A Run in the place of one that learned: the score is the mean level, above 100 it is bad."""

    problem = ""
    threshold_ = 100.0
    decoding = Decoding()
    decision = Decision(100.0, 0.1, "by hand", "none")

    def __init__(self, folder):
        self.folder = folder

    def now(self):
        return self, "v1"

    def refresh(self):
        return False

    def scored(self, images):
        count, square = len(images), np.tile(np.array([0, 0, 1, 1], np.float32), (len(images), 1))
        means = np.array([images.read(name).mean() for name in images.ids], np.float32)
        sizes = np.full((count, 2), 32)
        return Scores(tuple(images.ids), means, np.zeros((count, 2, 2), np.float32), square, sizes)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(watch, "CurrentRun", Brightness)
    monkeypatch.setattr(notifying, "FIRST_WAIT", 0.02)
    monkeypatch.setattr(notifying, "LONGEST_WAIT", 0.1)
    monkeypatch.setattr(watch, "DELIVER_WITHIN", PATIENCE)


def put(folder, *levels, start=0):
    """Images of one level, each of its own content."""
    folder.mkdir(exist_ok=True)
    for number, level in enumerate(levels, start=start):
        pixels = np.full((32, 32, 3), level, np.uint8)
        pixels[0, 0] = number % 256, number // 256, 0
        Image.fromarray(pixels).save(folder / f"part-{number:03d}.png")
    return folder


def rows(out):
    with (out / "scores.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def watched(tmp_path, notes=None, **words):
    words = {"settled": Settled(0, 0), "every": 0.01, "once": True, **words}
    return watch.watch(
        tmp_path / "in", tmp_path, tmp_path / "out", tell=(notes if notes is not None else []).append, **words
    )


@contextmanager
def server(answer):
    """An HTTP server; `answer` gets each message and gives the status."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            status = answer(json.loads(self.rfile.read(int(self.headers["content-length"]))), self.headers)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_):
            pass

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.daemon_threads = True
    threading.Thread(target=found.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{found.server_port}/hook"
    found.shutdown()
    found.server_close()


def test_a_webhook_gets_the_flagged_images_or_all_with_what_is_known(tmp_path):
    put(tmp_path / "in", 20, 200)
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    bad, each = [], []
    with server(lambda message, _: bad.append(message) or 200) as on_bad, server(
        lambda message, headers: each.append((message, headers["Idempotency-Key"])) or 204
    ) as on_each:  # fmt: skip
        assert watched(tmp_path, on_bad=on_bad, on_each=on_each) == 3
    [message] = bad
    assert (message["path"], message["flagged"], message["band"]) == ("part-001.png", True, "reject")
    assert message["score"] == pytest.approx(199.8, abs=0.3)
    assert os.path.exists(message["file"])  # noqa: PTH110 - the text that was sent
    assert message["file"].endswith("out/bad/part-001.png")
    assert {(other["path"], other["score"] is None) for other, _ in each} == {
        ("broken.png", True), ("part-000.png", False), ("part-001.png", False),
    }  # fmt: skip
    assert all(other["id"] == key for other, key in each)
    assert not list((tmp_path / "out" / "spool").rglob("*.json"))


def test_a_command_gets_its_words_without_a_shell(tmp_path):
    put(tmp_path / "in", 200)
    (tmp_path / "in" / "part-000.png").rename(tmp_path / "in" / "a {score} $(touch x); b.png")
    program = tmp_path / "note.py"
    program.write_text(f"import sys; open({str(tmp_path / 'noted')!r}, 'a').write(repr(sys.argv[1:]))")
    watched(tmp_path, on_bad=f"{sys.executable} {program} {{path}} score={{score}} {{band}}")
    path, score, band = eval((tmp_path / "noted").read_text())  # noqa: S307 - what the line above wrote
    assert path == str(tmp_path / "out" / "bad" / "a {score} $(touch x); b.png")
    assert float(score.removeprefix("score=")) > 100
    assert band == "reject"


def test_a_command_that_keeps_failing_is_given_up_for_that_image_and_named(tmp_path):
    put(tmp_path / "in", 200, 20)
    notes = []
    watched(tmp_path, notes, on_each=f"{sys.executable} -c 'import sys; sys.exit(3)'")
    assert len(rows(tmp_path / "out")) == 2
    assert len(list((tmp_path / "out" / "spool" / "each" / "refused").glob("*.json"))) == 2
    assert any("ends with status 3" in each and "set aside" in each for each in notes)


def test_a_webhook_that_hangs_holds_up_nothing_and_its_messages_outlast_it(tmp_path, monkeypatch):
    put(tmp_path / "in", *[200] * 5)
    monkeypatch.setattr(receivers, "ANSWER_WITHIN", 0.2)
    monkeypatch.setattr(watch, "DELIVER_WITHIN", 0.6)
    hanging, notes, got = threading.Event(), [], []
    with server(lambda *_: hanging.wait(PATIENCE) and 500) as url:
        assert watched(tmp_path, notes, on_bad=url) == 5
        hanging.set()
    assert len(rows(tmp_path / "out")) == 5
    assert sum("does not answer within 0.2 s" in each for each in notes) == 1
    assert "5 messages wait" in notes[-1]
    monkeypatch.setattr(watch, "DELIVER_WITHIN", PATIENCE)
    monkeypatch.setattr(receivers, "ANSWER_WITHIN", PATIENCE)
    notes.clear()
    watched(tmp_path, notes)  # without a receiver they are not forgotten
    assert "5 messages wait" in notes[0]
    assert "`on_bad`" in notes[0]
    with server(lambda message, _: got.append(message["path"]) or 200) as url:
        watched(tmp_path, on_bad=url)
    assert got == [f"part-{number:03d}.png" for number in range(5)]


def test_what_a_webhook_refuses_for_good_is_set_aside_and_the_others_go_on(tmp_path):
    put(tmp_path / "in", 200, 200, 200)
    notes, got = [], []

    def answer(message, _):
        got.append(message["path"])
        if message["path"] == "part-001.png":
            return 422
        return 503 if got.count(message["path"]) < 3 else 200

    with server(answer) as url:
        watched(tmp_path, notes, on_bad=url)
    assert got.count("part-001.png") == 1
    assert got.count("part-002.png") == 3
    assert len(list((tmp_path / "out" / "spool" / "bad" / "refused").glob("*.json"))) == 1
    assert any("status 503" in each for each in notes)
    assert any("takes messages again" in each for each in notes)


def test_ctrl_c_says_what_was_done_and_what_waits(tmp_path, monkeypatch):
    put(tmp_path / "in", 200, 20)

    def interrupt(self, noted, add=watch._Counts.add):
        add(self, noted)
        if self.all == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(watch._Counts, "add", interrupt)
    with pytest.raises(KeyboardInterrupt, match=r"stopped after 2 images.*scores\.csv.*1 message waits"):
        watched(tmp_path, once=False, on_bad="http://127.0.0.1:9/nobody")


def test_it_says_what_it_does_a_line_an_image_and_one_of_all(tmp_path):
    put(tmp_path / "in", 200, 20)
    (tmp_path / "in" / "broken.png").write_bytes(b"no image")
    shown = []
    watched(tmp_path, show=shown.append, summary=1e-9)
    assert shown[1].startswith("part-000.png: bad, 200, reject")
    assert shown[0].startswith("broken.png: unreadable, ")
    assert "3 images (1 good, 1 bad, 1 unreadable), 3 in all" in shown[3]


def process_that_watches(tmp_path, url):
    hot_folder.AT_ONCE = 2
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    watched(tmp_path, once=False, on_bad=url, on_each=url)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a started program would import for seconds before each kill")
def test_fifty_random_kills_lose_and_double_neither_row_nor_message(tmp_path):
    got, chance = [], random.Random(0)  # noqa: S311 - no secret
    with server(lambda message, _: got.append((message["event"], message["path"], message["id"])) or 200) as url:
        context = multiprocessing.get_context("fork")
        for kill in range(50):
            put(tmp_path / "in", *[200, 20] * 3, start=6 * kill)
            process = context.Process(target=process_that_watches, args=(tmp_path, url))
            process.start()
            time.sleep(chance.uniform(0.02, 0.4))
            assert process.is_alive()
            process.kill()
            process.join()
        assert rows(tmp_path / "out")
        watched(tmp_path, on_bad=url, on_each=url)
    names = [f"part-{number:03d}.png" for number in range(300)]
    assert sorted(row["path"] for row in rows(tmp_path / "out")) == names
    assert not [each for each in os.listdir(tmp_path / "in") if each[0] != "."]  # noqa: PTH208
    by_id = {identity: (event, path) for event, path, identity in got}
    assert sorted(path for event, path in by_id.values() if event == "each") == names
    assert sorted(path for event, path in by_id.values() if event == "bad") == names[::2]
    assert len(by_id) == len(set(by_id.values()))  # the same image never has two ids
    assert not list((tmp_path / "out" / "spool").rglob("*.json"))


@pytest.mark.parametrize("at", ["prepared", "noted", "moved"])
def test_killed_between_any_two_steps_a_message_follows_its_row(tmp_path, at):
    """The three places between which a kill could part a message from its row."""
    put(tmp_path / "in", 200)
    place = {
        "prepared": (hot_folder.WatchTable, "add"),
        "noted": (hot_folder.HotFolder, "_put"),
        "moved": (Notifier, "release"),
    }[at]
    got = []

    def killed(*_):
        raise SystemExit

    with server(lambda message, _: got.append(message["id"]) or 200) as url:
        with pytest.MonkeyPatch.context() as patch:
            original = getattr(*place)
            patch.setattr(
                *place, lambda *words: killed() if at != "moved" or rows(tmp_path / "out") else original(*words)
            )
            with pytest.raises(SystemExit):
                watched(tmp_path, on_bad=url)
        assert not got
        watched(tmp_path, on_bad=url)
    assert len(got) == len(rows(tmp_path / "out")) == 1


def test_an_mqtt_broker_that_comes_late_gets_everything(tmp_path):
    pytest.importorskip("amqtt")
    mqtt = pytest.importorskip("paho.mqtt.client")
    import socket

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    put(tmp_path / "in", 200, 20, 200)
    notes, got = [], []
    thread = threading.Thread(
        target=watched, args=(tmp_path, notes), kwargs={"on_bad": f"mqtt://127.0.0.1:{port}/line/bad"}
    )
    thread.start()
    until = time.monotonic() + PATIENCE
    while not (tmp_path / "out" / "scores.csv").exists() or len(rows(tmp_path / "out")) < 3:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert not got
    with broker(port):
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        subscribed = threading.Event()
        client.on_connect = lambda *_: client.subscribe("line/#", qos=1)
        client.on_subscribe = lambda *_: subscribed.set()
        client.on_message = lambda _client, _data, message: got.append(json.loads(message.payload))
        client.connect("127.0.0.1", port)
        client.loop_start()
        assert subscribed.wait(PATIENCE)
        # What came before a subscriber was there is for nobody: one more comes now.
        thread.join(PATIENCE)
        assert not list((tmp_path / "out" / "spool").rglob("*.json"))
        put(tmp_path / "in", 210)
        watched(tmp_path, notes, on_bad=f"mqtt://127.0.0.1:{port}/line/bad")
        until = time.monotonic() + PATIENCE
        while (not got or got[-1]["score"] < 205) and time.monotonic() < until:
            time.sleep(0.05)
        client.disconnect()
        client.loop_stop()
    assert got[-1]["path"] == "part-000.png"
    assert got[-1]["score"] > 205
    assert len({each["id"] for each in got}) == len(got)


@contextmanager
def broker(port):
    from amqtt.broker import Broker

    loop, ready = asyncio.new_event_loop(), threading.Event()
    found = SimpleNamespace()

    async def start():
        plugins = {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}}
        listeners = {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}}
        found.broker = Broker({"listeners": listeners, "plugins": plugins})
        await found.broker.start()
        ready.set()

    def run():
        loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(PATIENCE)
    yield
    asyncio.run_coroutine_threadsafe(found.broker.shutdown(), loop).result(PATIENCE)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(PATIENCE)
    loop.close()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ftp://host/x", ("`on_bad`", "http://", "'ftp://'")),
        ("", ("was not found",)),
        ("no-such-program {path}", ("'no-such-program'", "full path")),
        ("echo 'open", ("quotes",)),
        ("http://", ("no host",)),
        ("http://user:s3cret@host:port/", ("scheme://host:port/path",)),
        ("mqtt://host", ("topic", "mqtt://host/line/bad")),
        ("mqtt://host/line/#", ("topic", "line/#")),
    ],
)
def test_what_is_no_receiver_is_refused_in_one_sentence(text, parts):
    if text.startswith("mqtt"):
        pytest.importorskip("paho.mqtt.client")
    with pytest.raises(RequestError) as refused:
        receiver_of(text, "on_bad")
    assert all(part in str(refused.value) for part in parts)
    assert "s3cret" not in str(refused.value)


def test_a_message_that_was_damaged_is_set_aside_and_the_others_are_sent(tmp_path):
    put(tmp_path / "in", 200)
    for place in ("pending", "due"):
        (tmp_path / "out" / "spool" / "bad" / place).mkdir(parents=True)
        (tmp_path / "out" / "spool" / "bad" / place / f"0-{place}.json").write_text('{"path": "cut sh')
    got, notes = [], []
    with server(lambda message, _: got.append(message["path"]) or 200) as url:
        watched(tmp_path, notes, on_bad=url)
    assert got == ["part-000.png"]
    kept = {each.name for each in (tmp_path / "out" / "spool" / "bad" / "refused").iterdir()}
    assert kept == {"0-pending.json", "0-due.json"}
    assert any("damaged" in each for each in notes)
