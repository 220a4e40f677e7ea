"""Operations that will go away, and when: each of their responses says so. docs/api-versions.md has the rules."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime

#: What an operation is served for, at least, after it was deprecated.
NOTICE = timedelta(days=365)


@dataclass(frozen=True)
class Deprecation:
    """Since when an operation is deprecated, until when it is served at least, and the path that replaces it."""

    since: date
    sunset: date
    successor: str

    def __post_init__(self) -> None:
        if self.sunset - self.since < NOTICE:
            raise ValueError(f"an operation is served for {NOTICE.days} days after it was deprecated")

    def headers(self, root_path: str = "") -> dict[str, str]:
        """`Deprecation` of RFC 9745, `Sunset` of RFC 8594, and where to go instead."""
        return {
            "Deprecation": f"@{_midnight(self.since).timestamp():.0f}",
            "Sunset": format_datetime(_midnight(self.sunset), usegmt=True),
            "Link": f'<{root_path}{self.successor}>; rel="successor-version"',
        }


#: By operation id, which is the name of its route.
DEPRECATIONS: Mapping[str, Deprecation] = {}


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
