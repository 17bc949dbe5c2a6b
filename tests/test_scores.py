"""Scores come out of files as they went in, and a map covers its image."""

import csv
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from blemish.calibration import Chance, Decision
from blemish.machine.errors import RequestError
from blemish.scores import Scores


def scores(values, ids=None):
    count = len(values)
    return Scores(
        tuple(ids or (f"{index}.png" for index in range(count))),
        np.asarray(values, np.float32),
        np.arange(count * 6, dtype=np.float32).reshape(count, 2, 3),
        np.tile(np.array([0, 0, 1, 1], np.float32), (count, 1)),
        np.tile(np.array([30, 20]), (count, 1)),
    )


def test_numbers_round_trip_through_csv(tmp_path):
    values = np.random.default_rng(0).lognormal(0, 9, 300).astype(np.float32)
    made = scores(values)
    made.to_csv(tmp_path / "s.csv", threshold=1.0)
    table = pd.read_csv(tmp_path / "s.csv").set_index("path")
    assert np.array_equal(table.loc[list(made.ids), "score"].to_numpy(np.float32), values)
    assert set(table["flagged"]) == {0, 1}
    assert (table["flagged"] == (table["score"].astype(np.float32) > 1.0)).all()


def test_any_name_round_trips_through_csv(tmp_path):
    names = ["a,b.png", 'q"q.png', "n\nn.png", " s .png", "ä漢🙂.png", "=1+1.png", "caf\\xe9.png"]
    scores(range(len(names)), names).to_csv(tmp_path / "s.csv")
    with (tmp_path / "s.csv").open(encoding="utf-8", newline="") as file:
        assert [row[0] for row in csv.reader(file)][1:] == names[::-1]


def test_the_most_anomalous_comes_first_and_equals_go_by_name():
    assert scores([1, 3, 3, 2]).ranking() == ["1.png", "2.png", "3.png", "0.png"]


def test_a_map_has_the_size_of_its_image_and_keeps_its_extremes_in_place():
    drawn = scores([1.0]).map("0.png")
    assert drawn.shape == (20, 30)
    assert drawn[0, 0] == 0
    assert drawn[-1, -1] == 5
    assert (np.diff(drawn, axis=1) >= 0).all()


def test_the_padding_of_a_map_is_cut_away():
    whole = scores([1.0])
    half = Scores(whole.ids, whole.image, whole.maps, np.array([[0, 0.5, 1, 1]], np.float32), whole.sizes)
    assert half.map("0.png").min() >= 1.5  # the lower row, with what bleeds in from the edge of the upper one


def test_scores_that_are_no_numbers_are_refused():
    with pytest.raises(RequestError, match=r"'1\.png'"):
        scores([1.0, np.nan])


def test_asking_for_an_unknown_image_names_it():
    with pytest.raises(RequestError, match=r"'x\.png'"):
        scores([1.0])["x.png"]
    with pytest.raises(RequestError, match=r"0; `head\(10\)`"):
        scores([1.0])[0]


def test_a_score_is_found_by_the_path_of_its_file_and_no_other(tmp_path):
    found = replace(scores([1.0, 2.0]), root=tmp_path)
    name = found.ids[1]
    assert found[tmp_path / name] == found[str(tmp_path / name)] == found[name] == 2.0
    with pytest.raises(RequestError, match="elsewhere"):
        found[tmp_path / "elsewhere" / name]


def test_the_head_has_the_highest_scores_and_bands_and_chances_come_in_that_order():
    decision = Decision(1.5, 0.5, "r", "a", look_between=(0.5, 2.5), chance=Chance((0.0, 4.0), (0.1, 0.9)))
    found = replace(scores([1.0, 3.0, 0.0]), decision=decision)
    assert found.head(1)["score"].tolist() == [3.0]
    assert list(found.bands.values()) == ["reject", "look", "pass"]
    assert list(found.bands) == list(found.probability) == found.ranking()
    with pytest.raises(RequestError, match="a threshold of your own"):
        _ = scores([1.0]).bands
