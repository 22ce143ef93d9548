"""Every system that is measured, by its label."""

from benchmarks.tasks.systems.backroom import Backroom
from benchmarks.tasks.systems.base import POSTGRESQL, SQLITE, System
from benchmarks.tasks.systems.dj_queue import DjQueue
from benchmarks.tasks.systems.django_ox import DjangoOx
from benchmarks.tasks.systems.django_tasks_db import DjangoTasksDB
from benchmarks.tasks.systems.huey import FULL, OFF, Huey
from benchmarks.tasks.systems.procrastinate import Procrastinate

_ALL: tuple[System, ...] = (
    Backroom(SQLITE),
    Backroom(SQLITE, "full", FULL),
    DjangoTasksDB(SQLITE),
    DjangoOx(SQLITE),
    DjQueue(SQLITE),
    Huey(SQLITE, "full", FULL),
    Huey(SQLITE, "nofsync", OFF),
    Backroom(POSTGRESQL),
    DjangoTasksDB(POSTGRESQL),
    DjangoOx(POSTGRESQL),
    DjQueue(POSTGRESQL),
    Huey(POSTGRESQL),
    Procrastinate(POSTGRESQL),
)

SYSTEMS = {system.label: system for system in _ALL}
