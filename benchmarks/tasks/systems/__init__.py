"""Every system that is measured, by its label."""

from benchmarks.tasks.systems.arq import Arq
from benchmarks.tasks.systems.backroom import Backroom, BackroomRedis
from benchmarks.tasks.systems.base import NOTHING_KEPT, POSTGRESQL, REDIS, SQLITE, VALKEY, System
from benchmarks.tasks.systems.celery import Celery
from benchmarks.tasks.systems.dj_queue import DjQueue
from benchmarks.tasks.systems.django_ox import DjangoOx
from benchmarks.tasks.systems.django_tasks_db import DjangoTasksDB
from benchmarks.tasks.systems.django_tasks_redis import DjangoTasksRedis
from benchmarks.tasks.systems.django_vtasks import DjangoVtasks
from benchmarks.tasks.systems.dramatiq import Dramatiq
from benchmarks.tasks.systems.huey import FULL, OFF, Huey
from benchmarks.tasks.systems.procrastinate import Procrastinate
from benchmarks.tasks.systems.rq import RQ
from benchmarks.tasks.systems.taskiq import Taskiq

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
    BackroomRedis(REDIS),
    BackroomRedis(REDIS, "memory", NOTHING_KEPT),
    Celery(REDIS, "prefork"),
    Celery(REDIS, "threads"),
    Celery(REDIS, "solo"),
    Celery(REDIS, "prefork2", worker_processes=2),
    Celery(REDIS, "django"),
    Celery(REDIS, "django2", worker_processes=2),
    Dramatiq(REDIS),
    Huey(REDIS),
    Huey(REDIS, "one"),
    Huey(REDIS, "memory", NOTHING_KEPT),
    RQ(REDIS),
    Taskiq(REDIS),
    Taskiq(REDIS, "two", worker_processes=2),
    Arq(REDIS),
    DjangoVtasks(REDIS),
    DjangoTasksRedis(REDIS),
    BackroomRedis(VALKEY),
    Huey(VALKEY),
    DjangoVtasks(VALKEY),
)

SYSTEMS = {system.label: system for system in _ALL}
