"""Errors, in the shape of RFC 9457."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from app.api.schemas.fields import Omissible, Timestamp


class FieldError(BaseModel):
    """One thing that is wrong with a request. The value that was sent is never shown."""

    pointer: str = Field(description="JSON pointer to the field.", examples=["#/external_id"])
    detail: str = Field(description="What is wrong with it.")


class JobReason(BaseModel):
    """Why one of several jobs will not do."""

    job_id: str
    detail: str = Field(examples=["The job is running."])


class Problem(BaseModel):
    """An error, as RFC 9457 says it. Extensions depend on `code`, and are left out where they do not apply."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(description="Path of a page that explains the problem.", examples=["/problems/payload-too-large"])
    title: str = Field(description="The same for every problem of this type.")
    status: int = Field(ge=400, le=599, description="HTTP status.")
    detail: str = Field(description="What happened this time.")
    code: str = Field(description="Stable name for programs.", examples=["payload_too_large"])
    retryable: bool = Field(description="Whether the same request may work later.")
    instance: Omissible[str] = Field(None, description="Path of the request.")
    request_id: Omissible[str] = Field(None, description="Names the request in the server's logs.")
    errors: Omissible[list[FieldError]] = Field(None, description="Fields that are not valid.")
    limit_bytes: Omissible[int] = Field(None, description="The limit that was passed.")
    accepted: Omissible[list[str]] = Field(None, description="What would have been accepted.")
    attempts: Omissible[int] = Field(None, description="How often a job was run.")
    required_scope: Omissible[str] = Field(None, description="The scope that the key lacks.")
    job_id: Omissible[str] = Field(None, description="The job that the first request made.")
    jobs: Omissible[list[JobReason]] = Field(None, description="Jobs that cannot be compared.")
    status_now: Omissible[Literal["succeeded", "failed"]] = Field(None, description="How the job ended.")
    expired_at: Omissible[Timestamp] = Field(None, description="When the job went away.")
    violated_policies: Omissible[list[str]] = Field(
        None, description="The limits that are reached, by their names in `RateLimit-Policy`."
    )
