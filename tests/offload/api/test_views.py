"""What an offloaded view of REST framework answers, and in which order it looks at a request."""

import subprocess
import sys

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.urls import resolve

from backroom.offload import waiting
from backroom.offload.models import Operation
from backroom.tasks import control
from backroom.testing import run_tasks
from tests.offload import work
from tests.offload.conftest import Running, figures

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.offload.api.site")]
ANN = {"authorization": "Name ann"}
BOB = {"authorization": "Name bob"}
BROWSER = {"accept": "text/html,*/*;q=0.8"}
PROBLEM = "application/problem+json"


@pytest.fixture(autouse=True)
def _users():
    User.objects.create_user("ann")
    User.objects.create_user("bob")


@pytest.fixture
def links(client) -> dict[str, str]:
    found: dict[str, str] = client.post("/reports/", {"year": 2024}, headers=ANN).json()["links"]
    return found


def test_rest_framework_is_not_imported_before_it_is_used():
    code = "import sys, backroom.api, backroom.offload; assert 'rest_framework' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_without_rest_framework_it_is_told_what_to_install():
    code = "import sys; sys.modules['rest_framework'] = None; import backroom.api"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert "pip install './backroom[api]'" in told.stderr


# ── Starting ────────────────────────────────────────────────────────────────────────────────────


def test_an_order_is_answered_with_202_and_where_to_look(client):
    accepted = client.post("/reports/", {"year": 2024}, headers=ANN)
    assert accepted.status_code == 202
    assert accepted["Location"] == accepted.json()["links"]["self"]
    assert accepted["Location"].startswith("/api/operations/")
    assert (accepted["Retry-After"], accepted["Cache-Control"]) == ("1", "private, no-store")
    vary = {name.strip() for name in accepted["Vary"].split(",")}
    assert {"Accept", "Authorization", "Cookie", "Prefer"} <= vary


@pytest.mark.parametrize("name", ["", "result/", "events/"])
def test_every_view_is_exempt_from_the_transaction_of_the_request(settings, name):
    # Inside one, no worker would see what was ordered, and no reader what a worker did meanwhile.
    for path in ("/reports/", f"/api/operations/x/{name}"):
        assert set(settings.DATABASES) <= vars(resolve(path).func)["_non_atomic_requests"]


@pytest.mark.django_db(transaction=True)
def test_work_that_is_done_in_time_is_answered_with_200(client, monkeypatch):
    monkeypatch.setattr(waiting, "sleep", lambda _seconds: run_tasks())
    response = client.post("/reports/", {"year": 2024}, headers=ANN | {"prefer": "wait=5"})
    assert (response.status_code, response.json()) == (200, figures(2024))
    assert response["Preference-Applied"] == "wait=5"
    assert response["Content-Location"].endswith("/result/")


def test_respond_async_is_told_to_have_been_met(client):
    accepted = client.post("/reports/", {"year": 2024}, headers=ANN | {"prefer": "respond-async"})
    assert (accepted.status_code, accepted["Preference-Applied"]) == (202, "respond-async")


@pytest.mark.parametrize(
    ("path", "data", "headers", "status", "code"),
    [
        ("/reports/", {"year": 2024}, {}, 401, "not_authenticated"),
        ("/throttled/", {"year": 2024}, {}, 429, "throttled"),
        ("/reports/", {"year": 12}, ANN, 400, "invalid"),
        ("/reports/", "{", ANN, 400, "parse_error"),
        ("/reports/", {"year": 2024}, ANN | {"accept": "image/png"}, 406, "not_acceptable"),
        ("/reports/", {"year": 2024}, ANN | {"idempotency-key": "bare"}, 400, "idempotency_key_invalid"),
    ],
)
def test_what_is_refused_is_a_problem_and_nothing_is_queued(client, enqueued_tasks, path, data, headers, status, code):
    refused = client.post(path, data, content_type="application/json", headers=headers)
    assert (refused.status_code, refused["Content-Type"]) == (status, PROBLEM)
    assert (refused.json()["code"], refused.json()["instance"]) == (code, path)
    assert refused["Cache-Control"] == "private, no-store"
    assert enqueued_tasks == []


def test_what_rest_framework_adds_to_an_error_is_kept(client):
    assert client.post("/reports/", {"year": 2024})["WWW-Authenticate"] == "Name"
    assert client.post("/throttled/", {"year": 2024})["Retry-After"] == "7"
    assert client.get("/reports/", headers=ANN)["Allow"] == "POST, OPTIONS"


def test_whoever_may_not_is_refused_before_anything_is_queued(client, enqueued_tasks):
    User.objects.create_user("outsider")
    refused = client.post("/insiders/", {"year": 2024}, headers={"authorization": "Name outsider"})
    assert (refused.status_code, refused.json()["code"], enqueued_tasks) == (403, "permission_denied", [])


def test_each_thing_that_is_wrong_has_the_path_of_its_field(client):
    items = [{"day": "2024-02-29", "price": "1.50"}, {"day": "soon"}]
    refused = client.post("/lists/", {"items": items}, content_type="application/json")
    errors = refused.json()["errors"]
    assert [(each["field"], each["code"]) for each in errors] == [
        ("items.1.day", "invalid"),
        ("items.1.price", "required"),
    ]


def test_dates_and_their_like_reach_the_task_as_strings(client):
    client.post("/dated/", {"day": "2024-02-29", "price": "1.50"})
    run_tasks()
    assert work.runs == [{"day": "2024-02-29", "price": "1.50"}]


def test_input_may_travel_in_the_query(client):
    assert client.get("/query/?year=1").status_code == 400
    assert client.post("/query/", {"year": 2024}).status_code == 405
    accepted = client.get("/query/?year=2024")
    assert accepted.status_code == 202
    run_tasks()
    assert client.get("/query/?year=2024").json() == figures(2024)


def test_the_arguments_of_the_url_are_the_tasks(client):
    client.post("/year/2024/")
    run_tasks()
    assert work.runs == [{"year": 2024, "title": "Sales"}]


def test_an_idempotency_key_finds_the_same_operation(client):
    key = ANN | {"idempotency-key": '"8e03"'}
    first = client.post("/reports/", {"year": 2024}, headers=key)
    assert client.post("/reports/", {"year": 2024}, headers=key)["Location"] == first["Location"]
    run_tasks()
    assert client.post("/reports/", {"year": 2024}, headers=key).json() == figures(2024)
    reused = client.post("/reports/", {"year": 2025}, headers=key)
    assert (reused.status_code, reused["Content-Type"], reused.json()["code"]) == (
        422,
        PROBLEM,
        "idempotency_key_reused",
    )


# ── Following ───────────────────────────────────────────────────────────────────────────────────


def test_a_client_follows_an_operation_with_the_token_it_started_it_with(client, links):
    run_tasks()
    assert client.get(links["self"], headers=ANN).json()["state"] == "successful"
    assert client.get(links["result"], headers=ANN).json() == figures(2024)
    # No cookie was needed.
    assert not client.cookies


@pytest.mark.parametrize("headers", [{}, BOB])
@pytest.mark.parametrize("resource", ["self", "result", "events"])
def test_anyone_else_gets_404(client, links, headers, resource):
    refused = client.get(links[resource], headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (404, "not_found")
    assert refused["Content-Type"] == PROBLEM
    assert client.delete(links["self"], headers=headers).status_code == 404


def test_an_owner_needs_no_other_permission_and_may_look_as_often_as_told(client, monkeypatch):
    from rest_framework.permissions import IsAdminUser
    from rest_framework.views import APIView

    from tests.offload.api.site import NoMore

    url = client.post("/open/", {"year": 2024}).json()["links"]["self"]
    # What a project asks of every view that does not say otherwise.
    monkeypatch.setattr(APIView, "permission_classes", (IsAdminUser,))
    monkeypatch.setattr(APIView, "throttle_classes", (NoMore,))
    assert client.get(url).status_code == 200


def test_a_visitor_without_a_token_owns_by_the_session(client):
    accepted = client.post("/open/", {"year": 2024}).json()
    assert client.get(accepted["links"]["self"]).status_code == 200
    assert Client().get(accepted["links"]["self"]).status_code == 404


def test_a_client_that_knows_the_status_gets_304(client, links):
    first = client.get(links["self"], headers=ANN)
    same = client.get(links["self"], headers=ANN | {"if-none-match": first["ETag"]})
    assert (same.status_code, same.content) == (304, b"")
    Running()
    assert client.get(links["self"], headers=ANN | {"if-none-match": first["ETag"]}).status_code == 200


def test_a_client_may_wait_for_a_change_and_for_the_end(client, links, monkeypatch):
    known = client.get(links["self"], headers=ANN)["ETag"]
    running: list[Running] = []
    monkeypatch.setattr(waiting, "sleep", lambda _seconds: running.append(Running()))
    changed = client.get(links["self"], headers=ANN | {"prefer": "wait=20", "if-none-match": known})
    assert (changed.json()["state"], changed["Preference-Applied"]) == ("running", "wait=20")
    monkeypatch.setattr(waiting, "sleep", lambda _seconds: running[0].finish())
    assert client.get(links["result"], headers=ANN | {"prefer": "wait=20"}).json() == figures(2024)


def test_a_look_at_the_status_costs_three_queries(client, links, django_assert_num_queries):
    # The user, the operation, the task.
    with django_assert_num_queries(3):
        client.get(links["self"], headers=ANN)


def test_a_result_that_is_not_ready_is_answered_with_202(client, links):
    early = client.get(links["result"], headers=ANN)
    assert (early.status_code, early["Location"], early["Retry-After"]) == (202, links["self"], "1")


def test_cancelling_is_accepted_until_the_work_has_finished(client, links):
    cancelled = client.delete(links["self"], headers=ANN)
    assert (cancelled.status_code, cancelled.json()["state"]) == (202, "cancelled")
    late = client.delete(links["self"], headers=ANN)
    assert (late.status_code, late["Content-Type"], late.json()["code"]) == (409, PROBLEM, "already_finished")
    assert client.get(links["result"], headers=ANN).status_code == 410


@pytest.mark.parametrize(("path", "status", "code"), [("/failing/1/", 500, "failed"), ("/refusing/1/", 422, "refused")])
def test_work_that_failed_is_a_problem_without_its_secrets(client, path, status, code):
    found = client.post(path).json()["links"]
    run_tasks()
    problem = client.get(found["result"])
    assert (problem.status_code, problem["Content-Type"], problem.json()["code"]) == (status, PROBLEM, code)
    assert b"secret" not in problem.content


def test_a_result_that_is_no_longer_kept_is_gone(client, links, fake_clock):
    run_tasks()
    fake_clock.advance(30 * 86_400)
    control.prune()
    gone = client.get(links["result"], headers=ANN)
    assert (gone.status_code, gone.json()["code"]) == (410, "gone")


def test_whoever_may_no_longer_ask_for_a_result_may_no_longer_read_it(client):
    found = client.post("/insiders/", {"year": 2024}, headers=ANN).json()["links"]
    run_tasks()
    assert client.get(found["result"], headers=ANN).status_code == 200
    User.objects.filter(username="ann").update(username="outsider")
    assert client.get(found["result"], headers={"authorization": "Name outsider"}).status_code == 403


def test_an_operation_outlives_the_view_that_it_came_from(client):
    client.force_login(User.objects.get(username="ann"))
    found = client.post("/reports/", {"year": 2024}).json()["links"]
    run_tasks()
    Operation.objects.update(origin="/no/such/view/")
    assert client.get(found["result"]).json() == figures(2024)


def test_who_takes_nothing_but_events_is_told_of_errors_as_problems(client, links):
    refused = client.get(links["events"], headers=BOB | {"accept": "text/event-stream"})
    assert (refused.status_code, refused["Content-Type"]) == (404, PROBLEM)


def test_a_client_with_a_token_can_follow_the_events(client, links, monkeypatch):
    monkeypatch.setattr(waiting, "sleep", lambda _seconds: run_tasks())
    headers = ANN | {"accept": "text/event-stream"}
    stream = client.get(links["events"], headers=headers, **{"wsgi.multithread": True})
    assert stream["Content-Type"] == "text/event-stream; charset=utf-8"
    text = b"".join(stream.streaming_content).decode()
    assert "event: end" in text
    assert links["self"] in text


# ── Negotiation ─────────────────────────────────────────────────────────────────────────────────


def test_problems_have_their_media_type_and_nothing_else_has_it(client):
    accepted = client.post("/open/", {"year": 2024}, headers={"accept": PROBLEM})
    assert (accepted.status_code, accepted["Content-Type"]) == (202, "application/json")
    refused = client.post("/open/", {"year": 1}, headers={"accept": PROBLEM})
    assert (refused.status_code, refused["Content-Type"]) == (400, PROBLEM)
    indented = client.post("/open/", {"year": 2024}, headers={"accept": "application/json; indent=4"})
    assert b'\n    "id"' in indented.content


def test_a_person_follows_an_operation_in_the_browsable_api(client):
    assert b"<form" in client.get("/open/", headers=BROWSER).content
    sent = client.post("/open/", {"year": 2024}, headers=BROWSER)
    assert sent.status_code == 303
    page = client.get(sent["Location"], headers=BROWSER)
    assert (page.status_code, page["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b"DELETE" in page.content
    run_tasks()
    assert b"4048" in client.get(f"{sent['Location']}result/", headers=BROWSER).content


def test_an_unexpected_error_is_nobodys_problem_but_the_operators(client, monkeypatch):
    monkeypatch.setattr("backroom.offload.ordering.place", lambda *_: pytest.fail("the store is away"))
    with pytest.raises(pytest.fail.Exception):
        client.post("/open/", {"year": 2024})
