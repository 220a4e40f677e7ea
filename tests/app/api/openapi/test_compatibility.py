"""The promise of docs/api-versions.md: what the last release promised its clients still holds."""

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from app.api.deprecations import NOTICE
from app.core.json_types import Json
from tests.app.api.documented import document
from tests.app.api.openapi.compatibility import breaks, promises

RELEASES = Path(__file__).parent / "releases"
ROOT = Path(__file__).parents[4]
CHANGELOG, PAGE = ROOT / "CHANGELOG.md", ROOT / "docs" / "api-versions.md"

#: Differences from the last release that break no client, and why. Empty again once a release is kept.
HARMLESS = {
    r"POST /score: the parameter (external_id|metadata|model_version|batch_id) is gone": (
        "it is taken beside a raw body as before, and documented at POST /score/raw: generators know no two bodies"
    ),
    r"POST /score: a body of (audio/\*|application/octet-stream) is not taken any more": "the same",
    r"(POST /score|POST /compare): the body\.\S+ has (maxLength|pattern) .*": "the service never made another id",
    r".*\.status_reason may be waiting_for_model": "only of a job that asks for a model, while it waits",
    r".*\.progress\.stage may be fetching": "only of a job that came with a URL",
    r"GET /jobs/{id}/events: the 200 may be object": "the same text, whose data is described now",
}


def last_release() -> str:
    found = re.search(r"^## \[(\d+\.\d+\.\d+)\]", CHANGELOG.read_text(), re.MULTILINE)
    assert found
    return found[1]


def test_what_the_last_release_promised_still_holds() -> None:
    old = json.loads((RELEASES / f"{last_release()}.json").read_text())
    found = list(breaks(old, document()))
    broken = [sentence for sentence in found if not any(re.fullmatch(known, sentence) for known in HARMLESS)]
    assert broken == []
    stale = [known for known in HARMLESS if not any(re.fullmatch(known, sentence) for sentence in found)]
    assert stale == []


def test_the_page_of_changes_names_every_new_operation_and_option() -> None:
    old, new = json.loads((RELEASES / f"{last_release()}.json").read_text()), document()
    operations = {
        f"{method.upper()} {path}"
        for path, item in new["paths"].items()
        for method in item.keys() - old["paths"].get(path, {}).keys() - {"parameters"}
    }
    forms = [document["components"]["schemas"]["TrackForm"]["properties"] for document in (new, old)]
    unreleased = PAGE.read_text().partition("### Unreleased")[2].partition("\n### ")[0]
    missing = [name for name in operations | (forms[0].keys() - forms[1].keys()) if f"`{name}" not in unreleased]
    assert missing == [], f"name them under Unreleased in {PAGE.name}"


def test_the_page_says_how_long_what_is_deprecated_is_served() -> None:
    assert f"at least {NOTICE.days} days" in PAGE.read_text()


def test_nothing_is_broken_by_nothing() -> None:
    assert list(breaks(promises(document()), document())) == []


OLD: Json = {
    "paths": {
        "/score": {
            "post": {
                "operationId": "score",
                "security": [{"bearer": []}],
                "parameters": [{"name": "wait", "in": "query", "schema": {"type": "integer", "maximum": 30}}],
                "requestBody": {"required": True, "content": {"application/json": {"schema": {"$ref": "#/s/Form"}}}},
                "responses": {
                    "200": {"headers": {"ETag": {}}, "content": {"application/json": {"schema": {"$ref": "#/s/Job"}}}},
                    "404": {"content": {}},
                },
            }
        }
    },
    "s": {
        "Form": {
            "type": "object",
            "additionalProperties": False,
            "required": ["file"],
            "properties": {
                "file": {"type": "string"},
                "name": {"type": "string", "maxLength": 128},
                "kind": {"type": "string", "enum": ["a", "b"]},
            },
        },
        "Job": {
            "type": "object",
            "required": ["id", "state"],
            "properties": {
                "id": {"type": "string", "format": "uuid"},
                "state": {"type": "string", "enum": ["queued", "done"]},
                "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
                "scores": {"type": "object", "additionalProperties": {"type": "number"}},
                "parent": {"$ref": "#/s/Job"},
            },
        },
    },
}


def operation(document: Json) -> Json:
    found: Json = document["paths"]["/score"]["post"]
    return found


def form(document: Json) -> Json:
    found: Json = document["s"]["Form"]
    return found


def job(document: Json) -> Json:
    found: Json = document["s"]["Job"]["properties"]
    return found


Change = Callable[[Json], object]

BREAKS: dict[str, Change] = {
    "POST /score: it is gone": lambda d: d["paths"].clear(),
    "operationId is other, and was score": lambda d: operation(d).update(operationId="other"),
    "bearer does not authenticate any more": lambda d: operation(d).update(security=[{"other": []}]),
    "the parameter wait is gone": lambda d: operation(d)["parameters"].clear(),
    "the parameter wait has maximum 10 here and 30 there": lambda d: operation(d)["parameters"][0]["schema"].update(
        maximum=10
    ),
    "the parameter key must be given": lambda d: operation(d)["parameters"].append(
        {"name": "key", "in": "query", "required": True, "schema": {}}
    ),
    "a body of application/json is not taken any more": lambda d: operation(d)["requestBody"]["content"].clear(),
    "the body.name is not taken any more": lambda d: form(d)["properties"].pop("name"),
    "the body.name must be given": lambda d: form(d)["required"].append("name"),
    "the body.name has maxLength 64 here and 128 there": lambda d: form(d)["properties"]["name"].update(maxLength=64),
    "the body.name may be string": lambda d: form(d)["properties"]["name"].update(type="integer"),
    "the body.kind may be b": lambda d: form(d)["properties"]["kind"].update(enum=["a"]),
    "it never answers 200 any more": lambda d: operation(d)["responses"].pop("200"),
    "the 200 has no header ETag any more": lambda d: operation(d)["responses"]["200"].pop("headers"),
    "the 200 is no application/json any more": lambda d: operation(d)["responses"]["200"]["content"].clear(),
    "the 200.id may be absent": lambda d: d["s"]["Job"]["required"].remove("id"),
    "the 200.note is gone": lambda d: job(d).pop("note"),
    "the 200.id may be null": lambda d: job(d)["id"].update(type=["string", "null"]),
    "the 200.id has format uuid here and None there": lambda d: job(d)["id"].pop("format"),
    "the 200.state may be lost": lambda d: job(d)["state"]["enum"].append("lost"),
    "the 200.scores.* may be string": lambda d: job(d)["scores"]["additionalProperties"].update(type="string"),
}


@pytest.mark.parametrize("sentence", BREAKS)
def test_a_break_is_found_and_named(sentence: str) -> None:
    new = copy.deepcopy(OLD)
    BREAKS[sentence](new)
    assert [found for found in breaks(OLD, new) if found.endswith(sentence)]


ADDITIONS: dict[str, Change] = {
    "a path": lambda d: d["paths"].update({"/other": {"get": {}}}),
    "an optional parameter": lambda d: operation(d)["parameters"].append({"name": "x", "in": "query", "schema": {}}),
    "an optional field": lambda d: form(d)["properties"].update(more={"type": "string"}),
    "a longer name": lambda d: form(d)["properties"]["name"].update(maxLength=256),
    "another kind": lambda d: form(d)["properties"]["kind"]["enum"].append("c"),
    "a field that may be left out": lambda d: form(d)["required"].clear(),
    "a field of the answer": lambda d: job(d).update(more={"type": "string"}),
    "an error": lambda d: operation(d)["responses"].update({"409": {}}),
    "an error that is no more": lambda d: operation(d)["responses"].pop("404"),
    "a field that is always there": lambda d: d["s"]["Job"]["required"].append("note"),
    "scores by name": lambda d: job(d).update(scores={"type": "object", "properties": {"clarity": {"type": "number"}}}),
    "no key": lambda d: operation(d).pop("security"),
}


@pytest.mark.parametrize("addition", ADDITIONS)
def test_an_addition_is_no_break(addition: str) -> None:
    new = copy.deepcopy(OLD)
    ADDITIONS[addition](new)
    assert list(breaks(OLD, new)) == []
