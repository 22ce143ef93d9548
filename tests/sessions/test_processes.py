"""Real processes that write to one session at once, as the workers of a web server do."""

from __future__ import annotations

import json
import sys

import pytest

from tests.sessions.conftest import ENGINES

ADDED = """
INSTALLED_APPS += ["backroom.sessions"] * ("backroom.sessions" not in INSTALLED_APPS)
SESSION_ENGINE = {engine!r}
BACKROOM = {{"REDIS_URL": {url!r}}}
"""
BEGIN = """
from importlib import import_module
from django.conf import settings
SessionStore = import_module(settings.SESSION_ENGINE).SessionStore
"""
WRITE = """
import django
django.setup()
import sys
{begin}
key, name = sys.argv[1:]
for turn in range(25):
    session = SessionStore(key)
    session.get("start")
    session[f"{{name}}-{{turn}}"] = turn
    session["last"] = name
    session.save()
"""
FLUSH = """
import django
django.setup()
import itertools
import sys
{begin}
key = sys.argv[1]
from django.contrib.sessions.backends.base import UpdateError
for turn in itertools.count():
    session = SessionStore(key)
    if turn == 5:
        print("at work", flush=True)
    session["turn"] = turn
    try:
        session.save()
    except UpdateError:
        print("interrupted", flush=True)
        break
    if session.session_key != key:
        # It was gone before it was loaded: this is a session of its own.
        break
"""


@pytest.fixture(params=ENGINES)
def project(request, make_project):
    url = request.getfixturevalue("redis_server").url if request.param == "redis" else ""
    database = "postgres" if request.param == "postgres" else "sqlite"
    return make_project(database, settings=ADDED.format(engine=ENGINES[request.param], url=url))


def test_processes_that_write_at_once_lose_nothing(project):
    key = project.python(
        BEGIN + 'session = SessionStore()\nsession["start"] = 1\nsession.save()\nprint(session.session_key)'
    ).strip()
    project.write("write.py", WRITE.format(begin=BEGIN))
    writers = [project.start(sys.executable, "write.py", key, str(number)) for number in range(3)]
    for writer in writers:
        assert writer.wait(60) == 0, writer.output()
    stored = json.loads(project.python(BEGIN + f"import json\nprint(json.dumps(dict(SessionStore({key!r}).items())))"))
    assert stored.pop("last") in {"0", "1", "2"}
    assert stored == {"start": 1, **{f"{name}-{turn}": turn for name in range(3) for turn in range(25)}}


def test_a_session_that_another_process_flushes_stays_gone(project):
    key = project.python(
        BEGIN + 'session = SessionStore()\nsession["start"] = 1\nsession.save()\nprint(session.session_key)'
    ).strip()
    project.write("late.py", FLUSH.format(begin=BEGIN))
    late = project.start(sys.executable, "late.py", key)
    late.wait_for_output("at work")
    project.python(BEGIN + f"session = SessionStore({key!r})\nsession.load()\nsession.flush()")
    assert late.wait(60) == 0, late.output()
    assert project.python(BEGIN + f"print(SessionStore().exists({key!r}))").strip() == "False"
