"""The stream of server-sent events: what it tells, when it ends, and what it costs."""

import asyncio
import http.client
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.cookies import SimpleCookie
from typing import Any

import pytest
from django.db import connections
from django.test import AsyncClient

from backroom.offload import events, operations, waiting
from backroom.offload.events import HEARTBEAT_SECONDS, WSGI_SECONDS, WSGI_STREAMS, Teller
from backroom.offload.watch import Watch
from backroom.tasks.records import Cancelled, Record
from backroom.testing import run_tasks
from tests.offload.conftest import Running
from tests.services.project import Project, wait_until

pytestmark = pytest.mark.urls("tests.offload.site")
THREADED: dict[str, Any] = {"wsgi.multithread": True}
EVENTS = {"accept": "text/event-stream"}


def told(chunks: list[str]) -> list[dict[str, Any]]:
    """Return the events of a stream: their fields, with `data` read."""
    found = []
    for block in "".join(chunks).split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if "data" in fields:
            found.append(fields | {"data": json.loads(fields["data"])})
    return found


@pytest.fixture
def url(client, db) -> str:
    return str(client.get("/report/2024/")["Location"]) + "events/"


@pytest.fixture
def on_sleep(monkeypatch) -> Callable[..., list[float]]:
    """Give a function that has each pause of a stream do the next of some steps, on a clock that the pauses move."""
    pauses: list[float] = []

    def steps(*todo: Callable[[], Any]) -> list[float]:
        left = list(todo)

        def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if left:
                left.pop(0)()

        monkeypatch.setattr(waiting, "sleep", sleep)
        monkeypatch.setattr(waiting, "monotonic", lambda: sum(pauses))
        return pauses

    return steps


def read(client, url: str, **headers: str) -> list[str]:
    response = client.get(url, headers=EVENTS | headers, **THREADED)
    assert response.status_code == 200
    # At the end of the stream the client closes the response, as a server does.
    return [chunk.decode() for chunk in response.streaming_content]


# ── What it tells ───────────────────────────────────────────────────────────────────────────────


def test_the_stream_tells_each_change_once_and_ends_with_the_work(client, url, on_sleep):
    running: list[Running] = []
    on_sleep(
        lambda: None,
        lambda: running.append(Running()),
        lambda: running[0].report(1, 4, "a quarter"),
        lambda: None,
        lambda: operations.cancel(operations.status_of(operations.operations().get())),
        lambda: running[0].end(Cancelled()),
    )
    chunks = read(client, url)
    assert chunks[0].startswith("retry: 1500\n: ")
    found = told(chunks)
    assert [each["data"]["state"] for each in found] == ["ready", "running", "running", "cancelling", "cancelled"]
    assert [each["event"] for each in found] == ["status"] * 4 + ["end"]
    assert len({each["id"] for each in found}) == 5
    assert found[2]["data"]["progress"]["percent"] == 25


def test_the_stream_is_neither_cached_nor_collected_on_its_way(client, url, on_sleep):
    on_sleep(run_tasks)
    response = client.get(url, headers=EVENTS, **THREADED)
    assert response["Content-Type"] == "text/event-stream; charset=utf-8"
    assert response["Cache-Control"] == "private, no-store, no-transform"
    assert response["X-Accel-Buffering"] == "no"
    list(response.streaming_content)


def test_who_comes_back_is_not_told_again_what_they_know(client, url, on_sleep):
    on_sleep(run_tasks)
    first = told(read(client, url))
    on_sleep()
    assert told(read(client, url, **{"last-event-id": first[0]["id"]}))[0]["data"]["state"] == "successful"
    over = client.get(url, headers=EVENTS | {"last-event-id": first[-1]["id"]}, **THREADED)
    assert (over.status_code, over.content) == (204, b"")


def test_silence_is_broken_by_a_heartbeat(client, url):
    status = operations.status_of(operations.operations().get())
    teller = Teller("", now=0)
    assert teller.tell(status, now=0)
    assert teller.tell(status, now=HEARTBEAT_SECONDS - 1) == ""
    assert teller.tell(status, now=HEARTBEAT_SECONDS).startswith(":")
    assert teller.tell(status, now=HEARTBEAT_SECONDS + 1) == ""


# ── What it costs ───────────────────────────────────────────────────────────────────────────────


def test_a_stream_under_wsgi_gives_its_thread_back_soon(client, url, on_sleep):
    pauses = on_sleep()
    chunks = read(client, url)
    assert WSGI_SECONDS <= sum(pauses) < WSGI_SECONDS + 1
    assert len(told(chunks)) == 1
    assert any(chunk.startswith(": still") for chunk in chunks)


def test_only_so_many_threads_of_a_wsgi_process_stream(client, url, on_sleep):
    on_sleep()
    streams = [client.get(url, headers=EVENTS, **THREADED) for _ in range(WSGI_STREAMS + 1)]
    assert [stream.status_code for stream in streams] == [200] * WSGI_STREAMS + [204]
    for stream in streams[:WSGI_STREAMS]:
        list(stream.streaming_content)
    assert events._places._value == WSGI_STREAMS
    read(client, url)


def test_a_server_with_one_thread_streams_nothing(client, url):
    assert client.get(url, headers=EVENTS, **{"wsgi.multithread": False}).status_code == 204


@pytest.mark.django_db(transaction=True)
def test_no_connection_is_held_between_two_looks(client, on_sleep):
    url = client.get("/report/2024/")["Location"] + "events/"
    held = []
    on_sleep(*[lambda: held.append(connections["default"].connection)] * 3, run_tasks)
    read(client, url)
    assert held == [None, None, None]


def test_however_many_follow_the_store_is_asked_once_a_tick():
    looks: list[list[str]] = []

    def look(_using: str, ids: Any) -> dict[str, Record]:
        looks.append(sorted(ids))
        return {}

    async def follow() -> list[Any]:
        watch = Watch(look, pause=0)
        return await asyncio.gather(*(watch.next("default", str(number % 3)) for number in range(300)))

    assert asyncio.run(follow()) == [None] * 300
    assert looks == [["0", "1", "2"]]


def test_a_store_that_fails_ends_the_streams_and_not_the_watch():
    fails = [True]

    def look(_using: str, _ids: Any) -> dict[str, Record]:
        if fails.pop() if fails else False:
            raise OSError("the store is away")
        return {}

    async def follow() -> Any:
        watch = Watch(look, pause=0)
        with pytest.raises(OSError, match="away"):
            await watch.next("default", "1")
        return await watch.next("default", "1")

    assert asyncio.run(follow()) is None


def test_who_goes_away_is_forgotten():
    async def follow() -> None:
        watch = Watch(lambda _using, _ids: {}, pause=0)
        going = asyncio.create_task(watch.next("default", "1"))
        staying = asyncio.create_task(watch.next("default", "1"))
        await asyncio.sleep(0)
        going.cancel()
        assert await staying is None
        assert going.cancelled()
        assert watch._waiting == {}

    asyncio.run(follow())


# ── Real servers ────────────────────────────────────────────────────────────────────────────────


@pytest.mark.django_db(transaction=True)
def test_under_asgi_the_stream_is_an_async_one(monkeypatch):
    monkeypatch.setattr("backroom.offload.watch.PAUSE", 0)

    async def follow() -> list[dict[str, Any]]:
        client = AsyncClient()
        accepted = await client.get("/report/2024/")
        response = await client.get(f"{accepted['Location']}events/", headers=EVENTS)
        chunks = []
        async for chunk in response.streaming_content:  # type: ignore[attr-defined]
            chunks.append(chunk.decode())
            if len(chunks) == 1:
                await asyncio.to_thread(_run_tasks_elsewhere)
        return told(chunks)

    found = asyncio.run(follow())
    assert [each["data"]["state"] for each in (found[0], found[-1])] == ["ready", "successful"]
    assert found[-1]["event"] == "end"


TASKS = """
from django.tasks import task

@task(takes_context=True)
def gated(context, fifo):
    context.progress(1, 4, "a quarter")
    open(fifo).read()
    return {"passed": True}
"""
VIEWS = """
from backroom.offload import offload
from shop.tasks import gated

@offload(gated, wait=0)
def view(request):
    return {{"fifo": {fifo!r}}}
"""
SITE_URLS = """
from django.urls import include, path
from shop.views import view

urlpatterns = [path("operations/", include("backroom.offload.urls")), path("gated/", view)]
"""
SERVERS = {
    "asgi": ["-m", "uvicorn", "mysite.asgi:application", "--port"],
    "wsgi": ["manage.py", "runserver", "--noreload"],
}


@pytest.mark.parametrize("server", SERVERS)
def test_a_real_server_sends_each_event_as_it_happens(make_project, server):
    project = _site(make_project)
    port = _serve(project, SERVERS[server])
    project.manage("backroom", "worker")
    links, cookie = _ordered(port)
    with _streamed(port, links["events"], cookie) as stream:
        assert (stream.status, stream.getheader("Content-Type")) == (200, "text/event-stream; charset=utf-8")
        found = _live_events(stream)
        # The work is held up until this side has been told of its progress: an answer kept back would never end.
        running = next(each for each in found if each["data"]["progress"])
        assert running["data"]["progress"]["percent"] == 25
        (project.folder / "gate").write_text("go")
        assert next(each for each in found if each["event"] == "end")["data"]["state"] == "successful"
        assert stream.read() == b""


def _ordered(port: int) -> tuple[dict[str, str], str]:
    """Order the work, and return its links and the cookie of who may follow it."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", "/gated/")
        accepted = connection.getresponse()
        cookies = SimpleCookie(accepted.getheader("Set-Cookie"))
        return json.loads(accepted.read())["links"], cookies["sessionid"].OutputString([])


@contextmanager
def _streamed(port: int, path: str, cookie: str) -> Iterator[http.client.HTTPResponse]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request("GET", path, headers={"Cookie": cookie, "Accept": "text/event-stream"})
        with closing(connection.getresponse()) as response:
            yield response


def _site(make_project: Callable[..., Project]) -> Project:
    project = make_project()
    os.mkfifo(project.folder / "gate")
    project.write("shop/__init__.py", "")
    project.write("shop/tasks.py", TASKS)
    project.write("shop/views.py", VIEWS.format(fifo=str(project.folder / "gate")))
    project.write("mysite/urls.py", SITE_URLS)
    project.write(
        "mysite/asgi.py", "from django.core.asgi import get_asgi_application\napplication = get_asgi_application()\n"
    )
    return project


def _serve(project: Project, command: list[str]) -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
    server = project.start(sys.executable, *command, str(port))

    def answers() -> bool:
        with socket.socket() as tried:
            return tried.connect_ex(("127.0.0.1", port)) == 0

    wait_until(answers, what=lambda: f"the server:\n{server.output()}", give_up=lambda: server.poll() is not None)
    return port


def _live_events(stream: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    block: list[str] = []
    while line := stream.readline().decode():
        block.append(line)
        if line == "\n":
            yield from told(["".join(block)])
            block = []


def _run_tasks_elsewhere() -> None:
    try:
        run_tasks()
    finally:
        connections.close_all()
