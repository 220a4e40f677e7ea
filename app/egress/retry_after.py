"""`Retry-After`, as a server that was called sends it: RFC 9110, section 10.2.3."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

#: The longest wait that it can ask for.
MAX_RETRY_AFTER_S = 24 * 3600.0


def retry_after_s(value: str | None, *, now: datetime | None = None) -> float | None:
    """The seconds that a `Retry-After` asks for, as a number or as a date; None for none, and for what is neither."""
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        return min(float(value), MAX_RETRY_AFTER_S)
    try:
        at = parsedate_to_datetime(value)
        left_s = (at - (now or datetime.now(at.tzinfo or UTC).replace(tzinfo=at.tzinfo))).total_seconds()
    except (ValueError, OverflowError):  # the latter for a zone that is days away
        return None
    return min(max(left_s, 0.0), MAX_RETRY_AFTER_S)
