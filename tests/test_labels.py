"""Labels are only ever added to, survive a crash and two writers, and follow contents, not names."""

import threading

import pytest

from blemish.images import ANOMALOUS, NORMAL, ImageSet, labels
from blemish.images.labels import Row, append, labelled, latest, read
from blemish.machine.errors import RequestError

A, B = "a" * 64, "b" * 64


def test_what_is_appended_is_read_back_with_a_time(tmp_path):
    file = tmp_path / "labels.csv"
    append(file, [Row("ü, 1.png", A, "good")])
    append(file, [Row("b.png", B, "bad")])
    rows, notes = read(file)
    assert [(row.path, row.sha256, row.label) for row in rows] == [("ü, 1.png", A, "good"), ("b.png", B, "bad")]
    assert all(row.time.startswith("20") for row in rows)
    assert not notes
    assert file.read_text(encoding="utf-8").splitlines()[0] == "time,path,sha256,label,type,comment,who"


def test_writers_at_the_same_time_lose_nothing(tmp_path):
    file = tmp_path / "labels.csv"
    threads = [
        threading.Thread(target=lambda n=n: [append(file, [Row(f"{n}-{i}.png", A, "bad")]) for i in range(10)])
        for n in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows, notes = read(file)
    assert len({row.path for row in rows}) == 40
    assert not notes


def test_a_row_that_was_cut_short_is_passed_over_and_those_after_it_are_read(tmp_path):
    file = tmp_path / "labels.csv"
    append(file, [Row("a.png", A, "good")])
    with file.open("a") as stream:
        stream.write("2026-01-01,b.p")
    assert read(file)[1][0].startswith("1 row of 'labels.csv' could not be read")
    append(file, [Row("c.png", B, "bad")])
    assert [row.path for row in read(file)[0]] == ["a.png", "c.png"]


def test_the_last_word_counts_and_follows_the_content(tmp_path):
    rows = [Row("a.png", A, "bad"), Row("a.png", A, "good"), Row("gone.png", B, "bad"), Row("c.png", "", "bad")]
    found, notes = latest(rows, {"moved/a.png": A, "copy.png": A, "c.png": "c" * 64})
    assert {name: row.meaning for name, row in found.items()} == {
        "moved/a.png": NORMAL, "copy.png": NORMAL, "c.png": ANOMALOUS
    }  # fmt: skip
    assert "'gone.png'" in notes[0]


def test_the_label_of_a_changed_image_is_not_used():
    found, notes = latest([Row("a.png", A, "bad")], {"a.png": B})
    assert not found
    assert "changed since the review" in notes[0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,label\na,good\n", "need 'path' and 'label'"),
        ("path,label\nother.png,bad\n", "No row of"),
        ("path,label\npart-00.png,maybe\n", "no label that can be used; a label is good or bad. 1 row .*line 2"),
    ],
)
def test_a_table_of_something_else_is_refused(tmp_path, photos, text, said):
    (tmp_path / "l.csv").write_text(text)
    with pytest.raises(RequestError, match=said):
        labelled(ImageSet.of(photos), tmp_path / "l.csv")
    with pytest.raises(RequestError, match=r"missing\.csv.*give a labels\.csv"):
        read(tmp_path / "missing.csv")


def test_a_table_made_by_hand_will_do(tmp_path, photos):
    (tmp_path / "l.csv").write_text("path,label\npart-00.png,reject\npart-01.png,OK\npart-02.png,unsure\n")
    found, notes = labelled(ImageSet.of(photos), tmp_path / "l.csv")
    assert found == {"part-00.png": ANOMALOUS, "part-01.png": NORMAL}
    assert not notes


def test_no_patience_is_an_error_and_not_a_lost_label(tmp_path, monkeypatch):
    from filelock import FileLock

    from blemish.machine.errors import JobError

    monkeypatch.setattr(labels, "PATIENCE", 0.1)
    with FileLock(f"{tmp_path / 'labels.csv'}.lock"), pytest.raises(JobError, match="another process"):
        append(tmp_path / "labels.csv", [Row("a.png", A, "bad")])
