"""Tracks by their URLs as files, for those who have no jobs. The rules and the codes are the service's."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from app.core.egress_rules import EgressRules
from app.core.problems import Problem
from app.egress.client import guarded_client
from app.egress.download import HEADERS, check_head
from app.egress.setbacks import Setback, pause_s, setback
from model.domain import AudioError

#: Before the second try of a URL, the third, and so on; after the last of them there is none.
PAUSES_S = (1.0, 5.0, 20.0)
CODES = ("url_forbidden", "url_status", "url_too_large", "url_unreachable", "unsupported_media_type")
#: The error that each of these problems is for a track.
ERRORS: dict[str, type[AudioError]] = {code: type(code, (AudioError,), {"code": code}) for code in CODES}


@dataclass(frozen=True)
class UrlFiles:
    """Copies tracks from where the rules allow.

    idle_timeout_s : for connecting, and for each read
    timeout_s : for all of a try
    """

    rules: EgressRules
    max_bytes: int
    idle_timeout_s: float
    timeout_s: float
    ca_file: Path | None = None
    pauses_s: Sequence[float] = PAUSES_S

    def copy(self, url: str, sink: BinaryIO) -> None:
        """Write the bytes of a URL into an empty file. Raises an `AudioError` with a code of `CODES`."""
        n_tries = 0
        while (back := self._try(url, sink)) is not None:
            n_tries += 1
            if back.is_final or n_tries > len(self.pauses_s):
                raise ERRORS[back.problem.kind.code](back.problem.detail)
            time.sleep(pause_s(self.pauses_s, n_tries, back))

    def _try(self, url: str, sink: BinaryIO) -> Setback | None:
        sink.seek(0)
        sink.truncate()
        try:
            asyncio.run(self._copy(url, sink))
        except Exception as error:
            back = setback(error)
            if back.problem.kind.code not in ERRORS:
                raise
            return back
        return None

    async def _copy(self, url: str, sink: BinaryIO) -> None:
        client = guarded_client(self.rules, timeout_s=self.idle_timeout_s, ca_file=self.ca_file)
        async with asyncio.timeout(self.timeout_s), client, client.stream("GET", url, headers=HEADERS) as response:
            check_head(response, max_bytes=self.max_bytes)
            async for chunk in response.aiter_raw():
                sink.write(chunk)
                if sink.tell() > self.max_bytes:
                    raise Problem("payload_too_large", limit_bytes=self.max_bytes)
