import re
from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.staticfiles import finders
from django.core import checks
from django.db import connections
from django.test.utils import CaptureQueriesContext

from backroom.clock import after
from backroom.tasks import admin as tasks_admin
from backroom.tasks import adminlists, adminorders, control, queries
from backroom.tasks.lifecycle import LABELS, label
from backroom.tasks.models import TaskRecord, WorkerRecord
from backroom.tasks.records import Worker
from tests.commands.conftest import DATABASE, SECRET
from tests.commands.work import succeed

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.commands.urls")]

TASKS = "/admin/backroom_tasks/taskrecord/"
WORKERS = "/admin/backroom_tasks/workerrecord/"


@pytest.fixture
def sign_in(client):
    """Give a function that signs in a member of the staff with these permissions."""

    def sign_in(*permissions):
        user = User.objects.create_user("anna", is_staff=True)
        names = {"view_taskrecord", "view_workerrecord", *permissions}
        found = Permission.objects.filter(codename__in=names, content_type__app_label="backroom_tasks")
        assert {permission.codename for permission in found} == names
        user.user_permissions.set(found)
        client.force_login(user)
        return client

    return sign_in


def page(client, url, **query):
    answer = client.get(url, query)
    assert answer.status_code == 200, answer
    return unescape(answer.content.decode())


def listed(client, **query):
    """Return the ids that the list shows, in its order."""
    return re.findall(r'<td class="field-id[^>]*>([^<]+)</td>', page(client, TASKS, **query))


def order(client, action, ids, url=TASKS, **more):
    prefix = "CHANGE_FORM-" if "/change/" in url else ""
    sent = {f"{prefix}action": action, "_selected_action": ids} | more
    answer = client.post(url, sent, follow=True)
    assert answer.status_code == 200
    return [str(message) for message in answer.context["messages"]]


# ── Lists ───────────────────────────────────────────────────────────────────────────────────────


def test_tasks_are_listed_newest_first_with_the_word_for_their_state(tasks, sign_in):
    client = sign_in()
    assert listed(client) == sorted(tasks.values(), reverse=True)
    shown = page(client, TASKS)
    assert re.findall(r'<td class="field-is_">([^<]+)</td>', shown) == [
        *("scheduled", "ready", "running", "successful", "failed")
    ]
    assert SECRET not in shown


def test_the_list_is_narrowed_down_by_state(tasks, sign_in):
    client = sign_in()
    control.cancel([tasks["ready"], tasks["running"]])
    by_word = {word: listed(client, **{"is": word}) for word in ("scheduled", "cancelled", "cancelling", "failed")}
    assert by_word == {
        "scheduled": [tasks["deferred"]],
        "cancelled": [tasks["ready"]],
        "cancelling": [tasks["running"]],
        "failed": [tasks["failed"]],
    }
    assert listed(client, **{"is": "successful"}) == [tasks["successful"]]
    assert listed(client, **{"is": "retrying"}) == []


def test_each_word_for_a_state_finds_what_has_that_label(tasks, sign_in):
    client = sign_in()
    for word in LABELS:
        found = [record.id for record in queries.get_many(list(tasks.values())) if label(record) == word]
        assert listed(client, **{"is": word}) == sorted(found, reverse=True)


def test_the_list_is_narrowed_down_by_queue(tasks, sign_in):
    client = sign_in()
    mail = succeed.using(queue_name="mail").enqueue().id
    assert listed(client, queue_name="mail") == [mail]
    assert ">mail</a>" in page(client, TASKS)


def test_a_task_is_found_by_its_id(tasks, sign_in):
    client = sign_in()
    assert listed(client, q=tasks["failed"]) == [tasks["failed"]]
    assert listed(client, q=tasks["failed"][:-1]) == []


@pytest.mark.parametrize("use_tz", [True, False])
def test_times_are_shown_in_the_projects_time_zone(backend, sign_in, settings, use_tz):
    settings.USE_TZ, settings.TIME_ZONE = use_tz, "Asia/Tokyo"
    id_ = succeed.enqueue().id
    TaskRecord.objects.using(backend.settings.database).update(enqueued_at=1_900_000_000_000_000)
    client = sign_in()
    assert '<td class="field-enqueued"><span class="nowrap">2030-03-18 02:46:40</span></td>' in page(client, TASKS)
    assert '<div class="readonly"><span class="nowrap">2030-03-18 02:46:40</span></div>' in page(
        client, f"{TASKS}{id_}/change/"
    )


def test_a_long_list_is_counted_and_paged_up_to_a_cap(backend, sign_in, monkeypatch):
    monkeypatch.setattr(adminlists, "COUNTED", 70)
    for _ in range(80):
        succeed.enqueue()
    client = sign_in()
    assert "70 tasks" in page(client, TASKS)
    assert len(listed(client)) == 50
    assert len(listed(client, p="2")) == 20
    assert client.get(TASKS, {"p": "3"}).status_code == 302


def test_the_list_reads_no_large_column_and_counts_no_whole_table(tasks, backend, sign_in):
    client = sign_in()
    with CaptureQueriesContext(connections[backend.settings.database]) as asked:
        page(client, TASKS)
    about_tasks = [each["sql"] for each in asked if '"backroom_tasks_taskrecord"' in each["sql"]]
    assert about_tasks
    assert not [sql for sql in about_tasks if '"payload"' in sql or '"result"' in sql]
    assert not [sql for sql in about_tasks if "COUNT(" in sql and "LIMIT" not in sql]
    assert len(about_tasks) <= 3


def test_no_column_can_be_sorted_by(tasks, sign_in):
    assert "?o=" not in page(sign_in(), TASKS)


# ── One task ────────────────────────────────────────────────────────────────────────────────────


def test_a_task_is_shown_with_its_times_and_tracebacks(tasks, sign_in):
    shown = page(sign_in(), f"{TASKS}{tasks['failed']}/change/")
    assert "tests.commands.work.fail" in shown
    assert "<p>builtins.ValueError</p><pre>Traceback" in shown
    assert "ValueError: on purpose" in shown


def test_arguments_and_results_are_for_those_who_may_see_them(tasks, sign_in, django_user_model):
    client = sign_in()
    url = f"{TASKS}{tasks['successful']}/change/"
    shown = page(client, url)
    assert SECRET not in shown
    assert "takes the permission backroom_tasks.view_payload" in shown
    user = User.objects.get(username="anna")
    user.user_permissions.add(Permission.objects.get(codename="view_payload"))
    shown = page(client, url)
    assert f'"args": [\n    "{SECRET}"' in shown
    assert f'"done with {SECRET}"' in shown
    assert "view_payload" not in shown


def test_what_tasks_hold_is_text_and_never_markup(backend, sign_in):
    id_ = succeed.using(metadata={"note": "<script>alert(1)</script>"}).enqueue("<b>bold</b>").id
    answer = sign_in("view_payload").get(f"{TASKS}{id_}/change/").content.decode()
    assert "<script>alert" not in answer
    assert "<b>bold" not in answer
    assert "&lt;b&gt;bold" in answer


def test_a_very_long_argument_is_cut_short(backend, sign_in, monkeypatch):
    monkeypatch.setattr(tasks_admin, "SHOWN", 100)
    id_ = succeed.enqueue("x" * 500).id
    assert re.search(r"… \d+ characters more", page(sign_in("view_payload"), f"{TASKS}{id_}/change/"))


def test_progress_is_shown(backend, sign_in):
    id_ = succeed.enqueue().id
    rows = TaskRecord.objects.using(backend.settings.database)
    client = sign_in()
    rows.update(progress='[3, 10, "rows"]')
    assert "3 of 10 rows" in page(client, f"{TASKS}{id_}/change/")
    rows.update(progress='[3, null, ""]')
    assert '<div class="readonly">3</div>' in page(client, f"{TASKS}{id_}/change/")


def test_a_long_line_of_a_traceback_wraps_instead_of_being_cut_off(tasks, sign_in):
    assert 'href="/static/backroom/tasks/admin.css"' in page(sign_in(), f"{TASKS}{tasks['failed']}/change/")
    found = finders.find("backroom/tasks/admin.css")
    assert found is not None
    assert ".readonly pre { white-space: pre-wrap;" in Path(found).read_text()


def test_a_task_that_is_gone_is_told_of(backend, sign_in):
    answer = sign_in().get(f"{TASKS}nothing/change/", follow=True)
    assert "doesn’t exist" in answer.content.decode()


# ── Actions ─────────────────────────────────────────────────────────────────────────────────────


def test_selected_tasks_are_retried(tasks, sign_in):
    said = order(sign_in("retry_task"), "retry", [tasks["failed"], tasks["running"]])
    assert said == [
        "Retried 1 task: 1 failed.",
        "1 task left alone (1 running): this is for failed tasks of a backend in TASKS.",
    ]
    assert queries.get(tasks["failed"]).state == "ready"
    assert queries.get(tasks["running"]).state == "running"


def test_what_somebody_chose_is_retried_when_the_list_is_about_it_or_on_its_own_page(tasks, sign_in):
    control.cancel([tasks["ready"]])
    client = sign_in("retry_task")
    both = [tasks["ready"], tasks["successful"]]
    assert order(client, "retry", both) == [
        "Retried 0 tasks.",
        "2 tasks left alone (1 cancelled, 1 successful): this is for failed tasks of a backend in TASKS.",
    ]
    assert order(client, "retry", both, f"{TASKS}?is=cancelled") == ["Retried 1 task: 1 cancelled."]
    url = f"{TASKS}{tasks['successful']}/change/"
    assert order(client, "retry", [tasks["successful"]], url) == ["Retried 1 task: 1 successful."]


@pytest.mark.parametrize("path", ["?queue_name=a%00b", "?is=%00", "?backend=%00", "?q=%00", "a%00b/change/"])
def test_an_address_that_no_task_can_have_is_no_error(tasks, sign_in, path):
    assert sign_in().get(f"{TASKS}{path}", follow=True).status_code == 200


def test_selected_tasks_are_cancelled(tasks, sign_in):
    assert order(sign_in("cancel_task"), "cancel", [tasks["ready"], tasks["running"]]) == [
        "Cancelled 2 tasks: 1 ready, 1 running; what runs is asked to stop, and does so within 12 s at the latest."
    ]
    assert queries.get(tasks["ready"]).reason == "cancelled"
    assert queries.get(tasks["running"]).cancel_requested


def test_selected_tasks_are_run_now(tasks, sign_in):
    assert order(sign_in("run_task_now"), "run_now", [tasks["deferred"]]) == ["Made ready 1 task: 1 scheduled."]
    assert queries.get(tasks["deferred"]).state == "ready"


def test_the_page_of_a_task_has_the_same_actions(tasks, sign_in):
    client = sign_in("retry_task", "cancel_task", "run_task_now")
    url = f"{TASKS}{tasks['failed']}/change/"
    shown = page(client, url)
    for words in ("Retry this task", "Cancel this task", "Run this task now"):
        assert words in shown
    assert order(client, "retry", [tasks["failed"]], url) == ["Retried 1 task: 1 failed."]
    assert queries.get(tasks["failed"]).state == "ready"


@pytest.mark.parametrize(
    ("action", "permission", "state"),
    [("retry", "retry_task", "failed"), ("cancel", "cancel_task", "ready"), ("run_now", "run_task_now", "deferred")],
)
def test_who_may_only_look_can_do_nothing(tasks, sign_in, action, permission, state):
    others = {"retry_task", "cancel_task", "run_task_now"} - {permission}
    client = sign_in(*others)
    for url in (TASKS, f"{TASKS}{tasks[state]}/change/"):
        assert f'value="{action}"' not in page(client, url)
        assert order(client, action, [tasks[state]], url) == ["No action selected."]
    assert queries.get(tasks[state]).state == state


def test_what_was_done_is_in_the_admins_log(tasks, sign_in):
    client = sign_in("retry_task", "cancel_task")
    order(client, "retry", [tasks["failed"]])
    order(client, "cancel", [tasks["ready"]])
    entries = LogEntry.objects.order_by("object_id")
    assert [(entry.object_id, entry.get_change_message(), entry.user.username) for entry in entries] == [
        (tasks["failed"], "Retried.", "anna"),
        (tasks["ready"], "Cancelled.", "anna"),
    ]


def test_all_that_a_filter_finds_are_served_up_to_a_cap(backend, sign_in, monkeypatch):
    monkeypatch.setattr(adminorders, "ORDERED", 7)
    monkeypatch.setattr(adminorders, "BATCH", 3)
    ids = [succeed.enqueue().id for _ in range(9)]
    said = order(sign_in("cancel_task"), "cancel", ids[:1], select_across="1")
    assert said == [
        "Cancelled 7 tasks: 7 ready.",
        "These were the newest 7. Do it again for the others, or use manage.py backroom cancel.",
    ]
    assert [record.id for record in queries.get_many(ids) if record.state == "ready"] == ids[:2]


def test_tasks_of_a_backend_that_tasks_no_longer_names_are_left_alone(tasks, backend, sign_in):
    TaskRecord.objects.using(backend.settings.database).update(backend_name="former")
    said = order(sign_in("retry_task"), "retry", [tasks["failed"]])
    assert said == ["Retried 0 tasks.", "1 task left alone: this is for failed tasks of a backend in TASKS."]


@pytest.mark.parametrize("path", ["add/", "{id}/delete/", "{id}/change/"])
def test_nobody_adds_changes_or_deletes_a_row(tasks, admin_client, path):
    answer = admin_client.post(f"{TASKS}{path.format(id=tasks['failed'])}", {"state": "ready", "_save": "1"})
    assert answer.status_code == 403
    assert queries.get(tasks["failed"]).state == "failed"
    assert (
        admin_client.post(TASKS, {"action": "delete_selected", "_selected_action": [tasks["failed"]]}).status_code
        == 302
    )
    assert queries.get(tasks["failed"]).state == "failed"


def test_strangers_see_nothing(tasks, client):
    User.objects.create_user("bob", is_staff=True)
    assert client.get(TASKS).status_code == 302
    client.force_login(User.objects.get(username="bob"))
    assert client.get(TASKS).status_code == 403
    assert client.get(f"{TASKS}{tasks['failed']}/change/").status_code == 403


# ── Several backends ────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def two(settings):
    """Give two backends, each with a database of its own and a task in it."""
    settings.TASKS = {
        "default": {"BACKEND": DATABASE},
        "reports": {"BACKEND": DATABASE, "OPTIONS": {"database": "postgres"}},
    }
    return {alias: succeed.using(backend=alias).enqueue().id for alias in settings.TASKS}


both = pytest.mark.django_db(databases=["default", "postgres"])


@both
def test_a_list_is_about_one_backend_and_its_database(two, sign_in):
    client = sign_in()
    assert listed(client) == [two["default"]]
    assert listed(client, backend="reports") == [two["reports"]]
    assert listed(client, backend="nothing") == []
    assert ">reports</a>" in page(client, TASKS)


@both
def test_a_task_is_found_in_whichever_database_it_is(two, sign_in):
    client = sign_in("cancel_task")
    for alias, id_ in two.items():
        url = f"{TASKS}{id_}/change/"
        assert id_ in page(client, url)
        assert order(client, "cancel", [id_], url) == ["Cancelled 1 task: 1 ready."]
        assert queries.get(id_, using=alias).reason == "cancelled"


@both
def test_actions_on_a_list_reach_the_backend_it_is_about(two, sign_in):
    client = sign_in("cancel_task")
    answer = client.post(f"{TASKS}?backend=reports", {"action": "cancel", "_selected_action": [two["reports"]]})
    assert answer.status_code == 302
    assert queries.get(two["reports"], using="reports").reason == "cancelled"
    assert queries.get(two["default"]).state == "ready"


def test_a_project_without_a_backend_of_ours_has_empty_lists(settings, sign_in):
    settings.TASKS = {"default": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"}}
    client = sign_in()
    assert listed(client) == []
    assert "0 workers" in page(client, WORKERS)


# ── Workers ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def workers(backend):
    now = backend.clock.now()
    alive = Worker(id="shop:1:aa", host="shop", pid=1, queues=(), threads=4, started_at=now, seen_at=now, running=2)
    silent = replace(alive, id="shop:2:bb", queues=("mail", "reports"), seen_at=after(now, -300))
    backend.store.beat([alive, silent])


def test_workers_are_listed_with_what_they_work_on(workers, sign_in):
    shown = page(sign_in(), WORKERS)
    assert re.findall(r'field-queues_">([^<]+)<', shown) == ["all", "mail, reports"]
    assert re.findall(r'alt="(True|False)"', shown) == ["True", "False"]


def test_a_worker_has_a_page(workers, sign_in):
    assert "mail, reports" in page(sign_in(), f"{WORKERS}shop_3A2_3Abb/change/")


def test_whether_a_worker_of_a_former_backend_is_alive_is_unknown(workers, backend, sign_in):
    WorkerRecord.objects.using(backend.settings.database).update(backend_name="former")
    assert re.findall(r'alt="(\w+)"', page(sign_in(), WORKERS)) == ["None", "None"]


def test_the_admins_own_checks_pass():
    assert [each for each in checks.run_checks(tags=["admin"]) if "backroom" in str(each.obj)] == []
    assert admin.site.is_registered(TaskRecord)
