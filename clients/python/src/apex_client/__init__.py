"""Client of the APEX music-scoring service."""

from apex_client.asynchronous import AsyncApexClient
from apex_client.errors import ApexError, ApiError, ConnectionFailed, JobFailed, WaitTimeout
from apex_client.events import StreamEvent
from apex_client.operations import BatchFilters, BatchOptions, JobFilters, Track, TrackOptions, Url
from apex_client.synchronous import ApexClient
from apex_client.webhooks import WebhookEvent, WebhookVerificationError, verify_webhook

__all__ = [
    "ApexClient",
    "ApexError",
    "ApiError",
    "AsyncApexClient",
    "BatchFilters",
    "BatchOptions",
    "ConnectionFailed",
    "JobFailed",
    "JobFilters",
    "StreamEvent",
    "Track",
    "TrackOptions",
    "Url",
    "WaitTimeout",
    "WebhookEvent",
    "WebhookVerificationError",
    "verify_webhook",
]
