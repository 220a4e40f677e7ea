"""The OpenAPI document: every operation, answer, header and error is described, and every example fits.

That each answer which the service gives is documented is checked wherever a test gets one (`tests.app.api.documented`).
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import validate

from app.api.schemas.job import Job as JobBody
from app.api.schemas.problem import Problem as ProblemBody
from app.cli.commands import openapi as command
from app.core.json_types import Json
from app.core.problems import MEDIA_TYPE, PROBLEMS
from app.core.webhooks.models import BATCH_EVENT, JOB_EVENTS, TEST_EVENT
from model.domain import SCORE_RANGES
from tests.app.api.documented import document

pytestmark = pytest.mark.anyio

COMMITTED = Path(__file__).parents[4] / "docs" / "openapi.json"

OPEN = {"livez", "readyz", "healthz", "list_problems", "get_problem"}
#: What befalls a run, not a request.
OF_JOBS = {
    "audio_undecodable",
    "audio_too_short",
    "audio_too_long",
    "audio_silent",
    "audio_no_stream",
    "model_output_invalid",
    "worker_lost",
    "audio_lost",
    "url_status",
    "url_too_large",
    "url_unreachable",
    "model_unavailable",
    "gpu_out_of_memory",
    "timed_out",
}
#: Of Standard Webhooks.
HEADERS = {"webhook-id", "webhook-timestamp", "webhook-signature"}
#: What no operation can answer, only a path without one.
OF_NO_OPERATION = {"method_not_allowed"}


def operations() -> Iterator[Json]:
    for item in document()["paths"].values():
        yield from (operation for name, operation in item.items() if name != "parameters")


def operation(name: str) -> Json:
    [found] = [operation for operation in operations() if operation["operationId"] == name]
    return found


def codes(operation: Json) -> set[str]:
    responses = operation["responses"].values()
    return {code for response in responses for code in problem_examples(response)}


def problem_examples(response: Json) -> Json:
    examples: Json = response.get("content", {}).get(MEDIA_TYPE, {}).get("examples", {})
    return examples


async def test_the_committed_document_is_the_served_one(client: httpx.AsyncClient) -> None:
    assert COMMITTED.read_text() == command.document() + "\n", "run `make openapi`"
    assert (await client.get("/openapi.json")).json() == json.loads(COMMITTED.read_text())


async def test_it_is_written_once_however_often_it_is_asked_for(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in ("/openapi.json", "/openapi-3.0.json"):
        first = (await client.get(path)).content
        with monkeypatch.context() as patch:
            patch.setattr("starlette.responses.json", None)
            patch.setattr("fastapi.responses.JSONResponse.render", None)
            assert (await client.get(path)).content == first


async def test_both_versions_of_the_document_are_valid(client: httpx.AsyncClient) -> None:
    for path, version in (("/openapi.json", "3.1"), ("/openapi-3.0.json", "3.0")):
        served = (await client.get(path)).json()
        assert served["openapi"].startswith(version)
        validate(served)


async def test_the_older_document_has_the_same_operations(client: httpx.AsyncClient) -> None:
    older = (await client.get("/openapi-3.0.json")).json()
    assert {path: set(item) for path, item in older["paths"].items()} == {
        path: set(item) for path, item in document()["paths"].items()
    }
    job = older["components"]["schemas"]["Job"]["properties"]
    assert job["external_id"]["nullable"] is True
    assert job["result"]["anyOf"][0] == {"$ref": "#/components/schemas/Result"}


def test_operations_have_short_stable_names() -> None:
    assert [operation["operationId"] for operation in operations()] == [
        "score_track",
        "score_raw",
        "score_url",
        "list_jobs",
        "get_job",
        "delete_job",
        "cancel_job",
        "stream_events",
        "get_embedding",
        "create_batch",
        "list_batches",
        "create_batch_from_urls",
        "create_batch_from_lines",
        "get_batch",
        "cancel_batch",
        "stream_batch_events",
        "stream_results",
        "stream_batch_results",
        "list_job_deliveries",
        "redeliver_job_event",
        "list_batch_deliveries",
        "redeliver_batch_event",
        "test_webhook",
        "get_webhook_test",
        "compare_jobs",
        "get_model",
        "get_capacity",
        "get_operations",
        "get_usage",
        "livez",
        "readyz",
        "healthz",
        "list_problems",
        "get_problem",
    ]


def test_every_operation_tag_schema_and_header_is_explained() -> None:
    described = [*operations(), *document()["tags"], *document()["components"]["headers"].values()]
    for thing in described:
        assert thing["description"]
    for name, schema in document()["components"]["schemas"].items():
        assert schema.get("description"), name
    tags = {tag["name"] for tag in document()["tags"]}
    assert {tag for operation in operations() for tag in operation["tags"]} == tags


def test_every_error_of_the_table_is_documented_where_it_can_occur() -> None:
    documented = set().union(*map(codes, operations()))
    assert documented == set(PROBLEMS) - OF_JOBS - OF_NO_OPERATION


def test_what_needs_a_key_says_so_and_documents_what_keys_bring() -> None:
    for operation in operations():
        if operation["operationId"] in OPEN:
            assert operation["security"] == []
            continue
        assert operation["security"] == [{"bearer": []}, {"api_key": []}]
        assert {"unauthorized", "quota_exceeded", "redis_unavailable"} <= codes(operation)
        for status, response in operation["responses"].items():
            assert ("RateLimit" in response["headers"]) == (status != "401")


def test_every_error_has_the_problem_schema_and_an_example_that_fits() -> None:
    for operation in operations():
        for status, response in operation["responses"].items():
            if status < "400":
                continue
            assert list(response["content"]) == [MEDIA_TYPE]
            assert response["content"][MEDIA_TYPE]["schema"] == {"$ref": "#/components/schemas/Problem"}
            for code, example in problem_examples(response).items():
                assert str(ProblemBody.model_validate(example["value"]).status) == status
                assert PROBLEMS[code].title == example["summary"]


def test_every_answer_documents_its_headers() -> None:
    for operation in operations():
        for response in operation["responses"].values():
            assert "X-Request-Id" in response["headers"]
    responses = operation_responses("score_track")
    assert {"Location", "Retry-After", "Cache-Control"} < set(responses["202"]["headers"])
    assert "Retry-After" in responses["503"]["headers"]
    assert "WWW-Authenticate" in responses["401"]["headers"]


def operation_responses(name: str) -> dict[str, Any]:
    responses: dict[str, Any] = operation(name)["responses"]
    return responses


def test_examples_of_jobs_fit_their_schema() -> None:
    examples = operation_responses("get_job")["200"]["content"]["application/json"]["examples"]
    assert list(examples) == ["queued", "succeeded", "failed"]
    for name, example in examples.items():
        assert JobBody.model_validate(example["value"]).status == name


def test_an_accepted_track_links_to_what_can_be_done_with_its_job() -> None:
    for status in ("200", "202"):
        links = operation_responses("score_track")[status]["links"]
        assert list(links) == ["get_job", "stream_events", "cancel_job", "delete_job"]
        for name, link in links.items():
            assert (link["operationId"], link["parameters"]) == (name, {"id": "$response.body#/id"})
            assert operation(name)


def test_each_way_to_send_a_track_is_an_operation_of_its_own() -> None:
    form, raw = operation("score_track"), operation("score_raw")
    assert set(form["requestBody"]["content"]) == {"multipart/form-data"}
    assert set(raw["requestBody"]["content"]) == {"application/octet-stream"}
    assert queried(form) == set()
    fields = document()["components"]["schemas"]["TrackForm"]
    assert fields["required"] == ["file"]
    assert fields["properties"]["file"]["format"] == "binary"
    assert fields["properties"]["external_id"]["maxLength"] == 128
    assert fields["properties"]["metadata"]["type"] == "object"
    assert queried(raw) == set(fields["properties"]) - {"file"}


def test_urls_are_sent_as_an_object_or_as_lines_with_options_in_the_query() -> None:
    as_object, as_lines = operation("create_batch_from_urls"), operation("create_batch_from_lines")
    assert (set(as_object["requestBody"]["content"]), queried(as_object)) == ({"application/json"}, set())
    assert set(as_lines["requestBody"]["content"]) == {"application/jsonl"}
    assert queried(as_lines) == set(document()["components"]["schemas"]["UrlBatch"]["properties"]) - {"items"}


def test_every_webhook_is_described_with_its_headers_and_its_body() -> None:
    assert set(document()["webhooks"]) == {*JOB_EVENTS, BATCH_EVENT, TEST_EVENT}
    schemas_, items = document()["components"]["schemas"], document()["components"]["pathItems"]
    for event_type, reference in document()["webhooks"].items():
        assert reference == {"$ref": f"#/components/pathItems/{event_type}"}
        receiver = items[event_type]["post"]
        assert receiver["operationId"] == f"on_{event_type.replace('.', '_')}"
        assert {each["name"] for each in receiver["parameters"]} == HEADERS
        assert list(receiver["responses"]) == ["204", "410", "default"]
        name = receiver["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        assert schemas_[name]["properties"]["type"]["const"] == event_type
        data = "WebhookTestData" if event_type == TEST_EVENT else event_type.partition(".")[0].capitalize()
        assert schemas_[name]["properties"]["data"] == {"$ref": f"#/components/schemas/{data}"}


def queried(operation: Json) -> set[str]:
    return {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}


def test_what_a_form_to_try_out_begins_with_is_accepted() -> None:
    """Swagger UI fills examples in: none may name what does not exist, or put all callers into one trace."""
    parameters = [parameter for operation in operations() for parameter in operation.get("parameters", [])]
    parameters += document()["components"]["parameters"].values()
    filled_in = {parameter["name"] for parameter in parameters if {"example", "examples"} & set(parameter["schema"])}
    assert filled_in == {"Prefer", "slug"}
    assert not any({"example", "examples"} & set(parameter) for parameter in parameters)
    for form in ("TrackForm", "BatchForm"):
        fields = document()["components"]["schemas"][form]["properties"]
        begun = {name: field["examples"] for name, field in fields.items() if not name.startswith("file")}
        absent = {"metadata": {}, "segments": False, "embedding": False}
        assert begun == {name: [absent.get(name, "")] for name in begun}


def test_scores_and_ranges_are_named() -> None:
    schemas_ = document()["components"]["schemas"]
    for name, type_ in (("Scores", "number"), ("Ranges", "array")):
        assert list(schemas_[name]["properties"]) == list(SCORE_RANGES)
        assert {field["type"] for field in schemas_[name]["properties"].values()} == {type_}
        assert "required" not in schemas_[name]
    assert schemas_["Ranges"]["properties"]["clarity"]["items"] == {"type": "number"}


def test_what_is_in_an_event_has_a_type() -> None:
    stream = operation_responses("stream_events")["200"]["content"]["text/event-stream"]
    assert stream == {"schema": {"$ref": "#/components/schemas/JobEvent"}}
    kinds = document()["components"]["schemas"]["JobEvent"]["anyOf"]
    assert [kind["$ref"].rpartition("/")[2] for kind in kinds] == ["Job", "ProgressEvent"]


def test_states_of_a_job_are_a_closed_and_explained_set() -> None:
    states = document()["components"]["schemas"]["JobState"]
    assert states["enum"] == ["queued", "running", "succeeded", "failed", "canceled"]
    assert all(state in states["description"] for state in states["enum"])


async def test_the_page_to_try_it_out_loads_nothing_from_elsewhere(client: httpx.AsyncClient) -> None:
    page = (await client.get("/docs")).text
    assert "https://" not in page
    loaded = re.findall(r' (?:href|src|data-document)="([^"]+)"', page)
    assert {"/static/swagger-ui-bundle.js", "/static/swagger-ui.css", "/openapi.json"} < set(loaded)
    assert {(await client.get(path)).status_code for path in loaded} == {200}


async def test_there_is_no_second_page_of_documentation(client: httpx.AsyncClient) -> None:
    assert (await client.get("/redoc")).status_code == 404


async def test_there_is_an_icon(client: httpx.AsyncClient) -> None:
    for path in ("/favicon.ico", "/static/favicon.svg"):
        assert (await client.get(path)).headers["content-type"] == "image/svg+xml"
