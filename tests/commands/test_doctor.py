import json
import threading
from dataclasses import replace

import pytest
from django.db import connections

from backroom.clock import after
from backroom.sql.dialect import FileState
from backroom.tasks import doctor, queries
from backroom.tasks.doctor import storage, work
from backroom.tasks.records import Worker
from backroom.tasks.stores.base import Request
from backroom.tasks.transports import wakeups
from tests.commands.conftest import DATABASE
from tests.commands.work import succeed

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _short_patience(monkeypatch):
    """What is announced inside a test's transaction is never heard."""
    monkeypatch.setattr(work, "EAR", 0.05)


def findings(subject, *, level=None):
    found = [each for each in doctor.examine("default") if each.subject == subject]
    return found if level is None else [each for each in found if each.level == level]


def finding(subject):
    [found] = findings(subject)
    return found


def beat(backend, id_="w1", *, seen=0.0, queues=(), threads=4, running=0):
    seen_at = after(backend.clock.now(), -seen)
    worker = Worker(id=id_, host="h", pid=1, queues=queues, threads=threads, started_at=seen_at, seen_at=seen_at)
    backend.store.beat([replace(worker, running=running)])


# ── In real projects ────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
def test_a_project_that_works_is_found_well(make_project, database):
    project = make_project(database, settings="DATABASES['default']['CONN_MAX_AGE'] = 60")
    worker = project.manage("backroom", "worker")
    worker.wait_for_output("Ctrl-C stops it")
    while not json.loads(project.run("backroom", "status", "--json").stdout)["backends"][0]["workers"]:
        assert worker.poll() is None
    printed = project.run("backroom", "doctor")
    levels = {line.split()[0] for line in printed.stdout.splitlines() if line and not line.startswith((" ", "TASKS"))}
    assert levels == {"ok"}, printed.stdout
    assert "1 process alive, 0 tasks running" in printed.stdout


def test_behind_a_pool_of_transactions_it_says_that_polling_finds_the_work(make_project):
    project = make_project("pgbouncer")
    [found] = json.loads(project.run("backroom", "doctor", "--json").stdout)["backends"]
    [wakeup] = [each for each in found["findings"] if each["subject"] == "wake-up"]
    assert wakeup["level"] == "warn"
    assert "PgBouncer" in wakeup["text"]
    assert "workers look every 0.1 s" in wakeup["text"]
    assert "past the pool" in wakeup["advice"]


def test_a_server_that_is_away_is_the_last_finding(make_project, own_postgres_server):
    project = make_project("postgres", postgres=own_postgres_server)
    own_postgres_server.stop()
    refused = project.run("backroom", "doctor", check=False)
    assert refused.returncode == 1
    assert refused.stderr == ""
    assert [line.split()[:2] for line in refused.stdout.splitlines() if line.startswith(("ok", "fail", "warn"))] == [
        ["ok", "settings"],
        ["fail", "database"],
    ]
    assert "Start it, or correct DATABASES['default']." in refused.stdout


def test_a_frozen_server_is_given_up_on(make_project, own_postgres_server):
    project = make_project("postgres", postgres=own_postgres_server)
    own_postgres_server.pause()
    try:
        refused = project.run("backroom", "doctor", "--patience", "0.5", check=False)
    finally:
        own_postgres_server.resume()
    assert refused.returncode == 1
    assert "it said nothing for 0 s" in refused.stdout or "it said nothing for 1 s" in refused.stdout


def test_missing_tables_are_the_last_finding(make_project):
    refused = make_project(migrate=False).run("backroom", "doctor", check=False)
    assert refused.returncode == 1
    assert (
        "fail  migrations  Database 'default' lacks 2 migrations of backroom_tasks (0001_initial, 0002_outbox)"
        in refused.stdout
    )
    assert "Run manage.py migrate --database=default" in refused.stdout
    assert "round trip" not in refused.stdout


# ── Settings ────────────────────────────────────────────────────────────────────────────────────


def test_wrong_settings_are_the_only_finding(settings, backroom):
    settings.TASKS = {"default": {"BACKEND": DATABASE, "OPTIONS": {"lease": -1, "poll": "often"}}}
    printed = backroom("doctor")
    assert printed.status == 1
    assert printed.out.count("fail  settings") == 2
    assert "(backroom.E001)" in printed.out
    assert "database" not in printed.out


def test_a_warning_of_the_system_checks_is_one_here(settings):
    settings.TASKS = {"default": {"BACKEND": DATABASE, "OPTIONS": {"lease": 1}}}
    assert "(backroom.W002)" in finding("settings").text
    settings.SILENCED_SYSTEM_CHECKS = ["backroom.W002"]
    assert finding("settings").level == "ok"


def test_debug_is_told_of(backend, settings):
    settings.DEBUG = True
    assert [each.level for each in findings("settings")] == ["ok", "warn"]


# ── The database ────────────────────────────────────────────────────────────────────────────────


def test_a_program_gets_levels_subjects_texts_and_advice(backend, backroom):
    printed = backroom("doctor", "--json")
    [found] = json.loads(printed.out)["backends"]
    assert found["backend"] == "default"
    assert {tuple(each) for each in found["findings"]} == {("level", "subject", "text", "advice")}
    subjects = [each["subject"] for each in found["findings"]]
    assert subjects[:4] == ["settings", "database", "migrations", "round trip"]
    assert printed.status == 0


def test_the_product_and_its_version_are_named(backend, monkeypatch):
    assert finding("database").text.split()[0] in {"SQLite", "PostgreSQL"}
    monkeypatch.setattr("backroom.tasks.checks.is_too_old", lambda _alias: True)
    assert finding("database").level == "fail"


def test_a_slow_round_trip_is_told_of(backend, monkeypatch):
    assert finding("round trip").level == "ok"
    assert "(median of 21, " in finding("round trip").text
    monkeypatch.setattr(storage, "SLOW", 0)
    assert finding("round trip").level == "warn"


SOUND = FileState("wal", 2, 20_000, "IMMEDIATE", False)


@pytest.mark.parametrize(
    ("state", "told"),
    [
        (SOUND, {"file": "ok", "locks": "ok", "durability": "ok"}),
        (SOUND._replace(journal_mode="delete"), {"file": "warn", "locks": "ok", "durability": "ok"}),
        (SOUND._replace(transaction_mode="DEFERRED"), {"file": "ok", "locks": "warn", "durability": "ok"}),
        (SOUND._replace(busy_timeout=1000), {"file": "ok", "locks": "warn", "durability": "ok"}),
        (SOUND._replace(synchronous=1), {"file": "ok", "locks": "ok", "durability": "warn"}),
        (SOUND._replace(synchronous=0), {"file": "ok", "locks": "ok", "durability": "fail"}),
        (SOUND._replace(is_in_memory=True), {"file": "fail"}),
        (None, {}),
    ],
)
def test_how_a_file_is_used_is_told(settings, monkeypatch, state, told):
    settings.TASKS = {"default": {"BACKEND": DATABASE}}
    monkeypatch.setattr(storage, "file_state", lambda _alias: state)
    found = {each.subject: each.level for each in doctor.examine("default")}
    assert {subject: found[subject] for subject in ("file", "locks", "durability") if subject in found} == told


@pytest.mark.parametrize(
    ("ahead", "level", "words"),
    [
        (0, "ok", "server's"),
        (0.5, "ok", "behind"),
        (3, "warn", "behind"),
        (-3, "warn", "ahead of"),
        (40, "fail", "NTP"),
    ],
)
@pytest.mark.parametrize("store_database", ["postgres"], indirect=True)
def test_a_clock_that_is_off_is_told_of(backend, monkeypatch, ahead, level, words):
    monkeypatch.setattr(storage, "server_moment", lambda _alias: after(backend.clock.now(), ahead))
    found = finding("clock")
    assert found.level == level
    assert words in f"{found.text} {found.advice}"


def test_a_file_has_no_clock_of_its_own(settings):
    settings.TASKS = {"default": {"BACKEND": DATABASE}}
    assert findings("clock") == []


@pytest.mark.parametrize(
    ("described", "level", "words"),
    [
        ({"CONN_MAX_AGE": 0, "OPTIONS": {}}, "warn", "CONN_MAX_AGE is 0"),
        ({"CONN_MAX_AGE": 60, "OPTIONS": {}}, "ok", "kept for 60"),
        ({"CONN_MAX_AGE": None, "OPTIONS": {}}, "ok", "kept for ever"),
        ({"OPTIONS": {"pool": True}}, "warn", "max_size of 20 or more"),
        ({"OPTIONS": {"pool": {"min_size": 30}}}, "ok", "at most 30"),
        ({"OPTIONS": {"pool": {"min_size": 2, "max_size": 20}}}, "ok", "at most 20"),
    ],
)
@pytest.mark.parametrize("store_database", ["postgres"], indirect=True)
def test_how_connections_are_kept_is_told(backend, monkeypatch, described, level, words):
    worker = Worker(id="w1", host="h", pid=1, queues=(), threads=16, started_at=0, seen_at=0)
    monkeypatch.setattr(queries, "workers", lambda **_asked: [worker])
    monkeypatch.setattr(connections["postgres"], "settings_dict", connections["postgres"].settings_dict | described)
    [found] = list(storage.connections_kept(backend))
    assert found.level == level
    assert words in f"{found.text} {found.advice}"


# ── Wake-up ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.django_db(transaction=True)
def test_a_ring_is_heard(backend, monkeypatch):
    monkeypatch.setattr(work, "EAR", 5)
    assert finding("wake-up").level == "ok"
    assert "a ring is heard after" in finding("wake-up").text


def test_a_wake_up_that_is_turned_off_is_no_fault(settings):
    settings.TASKS = {"default": {"BACKEND": DATABASE, "OPTIONS": {"notify": False, "poll": 0.5}}}
    assert finding("wake-up") == ("ok", "wake-up", "turned off; workers look every 0.5 s", "")


def test_a_doorbell_whose_folder_others_may_write_to_stays_silent(settings, monkeypatch, tmp_path, caplog):
    settings.TASKS = {"default": {"BACKEND": DATABASE}}
    open_folder = tmp_path / "open"
    open_folder.mkdir()
    open_folder.chmod(0o777)
    bell = wakeups.Doorbell("default", open_folder / "bell")
    monkeypatch.setattr("backroom.tasks.backends.database.wakeup_of", lambda *_args, **_kwargs: bell)
    found = finding("wake-up")
    assert found.level == "warn"
    assert "the doorbell does not ring; nothing is lost: workers look every 0.1 s" in found.text
    assert "does not belong to this user alone" in caplog.text


# ── Workers and what waits ──────────────────────────────────────────────────────────────────────


def test_no_worker_is_a_warning(backend):
    assert finding("workers") == ("warn", "workers", "none has been heard of", "Start one: manage.py backroom worker")


def test_workers_that_are_heard_of_are_counted(backend):
    beat(backend, "w1", running=2)
    beat(backend, "w2", running=1)
    assert finding("workers").text == "2 processes alive, 3 tasks running"


def test_a_silent_worker_is_named(backend):
    beat(backend, "w1")
    beat(backend, "w2", seen=600)
    [found] = findings("workers", level="warn")
    assert found.text == "w2 has been silent for 10 min"


def test_queues_that_nobody_works_on_are_named(backend):
    beat(backend, queues=("mail",))
    succeed.enqueue()
    backend.queues = {"mail", "reports"}
    assert finding("queues").text == "nobody works on default, reports"
    beat(backend, "w2")
    assert findings("queues") == []


def test_a_long_wait_is_told_of(backend, monkeypatch):
    assert finding("backlog").text == "nothing waits"
    succeed.enqueue()
    assert finding("backlog").text.startswith("the longest wait is ")
    monkeypatch.setattr(work, "LONG_WAIT", -1)
    assert finding("backlog").text.startswith("a task in default has been waiting for ")


def test_tasks_of_dead_workers_that_nobody_takes_over_are_told_of(backend):
    succeed.enqueue()
    now = backend.clock.now()
    assert backend.store.claim(Request((), 1, "gone", after(now, -100), after(now, -70)))
    assert finding("backlog").text == "1 task of dead workers lie idle"


def test_nothing_is_changed(backend):
    id_ = succeed.enqueue().id
    before = queries.get(id_)
    doctor.examine("default")
    assert queries.get(id_) == before
    assert queries.workers() == []


def test_a_question_that_takes_too_long_is_given_up():
    answer = threading.Event()
    with pytest.raises(TimeoutError, match="said nothing for 0 s"):
        storage._within(0.05, answer.wait)
    answer.set()
    assert storage._within(5, lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        storage._within(5, lambda: 1 / 0)
