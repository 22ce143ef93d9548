"""What drf-spectacular says of offloaded views is what they answer."""

from typing import Any

import pytest
from drf_spectacular.drainage import GENERATOR_STATS
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.validation import validate_schema

from tests.offload.api import site

PROBLEM = "application/problem+json"


@pytest.fixture
def schema() -> dict[str, Any]:
    GENERATOR_STATS.reset()
    generated: dict[str, Any] = SchemaGenerator(urlconf="tests.offload.api.site").get_schema(public=True)
    return generated


@pytest.mark.parametrize("version", ["3.0.3", "3.1.1"])
def test_the_schema_is_valid(settings, version):
    settings.SPECTACULAR_SETTINGS = {"OAS_VERSION": version}
    validate_schema(SchemaGenerator(urlconf="tests.offload.api.site").get_schema(public=True))


def test_nothing_of_ours_is_guessed(schema):
    complaints = [*GENERATOR_STATS._warn_cache, *GENERATOR_STATS._error_cache]
    # The authentication of the test's own site is the one thing nobody described.
    assert [line for line in complaints if "HeaderAuthentication" not in line] == []


def test_an_order_is_described_with_every_answer(schema):
    order = schema["paths"]["/reports/"]["post"]
    assert set(order["responses"]) == {"200", "202", "303"} | {
        str(status) for status in (400, 401, 403, 406, 410, 422, 429, 500, 503, 504)
    }
    bodies = {status: content_of(answer) for status, answer in order["responses"].items()}
    assert bodies["200"] == {"application/json": "ReportOutput"}
    assert bodies["202"] == {"application/json": "Operation"}
    assert bodies["303"] == {}
    assert [bodies[status] for status in ("400", "410", "422", "500")] == [{PROBLEM: "Problem"}] * 4
    assert set(order["responses"]["202"]["headers"]) == {"Location", "Retry-After", "Preference-Applied"}
    assert set(order["responses"]["303"]["headers"]) == {"Location"}
    sent = {parameter["name"] for parameter in order["parameters"] if parameter["in"] == "header"}
    assert sent == {"Prefer", "Idempotency-Key"}
    assert content_of(order["requestBody"])["application/json"] == "ReportInput"


def test_an_order_in_the_query_is_described_by_its_parameters(schema):
    order = schema["paths"]["/query/"]["get"]
    assert {parameter["name"] for parameter in order["parameters"]} == {"Prefer", "year", "title"}
    assert "requestBody" not in order
    assert "303" not in order["responses"]


def test_the_resources_of_an_operation_are_described(schema):
    status = schema["paths"]["/api/operations/{operation_id}/"]
    assert set(status["get"]["responses"]) == {"200", "304", "401", "404", "406"}
    assert set(status["get"]["responses"]["200"]["headers"]) == {"ETag", "Retry-After", "Preference-Applied"}
    assert set(status["delete"]["responses"]) == {"202", "401", "403", "404", "409"}
    result = schema["paths"]["/api/operations/{operation_id}/result/"]["get"]
    assert set(result["responses"]) == {"200", "202", "401", "403", "404", "406", "410", "422", "500", "503", "504"}
    assert content_of(result["responses"]["410"]) == {PROBLEM: "Problem"}
    assert not any("events" in path for path in schema["paths"])


def test_describing_a_view_does_not_change_it(schema):
    assert "schema" not in vars(site.ReportView)


@pytest.mark.django_db
@pytest.mark.urls("tests.offload.api.site")
def test_what_is_described_is_what_is_answered(client, schema):
    described = schema["components"]["schemas"]
    accepted = client.post("/open/", {"year": 2024})
    assert set(accepted.json()) == set(described["Operation"]["properties"])
    assert set(accepted.json()["links"]) == set(described["OperationLinks"]["properties"])
    refused = client.post("/open/", {"year": 1})
    assert set(refused.json()) <= set(described["Problem"]["properties"])
    assert set(refused.json()["errors"][0]) == set(described["ProblemError"]["properties"])


def content_of(answer: dict[str, Any]) -> dict[str, str]:
    """Return the media types of an answer, each with the name of its schema."""
    return {
        media_type: body["schema"].get("$ref", "").rpartition("/")[2]
        for media_type, body in answer.get("content", {}).items()
    }
