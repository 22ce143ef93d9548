"""What a visitor's request is answered with, from validation to the rendered result."""

import pytest
from django.tasks import task_backends

from backroom.tasks.inline import run_due

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.offload.site")]


def test_a_slow_view_is_answered_with_202_and_later_with_its_result(client):
    accepted = client.get("/report/2024/")
    assert accepted.status_code == 202
    run_due(task_backends["default"])
    assert client.get(accepted.json()["links"]["result"]).json() == {"title": "Sales", "year": 2024, "total": 4048}
