"""What keeps offloaded views from working is told, with its cure."""

import pytest
from django.core import checks
from django.urls import include, path

from backroom.api import OffloadAPIView
from backroom.offload import OffloadView, offload
from backroom.offload.checks import check_offload
from tests.offload import work

OPERATIONS = path("operations/", include("backroom.offload.urls"))


class PerRequest(OffloadView):
    def get_task(self):
        return work.build_report


def told(settings, *patterns) -> list[str]:
    settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": list(patterns)})
    return [str(message.id) for message in check_offload()]


def test_a_sound_project_hears_nothing(settings):
    settings.ROOT_URLCONF = "tests.offload.site"
    assert check_offload() == []


def test_a_project_without_offloaded_views_hears_nothing(settings):
    settings.MIDDLEWARE = []
    assert told(settings) == []


def test_operations_need_addresses(settings):
    assert told(settings, path("report/", OffloadView.as_view(task=work.build_report))) == ["backroom.E104"]
    nested = path("deep/", include([path("report/", offload(work.build_report)(lambda _request: {}))]))
    assert told(settings, nested) == ["backroom.E104"]
    api = path("api/", OffloadAPIView.as_view(task=work.build_report))
    assert told(settings, OPERATIONS, api) == ["backroom.E104"]
    assert told(settings, OPERATIONS, api, path("api/operations/", include("backroom.api.urls"))) == []


@pytest.mark.parametrize("given", [{}, {"task": None}, {"task": print}])
def test_a_view_needs_a_task(settings, given):
    assert told(settings, OPERATIONS, path("report/", OffloadView.as_view(**given))) == ["backroom.E101"]


def test_a_view_may_choose_its_task_per_request(settings):
    assert told(settings, OPERATIONS, path("report/", PerRequest.as_view())) == []


@pytest.mark.parametrize("using", ["nowhere", "foreign"])
def test_the_backend_must_be_able_to_tell_how_a_task_stands(settings, using):
    settings.TASKS = {**settings.TASKS, "foreign": {"BACKEND": "django.tasks.backends.dummy.DummyBackend"}}
    view = OffloadView.as_view(task=work.build_report, using=using)
    assert told(settings, OPERATIONS, path("report/", view)) == ["backroom.E102"]


def test_visitors_need_sessions_and_pages_need_templates_and_static_files(settings):
    settings.MIDDLEWARE = ["no.such.Middleware"]
    settings.TEMPLATES = []
    settings.INSTALLED_APPS = [app for app in settings.INSTALLED_APPS if app != "django.contrib.staticfiles"]
    view = path("report/", OffloadView.as_view(task=work.build_report))
    assert told(settings, OPERATIONS, view) == ["backroom.W101", "backroom.W102", "backroom.W103"]


def test_every_message_has_a_hint(settings):
    settings.ROOT_URLCONF = type("urls", (), {"urlpatterns": [path("report/", OffloadView.as_view())]})
    settings.MIDDLEWARE = []
    messages = check_offload()
    assert messages
    assert all(message.hint for message in messages)


def test_the_checks_are_registered():
    assert check_offload in checks.registry.registry.get_checks()
