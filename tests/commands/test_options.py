import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import pytest

from backroom.options import Above, AtLeast, OptionsError, Setting, parse, problems_of, problems_of_settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    lease: Annotated[float, Above(0)] = 30.0
    tries: Annotated[int, AtLeast(1)] = 3
    limit: Annotated[int, AtLeast(1)] | None = None
    is_on: bool = True
    paths: list[str] | tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    wait: Annotated[float, AtLeast(0)] | timedelta | None = None
    path: Path = Path()


def test_values_that_fit_are_taken_as_they_are():
    given = {"lease": 5, "tries": 1, "limit": None, "is_on": False, "paths": ["a.b"]}
    assert problems_of(Options, given) == []
    assert parse(Options, given) == Options(lease=5, tries=1, is_on=False, paths=["a.b"])


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"laese": 1}, "Unknown option 'laese'. Did you mean 'lease'?"),
        ({"zzz": 1}, "Unknown option 'zzz'. Known: is_on, lease, limit, path, paths, tries, wait, words."),
        ({"lease": "30"}, "Option 'lease' is '30'. Use a number above 0."),
        ({"lease": 0}, "Option 'lease' is 0. Use a number above 0."),
        ({"lease": -1.5}, "Option 'lease' is -1.5. Use a number above 0."),
        ({"lease": float("inf")}, "Option 'lease' is inf, which is not finite. Use a number above 0."),
        ({"lease": float("nan")}, "Option 'lease' is nan, which is not finite. Use a number above 0."),
        ({"lease": True}, "Option 'lease' is True. Use a number above 0."),
        ({"tries": 0}, "Option 'tries' is 0. Use a whole number of at least 1."),
        ({"tries": 1.5}, "Option 'tries' is 1.5. Use a whole number of at least 1."),
        ({"limit": 0}, "Option 'limit' is 0. Use a whole number of at least 1 or None."),
        ({"is_on": 1}, "Option 'is_on' is 1. Use True or False."),
        ({"paths": "a.b"}, "Option 'paths' is 'a.b'. Use a list or a tuple."),
        ({"words": 3}, "Option 'words' is 3. Use a dict."),
        ({"wait": "1"}, "Option 'wait' is '1'. Use a number of at least 0, a timedelta or None."),
        ({"path": "/"}, "Option 'path' is '/'. Use a value of type Path."),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_its_cure(given, problem):
    assert problems_of(Options, given) == [problem]
    with pytest.raises(OptionsError, match=f"^{re.escape(problem)}$"):
        parse(Options, given)
    with pytest.raises(OptionsError, match=f"^CLOCK: {re.escape(problem)}$"):
        parse(Options, given, place="CLOCK")


@pytest.fixture
def colour(monkeypatch):
    monkeypatch.setattr("backroom.options._declared", {})
    return Setting("COLOUR", str | None, default="grey")


def test_a_setting_is_what_the_project_says_or_the_default(colour, settings):
    assert colour.value == "grey"
    settings.BACKROOM = {"COLOUR": None}
    assert colour.value is None


@pytest.mark.parametrize(
    ("found", "problems"),
    [
        ({}, []),
        ({"COLOUR": "red"}, []),
        ({"COLOUR": 3}, ["BACKROOM['COLOUR'] is 3. Use a string or None."]),
        ({"COLOR": "red"}, ["BACKROOM has an unknown key 'COLOR'. Did you mean 'COLOUR'?"]),
        ({1: 2}, ["BACKROOM has an unknown key 1. Known: COLOUR."]),
        ("red", ["BACKROOM is of type str. Use a dict."]),
    ],
)
def test_the_dict_in_the_settings_is_checked_against_what_was_declared(colour, settings, found, problems):
    settings.BACKROOM = found
    assert problems_of_settings() == problems


def test_a_project_without_the_dict_has_no_problem(colour, settings):
    assert not hasattr(settings, "BACKROOM")
    assert problems_of_settings() == []
