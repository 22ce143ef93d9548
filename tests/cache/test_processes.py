"""One computation among processes: real ones, on caches that processes share, with a line in a file for each computation."""

from __future__ import annotations

import sys

import pytest

from tests.services.project import WITH_BACKROOM

SHARED = {
    "file": "django.core.cache.backends.filebased.FileBasedCache",
    "database": "django.core.cache.backends.db.DatabaseCache",
    "redis": "django.core.cache.backends.redis.RedisCache",
    "sqlite": "backroom.cache.backends.sqlite.SQLiteCache",
}
CODE = """
import sys, django
django.setup()
from pathlib import Path
from django.core.cache import cache
from tests.cache.work import slow
cache.get("warm")
print("ready", flush=True)
while not Path("go").exists():
    pass
for _ in range(3):
    print("value", slow(sys.argv[1]), flush=True)
"""


@pytest.mark.parametrize("kind", SHARED)
def test_processes_that_want_the_same_cause_one_computation(kind, make_project, request, tmp_path):
    location = {
        "file": str(tmp_path / "cache"),
        "database": "cache_table",
        "sqlite": str(tmp_path / "cache.sqlite3"),
    }.get(kind) or request.getfixturevalue("redis_server").url
    project = make_project(
        base=WITH_BACKROOM,
        settings=f"CACHES = {{'default': {{'BACKEND': {SHARED[kind]!r}, 'LOCATION': {location!r}}}}}",
    )
    if kind == "database":
        project.run("createcachetable")
    log = project.folder / "computed"
    processes = [project.start(sys.executable, "-c", CODE, str(log)) for _ in range(4)]
    for process in processes:
        process.wait_for_output("ready", seconds=60)
    (project.folder / "go").touch()
    for process in processes:
        assert process.wait(60) == 0, process.output()
    (computer,) = log.read_text().split()
    values = {line for process in processes for line in process.output().splitlines() if line.startswith("value")}
    assert values == {f"value {computer}"}


@pytest.mark.parametrize("kind", ["file"])
def test_who_was_killed_while_computing_holds_nobody_up(kind, make_project, tmp_path):
    """The system gives back a lock of Django's file cache at once; a key in any other cache takes its lease."""
    project = make_project(
        base=WITH_BACKROOM,
        settings=f"CACHES = {{'default': {{'BACKEND': {SHARED[kind]!r}, 'LOCATION': {str(tmp_path / 'cache')!r}}}}}",
    )
    code = (
        "import django, os, signal\ndjango.setup()\nfrom backroom.cache import fetch\n"
        "fetch('k', lambda: os.kill(os.getpid(), signal.SIGKILL))"
    )
    killed = project.start(sys.executable, "-c", code)
    assert killed.wait(60) == -9
    print_it = "from backroom.cache import fetch\nprint(fetch('k', lambda: 'computed', lease=600))"
    assert project.python(print_it) == "computed\n"
