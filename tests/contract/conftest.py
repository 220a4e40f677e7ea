"""A service that asks for a key, and a key that may do everything as often as it likes."""

import hashlib
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.e2e.service import running

NO_LIMIT = str(10**9)


@dataclass(frozen=True)
class Guarded:
    """A running service and a key to it."""

    url: str
    key: str


@pytest.fixture(scope="session")
def guarded(tiny_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory, key = tmp_path_factory.mktemp("guarded"), secrets.token_hex()
    keys = directory / "keys.txt"
    keys.write_text(f"tester {hashlib.sha256(key.encode()).hexdigest()}\n")
    limits = {"key_requests_per_minute": NO_LIMIT, "key_jobs_in_flight": NO_LIMIT, "max_queued_audio_s": NO_LIMIT}
    called = {"audio_url_hosts": "localhost"}
    with running(tiny_weights, directory / "data", key=key, api_keys_file=str(keys), **limits, **called) as service:
        yield Guarded(service.url, key)
