"""The example site from outside: real processes, real requests."""

from __future__ import annotations

import os
import re
import signal
import time
from pathlib import Path

import psutil
import pytest

from tests.examples.frontdesk import PROGRAM, Frontdesk, Visitor
from tests.examples.test_table import WRONG
from tests.services.project import REPOSITORY, wait_until

# Enough work that an order is not done before it is answered: towns along a meridian, 5.6 kilometres apart.
CITIES = b"name,country,lat,lon,height\n" + b"".join(
    b"Town %d,%s,%.2f,7.1,%d.5\n" % (row, [b"FR", b"DE", b"CH"][row % 3], 40 + row * 0.05, row) for row in range(400)
)
# Some seconds of work.
SLOW = b"a,b,c\n" + b"".join(b"%d.5,%d.5,%d.5\n" % (row, row * 7 % 5000, row * 13 % 900) for row in range(5000))


# ── Orders ───────────────────────────────────────────────────────────────────────────────────────


def test_an_order_is_answered_at_once_and_its_report_is_shown(site: Frontdesk):
    visitor = Visitor(site)
    answer = visitor.order(CITIES, name="cities.csv")
    assert answer.status == 303
    location = answer.headers["Location"]
    assert visitor.finished(location)["state"] == "successful"
    assert visitor.get(location).status == 303
    page = visitor.get(f"{location}result/")
    assert page.status == 200
    for words in ["cities.csv", "Where they are", "Answered in", "Picked up after", "Worked for", "Every column"]:
        assert words in page.text
    desk = visitor.get("/").text
    assert "cities.csv" in desk
    assert "<span>done</span>" in desk
    site.wait_for_no_uploads()


def test_nobody_else_sees_a_report(site: Frontdesk):
    location = Visitor(site).order(CITIES).headers["Location"]
    assert Visitor(site).get(f"{location}result/").status == 404
    assert "There is nothing here" in Visitor(site).get(location).text


def test_a_program_gets_figures(site: Frontdesk):
    program = Visitor(site, accept="application/json")
    answer = program.order(CITIES, headers=PROGRAM)
    assert answer.status == 202
    assert answer.headers["Preference-Applied"] == "respond-async"
    location = answer.headers["Location"]
    program.finished(location)
    figures = program.get(f"{location}result/").json
    assert figures["rows"] == 400
    assert 5.5 < figures["map"]["loneliest"][0]["kilometres"] < 5.7


def test_a_browser_needs_the_token_of_the_page(site: Frontdesk):
    before = site.leftovers()
    answer = Visitor(site).send(
        "POST", "/", headers={"Content-Type": "application/x-www-form-urlencoded"}, body=b"source=airports"
    )
    assert answer.status == 403
    assert "Please do that again" in answer.text
    assert site.leftovers() == before


def test_a_script_of_another_site_is_not_let_in(site: Frontdesk):
    # What a browser asks before a script of another site may send a header of its own.
    preflight = {
        "Origin": "https://other.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "prefer",
    }
    answer = Visitor(site).send("OPTIONS", "/", headers=preflight)
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


def test_the_same_file_sent_twice_is_one_order(site: Frontdesk):
    visitor = Visitor(site)
    first, second = visitor.order(SLOW), visitor.order(SLOW)
    assert first.headers["Location"] == second.headers["Location"]
    assert len(site.uploads()) == 1
    visitor.send("DELETE", first.headers["Location"], headers={"Accept": "application/json"})
    assert visitor.finished(first.headers["Location"])["state"] == "cancelled"


def test_an_idempotency_key_finds_the_order_again(site: Frontdesk):
    program = Visitor(site, accept="application/json")
    headers = {**PROGRAM, "Idempotency-Key": '"monday"'}
    first = program.order(CITIES, headers=headers)
    program.finished(first.headers["Location"])
    again = program.order(CITIES, headers=headers)
    assert again.json["rows"] == 400
    assert again.headers["Content-Location"] == first.headers["Location"] + "result/"
    site.wait_for_no_uploads()


def test_the_readme_names_every_page_that_the_site_links_to(site: Frontdesk):
    visitor, ahead, seen = Visitor(site), ["/"], {"/devices/"}
    while ahead:
        page = ahead.pop()
        seen.add(page)
        links = re.findall(r'<a [^>]*href="(/[^"#?]*)', visitor.get(page).text)
        ahead += {link for link in links if not link.startswith("/operations/")} - seen - set(ahead)
    told = (REPOSITORY / "examples/frontdesk/README.md").read_text()
    assert len(seen) > 8
    assert [page for page in sorted(seen) if f"`{page}`" not in told] == []


# ── Wrong files ──────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("data", "reason"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_told_to_a_person_and_leaves_nothing(site: Frontdesk, data: bytes, reason: str):
    before = site.leftovers()
    answer = Visitor(site).order(data)
    assert answer.status == 422
    assert "No report was ordered" in answer.text
    assert reason.replace("'", "&#x27;") in answer.text
    assert site.leftovers() == before


@pytest.mark.parametrize(("data", "reason"), WRONG.values(), ids=WRONG)
def test_a_wrong_file_is_a_problem_to_a_program_and_leaves_nothing(site: Frontdesk, data: bytes, reason: str):
    before = site.leftovers()
    answer = Visitor(site).order(data, headers=PROGRAM)
    assert answer.status == 422
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert reason in answer.json["errors"][0]["detail"]
    assert site.leftovers() == before


def test_a_file_that_is_too_large_is_refused_and_leaves_nothing(site: Frontdesk):
    before = site.leftovers()
    person = Visitor(site).order(b"a,b\n" + b"1,2\n" * 5_300_000)
    assert person.status == 413
    assert "at most 20 MB are read" in person.text
    program = Visitor(site).order(b"a,b\n" + b"1,2\n" * 5_300_000, headers=PROGRAM)
    assert program.status == 413
    assert program.json["code"] == "too_large"
    assert site.leftovers() == before


def test_an_order_for_nothing_is_refused(site: Frontdesk):
    answer = Visitor(site).send("POST", "/", headers={**PROGRAM, "Content-Type": "application/x-www-form-urlencoded"})
    assert answer.status == 422
    assert answer.json["errors"][0]["code"] == "nothing"


def test_what_a_file_holds_is_text_to_the_page(site: Frontdesk):
    visitor = Visitor(site)
    rows = b"".join(
        b'"<img src=x onerror=alert(%d)>","=HYPERLINK(""http://x.test"")"\n' % (row % 2) for row in range(9)
    )
    location = visitor.order(b"<script>alert(1)</script>,b\n" + rows, name="<b>x.csv").headers["Location"]
    visitor.finished(location)
    page = visitor.get(f"{location}result/")
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page.text
    assert "&lt;img src=x onerror=alert(1)&gt;" in page.text
    assert "<script>" not in page.text
    assert "<img" not in page.text
    assert "script-src 'self'" in page.headers["Content-Security-Policy"]
    assert "unsafe" not in page.headers["Content-Security-Policy"]


# ── What becomes of uploads ──────────────────────────────────────────────────────────────────────


def test_a_cancelled_order_leaves_no_upload(site: Frontdesk):
    visitor = Visitor(site)
    location = visitor.order(SLOW).headers["Location"]
    wait_until(lambda: (visitor.status(location)["progress"] or {}).get("done", 0) > 0, what="progress")
    assert visitor.send("DELETE", location, headers={"Accept": "application/json"}).status == 202
    assert visitor.finished(location, seconds=20)["state"] == "cancelled"
    site.wait_for_no_uploads()


def test_an_order_that_was_cancelled_while_it_waited_leaves_no_upload(site: Frontdesk):
    visitor = Visitor(site)
    locations = [visitor.order(SLOW + b"1,2,%d\n" % number).headers["Location"] for number in range(3)]
    token = visitor.token()
    for location in reversed(locations):
        form = f"csrfmiddlewaretoken={token}".encode()
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        assert visitor.send("POST", f"{location}cancel/", headers=headers, body=form).status == 303
    for location in locations:
        assert visitor.finished(location)["state"] == "cancelled"
    site.wait_for_no_uploads()


def test_an_upload_that_is_gone_is_told_to_its_visitor(own_site: Frontdesk):
    own_site.start()
    visitor = Visitor(own_site)
    # Nobody opens it before it is gone.
    with own_site.workers_stopped():
        location = visitor.order(CITIES).headers["Location"]
        (upload,) = own_site.uploads()
        (own_site.state / "uploads" / upload).unlink()
    order = visitor.finished(location)
    assert (order["state"], order["problem"]["status"]) == ("failed", 422)
    assert "Send it again" in visitor.get(f"{location}result/").text


def test_other_users_of_the_machine_cannot_look_into_uploads(site: Frontdesk):
    assert (site.state / "uploads").stat().st_mode & 0o077 == 0


def test_a_report_survives_the_death_of_its_worker(own_site: Frontdesk):
    own_site.start()
    visitor = Visitor(own_site)
    location = visitor.order(SLOW).headers["Location"]
    wait_until(lambda: (visitor.status(location)["progress"] or {}).get("done", 0) > 0, what="progress")
    for worker in own_site.workers():
        worker.kill()
    assert len(own_site.uploads()) == 1
    order = visitor.finished(location)
    assert (order["state"], order["attempts"]) == ("successful", 2)
    own_site.wait_for_no_uploads()


def test_a_start_sweeps_up_what_a_crash_left(own_site: Frontdesk):
    uploads = own_site.state / "uploads"
    uploads.mkdir(parents=True)
    for name, age in [("0" * 32 + ".csv", 7200), ("abandoned.upload", 7200), ("1" * 32 + ".csv", 60)]:
        (uploads / name).write_bytes(CITIES)
        os.utime(uploads / name, (time.time() - age, time.time() - age))
    own_site.start()
    assert own_site.uploads() == ["1" * 32 + ".csv"]


# ── The demo's processes ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_demo_ends_with_all_of_its_processes(own_site: Frontdesk, number: signal.Signals):
    process = own_site.start()
    wait_until(lambda: len(own_site.workers()) == 2, what="the worker's processes")
    everything = own_site.processes()
    assert len(everything) == 4
    process.signal_group(number)
    process.wait(60)
    _, alive = psutil.wait_procs(everything, timeout=60)
    assert alive == []


def test_the_demo_ends_while_a_visitor_watches_and_goes_on_at_the_next_start(own_site: Frontdesk):
    process = own_site.start()
    visitor = Visitor(own_site)
    location = visitor.order(SLOW).headers["Location"]
    wait_until(lambda: visitor.status(location)["state"] == "running", what="the work to start")
    process.interrupt()
    assert process.wait(60) == 0
    own_site.start()
    assert visitor.finished(location)["state"] == "successful"


def test_a_port_that_is_taken_is_told_and_another_one_used(own_site: Frontdesk, tmp_path: Path):
    own_site.start()
    second = Frontdesk(tmp_path / "second")
    (tmp_path / "second").mkdir()
    second.port = own_site.port
    try:
        second.start()
        assert f"Port {own_site.port} is taken, so this is " in second.log.read_text()
        assert f"http://127.0.0.1:{own_site.port}/" not in second.log.read_text()
    finally:
        second.stop()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_ended_by_itself_is_started_again(own_site: Frontdesk, number: signal.Signals):
    process = own_site.start()
    wait_until(lambda: len(own_site.workers()) == 2, what="the worker's processes")
    visitor = Visitor(own_site)
    first = own_site.supervisor()
    first.send_signal(number)
    process.wait_for_output("is started again")
    assert f"The worker ended by itself ({'killed by SIGKILL' if number == signal.SIGKILL else 'exit status 0'})" in (
        process.output()
    )
    wait_until(lambda: own_site.supervisor() and own_site.supervisor().pid != first.pid, what="another worker")
    assert visitor.finished(visitor.order(CITIES).headers["Location"])["state"] == "successful"
    everything = own_site.processes()
    process.interrupt()
    assert process.wait(60) == 0
    assert psutil.wait_procs(everything, timeout=60)[1] == []


def test_the_demo_ends_with_its_site(own_site: Frontdesk):
    process = own_site.start()
    everything = own_site.processes()
    next(each for each in everything if "frontdesk.serve" in each.cmdline()).kill()
    assert process.wait(60) == 1
    assert "The site ended by itself (killed by SIGKILL)" in process.output()
    assert psutil.wait_procs(everything, timeout=60)[1] == []


# ── The slow way, and the rest ───────────────────────────────────────────────────────────────────


def test_the_slow_way_gives_the_report_when_all_is_done(site: Frontdesk):
    visitor = Visitor(site)
    form = f"csrfmiddlewaretoken={visitor.token()}&rows=1000".encode()
    page = visitor.send("POST", "/slow/", headers={"Content-Type": "application/x-www-form-urlencoded"}, body=form)
    assert page.status == 200
    assert "You waited" in page.text
    assert "Where they are" in page.text


@pytest.mark.parametrize("accept", ["*/*", "text/html", "text/html,application/xhtml+xml,*/*;q=0.8"])
def test_whoever_takes_anything_gets_the_desk(site: Frontdesk, accept: str):
    page = Visitor(site, accept=accept).get("/")
    assert (page.status, page.headers["Content-Type"]) == (200, "text/html; charset=utf-8")


@pytest.mark.parametrize("path", ["/", "/slow/", "/programs/"])
def test_a_page_needs_nothing_from_elsewhere(site: Frontdesk, path: str):
    page = Visitor(site).get(path)
    assert page.status == 200
    assert " style=" not in page.text
    for source in ('src="http', 'href="http', "url(http"):
        assert source not in page.text
