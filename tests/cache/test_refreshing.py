"""Stale values computed anew elsewhere: through the task queue of the project, in a thread, or not at all."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest
from django.core.cache import BaseCache, caches
from django.core.cache.backends.locmem import LocMemCache
from django.core.handlers.wsgi import WSGIRequest
from django.tasks import task_backends
from django.test import Client, override_settings
from django.utils import timezone, translation

from backroom.cache import depend_on, fetch, refreshing
from backroom.cache.dependencies import collecting
from backroom.cache.pages import renewing, revisiting
from backroom.cache.refreshing import way
from backroom.testing import run_tasks
from tests.cache import site, work

pytestmark = pytest.mark.django_db

DATABASE = {"default": {"BACKEND": "backroom.tasks.backends.database.DatabaseBackend"}}
IMMEDIATE = [
    f"{where}.ImmediateBackend" for where in ("django.tasks.backends.immediate", "backroom.tasks.backends.immediate")
]
DUMMY = [f"{where}.DummyBackend" for where in ("django.tasks.backends.dummy", "backroom.tasks.backends.dummy")]


@pytest.fixture(autouse=True)
def nothing_made(tmp_path):
    """Have a cache that a worker would share; the clock that stands still is the one that this one reads, too."""
    work.made.clear()
    site.made.clear()
    with override_settings(CACHES={"default": {"BACKEND": "tests.cache.test_refreshing.Shared"}}):
        yield
        caches["default"].clear()


class Shared(BaseCache):
    """Memory that says nothing of being this process's alone."""

    def __init__(self, _location, params):
        super().__init__(params)
        self.inner = LocMemCache("shared", params)

    def __getattribute__(self, name):
        if name in {"get", "set", "add", "delete", "touch", "get_many", "set_many", "incr", "clear"}:
            return getattr(super().__getattribute__("inner"), name)
        return super().__getattribute__(name)


@pytest.mark.parametrize("backend", [*IMMEDIATE, *DUMMY])
def test_where_no_worker_runs_a_thread_computes(backend):
    with override_settings(TASKS={"default": {"BACKEND": backend}}):
        assert way() == "threads"


@override_settings(TASKS=DATABASE)
def test_where_workers_run_they_compute_unless_the_project_says_otherwise():
    assert way() == "tasks"
    with override_settings(BACKROOM={"CACHE_REFRESH": "requests"}):
        assert way() == "requests"


@override_settings(TASKS=DATABASE, CACHES={"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}})
def test_what_is_kept_in_this_process_is_computed_in_this_process(clock):
    work.price("tea")
    clock.go_on(11)
    assert work.price("tea") == "tea×1 1"
    for thread in threading.enumerate():
        if thread.name == "backroom-cache":
            thread.join(20)
    assert run_tasks() == []
    assert work.price("tea") == "tea×1 2"
    caches["default"].clear()


@override_settings(TASKS=DATABASE)
def test_a_stale_value_is_computed_anew_by_one_task(clock):
    assert work.price("tea", amount=2) == "tea×2 1"
    clock.go_on(11)
    assert [work.price("tea", amount=2) for _ in range(5)] == ["tea×2 1"] * 5
    assert len(run_tasks()) == 1
    assert work.price("tea", amount=2) == "tea×2 2"
    assert work.made == ["tea", "tea"]
    # A page that is renewed all day leaves no record each time.
    backend: Any = task_backends["default"]
    assert backend.store.prune(backend.clock.now(), 10) == 1


@override_settings(TASKS=DATABASE)
def test_a_coroutine_function_is_computed_anew_by_a_task(clock):
    from asgiref.sync import async_to_sync

    ask: Any = async_to_sync(work.aprice)
    assert ask("tea") == "tea 1"
    clock.go_on(11)
    assert ask("tea") == "tea 1"
    run_tasks()
    assert ask("tea") == "tea 2"


@override_settings(TASKS=DATABASE)
def test_a_task_that_comes_late_computes_nothing(clock):
    work.price("tea")
    clock.go_on(11)
    work.price("tea")
    work.price.refresh("tea")
    run_tasks()
    assert work.made == ["tea", "tea"]


@override_settings(TASKS=DATABASE)
def test_a_task_of_a_function_that_is_gone_does_nothing():
    from backroom.cache.functions import refresh_call

    refresh_call("tests.cache.work:gone", [["list"], ["dict"]], "key")
    refresh_call("tests.cache.nowhere:gone", [["list"], ["dict"]], "key")


@override_settings(TASKS=DATABASE)
def test_without_a_worker_the_value_is_asked_for_again_and_computed_in_the_end(clock):
    work.price("tea")
    clock.go_on(11)
    work.price("tea")
    clock.go_on(31)
    work.price("tea")
    clock.go_on(601)
    assert work.price("tea") == "tea×1 2"
    assert len(run_tasks()) == 2
    assert work.made == ["tea", "tea"]


@pytest.mark.parametrize(
    "told",
    [
        {"TASKS": {"default": {**DATABASE["default"], "QUEUES": ["mail"]}}},
        {"TASKS": DATABASE, "BACKROOM": {"CACHE_REFRESH_BACKEND": "nowhere"}},
    ],
)
def test_a_queue_that_takes_no_task_or_does_not_exist_leaves_it_to_the_caller(clock, caplog, told):
    with override_settings(**told):
        work.price("tea")
        clock.go_on(11)
        assert work.price("tea") == "tea×1 2"
        assert "action=refresh-not-enqueued" in caplog.text


@override_settings(BACKROOM={"CACHE_REFRESH": "threads"})
def test_a_thread_that_fails_says_so_and_the_value_stays(clock, caplog):
    answers = iter(["old"])
    assert fetch("failing", lambda: next(answers), 10, stale=600) == "old"
    clock.go_on(11)
    assert fetch("failing", lambda: next(answers), 10, stale=600) == "old"
    for thread in threading.enumerate():
        if thread.name == "backroom-cache":
            thread.join(20)
    assert "action=refresh-failed" in caplog.text


@pytest.mark.urls("tests.cache.site")
@override_settings(TASKS=DATABASE)
def test_a_page_made_anew_is_nobodys_who_sits_at_this_machine(clock):
    client = Client(REMOTE_ADDR="203.0.113.9")
    assert client.get("/stale/address/").content == b"for 203.0.113.9 1"
    clock.go_on(301)
    client.get("/stale/address/")
    run_tasks()
    assert client.get("/stale/address/").content == b"for 192.0.2.1 2"


def test_a_child_has_threads_of_its_own_to_refresh_with():
    taken = [refreshing._free.acquire(blocking=False) for _ in range(refreshing.THREADS)]
    child = os.fork()
    if child == 0:
        done = threading.Event()
        try:
            refreshing._in_thread(done.set)
            os._exit(0 if done.wait(10) else 1)
        except BaseException:  # noqa: BLE001 - pytest must not go on in here
            os._exit(2)
    status = os.waitpid(child, 0)[1]
    for _ in filter(None, taken):
        refreshing._free.release()
    assert status == 0


@pytest.mark.urls("tests.cache.site")
@override_settings(TASKS=DATABASE)
def test_a_stale_page_is_made_anew_by_a_task_that_knows_nothing_of_its_visitor(clock):
    client = Client()
    client.cookies.load({"secret": "of the visitor"})
    assert client.get("/stale/?page=2").content == b"plain 1"
    clock.go_on(301)
    assert [client.get("/stale/?page=2").content for _ in range(3)] == [b"plain 1"] * 3
    from backroom.tasks.models import TaskRecord

    (record,) = TaskRecord.objects.all()
    assert "of the visitor" not in str(vars(record))
    run_tasks()
    assert client.get("/stale/?page=2").content == b"plain 2"
    assert task_backends["default"] is not None


@pytest.mark.urls("tests.cache.site")
@override_settings(TASKS=DATABASE)
def test_a_header_that_may_be_a_secret_is_in_no_task(clock):
    site.answers.clear()
    site.answers["headers"] = {"Vary": "X-Api-Key, Accept"}
    client = Client(headers={"X-Api-Key": "of the visitor"})
    assert client.get("/stale/headers/").content == b"headers 1"
    clock.go_on(301)
    # One visitor makes it instead.
    assert client.get("/stale/headers/").content == b"headers 2"
    assert run_tasks() == []


@pytest.mark.urls("tests.cache.site")
@override_settings(TASKS=DATABASE)
def test_a_header_that_is_no_secret_finds_the_same_page_again(clock):
    site.answers.clear()
    site.answers["headers"] = {"Vary": "User-Agent, Accept"}
    client = Client(headers={"User-Agent": "one", "Accept": "text/html"})
    assert client.get("/stale/headers/").content == b"headers 1"
    clock.go_on(301)
    assert client.get("/stale/headers/").content == b"headers 1"
    run_tasks()
    assert client.get("/stale/headers/").content == b"headers 2"


@pytest.mark.urls("tests.cache.site")
@pytest.mark.parametrize("cookies", [{"django_language": "de"}, {}])
def test_a_page_is_made_anew_in_its_own_language(clock, cookies):
    order = ["django.middleware.locale.LocaleMiddleware"]
    with override_settings(TASKS=DATABASE, MIDDLEWARE=order, LANGUAGES=[("en", "English"), ("de", "German")]):
        revisiting._handler.cache_clear()
        client = Client(headers={"Accept-Language": "en" if cookies else "de"})
        client.cookies.load(cookies)
        assert client.get("/stale/language/").content == b"de 1"
        clock.go_on(301)
        client.get("/stale/language/")
        assert len(run_tasks()) == 1
        assert client.get("/stale/language/").content == b"de 2"
    revisiting._handler.cache_clear()


@pytest.mark.urls("tests.cache.site")
@override_settings(TASKS=DATABASE)
def test_a_page_that_fails_to_be_made_anew_stays_and_no_task_fails(clock):
    client = Client()
    assert client.get("/stale/while/failing/").content == b"once up"
    for number in (2, 3):
        clock.go_on(200)
        assert client.get("/stale/while/failing/").content == b"once up"
        run_tasks()
        assert site.made["failing"] == (1 if number == 2 else 2)
        assert client.get("/stale/while/failing/").content == b"once up"


@pytest.mark.urls("tests.cache.site")
@override_settings(TASKS=DATABASE)
def test_what_a_page_that_is_made_anew_has_opened_is_closed(clock):
    client = Client()
    client.get("/stale/closing/")
    clock.go_on(301)
    client.get("/stale/closing/")
    assert site.made["closed"] == 1
    run_tasks()
    assert (site.made["closing"], site.made["closed"]) == (2, 2)


@pytest.mark.urls("tests.cache.site")
@override_settings(TASKS=DATABASE, USE_TZ=True)
def test_a_page_in_a_visitors_time_zone_is_made_anew_by_a_visitor(clock):
    with timezone.override("Asia/Tokyo"):
        assert Client().get("/stale/").content == b"plain 1"
        clock.go_on(301)
        assert Client().get("/stale/").content == b"plain 2"
    assert run_tasks() == []


@pytest.mark.parametrize("host", ["testserver", "testserver:8000", "[::1]", "[::1]:8000"])
@pytest.mark.parametrize("is_secure", [True, False])
def test_a_visit_that_is_made_up_comes_to_the_same_address(rf, settings, host, is_secure):
    settings.ALLOWED_HOSTS = ["testserver", "[::1]"]
    visited = rf.get(
        "/caf%C3%A9/?a=1&utm_source=x", HTTP_HOST=host, secure=is_secure, SCRIPT_NAME="/shop", HTTP_ACCEPT="text/html"
    )
    visited.LANGUAGE_CODE = "de"
    request: Any = WSGIRequest(revisiting._environ(renewing.address_of(visited, ["accept", "origin"])))
    assert request.build_absolute_uri() == visited.build_absolute_uri()
    assert request.path == visited.path == "/shop/café/"
    assert request.get_port() == ("8000" if host.endswith("8000") else "443" if is_secure else "80")
    assert dict(request.headers) == {"Host": host, "Accept": "text/html", "Accept-Language": "de"}
    assert (request.method, request.read(), request.META["REMOTE_ADDR"]) == ("GET", b"", revisiting.NOBODY)


@override_settings(BACKROOM={"CACHE_REFRESH": "threads"})
def test_a_thread_that_cannot_begin_leaves_it_to_the_caller_each_time(clock, monkeypatch):
    def start(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    for number in range(refreshing.THREADS + 2):
        assert work.price("tea") == f"tea×1 {number + 1}"
        clock.go_on(11)


@override_settings(BACKROOM={"CACHE_REFRESH": "threads"})
def test_no_more_threads_than_there_may_be_are_begun(clock):
    go_on, begun = threading.Event(), []

    def compute():
        begun.append(1)
        assert go_on.wait(30)
        return "new"

    keys = [f"k{number}" for number in range(refreshing.THREADS + 2)]
    for key in keys:
        assert fetch(key, lambda: "old", 10, stale=600) == "old"
    clock.go_on(11)
    assert [fetch(key, compute, 10, stale=600) for key in keys] == ["old"] * len(keys)
    go_on.set()
    for thread in threading.enumerate():
        if thread.name == "backroom-cache":
            thread.join(20)
    assert len(begun) == refreshing.THREADS


def test_what_a_thread_depends_on_is_no_dependency_of_the_request_that_began_it():
    done = threading.Event()

    def refresh():
        depend_on("prices")
        done.set()

    with collecting() as found:
        depend_on("news")
        assert refreshing._in_thread(refresh)
        assert done.wait(30)
    assert found.tags == {"news"}


@override_settings(BACKROOM={"CACHE_REFRESH": "threads"})
def test_a_thread_computes_in_the_language_and_time_zone_of_its_caller(clock):
    def around():
        return [translation.get_language(), timezone.get_current_timezone_name()]

    with translation.override("de"), timezone.override("Asia/Tokyo"):
        assert fetch("k", around, 10, stale=600) == ["de", "Asia/Tokyo"]
        clock.go_on(11)
        fetch("k", around, 10, stale=600)
    for thread in threading.enumerate():
        if thread.name == "backroom-cache":
            thread.join(20)
    assert fetch("k", around, 10, stale=600) == ["de", "Asia/Tokyo"]
