"""Client of the APEX music-scoring service."""

from apex_client.asynchronous import AsyncApexClient
from apex_client.errors import ApexError, ApiError, ConnectionFailed, JobFailed, WaitTimeout
from apex_client.operations import BatchOptions, JobFilters, Track, TrackOptions
from apex_client.synchronous import ApexClient
from apex_client.webhooks import WebhookEvent, WebhookVerificationError, verify_webhook

__all__ = [
    "ApexClient",
    "ApexError",
    "ApiError",
    "AsyncApexClient",
    "BatchOptions",
    "ConnectionFailed",
    "JobFailed",
    "JobFilters",
    "Track",
    "TrackOptions",
    "WaitTimeout",
    "WebhookEvent",
    "WebhookVerificationError",
    "verify_webhook",
]
