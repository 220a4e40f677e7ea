"""What Schemathesis cannot know about this service: which bytes are a track, and what belongs beside it."""

import hashlib
import json
from typing import Any

import schemathesis
from hypothesis import strategies as st

from tests.model import tracks

Case = schemathesis.Case[Any]

#: Short, so that a worker keeps up; one of them fails its job.
TRACKS = [tracks.wav(tracks.ramp(seconds * 8_000), 8_000) for seconds in (1, 2)] + [tracks.wav(tracks.ramp(99), 8_000)]
UPLOADS = ("/score", "/score/raw", "/score/url", "/batches", "/batches/urls", "/batches/lines")
#: Of a host that `conftest.py` allows, whose address is not: its job fails at once.
ALLOWED_URL = "https://localhost/track"
#: Options that must name something that exists, and that made-up values therefore never fit.
NAMES = ("model_version", "batch_id", "webhook_url", "webhook_events")

schemathesis.openapi.format("binary", st.sampled_from(TRACKS))


@schemathesis.serializer("application/jsonl")
def lines(_context: object, value: object) -> bytes:
    """A good line in place of any text, because the schema cannot say more; what is none as it is."""
    if isinstance(value, dict | list | float | int | None):
        return json.dumps(value).encode()
    return f'{{"url": "{ALLOWED_URL}"}}\n'.encode()


@schemathesis.hook
def before_load_schema(context: schemathesis.HookContext, raw_schema: dict[str, Any]) -> None:
    """Leave such options to tests that know what exists."""
    schemas = raw_schema["components"]["schemas"]
    for body in ("TrackForm", "BatchForm", "UrlTrack", "UrlBatch"):
        for name in NAMES:
            schemas[body]["properties"].pop(name, None)
    for body in ("UrlTrack", "UrlItem"):
        schemas[body]["properties"]["url"]["enum"] = [ALLOWED_URL]
    for path in ("/score/raw", "/batches/lines"):
        _leave_out(raw_schema["paths"][path]["post"], *NAMES)
    for path in ("/jobs", "/results"):  # where no key of metadata is indexed
        _leave_out(raw_schema["paths"][path]["get"], "metadata")


def _leave_out(operation: dict[str, Any], *names: str) -> None:
    operation["parameters"] = [parameter for parameter in operation["parameters"] if parameter["name"] not in names]


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: Case) -> bool:
    """Send no empty parameter: it counts as absent, whatever its schema says."""
    return not any(_is_empty(value) for value in (case.query or {}).values())


def _is_empty(value: object) -> bool:
    """Whether a value is sent as `name=`: of an object its names are sent."""
    return value == "" or (isinstance(value, dict | list) and not any(map(str, value)))


@schemathesis.hook
def before_call(context: schemathesis.HookContext, case: Case, kwargs: dict[str, Any]) -> None:
    """Have cases that are meant to be valid keep to what schemas cannot say."""
    if case.meta is None or case.meta.generation.mode.is_negative or case.path not in UPLOADS:
        return
    if "metadata" in case.query:
        case.query["metadata"] = '{"album": "x"}'  # JSON in a string
    if "Idempotency-Key" in case.headers:
        case.headers["Idempotency-Key"] = _print(case)  # the same key goes with the same request only


def _print(case: Case) -> str:
    said = (case.path, case.query, sorted(case.headers.items()), case.body)
    return hashlib.sha256(repr(said).encode()).hexdigest()
