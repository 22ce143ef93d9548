import json
from functools import partial

import pytest
from django.tasks.exceptions import InvalidTask
from hypothesis import given
from hypothesis import strategies as st

from backroom.tasks import Exponential
from backroom.tasks.overrides import decoded, encoded
from tests.tasks import work


class Waits:
    def __call__(self, *_):
        return 1.0


waits = st.floats(0, 1e6)
exceptions = st.lists(st.sampled_from([ValueError, LookupError, work.Refused, SystemExit]), max_size=3)
changes = st.fixed_dictionaries(
    {},
    optional={
        "max_attempts": st.integers(1, 100),
        "backoff": st.one_of(
            waits,
            st.lists(waits, min_size=1, max_size=4).map(tuple),
            st.builds(Exponential, base=waits, factor=st.floats(1, 10), cap=waits),
            st.just(work.four_seconds),
        ),
        "retry_on": exceptions.map(tuple),
        "fail_on": exceptions.map(tuple),
        "timeout": st.none() | st.floats(0.001, 1e6),
        "expires": st.none() | st.floats(0.001, 1e6) | st.timedeltas(),
        "keep_result": st.booleans() | waits,
        "atomic": st.booleans(),
    },
)


@given(changes)
def test_whatever_using_changed_comes_back(changed):
    task = work.with_options.using(**changed)
    text = encoded(task, work.with_options)
    restored = decoded(text)
    # Read from the task, which has each option in one form.
    wanted = {name: getattr(task, name) for name in changed}
    assert {name: restored.get(name, getattr(work.with_options, name)) for name in changed} == wanted
    assert not text or json.loads(text)


def test_a_task_as_it_is_defined_needs_no_text():
    assert encoded(work.with_options, work.with_options) == ""
    assert encoded(work.with_options.using(), work.with_options) == ""
    assert encoded(work.with_options.using(priority=5), work.with_options) == ""
    assert decoded("") == {}


@pytest.mark.parametrize(
    "change",
    [
        {"backoff": lambda *_: 1},
        {"retry_on": type("Local", (Exception,), {})},
        {"backoff": partial(work.four_seconds)},
        {"backoff": Waits()},
    ],
)
def test_what_a_worker_could_not_import_is_refused(change):
    with pytest.raises(InvalidTask, match=r"cannot be found again .* at module level"):
        encoded(work.with_options.using(**change), work.with_options)
