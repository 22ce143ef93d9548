"""The Idempotency-Key header, and what a repeated request is answered with."""

import pytest
from django.test import Client
from hypothesis import given
from hypothesis import strategies as st

from backroom.offload.idempotency import LONGEST, InvalidKey, parse, serialize
from backroom.offload.models import Operation
from backroom.testing import run_tasks
from tests.offload import work
from tests.offload.conftest import figures

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.offload.site")]

printable = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=LONGEST)


@given(printable)
def test_every_string_of_structured_fields_is_a_key(key):
    assert parse(serialize(key)) == key


@given(printable)
def test_parameters_are_allowed_and_mean_nothing(key):
    assert parse(serialize(key) + ';a;b=1; c="x";d=?1;e=tok/en') == key


@given(st.text())
def test_any_other_header_is_refused(header):
    try:
        key = parse(header)
    except InvalidKey:
        return
    assert header.strip(" ").startswith('"')
    assert 0 < len(key) <= LONGEST


@pytest.mark.parametrize("header", ["abc", "'abc'", '"abc', '""', '"a" "b"', '"a", "b"', '"é"', '"a\tb"', "", '"a\\b"'])
def test_a_header_that_is_no_string_is_answered_with_400(client, header):
    response = client.post("/report/2024/", headers={"idempotency-key": header})
    assert (response.status_code, response.json()["code"]) == (400, "idempotency_key_invalid")
    assert not Operation.objects.exists()


def test_a_key_that_is_too_long_is_answered_with_400(client):
    assert client.post("/report/2024/", headers={"idempotency-key": f'"{"x" * 256}"'}).status_code == 400


def test_the_same_request_while_it_runs_is_answered_with_the_same_operation(client):
    key = {"idempotency-key": '"8e03"'}
    first = client.post("/report/2024/", headers=key)
    second = client.post("/report/2024/", headers=key)
    assert (first.status_code, second.status_code) == (202, 202)
    assert first["Location"] == second["Location"]
    run_tasks()
    assert work.runs == [{"year": 2024, "title": "Sales"}]


def test_the_same_request_later_is_answered_with_the_same_result(client, fake_clock):
    key = {"idempotency-key": '"8e03"'}
    first = client.post("/report/2024/", headers=key)
    run_tasks()
    fake_clock.advance(86_400)
    replayed = client.post("/report/2024/", headers=key)
    assert (replayed.status_code, replayed.json()) == (200, figures(2024))
    assert replayed["Content-Location"] == first.json()["links"]["result"]
    assert len(work.runs) == 1


def test_a_failure_is_replayed_too(client):
    key = {"idempotency-key": '"8e03"'}
    client.post("/refusing/2024/", headers=key)
    run_tasks()
    answers = [client.post("/refusing/2024/", headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [422, 422]


def test_another_request_under_the_same_key_is_refused(client):
    key = {"idempotency-key": '"8e03"'}
    client.post("/report/2024/", headers=key)
    for path in ("/report/2025/", "/cached/2024/"):
        refused = client.post(path, headers=key)
        assert (refused.status_code, refused.json()["code"]) == (422, "idempotency_key_reused")


def test_another_key_joins_the_work_that_runs_and_is_replayed_by_itself(client):
    first = client.post("/report/2024/", headers={"idempotency-key": '"one"'})
    second = client.post("/report/2024/", headers={"idempotency-key": '"two"'})
    again = client.post("/report/2024/", headers={"idempotency-key": '"two"'})
    assert second["Location"] == again["Location"] != first["Location"]
    run_tasks()
    assert len(work.runs) == 1


def test_another_visitor_may_use_the_same_key(client):
    mine = client.post("/report/2024/", headers={"idempotency-key": '"one"'})
    theirs = Client().post("/report/2025/", headers={"idempotency-key": '"one"'})
    assert theirs.status_code == 202
    assert theirs["Location"] != mine["Location"]


def test_a_safe_request_needs_no_key_and_ignores_one(client):
    first = client.get("/report/2024/", headers={"idempotency-key": '"one"'})
    assert first.status_code == 202
    assert Operation.objects.get().idempotency_key is None
