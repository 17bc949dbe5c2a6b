"""A Run measured on labels, and two Runs side by side."""

from functools import partial

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from blemish.jobs.evaluation import compare, evaluate
from blemish.machine.errors import RequestError
from command_line import call


def labels_for(run, bad):
    table = pd.read_csv(run / "scores.csv")
    lines = [f"{path},{'bad' if path in bad else 'good'}" for path in table["path"]]
    (run / "truth.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    return table, run / "truth.csv"


def test_the_ranking_is_measured_as_scikit_learn_does(run):
    table, file = labels_for(run, {"part-00.png", "part-04.png"})
    found = evaluate(run, file)
    bad = table["path"].isin({"part-00.png", "part-04.png"})
    assert found.auroc == pytest.approx(roc_auc_score(bad, table["score"]))
    assert found.auroc_interval[0] <= found.auroc <= found.auroc_interval[1]
    assert (found.images, found.bad) == (10, 2)
    flagged = table["flagged"] == 1
    assert found.recall == pytest.approx((flagged & bad).sum() / 2)
    assert found.best_f1 >= (found.f1 or 0)
    assert found.recall_interval[0] <= found.recall <= found.recall_interval[1]
    assert found.false_alarms_interval[1] > found.false_alarms  # of eight good images, none tells of all
    assert found.f1_interval[0] <= found.f1 <= found.f1_interval[1]


def test_the_chances_are_held_against_what_was_found(run):
    _, file = labels_for(run, {"part-00.png", "part-04.png"})
    result = call("evaluate", run, "--labels", file, "--reliability", run / "reliability")
    assert result.exit_code == 0, result.output
    assert "images with a chance of about" in result.stdout
    assert pd.read_csv(run / "reliability" / "reliability.csv")["count"].sum() == 10
    assert (run / "reliability" / "reliability.png").is_file()
    (run / "few.csv").write_text("path,label\npart-00.png,bad\npart-01.png,good\n")
    result = call("evaluate", run, "--labels", run / "few.csv", "--reliability", run / "none")
    assert result.exit_code == 2, result.output
    assert "--reliability needs ten labelled images" in result.stderr


def test_labels_of_one_kind_say_nothing_of_the_ranking(run):
    _, file = labels_for(run, set())
    found = evaluate(run, file)
    assert found.auroc is None
    assert found.recall is None
    assert any("one kind" in note for note in found.notes)


def test_labels_may_be_a_dict(run):
    _, file = labels_for(run, {"part-00.png"})
    assert evaluate(run, dict(pd.read_csv(file).to_numpy().tolist())) == evaluate(run, file)
    with pytest.raises(RequestError, match="got 'broken'"):
        evaluate(run, {"part-00.png": "broken"})
    for judge in (evaluate, partial(compare, run)):
        with pytest.raises(RequestError, match=r"dict from id to good or bad; got a list"):
            judge(run, ["bad"])
        with pytest.raises(RequestError, match=r"no 'none\.csv'"):
            judge(run, "none.csv")


def test_labels_of_other_images_are_refused(run):
    (run / "truth.csv").write_text("path,label\nelse.png,bad\n")
    with pytest.raises(RequestError, match=r"truth\.csv"):
        evaluate(run, run / "truth.csv")
    with pytest.raises(RequestError, match=r"labels\.csv'; .*blemish review"):
        evaluate(run)


def test_a_run_agrees_with_itself(run):
    _, file = labels_for(run, {"part-00.png"})
    found = compare(run, run, file)
    assert found.agreement == pytest.approx(1)
    assert found.flagged[1:] == (0, 0)
    assert found.difference == (0, 0, 0)
    assert found.only_one == 0


def test_both_commands_print_what_was_found(run):
    _, file = labels_for(run, {"part-00.png"})
    result = call("evaluate", run, "--labels", file)
    assert str(evaluate(run, file)) == result.stdout.strip()
    assert result.exit_code == 0, result.output
    assert "10 labelled images, 1 of them bad." in result.stdout
    assert "banks of funad" not in result.stdout
    result = call("evaluate", run, "--labels", file, "--purity", run / "purity")
    assert result.exit_code == 2, result.output
    assert "--purity needs" in result.stderr
    result = call("compare", run, run, "--labels", file, "--json")
    assert result.exit_code == 0, result.output
    assert '"agreement": 1.0' in result.stdout.replace("0.9999999999999999", "1.0")
