"""Tasks for tests that run real workers. An effect is a line in a file, which outlives the process that wrote it."""

import asyncio
import os
import signal
import time
from pathlib import Path
from typing import Any

from django.contrib.auth.models import Group
from django.db import connection
from django.tasks import task as django_task

from backroom.tasks import Snooze, TaskCancelled, TaskTimeout, Unique

task: Any = django_task  # django-stubs 6.1.2 do not know that @task takes the backend's own options


def note(path: str, text: object) -> None:
    """Append a line in one write, which the system does not tear apart."""
    with Path(path).open("ab", buffering=0) as file:
        file.write(f"{text}\n".encode())


@task
def add(a, b):
    return a + b


@task
def effect(path, n):
    note(path, n)
    return n


@task
def effect_by(path, n):
    note(path, f"{n} {os.getpid()}")
    return n


@task(takes_context=True)
def slow(context, path, seconds):
    note(path, f"begin {context.attempt} {os.getpid()}")
    time.sleep(seconds)
    note(path, f"end {context.attempt} {os.getpid()}")
    return os.getpid()


@task(takes_context=True)
def gated(context, path, gate):
    """Go on when the gate file is there."""
    note(path, f"begin {context.attempt} {os.getpid()}")
    while not Path(gate).exists():
        time.sleep(0.02)
    note(path, f"end {context.attempt} {os.getpid()}")
    return context.attempt


@task(timeout=0.5)
def times_out(path):
    try:
        while True:
            time.sleep(0.02)
    except TaskTimeout:
        note(path, "cleaned up")
        raise


@task(timeout=0.5)
def overruns(path):
    note(path, f"overruns {os.getpid()}")
    while True:
        try:
            time.sleep(0.02)
        except TaskTimeout:
            note(path, "ignored")


@task(timeout=0.3)
async def times_out_in_loop(path):
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        note(path, "cleaned up")
        raise


@task
def dies(path):
    note(path, f"dies {os.getpid()}")
    os.kill(os.getpid(), signal.SIGKILL)


@task
def exits():
    raise SystemExit(3)


@task
def interrupts():
    raise KeyboardInterrupt


@task(takes_context=True)
def counts_to_the_end(context, path, gate):
    context.progress(1, 4, "one of four")
    while not Path(gate).exists():
        time.sleep(0.02)
    context.progress(4, 4, "all")


@task(takes_context=True)
def cancels_politely(context, path):
    note(path, "begin")
    while not context.is_cancelled():
        time.sleep(0.02)
    note(path, "cleaned up")
    context.raise_if_cancelled()


@task
def cancels_by_exception(path):
    note(path, "begin")
    try:
        while True:
            time.sleep(0.02)
    except TaskCancelled:
        note(path, "interrupted")
        raise


@task
def cancels_by_force(path):
    note(path, f"begin {os.getpid()}")
    while True:
        try:
            time.sleep(0.02)
        except BaseException:  # noqa: BLE001 - the worst that a task can do
            note(path, "ignored")


begun: list[int] = []


@task
async def overlaps(together, number):
    """Wait until so many of these run at once."""
    begun.append(number)
    while len(begun) < together:  # noqa: ASYNC110 - an event would belong to one loop
        await asyncio.sleep(0.01)
    return True


@task(takes_context=True)
def snoozes_twice(context, path):
    note(path, "turn")
    if len(Path(path).read_text().splitlines()) < 3:
        raise Snooze(0.05)
    return context.attempt


@task(max_attempts=3, backoff=0.05)
def fails_twice(path):
    note(path, "turn")
    if len(Path(path).read_text().splitlines()) < 3:
        msg = "not yet"
        raise ValueError(msg)
    return "third"


@task(atomic=True)
def creates_group(name):
    Group.objects.create(name=name)


@task(unique=Unique(key=lambda _path, _n: "the one", scope="unfinished"))
def only_one(path, n):
    note(path, n)


@task
def grows(megabytes):
    hoard.append(b"x" * megabytes * 1_000_000)
    return os.getpid()


hoard: list[bytes] = []


@task
async def interrupts_loop():
    raise KeyboardInterrupt


@task
async def exits_in_a_child_task():
    async def leave():
        raise SystemExit(1)

    await asyncio.gather(leave())


@task
async def cancels_itself():
    raise asyncio.CancelledError


@task
async def add_in_loop(a, b):
    return a + b


@task(atomic=True, timeout=2)
def holds_the_write_lock(path):
    Group.objects.create(name="written")
    note(path, "locked")
    try:
        for _ in range(600):
            time.sleep(0.02)
    except TaskTimeout:
        note(path, "interrupted")
        raise
    note(path, "never interrupted")


@task(timeout=0.3)
def is_interrupted_after_begin(path):
    # As if the exception came after the statement and before Django's note of it.
    connection.cursor().connection.execute("BEGIN IMMEDIATE")
    note(path, "begun")
    for _ in range(600):
        time.sleep(0.02)


@task
def writes(name):
    Group.objects.create(name=name)
