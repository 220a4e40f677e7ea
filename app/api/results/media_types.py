"""Content negotiation: which of several media types a client likes best."""

from collections.abc import Sequence

#: How exactly a media range of `Accept` names a media type, from `*/*` to the type itself.
_ANY, _SAME_TYPE, _EXACT = range(3)


def preferred(accept: str, offered: Sequence[str]) -> str | None:
    """The media type that an `Accept` header likes best, the first of equals; None where it takes none of them.

    The most exact range decides about a media type (RFC 9110, 12.5.1). Without a header the first one is taken.
    """
    ranges = [_parse(text) for text in accept.split(",") if text.strip()] or [("*/*", 1.0)]
    best = max(offered, key=lambda media_type: _quality(media_type, ranges))
    return best if _quality(best, ranges) > 0 else None


def _parse(text: str) -> tuple[str, float]:
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    quality = next((each[2:] for each in parameters if each.startswith("q=")), "1")
    try:
        return name, float(quality)
    except ValueError:
        return name, 0.0


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    kinds = {media_type: _EXACT, f"{media_type.partition('/')[0]}/*": _SAME_TYPE, "*/*": _ANY}
    return max(((kinds[name], quality) for name, quality in ranges if name in kinds), default=(_ANY, 0.0))[1]
