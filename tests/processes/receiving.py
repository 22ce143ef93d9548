"""Receivers of every kind, for tests that run real workers: what they are told is a row, written through the ORM."""

import functools
import os
import threading

from django.apps import AppConfig, apps
from django.tasks.signals import task_finished, task_started

from backroom.tasks.signals import task_retried


def in_a_thread(kind, task_result, **_named):
    apps.get_model("auth.Group").objects.create(
        name=f"{kind} {task_result.task.name} {task_result.attempts} {os.getpid()}"
    )


async def in_a_loop(kind, task_result, **_named):
    await apps.get_model("auth.Group").objects.acreate(
        name=f"async {kind} {task_result.task.name} {task_result.attempts} {os.getpid()}"
    )


def raises(**_named):
    raise ValueError("a receiver's own trouble")


async def raises_in_a_loop(**_named):
    raise ValueError("a receiver's own trouble")


def starts_a_thread(**_named):
    """Leave a thread behind, as a client of a metrics service does: what forks now has half a process."""
    threading.Thread(target=threading.Event().wait, name="from a receiver", daemon=True).start()


class Receiving(AppConfig):
    name = "tests.processes"
    label = "receiving"

    def ready(self):
        for kind, signal in (("started", task_started), ("retried", task_retried), ("finished", task_finished)):
            for receiver in (
                raises,
                raises_in_a_loop,
                starts_a_thread,
                functools.partial(in_a_thread, kind),
                functools.partial(in_a_loop, kind),
            ):
                signal.connect(receiver, weak=False)
