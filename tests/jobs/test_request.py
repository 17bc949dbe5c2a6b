"""A request is one dataclass: the flags, the signature in Python and what `config.json` keeps come from it."""

import inspect
import json
from dataclasses import fields

import pytest

import blemish
from blemish import cli
from blemish.cli.options import flags_of
from blemish.jobs.option_groups import options_of
from blemish.jobs.request import FitRequest, PurifyRequest, ScoreRequest
from blemish.machine.errors import RequestError
from blemish.purification import PurifySettings
from command_line import call, refused

JOBS = {"fit": FitRequest, "purify": PurifyRequest, "score": ScoreRequest}


@pytest.mark.parametrize("name", JOBS)
def test_every_option_of_a_request_is_a_flag_and_a_parameter_in_python(name):
    options = set(options_of(JOBS[name]))
    assert options
    assert options <= set(flags_of(getattr(cli, name)))
    assert options <= set(inspect.signature(getattr(blemish, name)).parameters)
    assert all(f"    {option} : " in getattr(blemish, name).__doc__ for option in options)


def test_flags_are_the_names_with_dashes():
    flags = flags_of(cli.fit)
    assert (flags["group_regex"], flags["levels"], flags["settings"]) == ("--group-regex", "--levels", "--set")


def test_a_request_comes_back_from_its_json_as_it_was():
    request = FitRequest(images="https://host/a", levels=(0, 9), false_alarms="1%", purify=PurifySettings(k=2.0))
    stored = json.loads(json.dumps({"request": request.to_json()}))
    again = FitRequest.from_json("run", stored)
    assert again.false_alarms == 0.01
    for each in fields(request):
        assert getattr(again, each.name) == getattr(request, each.name), each.name


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": (9, 3)}, "`levels` .* got 9 3"),
        ({"pixels": 30}, "`pixels` must be 64 or more; got 30"),
        ({"threads": "two"}, "`threads` is a number, 1 or more; got 'two'"),
        ({"threshold": "high"}, "`threshold` is a number; got 'high'"),
        ({"contamination": True}, "`contamination` is a number; got True"),
        ({"overlap": 8}, "`overlap` 8 .* `tile`"),
        ({"false_alarms": "much"}, "`false_alarms` takes a share, such as 1%"),
        ({"sensitivity": 0.2, "threshold": 1.0}, "`threshold` and `sensitivity` exclude each other"),
        ({"purify": "yes"}, "`purify` is True, False or PurifySettings"),
        ({"treshold": 1.0}, "no option `treshold`; did you mean threshold"),
        ({"contamination": 1.5}, "`contamination` is a share"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_no_job_could_take_is_refused_at_once_by_its_name(options, message, tmp_path):
    with pytest.raises(RequestError, match=message):
        blemish.fit(tmp_path, **options)


def test_the_command_line_says_the_flag_where_python_says_the_name(tmp_path):
    folder = tmp_path / "parts"
    folder.mkdir()
    out = ("--out", tmp_path / "run")
    refused(call("fit", folder, *out, "--levels", 9, 3), "--levels needs two levels")
    refused(call("fit", folder, *out, "--pixels", 30), "--pixels must be 64 or more; got 30")


@pytest.mark.parametrize(
    ("old", "answer"),
    [
        ("--range", "--levels"), ("--learn-from", "--sample"), ("--how", "--purify-set"), ("--rule", "--sensitivity"),
        ("--fast", "is gone"),
    ],
)  # fmt: skip
def test_a_flag_of_an_earlier_version_is_answered_with_what_to_do_now(old, answer, tmp_path):
    refused(call("fit", tmp_path, "--out", tmp_path / "run", old, 3), old, answer)
