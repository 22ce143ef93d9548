"""The servers, projects and browser that the other tests stand on."""

import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import psutil
import pytest
from django.db import connections

from tests.services.project import REPOSITORY, Project, wait_until
from tests.services.servers import (
    MissingService,
    PgBouncer,
    PostgresServer,
    RabbitServer,
    RedisServer,
    answers,
    find_program,
    listens,
)

on_every_database = pytest.mark.parametrize("store_database", ["default", "postgres", "pgbouncer"], indirect=True)


@on_every_database
def test_a_test_reaches_the_database_it_asked_for(store_database):
    with connections[store_database].cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)


@pytest.mark.django_db
def test_the_sqlite_database_is_a_file_with_a_write_ahead_log():
    with connections["default"].cursor() as cursor:
        cursor.execute("PRAGMA journal_mode")
        assert cursor.fetchone() == ("wal",)
    assert Path(connections["default"].settings_dict["NAME"]).is_file()


def test_postgresql_answers_through_pgbouncer(pgbouncer_server: PgBouncer):
    assert pgbouncer_server.sql("SELECT 1") == [(1,)]


def test_pgbouncer_pools_transactions(pgbouncer_server: PgBouncer):
    config = dict(row[:2] for row in pgbouncer_server.sql("SHOW CONFIG", database="pgbouncer"))
    assert config["pool_mode"] == "transaction"


def test_postgresql_keeps_fsync_on(postgres_server: PostgresServer):
    assert postgres_server.sql("SHOW fsync") == [("on",)]


def test_what_was_committed_survives_a_killed_postgresql(own_postgres_server: PostgresServer):
    own_postgres_server.sql("CREATE TABLE kept (word text)")
    own_postgres_server.sql("INSERT INTO kept VALUES (%s)", ("still here",))
    own_postgres_server.kill()
    assert not own_postgres_server.is_running
    own_postgres_server.start()
    assert own_postgres_server.sql("SELECT word FROM kept") == [("still here",)]


def test_redis_answers_and_survives_a_kill(own_redis_server: RedisServer):
    own_redis_server.kill()
    assert not answers(own_redis_server.socket, say=b"PING\r\n", expect=b"+PONG")
    own_redis_server.start()
    assert answers(own_redis_server.socket, say=b"PING\r\n", expect=b"+PONG")


def test_a_paused_redis_is_silent_until_it_is_resumed(own_redis_server: RedisServer):
    own_redis_server.pause()
    assert not answers(own_redis_server.socket, say=b"PING\r\n", expect=b"+PONG")
    own_redis_server.resume()
    wait_until(lambda: answers(own_redis_server.socket, say=b"PING\r\n", expect=b"+PONG"))


def test_rabbitmq_ends_with_all_that_it_started(own_folder: Path):
    server = RabbitServer(own_folder / "rabbit")
    server.start()
    assert server.process
    started = [
        server.process.pid,
        *(child.pid for child in psutil.Process(server.process.pid).children(recursive=True)),
    ]
    ports = [server.port, server._epmd.port]
    assert all(listens(port) for port in ports)
    server.kill()
    wait_until(lambda: not any(_is_alive(pid) for pid in started), what="the end of its processes")
    assert not any(listens(port) for port in ports)


def test_a_missing_program_is_an_error_that_names_the_package():
    with pytest.raises(MissingService, match="package memcached"):
        find_program("no-such-program", service="Memcached", package="memcached")


def test_servers_end_with_the_process_that_started_them(tmp_path: Path):
    started = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent(
                f"""
                import signal, pathlib
                from tests.services.servers import RedisServer
                server = RedisServer(pathlib.Path({str(tmp_path / "redis")!r}))
                server.start()
                print(server.process.pid, flush=True)
                signal.pause()
                """
            ),
        ],
        stdout=subprocess.PIPE,
        cwd=REPOSITORY,
        text=True,
    )
    with started:
        assert started.stdout
        pid = int(started.stdout.readline())
        started.send_signal(signal.SIGKILL)
    wait_until(lambda: not _is_alive(pid), what=f"the end of process {pid}")


@pytest.mark.parametrize("database", ["sqlite", "postgres", "pgbouncer"])
def test_a_project_has_a_migrated_database_of_its_own(make_project, database):
    project: Project = make_project(database)
    project.python(
        """
from django.contrib.auth.models import User
User.objects.create(username="visitor")
"""
    )
    assert project.query("SELECT username FROM auth_user") == [("visitor",)]


def test_code_runs_in_a_process_of_its_own(make_project):
    project = make_project(migrate=False)
    project.write("own.py", "WORD = 'written'")
    code = (
        "import atexit, os, threading, own\n"
        "said = threading.Event()\n"
        "threading.Thread(target=lambda: (said.wait(), print('a thread ends', flush=True))).start()\n"
        "atexit.register(print, 'and all of it')\n"
        "print(os.getpid(), own.WORD, os.environ['DJANGO_SETTINGS_MODULE'], os.getcwd(), flush=True)\n"
        "said.set()\n"
        "own.WORD = 'of one process'"
    )
    first, second = (project.python(code).splitlines() for _ in range(2))
    assert first[0].split()[0] != second[0].split()[0]
    assert first[0].split()[1:] == second[0].split()[1:] == ["written", "mysite.settings", str(project.folder)]
    assert first[1:] == ["a thread ends", "and all of it"]


def test_code_that_fails_or_does_not_end_is_told_and_harms_nobody(make_project):
    project = make_project(migrate=False)
    with pytest.raises(AssertionError, match=r"(?s)ended with 1.*no such luck"):
        project.python("raise ValueError('no such luck')")
    with pytest.raises(AssertionError, match="ended with -9"):
        project.python("import os; os.kill(os.getpid(), 9)")
    with pytest.raises(subprocess.TimeoutExpired):
        project.python("import threading; print('begun'); threading.Event().wait()", seconds=1)
    assert project.python("print('the next')") == "the next\n"


def test_a_projects_processes_end_with_it(make_project):
    project: Project = make_project(migrate=False)
    process = project.start("bash", "-c", "sleep 600 & echo child $!; wait")
    process.wait_for_output("child")
    child = int(process.output().split()[-1])
    project.close()
    wait_until(lambda: not _is_alive(child), what=f"the end of process {child}")


def test_ctrl_c_reaches_a_process_even_if_the_tests_ignore_it(make_project):
    project: Project = make_project(migrate=False)
    ignored = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        process = project.start("sleep", "600")
        process.interrupt()
        assert process.wait(60) == -signal.SIGINT
    finally:
        signal.signal(signal.SIGINT, ignored)


PAGE = """<!doctype html><html lang="en"><head><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>body {{ background: white }}
@media (prefers-color-scheme: dark) {{ body {{ background: black }} }}</style></head>
<body><h1>A page</h1><p id="said"></p><noscript>No script ran</noscript>
<script>document.getElementById("said").textContent = "A script ran";</script></body></html>"""


@pytest.fixture
def page(tmp_path: Path) -> str:
    file = tmp_path / "page.html"
    file.write_text(PAGE.format(title="Rendered by Chromium"))
    return file.as_uri()


def test_chromium_renders_a_page(browser, page, tmp_path):
    browser.goto(page)
    assert browser.title == "Rendered by Chromium"
    browser.wait_for_text("A script ran")
    assert "No script ran" not in browser.text
    assert browser.errors() == []
    png = browser.screenshot(tmp_path / "page.png").read_bytes()
    assert png.startswith(b"\x89PNG")


def test_chromium_can_have_javascript_off(open_browser, page):
    browser = open_browser(javascript=False)
    browser.goto(page)
    assert "No script ran" in browser.text
    assert "A script ran" not in browser.text


def test_chromium_can_be_a_phone_in_the_dark(open_browser, page):
    browser = open_browser(width=390, height=844, color_scheme="dark")
    browser.goto(page)
    assert browser.script("return [innerWidth, innerHeight]") == [390, 844]
    assert browser.script("return getComputedStyle(document.body).backgroundColor") == "rgb(0, 0, 0)"


def _is_alive(pid: int) -> bool:
    """Return whether the process is there and not a zombie that waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
