"""The resources of an operation: status, result, and the end of it."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from backroom.offload import operations, waiting
from backroom.testing import run_tasks
from tests.offload.conftest import HTML, Running, figures

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.offload.site")]


@pytest.fixture
def links(client) -> dict[str, str]:
    found: dict[str, str] = client.get("/report/2024/").json()["links"]
    return found


# ── Status ──────────────────────────────────────────────────────────────────────────────────────


def test_the_status_tells_of_each_state_until_the_end(client, links, fake_clock):
    seen = [client.get(links["self"]).json()]
    running = Running()
    seen.append(client.get(links["self"]).json())
    running.report(512, 2048, "reading")
    seen.append(client.get(links["self"]).json())
    assert [each["state"] for each in seen] == ["ready", "running", "running"]
    assert [each["progress"] for each in seen[:2]] == [None, None]
    assert seen[2]["progress"] == {"done": 512, "total": 2048, "message": "reading", "percent": 25}
    assert (seen[0]["started_at"], seen[0]["finished_at"], seen[0]["attempts"]) == (None, None, 0)
    assert seen[1]["started_at"].endswith("Z")
    assert not any(each["is_finished"] or each["problem"] for each in seen)


def test_the_status_of_finished_work_says_until_when_it_is_kept(client, links):
    run_tasks()
    status = client.get(links["self"])
    found = status.json()
    assert (status.status_code, found["state"], found["is_finished"]) == (200, "successful", True)
    assert found["finished_at"] < found["expires_at"]
    assert found["links"]["cancel"] is None
    assert "Retry-After" not in status


def test_a_client_that_knows_the_status_gets_304(client, links):
    first = client.get(links["self"])
    same = client.get(links["self"], headers={"if-none-match": first["ETag"]})
    assert (same.status_code, same.content, same["Cache-Control"]) == (304, b"", "private, no-store")
    Running()
    changed = client.get(links["self"], headers={"if-none-match": first["ETag"]})
    assert changed.status_code == 200
    assert changed["ETag"] != first["ETag"]


def test_a_look_at_the_status_costs_three_queries(client, links, django_assert_num_queries):
    # The session, the operation, the task.
    with django_assert_num_queries(3):
        client.get(links["self"])


def test_a_look_by_a_signed_in_user_costs_four_queries(client, django_assert_num_queries):
    client.force_login(User.objects.create_user("ann"))
    url = client.get("/report/2024/")["Location"]
    with django_assert_num_queries(4):
        client.get(url)


def test_a_client_may_wait_for_the_end(client, links, monkeypatch):
    monkeypatch.setattr(waiting, "sleep", lambda _seconds: run_tasks())
    status = client.get(links["self"], headers={"prefer": "wait=20"})
    assert (status.json()["state"], status["Preference-Applied"]) == ("successful", "wait=20")


def test_a_client_may_wait_for_a_change(client, links, monkeypatch):
    known = client.get(links["self"])["ETag"]
    monkeypatch.setattr(waiting, "sleep", lambda _seconds: Running())
    status = client.get(links["self"], headers={"prefer": "wait=20", "if-none-match": known})
    assert (status.status_code, status.json()["state"]) == (200, "running")


def test_a_wait_in_vain_ends_and_says_so(client, links, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(waiting, "sleep", pauses.append)
    monkeypatch.setattr(waiting, "monotonic", lambda: sum(pauses))
    status = client.get(links["self"], headers={"prefer": "wait=600"})
    assert (status.json()["state"], status["Preference-Applied"]) == ("ready", "wait=20")
    assert sum(pauses) == pytest.approx(20)


def test_a_person_at_the_status_sees_the_progress_or_is_sent_to_the_result(client, links):
    assert client.get(links["self"], headers=HTML).status_code == 200
    run_tasks()
    sent = client.get(links["self"], headers=HTML)
    assert (sent.status_code, sent["Location"]) == (303, links["result"])


@pytest.mark.parametrize("resource", ["self", "result", "events"])
def test_a_client_that_takes_nothing_there_is_gets_406(client, links, resource):
    refused = client.get(links[resource], headers={"accept": "image/png"})
    assert (refused.status_code, refused.json()["code"]) == (406, "not_acceptable")


@pytest.mark.parametrize(("resource", "method"), [("self", "put"), ("result", "delete"), ("events", "post")])
def test_a_method_that_there_is_not_gets_405(client, links, resource, method):
    refused = getattr(client, method)(links[resource])
    assert (refused.status_code, refused["Content-Type"]) == (405, "application/problem+json")
    assert "GET" in refused["Allow"]


# ── Result ──────────────────────────────────────────────────────────────────────────────────────


def test_a_result_that_is_not_ready_is_answered_with_202(client, links):
    early = client.get(links["result"])
    assert (early.status_code, early["Location"], early["Retry-After"]) == (202, links["self"], "1")
    page = client.get(links["result"], headers=HTML)
    assert (page.status_code, page["Retry-After"]) == (202, "1")


def test_a_client_may_wait_for_the_result(client, links, monkeypatch):
    monkeypatch.setattr(waiting, "sleep", lambda _seconds: run_tasks())
    result = client.get(links["result"], headers={"prefer": "wait=20"})
    assert (result.status_code, result.json()) == (200, figures(2024))
    assert result["Preference-Applied"] == "wait=20"


def test_a_result_is_a_page_to_a_person_and_figures_to_a_program(client, links):
    run_tasks()
    assert client.get(links["result"]).json() == figures(2024)
    page = client.get(links["result"], headers=HTML)
    assert page["Content-Type"].startswith("text/html")
    assert b"4048" in page.content
    assert page["Cache-Control"] == "private, no-store"


# ── Cancelling ──────────────────────────────────────────────────────────────────────────────────


def test_work_that_waits_is_cancelled_at_once(client, links):
    cancelled = client.delete(links["self"])
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
    result = client.get(links["result"])
    assert (result.status_code, result.json()["code"]) == (410, "cancelled")


def test_work_that_runs_is_asked_to_stop(client, links):
    Running()
    cancelled = client.delete(links["self"])
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelling")
    assert cancelled["Retry-After"] == "1"
    assert cancelled.json()["links"]["cancel"] is None


def test_finished_work_cannot_be_cancelled(client, links):
    run_tasks()
    refused = client.delete(links["self"])
    assert (refused.status_code, refused.json()["code"]) == (409, "already_finished")


def test_the_pages_button_cancels_and_returns_to_the_page(client, links):
    sent = client.post(f"{links['self']}cancel/", headers=HTML)
    assert (sent.status_code, sent["Location"]) == (303, links["self"])
    assert client.get(links["self"]).json()["state"] == "cancelled"
    # Too late is no error to a person.
    assert client.post(f"{links['self']}cancel/", headers=HTML).status_code == 303


def test_another_site_cannot_cancel():
    client = Client(enforce_csrf_checks=True)
    url = client.get("/report/2024/")["Location"]
    assert client.post(f"{url}cancel/").status_code == 403
    assert operations.operations().get().left_at is None
    page = client.get(url, headers=HTML)
    token = page.content.decode().partition('name="csrfmiddlewaretoken" value="')[2].partition('"')[0]
    assert client.post(f"{url}cancel/", headers={"x-csrftoken": token}).status_code == 303


def test_a_program_cancels_without_a_token():
    # A page of another site cannot: it may not send DELETE without this site's consent, which it never gives.
    client = Client(enforce_csrf_checks=True)
    url = client.get("/report/2024/")["Location"]
    assert client.delete(url).status_code == 202
    assert "access-control-allow-origin" not in client.options(url).headers
