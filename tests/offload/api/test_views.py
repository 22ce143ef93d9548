"""What an offloaded view of REST framework answers, and in which order it looks at a request."""

import pytest
from django.contrib.auth.models import User

from backroom.testing import run_tasks

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.offload.api.site")]
ANN = {"authorization": "Name ann"}


@pytest.fixture(autouse=True)
def _ann():
    User.objects.create_user("ann")


def test_a_client_follows_an_operation_with_the_token_it_started_it_with(client):
    accepted = client.post("/reports/", {"year": 2000}, headers=ANN)
    assert accepted.status_code == 202
    run_tasks()
    result = client.get(accepted.json()["links"]["result"], headers=ANN)
    assert (result.status_code, result.json()) == (200, {"title": "Sales", "year": 2000, "total": 4000})
