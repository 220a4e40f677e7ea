"""`apex keys`: what it prints, and which Redis it writes to."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from redis import Redis

from app.api.auth.api_keys import KeyStore
from app.cli.embedded_redis import EmbeddedRedis, running_url


def apex_keys(*arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("APEX_")} | settings
    command = [sys.executable, "-m", "app.cli", "keys", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def created(*arguments: str, **settings: str) -> str:
    done = apex_keys("create", *arguments, **settings)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_key_is_printed_once_and_alone(redis: Redis, redis_url: str) -> None:
    limits = ("--requests-per-minute", "5", "--jobs-in-flight", "6", "--bytes-per-day", "7")
    options = ("--tenant", "acme", "--name", "backend", "--scopes", "jobs:read,score:write", *limits)
    presented = created(*options, APEX_REDIS_URL=redis_url)
    key = KeyStore(redis).find(presented)
    assert key
    assert (key.tenant, key.name, key.scopes) == ("acme", "backend", ("score:write", "jobs:read"))
    assert (key.limits.requests_per_minute, key.limits.jobs_in_flight, key.limits.bytes_per_day) == (5, 6, 7)
    listed = apex_keys("list", "--redis-url", redis_url).stdout
    assert key.id in listed
    assert "acme\tscore:write,jobs:read\t" in listed
    assert presented.rpartition("_")[2] not in listed


def test_a_key_can_be_revoked_by_its_id(redis: Redis, redis_url: str) -> None:
    presented = created("--tenant", "acme", APEX_REDIS_URL=redis_url)
    done = apex_keys("revoke", presented.split("_")[2], "--redis-url", redis_url)
    assert done.returncode == 0
    assert KeyStore(redis).find(presented) is None


@pytest.mark.parametrize(
    "arguments", [("revoke", "nobody"), ("create", "--tenant", "a b"), ("create", "--tenant", "a", "--scopes", "all")]
)
def test_what_cannot_be_done_is_said_in_one_line(redis: Redis, redis_url: str, arguments: tuple[str, ...]) -> None:
    done = apex_keys(*arguments, "--redis-url", redis_url)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)


def test_the_private_redis_of_a_service_is_found_while_it_runs_and_started_when_it_does_not(tmp_path: Path) -> None:
    directory = tmp_path / "redis"
    with EmbeddedRedis(directory) as server:
        assert running_url(directory) == server.url
        first = created("--tenant", "acme", "--data-dir", str(tmp_path))
    assert running_url(directory) is None
    second = created("--tenant", "acme", "--data-dir", str(tmp_path))
    with EmbeddedRedis(directory) as server, Redis.from_url(server.url) as redis:
        assert all(KeyStore(redis).find(key) for key in (first, second))


def test_a_folder_without_a_service_gets_no_key(tmp_path: Path) -> None:
    done = apex_keys("create", "--tenant", "acme", "--data-dir", str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "--redis-url" in done.stderr
    assert list(tmp_path.iterdir()) == []
