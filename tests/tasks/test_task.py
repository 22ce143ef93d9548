"""Declaring a task, and changing one with using()."""

import pickle
import re
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

import pytest
from django.tasks import Task as DjangoTask
from django.tasks import task
from django.tasks.exceptions import InvalidTask
from django.utils import timezone

from backroom.tasks import Exponential, Task, Unique
from backroom.tasks import task as typed_task
from backroom.tasks.exceptions import NotOurs
from tests.tasks import work


def test_a_task_is_djangos_and_ours():
    assert isinstance(work.note, DjangoTask)
    assert isinstance(work.note, Task)


def test_equal_options_make_equal_tasks():
    changed = work.note.using(retry_on=[LookupError], backoff=[1, 2], unique=True)
    assert changed == work.note.using(retry_on=(LookupError,), backoff=(1, 2), unique=Unique())
    assert changed == work.note.using(retry_on=LookupError, backoff=(1, 2), unique=Unique(scope="unfinished"))
    assert hash(changed) == hash(work.note.using(retry_on=(LookupError,), backoff=(1, 2), unique=Unique()))
    assert changed != work.note


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"max_attempts": 0}, "max_attempts is 0"),
        ({"max_attempts": 1.5}, "max_attempts is 1.5"),
        ({"max_attempts": True}, "max_attempts is True"),
        ({"backoff": -1}, "backoff is -1"),
        ({"backoff": ()}, "backoff is ()"),
        ({"backoff": "soon"}, "backoff is 'soon'"),
        ({"backoff": float("nan")}, "backoff is nan"),
        ({"retry_on": "ValueError"}, "retry_on takes exception classes"),
        ({"retry_on": [int]}, "retry_on takes exception classes; <class 'int'> is none"),
        ({"fail_on": ValueError()}, "fail_on"),
        ({"timeout": 0}, "timeout is 0"),
        ({"timeout": timedelta(1)}, "timeout is"),
        ({"expires": "tomorrow"}, "expires is 'tomorrow'"),
        ({"expires": float("inf")}, "expires is inf"),
        ({"keep_result": -1}, "keep_result is -1"),
        ({"keep_result": None}, "keep_result is None"),
        ({"metadata": [1]}, "metadata is [1]"),
        ({"unique": "id"}, "unique is 'id'"),
        ({"unique": Unique(scope=cast("Any", "forever"))}, "Unique.scope is 'forever'"),
        ({"unique": Unique(scope=0)}, "Unique.scope is 0"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused_with_what_would(options, words):
    with pytest.raises(InvalidTask) as caught:
        work.note.using(**options)
    assert words in str(caught.value)
    with pytest.raises(InvalidTask):
        task(**options)(work.note.func)


def test_an_unknown_option_is_refused():
    with pytest.raises(TypeError, match="colour"):
        cast("Any", task)(colour="red")(work.note.func)
    with pytest.raises(TypeError, match=r"does not know colour\. It takes: atomic, backend, backoff"):
        work.note.using(colour="red")
    for name in ("func", "takes_context"):
        with pytest.raises(TypeError, match=name):
            work.note.using(**{name: None})


@pytest.mark.parametrize("run_after", [60, "tomorrow", date(2026, 11, 23)])
def test_a_run_after_that_is_no_moment_is_refused_in_words(run_after):
    with pytest.raises(InvalidTask, match="use a datetime, a timedelta or None"):
        work.note.using(run_after=run_after)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"max_retries": 3}, "@task does not know max_retries. Did you mean max_attempts? It takes: atomic, backend,"),
        ({"queue": "mail"}, "@task does not know queue. Did you mean queue_name? It takes: atomic, backend,"),
        ({"colour": "red"}, "@task does not know colour. It takes: atomic, backend,"),
    ],
)
@pytest.mark.parametrize("decorator", [task, typed_task])
def test_an_unknown_option_is_refused_with_the_one_that_may_be_meant(decorator, given, meant):
    with pytest.raises(TypeError) as caught:
        decorator(**given)(work.note.func)
    assert str(caught.value).startswith(meant)
    with pytest.raises(TypeError, match=re.escape(meant[meant.index("does") : meant.index(" It")])):
        work.note.using(**given)


def test_using_changes_every_option_and_leaves_the_others():
    changes = {
        "priority": 5,
        "max_attempts": 7,
        "backoff": Exponential(base=3),
        "retry_on": (OSError,),
        "fail_on": (ValueError,),
        "timeout": 5,
        "expires": 86_400.0,
        "keep_result": False,
        "atomic": True,
        "unique": Unique(scope="pending"),
        "metadata": {"a": 1},
    }
    changed = work.with_options.using(**changes)
    assert {name: getattr(changed, name) for name in changes} == changes
    for name, value in changes.items():
        alone = work.with_options.using(**{name: value})
        rest = changes.keys() - {name}
        assert getattr(alone, name) == value
        assert [getattr(alone, each) for each in rest] == [getattr(work.with_options, each) for each in rest]


def test_expires_takes_a_timedelta():
    assert work.note.using(expires=timedelta(minutes=1)) == work.note.using(expires=60)


class TestRunAfter:
    def test_a_timedelta_counts_from_now(self, fake_clock):
        fake_clock.move_to(datetime(2031, 5, 1, 12, tzinfo=UTC))
        assert work.note.using(run_after=timedelta(hours=2)).run_after == datetime(2031, 5, 1, 14, tzinfo=UTC)

    def test_a_datetime_is_taken_as_it_is(self):
        moment = timezone.now() + timedelta(days=1)
        assert work.note.using(run_after=moment).run_after == moment

    def test_none_takes_it_away(self):
        later = work.note.using(run_after=timedelta(hours=1))
        assert later.using(priority=1).run_after == later.run_after
        assert later.using(run_after=None).run_after is None

    def test_without_time_zones_it_is_naive(self, settings, fake_clock):
        settings.USE_TZ = False
        settings.TIME_ZONE = "Asia/Kathmandu"
        fake_clock.move_to(datetime(2031, 5, 1, 12, tzinfo=UTC))
        assert work.note.using(run_after=timedelta(0)).run_after == datetime(2031, 5, 1, 17, 45)  # noqa: DTZ001


@pytest.mark.parametrize(
    "changed",
    [
        work.note,
        work.with_options,
        work.with_options.using(backoff=work.four_seconds, unique=work.key_of_order, metadata={"a": [1]}),
        work.note.using(run_after=timedelta(days=1), priority=-3),
    ],
    ids=["plain", "with options", "with functions", "deferred"],
)
def test_a_task_can_be_pickled(changed):
    assert pickle.loads(pickle.dumps(changed)) == changed


def test_a_function_inside_another_is_refused_where_it_is_declared():
    def inside():
        """Stand where no worker could import it."""

    with pytest.raises(InvalidTask, match="module level"):
        task(inside)


def test_a_task_is_checked_again_when_it_is_enqueued(settings):
    nowhere = work.note.using(queue_name="default")
    settings.TASKS = {"default": settings.TASKS["default"] | {"QUEUES": ["other"]}}
    with pytest.raises(InvalidTask, match="Queue 'default' is not valid"):
        nowhere.enqueue()


class TestTheTypedDecorator:
    def test_it_makes_what_djangos_makes(self):
        options: Any = {"max_attempts": 3, "timeout": 5, "queue_name": "default", "priority": 7}
        assert typed_task(**options)(work.note.func) == cast("Any", task)(**options)(work.note.func)
        assert typed_task(work.note.func) == task(work.note.func)

    def test_it_refuses_what_djangos_refuses(self):
        untyped: Any = typed_task
        with pytest.raises(TypeError, match="run_after cannot be defined statically"):
            untyped(run_after=timezone.now())
        with pytest.raises(TypeError, match="max_atempts"):
            untyped(max_atempts=3)(work.note.func)
        with pytest.raises(InvalidTask, match="max_attempts is 0"):
            typed_task(max_attempts=0)(work.note.func)

    def test_who_forgot_the_setting_is_told_which_lines_to_write(self, settings):
        settings.TASKS = {"default": {"BACKEND": "django.tasks.backends.immediate.ImmediateBackend"}}
        with pytest.raises(
            NotOurs, match=r"Set TASKS = \{'default': \{'BACKEND': 'backroom\.tasks\.backends\.database"
        ):
            typed_task(max_attempts=3)(work.note.func)
        # What README and the reference say that Django's own says.
        untyped: Any = task
        with pytest.raises(TypeError, match="unexpected keyword argument 'max_attempts'"):
            untyped(max_attempts=3)(work.note.func)
        assert isinstance(typed_task(work.note.func), DjangoTask)
