"""Fields that several schemas have."""

import re
from datetime import UTC, datetime
from typing import Annotated, TypeVar

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    Json,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.json_schema import SkipJsonSchema

from app.core.problems import Problem

MAX_EXTERNAL_ID_CHARS = 128
MAX_MODEL_VERSION_CHARS = 128
MAX_METADATA_KEYS = 16
MAX_METADATA_KEY_CHARS = 64
MAX_METADATA_VALUE_CHARS = 512

#: What ids of jobs and batches are made of. They are parts of Redis's keys, in which a colon begins another part: an id
#: with one could name what belongs to a job or a batch instead of the job or the batch.
_ID_CHARS, _MAX_ID_CHARS = "[A-Za-z0-9_-]", 64
ID_FORM = StringConstraints(min_length=1, max_length=_MAX_ID_CHARS, pattern=f"^{_ID_CHARS}*$")
_ID = re.compile(f"{_ID_CHARS}{{1,{_MAX_ID_CHARS}}}")


def known_form(noun: str) -> AfterValidator:
    """A check of an id in a path: one that cannot be an id gets the same `not_found` as one that is unknown."""

    def check(value: str) -> str:
        if not _ID.fullmatch(value):
            raise Problem("not_found", f"There is no such {noun}.")
        return value

    return AfterValidator(check)


Timestamp = Annotated[
    str,
    Field(
        json_schema_extra={"format": "date-time"}, examples=["2026-11-22T15:08:11.204Z"], description="RFC 3339, UTC."
    ),
]


def _flag(value: object) -> object:
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


#: A boolean that a form or a query carries as `true` or `false` in any case, and JSON as itself.
Flag = Annotated[bool, Field(strict=True), BeforeValidator(_flag)]


def _is_none(value: object) -> bool:
    return value is None


T = TypeVar("T")
#: A field of an answer that is left out where there is no value: never null. Its default is None.
Omissible = Annotated[T | SkipJsonSchema[None], Field(exclude_if=_is_none)]
#: Seconds from the making of an answer, for its `Retry-After`, in no body: they change with each answer.
SecondsFromNow = SkipJsonSchema[Annotated[float | None, Field(exclude=True)]]


#: What each job and batch says, so that nobody takes made-up scores for real ones.
LIVEMODE = Field(description="False for what a test key made: its scores are made up.", examples=[True])


def or_else(fallback: object) -> WrapValidator:
    """Annotates a choice: one that only a newer version of the service knows is shown as `fallback`."""

    def known(value: object, validate: ValidatorFunctionWrapHandler) -> object:
        try:
            return validate(value)
        except ValidationError:
            return fallback

    return WrapValidator(known)


MetadataKey = Annotated[str, StringConstraints(min_length=1, max_length=MAX_METADATA_KEY_CHARS)]
MetadataValue = Annotated[str, StringConstraints(max_length=MAX_METADATA_VALUE_CHARS)]
ExternalId = Annotated[str, StringConstraints(min_length=1, max_length=MAX_EXTERNAL_ID_CHARS)]
_METADATA = Field(
    description=f'A JSON object of at most {MAX_METADATA_KEYS} strings, such as `{{"album": "x"}}`; comes back '
    "unchanged."
)
#: As part of a JSON body.
MetadataObject = Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_METADATA_KEYS), _METADATA]
#: As the text of a form or query.
Metadata = Annotated[Json[Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_METADATA_KEYS)]], _METADATA]


def timestamp(seconds: float | None) -> str | None:
    """Epoch seconds as RFC 3339 in UTC with milliseconds."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
