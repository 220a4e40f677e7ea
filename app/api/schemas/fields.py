"""Fields that several schemas have."""

from datetime import UTC, datetime
from typing import Annotated, TypeVar

from pydantic import (
    Field,
    Json,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.json_schema import SkipJsonSchema

MAX_EXTERNAL_ID_CHARS = 128
MAX_MODEL_VERSION_CHARS = 128
MAX_METADATA_KEYS = 16
MAX_METADATA_KEY_CHARS = 64
MAX_METADATA_VALUE_CHARS = 512

Timestamp = Annotated[
    str,
    Field(
        json_schema_extra={"format": "date-time"}, examples=["2026-11-22T15:08:11.204Z"], description="RFC 3339, UTC."
    ),
]


def _is_none(value: object) -> bool:
    return value is None


T = TypeVar("T")
#: A field of an answer that is left out where there is no value: never null. Its default is None.
Omissible = Annotated[T | SkipJsonSchema[None], Field(exclude_if=_is_none)]


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
Metadata = Annotated[
    Json[Annotated[dict[MetadataKey, MetadataValue], Field(max_length=MAX_METADATA_KEYS)]],
    Field(
        description=f'A JSON object of at most {MAX_METADATA_KEYS} strings, such as `{{"album": "x"}}`; comes back '
        "unchanged.",
    ),
]


def timestamp(seconds: float | None) -> str | None:
    """Epoch seconds as RFC 3339 in UTC with milliseconds."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
