"""The tasks that the tests of this folder enqueue. Each one is at the level of a module, where a worker finds it."""

import asyncio
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import Any

from django.db import DatabaseError, transaction
from django.tasks import task as declare

from backroom.tasks import Exponential, Snooze, TaskCancelled, Unique
from backroom.tasks.execution import Execution, current
from tests.ledger.models import Book, Line

task: Any = declare
"""Django's decorator, whose stubs know none of our options."""

seen: list[Any] = []
"""What tasks noted; emptied before each test."""


class Refused(Exception):
    """What a task of these tests fails with."""


def four_seconds(exception, result):
    """Wait so long, and note what a backoff function is shown."""
    seen.append((exception, result))
    return 4


def key_of_order(order, **_kwargs):
    return str(order)


def number_as_key(order):
    return order


def surrogate_as_key(order):
    return f"\ud800{order}"


def running() -> Execution:
    """Return the execution that this code is part of."""
    execution = current.get()
    assert execution is not None
    return execution


@task
def note(*args, **kwargs):
    seen.append((args, kwargs))
    return [list(args), kwargs]


@task
async def note_async(*args, **kwargs):
    await asyncio.sleep(0)
    seen.append((args, kwargs))
    return [list(args), kwargs]


@task
def answer(value=None):
    return value


@task
def give(what):
    """Return something that cannot travel in an argument."""
    return {
        "nan": float("nan"),
        "set": {1},
        "tuple": (1, (2,)),
        "bytes": b"abc",
        "keys": {1: 2},
        "huge": "x" * 5_000_000,
    }[what]


@task
def fail(message="no"):
    raise Refused(message)


@task(max_attempts=3, backoff=(5, 10))
def fail_thrice(message="no"):
    seen.append(message)
    raise Refused(message)


@task(max_attempts=2, backoff=four_seconds)
def fail_twice():
    raise Refused("no")


@task(max_attempts=9, fail_on=Refused)
def fail_at_once():
    raise Refused("no")


@task
def leave():
    raise SystemExit(3)


@task
def press_keys():
    raise KeyboardInterrupt


@task(takes_context=True)
def snooze_once(context):
    seen.append(context.attempt)
    if len(seen) == 1:
        raise Snooze(60)
    return "awake"


@task
def cancel_itself():
    raise TaskCancelled


@task(takes_context=True)
def report(context, done=1, total=3, message="reading"):
    context.progress(done, total, message)
    seen.append((context.metadata, context.is_cancelled(), context.attempt, running().claim.id))
    return context.task_result.id


@task(takes_context=True)
async def report_async(context):
    context.progress(1)
    return [context.attempt, running().claim.id == context.task_result.id]


@task(
    max_attempts=4,
    backoff=Exponential(base=2, cap=9),
    retry_on=[LookupError],
    fail_on=KeyError,
    timeout=30,
    expires=60,
    keep_result=7200,
    metadata={"trace": "abc"},
)
def with_options():
    return None


@task(unique=True)
def once(*args, **kwargs):
    return "done"


@task(unique=Unique(key=key_of_order, scope="pending"))
def once_pending(order, **kwargs):
    return order


@task(unique=Unique(scope=60))
def once_a_minute():
    return None


@task(unique=number_as_key)
def once_with_bad_key(order):
    return order


@task(unique=surrogate_as_key)
def once_with_odd_key(order):
    return order


@task(atomic=True)
def write_and(then, using):
    """Write a row in the store's database, then do as told."""
    Book.objects.using(using).create(name="written by a task")
    match then:
        case "raise":
            raise Refused("no")
        case "snooze":
            raise Snooze(5)
        case "leave a constraint broken":
            # The foreign keys are looked at when the transaction commits.
            Line.objects.using(using).create(book_id=4711)
        case "break the transaction":
            with suppress(DatabaseError):
                Book.objects.using(using).create(name="written by a task")
    return then


@task(atomic=True)
async def write_async(using):
    await Book.objects.using(using).acreate(name="written by a task")


@task(atomic=True)
def lose_the_claim(using):
    """Write a row, and let another worker take the task over meanwhile."""
    Book.objects.using(using).create(name="written by a task")
    seen[0]()


@task
def enqueue_another(using):
    with transaction.atomic(using=using):
        return note.using(backend=using).enqueue("nested").id


layer_of: ContextVar[str] = ContextVar("layer_of", default="")


@contextmanager
def outer(execution):
    seen.append(("outer in", execution.claim.id))
    token = layer_of.set("outer")
    try:
        yield
    except Refused:
        seen.append(("outer saw", "Refused"))
        raise
    finally:
        layer_of.reset(token)
        seen.append(("outer out", execution.claim.id))


@contextmanager
def inner(execution):
    seen.append(("inner in", layer_of.get()))
    yield
    seen.append(("inner out", layer_of.get()))


@contextmanager
def refusing(_execution):
    raise Refused("not this one")
    yield


@task
def see_layer():
    seen.append(("task", layer_of.get()))


@task
async def see_layer_async():
    seen.append(("task", layer_of.get()))


def not_a_task():
    """Stand where a task once stood."""
