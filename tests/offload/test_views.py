"""What a visitor's request is answered with, from validation to the rendered result."""

import pytest
from django.contrib.auth.models import User
from django.test import Client

from backroom.offload import waiting
from backroom.offload.models import Operation
from backroom.offload.pages import _pairs
from backroom.tasks import control, queries
from backroom.tasks.records import Query, Worker
from backroom.testing import run_tasks
from tests.offload import work
from tests.offload.conftest import HTML, figures

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.offload.site")]


# ── Programs ────────────────────────────────────────────────────────────────────────────────────


def test_a_slow_view_is_answered_with_202_and_where_to_look(client):
    accepted = client.get("/report/2024/")
    assert accepted.status_code == 202
    assert accepted["Location"] == accepted.json()["links"]["self"]
    assert accepted["Retry-After"] == "1"
    assert accepted["Cache-Control"] == "private, no-store"
    assert {"Accept", "Cookie", "Prefer"} <= {name.strip() for name in accepted["Vary"].split(",")}
    assert accepted.json()["state"] == "ready"
    assert accepted.json()["is_finished"] is False


def test_the_result_is_found_at_its_own_address_when_the_work_is_done(client):
    links = client.get("/report/2024/").json()["links"]
    run_tasks()
    assert client.get(links["result"]).json() == figures(2024)


def test_work_that_is_done_in_time_is_answered_with_200(client, worker_while_waiting):
    response = client.get("/report/2024/", headers={"prefer": "respond-async, wait=5"})
    assert (response.status_code, response.json()) == (200, figures(2024))
    assert response["Preference-Applied"] == "wait=5"
    assert response["Cache-Control"] == "private, no-store"
    assert response["Content-Location"].endswith("/result/")


def test_work_that_takes_longer_is_answered_with_202_when_the_wait_is_over(client, sleeping):
    response = client.get("/report/2024/", headers={"prefer": "respond-async, wait=3"})
    assert response.status_code == 202
    assert response["Preference-Applied"] == "respond-async, wait=3"
    assert sum(sleeping) == pytest.approx(3)


def test_no_client_can_hold_a_request_longer_than_the_view_allows(client, sleeping):
    response = client.get("/report/2024/", headers={"prefer": "wait=3600"})
    assert response["Preference-Applied"] == "wait=10"
    assert sum(sleeping) == pytest.approx(10)
    assert len(sleeping) < 60


def test_respond_async_alone_is_answered_at_once(client, sleeping):
    response = client.get("/slow/2024/", headers={"prefer": "respond-async"})
    assert (response.status_code, response["Preference-Applied"], sleeping) == (202, "respond-async", [])


def test_a_view_waits_a_moment_by_itself(client, sleeping):
    client.get("/slow/2024/")
    assert sum(sleeping) == pytest.approx(0.2)


def test_inside_a_transaction_nobody_waits_for_what_no_worker_can_see(client, monkeypatch):
    monkeypatch.setattr(waiting, "sleep", lambda _seconds: pytest.fail("waited in vain"))
    assert client.get("/slow/2024/").status_code == 202


def test_every_offloaded_view_is_exempt_from_the_transaction_of_the_request(settings):
    from django.urls import resolve

    resources = [f"/operations/x/{name}" for name in ("", "result/", "events/", "cancel/")]
    for path in ("/report/2024/", "/function/2024/", *resources):
        assert set(settings.DATABASES) <= vars(resolve(path).func)["_non_atomic_requests"]


def test_a_client_that_takes_nothing_there_is_gets_406_and_nothing_is_queued(client):
    refused = client.get("/report/2024/", headers={"accept": "image/png"})
    assert (refused.status_code, refused["Content-Type"]) == (406, "application/problem+json")
    assert not Operation.objects.exists()


def test_a_method_that_there_is_not_gets_405_with_those_there_are(client):
    refused = client.put("/report/2024/")
    assert (refused.status_code, refused.json()["code"]) == (405, "method_not_allowed")
    assert "GET" in refused["Allow"]


@pytest.mark.parametrize(
    ("path", "status", "code"), [("/missing/", 404, "not_found"), ("/forbidden/", 403, "permission_denied")]
)
def test_what_a_view_raises_is_a_problem_to_a_program_and_a_page_to_a_person(client, path, status, code):
    refused = client.get(path)
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert client.get(path, headers=HTML)["Content-Type"].startswith("text/html")


def test_the_type_of_a_problem_can_lead_to_the_projects_own_page(client, settings):
    settings.BACKROOM = {"PROBLEM_TYPES": "https://example.com/problems/"}
    assert client.put("/report/2024/").json()["type"] == "https://example.com/problems/method_not_allowed"


# ── Validation ──────────────────────────────────────────────────────────────────────────────────


def test_bad_input_is_answered_at_once_and_nothing_is_queued(client, enqueued_tasks):
    refused = client.post("/form/", {"year": "soon"})
    assert (refused.status_code, refused["Content-Type"]) == (422, "application/problem+json")
    problem = refused.json()
    assert (problem["code"], problem["instance"]) == ("invalid", "/form/")
    assert problem["errors"] == [{"field": "year", "detail": "Enter a whole number.", "code": "invalid"}]
    assert enqueued_tasks == []


def test_a_person_gets_the_form_back_with_what_is_wrong(client):
    page = client.post("/form/", {"year": "12", "title": "Kept"}, headers=HTML)
    assert page.status_code == 422
    assert b"greater than or equal to 1900" in page.content
    assert b'value="Kept"' in page.content


def test_a_person_who_opens_a_view_with_a_form_gets_the_form(client, enqueued_tasks):
    page = client.get("/form/", headers=HTML)
    assert (page.status_code, enqueued_tasks) == (200, [])
    assert b'name="csrfmiddlewaretoken"' in page.content


@pytest.mark.parametrize(
    ("accept", "status"), [("*/*", 200), ("", 200), ("text/*", 200), ("application/json", 406), ("image/png", 406)]
)
def test_the_form_is_for_everybody_who_takes_a_page(client, accept, status):
    assert client.get("/form/", headers={"accept": accept} if accept else {}).status_code == status


def test_the_data_of_the_form_are_the_arguments_of_the_task(client):
    client.post("/form/", {"year": "2024", "title": "Costs"})
    run_tasks()
    assert work.runs == [{"year": 2024, "title": "Costs"}]


def test_a_program_may_send_json_to_the_form(client):
    client.post("/form/", {"year": 2024, "title": None}, content_type="application/json")
    run_tasks()
    assert work.runs == [{"year": 2024, "title": ""}]


@pytest.mark.parametrize("body", ["{", "[]", '"x"', "[" * 100_000])
def test_a_body_that_is_no_json_object_is_answered_with_400(client, body):
    refused = client.post("/form/", body, content_type="application/json")
    assert (refused.status_code, refused.json()["code"]) == (400, "malformed")


def test_a_form_in_the_query_starts_the_work_when_it_is_filled_in(client):
    assert b"<form" in client.get("/search/", headers=HTML).content
    assert client.get("/search/?year=1", headers=HTML).status_code == 422
    assert client.get("/search/?year=2024", headers=HTML).status_code == 202
    run_tasks()
    assert b"4048" in client.get("/search/?year=2024", headers=HTML).content


def test_dates_and_their_like_reach_the_task_as_strings(client):
    client.post("/dated/", {"day": "2024-02-29", "price": "1.50"})
    run_tasks()
    assert work.runs == [{"day": "2024-02-29", "price": "1.50"}]


def test_arguments_that_json_cannot_carry_are_named(client):
    with pytest.raises(TypeError, match="argument 'file'"):
        client.post("/unfit/")


# ── Order ───────────────────────────────────────────────────────────────────────────────────────


def test_a_visitor_who_must_sign_in_first_queues_nothing(client, enqueued_tasks):
    assert client.get("/private/2024/")["Location"].startswith("/login/")
    assert enqueued_tasks == []


def test_a_visitor_who_may_no_longer_use_the_view_can_no_longer_read_its_result(client):
    user = User.objects.create_user("ann")
    client.force_login(user)
    links = client.get("/insiders/2024/").json()["links"]
    run_tasks()
    assert client.get(links["result"]).status_code == 200
    user.username = "outsider"
    user.save()
    assert client.get(links["result"]).status_code == 403


# ── People ──────────────────────────────────────────────────────────────────────────────────────


def test_a_person_who_gets_is_shown_the_progress_at_the_same_address(client):
    page = client.get("/report/2024/", headers=HTML)
    assert page.status_code == 202
    assert b'role="progressbar"' in page.content
    assert b'http-equiv="refresh"' in page.content
    assert b'data-next-url="/report/2024/"' in page.content


def test_only_a_developer_is_told_that_no_worker_runs(client, settings, fake_clock):
    advice = "manage.py backroom worker"
    assert advice not in client.get("/report/2024/", headers=HTML).text
    settings.DEBUG = True
    assert advice in client.get("/report/2024/", headers=HTML).text
    now = fake_clock.now()
    worker = Worker(id="w", host="h", pid=1, queues=(), threads=4, started_at=now, seen_at=now)
    queries.backend_of("default").store.beat([worker])
    assert advice not in client.get("/report/2024/", headers=HTML).text
    # It was killed, and has not been heard of since.
    fake_clock.advance(120)
    assert advice in client.get("/report/2024/", headers=HTML).text


def test_reloading_finds_the_same_operation_and_then_its_result(client):
    first = client.get("/report/2024/", headers=HTML)
    assert client.get("/report/2024/", headers=HTML)["Location"] == first["Location"]
    run_tasks()
    page = client.get("/report/2024/", headers=HTML)
    assert (page.status_code, len(work.runs)) == (200, 1)
    assert b"4048" in page.content


def test_a_result_that_was_seen_is_prepared_anew_unless_the_view_caches_it(client, fake_clock):
    for path in ("/report/2024/", "/cached/2024/"):
        client.get(path, headers=HTML)
        run_tasks()
        assert client.get(path, headers=HTML).status_code == 200
    fake_clock.advance(30)
    assert client.get("/report/2024/", headers=HTML).status_code == 202
    assert client.get("/cached/2024/", headers=HTML).status_code == 200
    fake_clock.advance(31)
    assert client.get("/cached/2024/", headers=HTML).status_code == 202


def test_the_same_page_in_another_tab_shows_the_same_result(client, fake_clock):
    client.get("/report/2024/", headers=HTML)
    run_tasks()
    fake_clock.advance(300)
    assert client.get("/report/2024/", headers=HTML).status_code == 200
    fake_clock.advance(5)
    assert client.get("/report/2024/", headers=HTML).status_code == 200


def test_asking_for_the_head_of_a_result_does_not_use_it_up(client, fake_clock):
    client.get("/report/2024/")
    run_tasks()
    assert client.head("/report/2024/").status_code == 200
    fake_clock.advance(60)
    assert client.get("/report/2024/").status_code == 200


def test_a_person_who_posts_is_sent_to_the_progress_and_then_to_the_result(client):
    sent = client.post("/form/", {"year": "2024"}, headers=HTML)
    assert sent.status_code == 303
    progress = client.get(sent["Location"], headers=HTML)
    assert progress.status_code == 200
    assert b'role="progressbar"' in progress.content
    run_tasks()
    done = client.get(sent["Location"], headers=HTML)
    assert done.status_code == 303
    assert b"4048" in client.get(done["Location"], headers=HTML).content


def test_a_result_of_names_and_values_is_shown_as_these_and_any_other_as_json(client):
    client.get("/cached/2024/", headers=HTML)
    run_tasks()
    assert "<dt>total</dt><dd>4048</dd>" in client.get("/cached/2024/", headers=HTML).text
    assert _pairs({"totals": [1, 2]}) == _pairs([1, 2]) == _pairs("total") == _pairs({"total": None}) == []


def test_posting_again_while_it_runs_joins_it_and_afterwards_starts_anew(client):
    first = client.post("/form/", {"year": "2024"}, headers=HTML)
    assert client.post("/form/", {"year": "2024"}, headers=HTML)["Location"] == first["Location"]
    run_tasks()
    assert client.post("/form/", {"year": "2024"}, headers=HTML)["Location"] != first["Location"]


def test_the_page_of_a_result_is_rendered_in_the_request_that_asks_for_it(client):
    links = client.get("/signed/2024/").json()["links"]
    run_tasks()
    assert b"for nobody" in client.get(links["result"], headers=HTML).content
    client.force_login(User.objects.create_user("ann"))
    assert b"for ann" in client.get(links["result"], headers=HTML).content
    assert not any("<" in (record.result or "") for record in queries.find(Query()).records)


def test_our_pages_carry_the_strict_policy_unless_the_site_has_its_own(client, settings):
    page = client.get("/report/2024/", headers=HTML)
    assert page["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    )
    assert b"style=" not in page.content
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.csp.ContentSecurityPolicyMiddleware"]
    settings.SECURE_CSP = {"script-src": ["'self'"]}
    assert Client().get("/report/2024/", headers=HTML)["Content-Security-Policy"] == "script-src 'self'"


def test_the_policy_names_the_server_of_static_files(client, settings):
    settings.STATIC_URL = "https://static.example.com/files/"
    page = client.get("/report/2024/", headers=HTML)
    assert "script-src 'self' https://static.example.com;" in page["Content-Security-Policy"]


def test_the_page_has_the_nonce_of_the_sites_own_policy(client, settings):
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, "django.middleware.csp.ContentSecurityPolicyMiddleware"]
    settings.SECURE_CSP = {"script-src": ["<CSP_NONCE_SENTINEL>"]}
    engine = {**settings.TEMPLATES[0], "OPTIONS": {"context_processors": ["django.template.context_processors.csp"]}}
    settings.TEMPLATES = [engine]
    assert b' nonce="' in client.get("/report/2024/", headers=HTML).content


# ── Ends ────────────────────────────────────────────────────────────────────────────────────────


def test_a_failure_is_told_once_without_its_secrets_and_then_tried_again(client):
    client.get("/failing/2024/", headers=HTML)
    run_tasks()
    page = client.get("/failing/2024/", headers=HTML)
    assert page.status_code == 500
    assert b"Something went wrong" in page.content
    assert b'href="/failing/2024/"' in page.content
    assert b"secret" not in page.content
    assert client.get("/failing/2024/", headers=HTML).status_code == 202


def test_a_failure_is_a_problem_to_a_program(client):
    links = client.get("/failing/2024/").json()["links"]
    run_tasks()
    problem = client.get(links["result"])
    assert (problem.status_code, problem["Content-Type"]) == (500, "application/problem+json")
    assert (problem.json()["code"], problem.json()["instance"]) == ("failed", links["result"])
    assert b"secret" not in problem.content
    assert client.get(links["self"]).json()["problem"]["status"] == 500


def test_a_failure_that_the_worker_logged_is_not_logged_at_every_look(client, caplog):
    links = client.get("/failing/2024/").json()["links"]
    run_tasks()
    caplog.clear()
    client.get(links["result"])
    assert [record for record in caplog.records if record.name == "django.request"] == []


def test_what_the_task_says_of_bad_input_is_shown_to_the_visitor(client):
    links = client.get("/refusing/2024/").json()["links"]
    run_tasks()
    problem = client.get(links["result"])
    assert problem.status_code == 422
    assert problem.json()["code"] == "refused"
    assert problem.json()["detail"] == "The file has no header row.\nAdd one."
    assert b"no header row" in client.get(links["result"], headers=HTML).content


def test_cancelled_work_is_shown_as_that_and_can_be_started_again(client):
    started = client.get("/report/2024/", headers=HTML)
    assert client.delete(started["Location"]).status_code == 202
    page = client.get("/report/2024/", headers=HTML)
    assert page.status_code == 410
    assert b"Cancelled" in page.content
    assert b"Start again" in page.content
    assert client.get("/report/2024/", headers=HTML).status_code == 202


def test_work_that_could_not_be_started_in_time_is_shown_as_that(client, fake_clock):
    client.get("/expiring/2024/", headers=HTML)
    fake_clock.advance(120)
    run_tasks()
    page = client.get("/expiring/2024/", headers=HTML)
    assert page.status_code == 503
    assert b"could not be started in time" in page.content


def test_a_result_that_is_no_longer_kept_is_gone(client, fake_clock):
    links = client.get("/report/2024/").json()["links"]
    run_tasks()
    fake_clock.advance(30 * 86_400)
    control.prune()
    gone = client.get(links["result"])
    assert (gone.status_code, gone.json()["code"]) == (410, "gone")
    assert client.get(links["self"]).json()["state"] == "gone"
    page = client.get(links["result"], headers=HTML)
    assert page.status_code == 410
    assert b"no longer here" in page.content


def test_an_operation_outlives_the_view_that_it_came_from(client):
    links = client.get("/report/2024/").json()["links"]
    run_tasks()
    Operation.objects.update(origin="/no/such/view/")
    assert client.get(links["result"]).json() == figures(2024)
    assert b"4048" in client.get(links["result"], headers=HTML).content


def test_an_operation_of_a_backend_that_is_no_more_is_gone(client):
    links = client.get("/report/2024/").json()["links"]
    Operation.objects.update(backend_name="removed")
    assert client.get(links["result"]).status_code == 410


def test_no_link_of_a_page_leads_to_another_site(client):
    client.get("/failing/2024/", headers=HTML)
    run_tasks()
    Operation.objects.update(origin="//evil.example/failing/")
    links = Operation.objects.get()
    page = client.get(f"/operations/{links.pk}/result/", headers=HTML)
    assert b'href="//' not in page.content


# ── Functions ───────────────────────────────────────────────────────────────────────────────────


def test_a_function_validates_returns_arguments_and_renders_the_result(client):
    client.get("/function/2024/?title=Costs", headers=HTML)
    run_tasks()
    page = client.get("/function/2024/?title=Costs", headers=HTML)
    assert page.content == b"<p>Costs of 2024: 4048</p>"


def test_a_function_refuses_with_an_exception_or_a_response(client, enqueued_tasks):
    refused = client.get("/function/3001/")
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "far")
    assert b"too far off" in client.get("/function/3001/", headers=HTML).content
    assert client.get("/function/1999/").content == b"closed"
    assert enqueued_tasks == []


def test_a_function_that_only_takes_posts_still_renders_its_result(client):
    links = client.post("/ordered/2024/").json()["links"]
    run_tasks()
    assert client.get(links["result"], headers=HTML).content == b"ordered 4048"
    assert client.get(links["result"]).json() == figures(2024)


def test_a_function_keeps_its_name():
    from tests.offload.site import report

    assert report.__name__ == "report"  # type: ignore[attr-defined]


# ── Doubles ─────────────────────────────────────────────────────────────────────────────────────


def test_with_the_immediate_double_the_result_comes_at_once(client, settings):
    settings.TASKS = {"default": {"BACKEND": "backroom.tasks.backends.immediate.ImmediateBackend"}}
    assert client.get("/report/2024/").json() == figures(2024)


def test_with_the_dummy_double_nothing_comes_and_what_was_asked_for_can_be_looked_at(client, settings):
    settings.TASKS = {"default": {"BACKEND": "backroom.tasks.backends.dummy.DummyBackend"}}
    assert client.get("/report/2024/").status_code == 202


@pytest.fixture
def sleeping(monkeypatch, transactional_db):
    """Give the pauses that requests made, on a clock that passes only in them."""
    pauses: list[float] = []
    monkeypatch.setattr(waiting, "sleep", pauses.append)
    monkeypatch.setattr(waiting, "monotonic", lambda: sum(pauses))
    return pauses


@pytest.fixture
def worker_while_waiting(monkeypatch, transactional_db):
    """Run what is due whenever a request pauses."""
    monkeypatch.setattr(waiting, "sleep", lambda _seconds: run_tasks())
