"""The example site on each store: the same orders, on servers that come and go with the demo."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from django.core.management import CommandError

from frontdesk import stores
from frontdesk.children import Child, Restarts
from reports.management.commands import demo
from tests.examples.frontdesk import Frontdesk, Visitor
from tests.examples.test_frontdesk import CITIES, SLOW
from tests.services.project import wait_until

BESIDE_SQLITE = pytest.mark.parametrize("store", ["redis", "celery"])


@pytest.fixture
def site_on(tmp_path: Path, store: str) -> Iterator[Frontdesk]:
    site = Frontdesk(tmp_path, store)
    yield site
    site.stop()


@BESIDE_SQLITE
def test_an_order_is_done_on_each_store_and_all_of_it_ends(site_on: Frontdesk, store: str):
    process = site_on.start()
    visitor = Visitor(site_on)
    location = visitor.order(CITIES, name="cities.csv").headers["Location"]
    assert visitor.finished(location)["state"] == "successful"
    assert "Where they are" in visitor.get(f"{location}result/").text
    assert "cities.csv" in visitor.get("/").text
    folder = stores.socket_of(site_on.state).parent
    assert folder.stat().st_mode & 0o077 == 0
    everything = site_on.processes()
    assert any("redis-server" in " ".join(each.cmdline()) for each in everything)
    process.interrupt()
    assert process.wait(60) == 0, process.output()
    assert psutil.wait_procs(everything, timeout=60)[1] == []
    assert not folder.exists()
    # What was ordered is still there the next time.
    site_on.start()
    assert "Where they are" in visitor.get(f"{location}result/").text


@pytest.mark.parametrize("store", ["celery"])
def test_a_report_that_is_being_made_when_the_demo_ends_starts_over(site_on: Frontdesk, store: str):
    process = site_on.start()
    visitor = Visitor(site_on)
    location = visitor.order(SLOW).headers["Location"]
    wait_until(lambda: visitor.status(location)["state"] == "running", what="the work to start")
    process.interrupt()
    assert process.wait(60) == 0, process.output()
    site_on.start()
    assert visitor.finished(location)["state"] == "successful"


@BESIDE_SQLITE
def test_all_of_it_ends_with_a_demo_that_was_killed(site_on: Frontdesk, store: str):
    process = site_on.start()
    wait_until(lambda: len(site_on.workers()) >= 2, what="the worker's processes")
    everything = site_on.processes()
    process.kill()
    assert psutil.wait_procs(everything, timeout=60)[1] == []
    # The folder of its socket is left, and the next start takes it over.
    assert site_on.start().poll() is None


@pytest.mark.parametrize("store", ["celery"])
def test_a_celery_worker_that_was_killed_is_started_again(site_on: Frontdesk, store: str):
    process = site_on.start()
    wait_until(lambda: len(site_on.workers()) >= 2, what="the worker's processes")
    site_on.supervisor().kill()
    process.wait_for_output("is started again")
    visitor = Visitor(site_on)
    assert visitor.finished(visitor.order(CITIES).headers["Location"])["state"] == "successful"


@pytest.mark.parametrize("store", ["redis"])
def test_a_second_demo_leaves_the_server_of_the_first_alone(site_on: Frontdesk, tmp_path: Path, store: str):
    site_on.start()
    socket = stores.socket_of(site_on.state)
    second = Frontdesk(tmp_path, store)
    refused = second.manage("demo", log=tmp_path / "second.log")
    assert refused.wait(60) == 1
    assert "Another demo runs here" in refused.output()
    visitor = Visitor(site_on)
    assert visitor.finished(visitor.order(CITIES).headers["Location"])["state"] == "successful"
    assert socket.exists()


@BESIDE_SQLITE
def test_a_missing_server_is_named_with_its_package(tmp_path: Path, store: str):
    site = Frontdesk(tmp_path, store)
    process = site.manage("demo", log=site.log, PATH="/nowhere")
    assert process.wait(60) == 1
    assert "apt-get install redis-server" in process.output()


def test_a_store_that_there_is_not_is_told(tmp_path: Path):
    site = Frontdesk(tmp_path, "cassette")
    process = site.manage("demo", log=site.log)
    assert process.wait(60) == 1
    assert "STORE is 'cassette'. Use one of sqlite, redis, celery" in process.output()


@pytest.mark.parametrize("word", ["web", "99999", "0"])
def test_a_port_that_there_is_not_is_told(tmp_path: Path, word: str):
    site = Frontdesk(tmp_path)
    process = site.manage("demo", log=site.log, PORT=word)
    assert process.wait(60) == 2
    assert f"PORT is '{word}'. Use a number up to 65535" in process.output()


def test_a_worker_that_dies_again_and_again_is_given_up():
    worker = Child("worker", [sys.executable, "-c", "raise SystemExit(3)"])
    command, restarts = demo.Command(), Restarts()
    worker.start()
    try:
        for _ in range(Restarts.MOST):
            wait_until(worker.fate, what="the worker's end")
            command.restart(worker, worker.fate(), restarts)
        wait_until(worker.fate, what="the worker's end")
        with pytest.raises(CommandError, match=r"again and again \(the last time: exit status 3\)"):
            command.restart(worker, worker.fate(), restarts)
    finally:
        worker.end()


def test_a_worker_that_dies_now_and_then_is_not(monkeypatch):
    moments = iter(range(0, 1000, 10))
    monkeypatch.setattr("frontdesk.children.time.monotonic", lambda: float(next(moments)))
    restarts = Restarts()
    assert not any(restarts.are_too_many() for _ in range(20))
