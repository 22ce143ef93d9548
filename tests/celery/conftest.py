"""A site whose tasks run in real Celery workers, over a real broker."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from kombu.connection import Connection

from backroom.celery.upkeep import Upkeep
from backroom.tasks.backends.celery import CeleryBackend
from backroom.tasks.judge import Judge
from tests.processes.conftest import Site
from tests.services.project import Process, Project, wait_until
from tests.services.servers import RabbitServer, RedisServer

APP = """\
import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mysite.settings")
app = Celery("mysite")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
"""

SETTINGS = """\
INSTALLED_APPS.append("backroom.celery")
TASKS = {{
    "records": {{"BACKEND": "backroom.tasks.backends.database.DatabaseBackend"}},
    "default": {{
        "BACKEND": "backroom.tasks.backends.celery.CeleryBackend",
        "QUEUES": [],
        "OPTIONS": {options!r},
    }},
}}
CELERY_BROKER_URL = {broker!r}
CELERY_TASK_DEFAULT_QUEUE = {queue!r}
CELERY_TASK_QUEUE_MAX_PRIORITY = 10
CELERY_WORKER_HIJACK_ROOT_LOGGER = True
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
"""


class CeleryWorker:
    """A worker process of Celery's, and its children."""

    def __init__(self, process: Process) -> None:
        self.process = process

    def children(self) -> list[psutil.Process]:
        """Return the processes of a prefork pool."""
        return psutil.Process(self.process.pid).children()

    def output(self) -> str:
        """Return what it has printed."""
        return self.process.output()

    def stop(self, seconds: float = 60) -> int:
        """Ask it for a warm shutdown; return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=seconds)

    def kill(self) -> None:
        """Kill all of it, as the end of its machine would."""
        self.process.end()


class CelerySite(Site):
    """A site on Celery."""

    def __init__(self, project: Project, folder: Path, queue: str, broker: str) -> None:
        super().__init__(project, folder)
        self.queue = queue
        self.broker = broker
        self.workers: list[CeleryWorker] = []

    def celery(self, *arguments: str, pool: str = "prefork", concurrency: int = 1, wait: bool = True) -> CeleryWorker:
        """Start an ordinary Celery worker."""
        process = self.project.start(
            *["celery", "-A", "mysite", "worker", "--loglevel", "INFO", "--without-gossip", "--without-mingle"],
            *["--pool", pool, "--concurrency", str(concurrency), "--hostname", f"{os.urandom(3).hex()}@localhost"],
            *arguments,
        )
        worker = CeleryWorker(process)
        self.workers.append(worker)
        if wait:
            process.wait_for_output(" ready.", seconds=60)
        return worker

    def enqueue_all(self, *calls: tuple[str, list[Any], str]) -> list[str]:
        """Enqueue tasks of `tests.processes.jobs`, each a name, arguments and what `using()` gets, in one process."""
        lines = [
            f"ids.append(jobs.{name}.using({using}).enqueue(*{arguments!r}).id)" for name, arguments, using in calls
        ]
        code = ["from datetime import timedelta", "from tests.processes import jobs", "ids = []", *lines, "print(*ids)"]
        return self.project.python("\n".join(code)).split()

    def purge(self) -> None:
        """Have the broker forget every message."""
        with Connection(self.broker) as connection:
            connection.default_channel.queue_purge(self.queue)

    def depth(self) -> int:
        """Return how many messages wait at the broker."""
        with Connection(self.broker) as connection:
            try:
                return int(connection.default_channel.queue_declare(self.queue, passive=True).message_count)
            except connection.channel_errors:
                # Redis keeps no empty list.
                return 0


@pytest.fixture
def make_celery_site(
    make_project: Callable[..., Project], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Callable[..., CelerySite]]:
    """Give a function that makes a site on Celery: `broker` is "rabbit", "redis" or a URL; OPTIONS are keywords."""
    sites: list[CelerySite] = []

    def make(broker: str = "redis", database: str = "sqlite", settings: str = "", **options: Any) -> CelerySite:
        folder = tmp_path / f"site-{os.urandom(3).hex()}"
        folder.mkdir()
        # A queue of its own: the servers are shared.
        queue = f"test-{os.urandom(4).hex()}"
        options = {"app": "mysite.celery.app", "store": "records"} | options
        url = url_of(broker, request)
        text = SETTINGS.format(options=options, broker=url, queue=queue) + settings
        project = make_project(database)
        project.write("mysite/celery.py", APP)
        project.add_settings(text)
        project.write("mysite/__init__.py", "from mysite.celery import app as celery_app\n")
        sites.append(CelerySite(project, folder, queue, url))
        return sites[-1]

    yield make
    for site in sites:
        for worker in site.workers:
            worker.process.end()


def idle(backend: CeleryBackend, worker_id: str) -> Upkeep:
    """Return the upkeep of a process that holds no claim."""
    return Upkeep(backend, worker_id, Judge(worker_id, holds=lambda _claim: False))


def url_of(broker: str, request: pytest.FixtureRequest) -> str:
    """Return the address of a shared broker."""
    if broker == "rabbit":
        rabbit: RabbitServer = request.getfixturevalue("rabbit_server")
        return rabbit.url
    if broker == "redis":
        redis: RedisServer = request.getfixturevalue("redis_server")
        return f"redis+socket://{redis.socket}"
    return broker


@pytest.fixture(params=["redis", "rabbit"])
def celery_site(request: pytest.FixtureRequest, make_celery_site: Callable[..., CelerySite]) -> CelerySite:
    """A site on each broker."""
    return make_celery_site(request.param)


__all__ = ["CelerySite", "CeleryWorker", "wait_until"]
