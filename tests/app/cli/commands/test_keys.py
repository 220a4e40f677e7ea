"""`apex keys`: what it prints, and which Redis it writes to."""

import os
import re
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

import pytest
from redis import Redis
from typer.testing import CliRunner, Result

from app.api.auth.api_keys import MARK, KeyStore
from app.api.auth.rate_limits import Quotas
from app.cli.commands.keys import LIMITS
from app.cli.main import app
from app.cli.serving.embedded_redis import EmbeddedRedis, running_url
from app.core.callers import Caller, Limits
from app.core.jobs.state_machine import JobStateMachine
from tests.app.records import queued
from tests.conftest import KEYS


def apex_keys(*arguments: str, **settings: str) -> Result:
    """In this process, which spares the start of another. Flags become environment variables, until it ends."""
    with patch.dict(os.environ):
        environment = {name: None for name in os.environ if name.startswith("APEX_")} | settings
        return CliRunner().invoke(app, ["keys", *arguments], env=environment)


def created(*arguments: str, **settings: str) -> str:
    done = apex_keys("create", *arguments, **settings)
    assert done.exit_code == 0, done.output
    return done.stdout.strip()


def refused(*arguments: str) -> str:
    """What it says on stderr, in a process of its own."""
    command = [sys.executable, "-m", "app.cli", "keys", *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    return done.stderr


def test_a_key_is_printed_once_and_alone(redis: Redis, redis_url: str) -> None:
    limits = ("--requests-per-minute", "5", "--jobs-in-flight", "6", "--bytes-per-day", "7")
    options = ("--tenant", "acme", "--name", "backend", "--scopes", "jobs:read,score:write", *limits)
    presented = created(*options, APEX_REDIS_URL=redis_url)
    key = KeyStore(redis, KEYS).find(presented)
    assert key
    assert (key.tenant, key.name, key.scopes) == ("acme", "backend", ("score:write", "jobs:read"))
    assert (key.limits.requests_per_minute, key.limits.jobs_in_flight, key.limits.bytes_per_day) == (5, 6, 7)
    listed = apex_keys("list", "--redis-url", redis_url).stdout
    assert key.id in listed
    assert "acme\tscore:write,jobs:read\t" in listed
    assert presented.rpartition("_")[2] not in listed


def test_a_test_key_can_be_told_from_a_live_one(redis: Redis, redis_url: str) -> None:
    test, live = (created("--tenant", "acme", *options, APEX_REDIS_URL=redis_url) for options in (["--test"], []))
    assert [key[:9] for key in (test, live)] == ["msk_test_", "msk_live_"]
    head, *lines = apex_keys("list", "--redis-url", redis_url).stdout.splitlines()
    assert [dict(zip(head.split("\t"), line.split("\t"), strict=True))["mode"] for line in lines] == ["test", "live"]


def on_terminal(*arguments: str, columns: int) -> str:
    """What `apex keys` shows on a terminal."""
    reader, writer = os.openpty()
    env = os.environ | {"COLUMNS": str(columns), "TERM": "xterm"}
    command = [sys.executable, "-m", "app.cli", "keys", *arguments]
    with open(writer, "wb") as terminal:
        subprocess.run(command, env=env, stdout=terminal, check=True)
        shown = os.read(reader, 1 << 16).decode()
    os.close(reader)
    return re.sub(r"\x1b\[[0-9;]*m", "", shown)


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_the_list_is_a_table_with_limits_and_last_use(redis: Redis, redis_url: str, columns: int) -> None:
    limits = Limits(requests_per_minute=600, bytes_per_day=10**9)
    keys = [
        KeyStore(redis, KEYS).create(tenant=tenant, name="[red]x[/y]", limits=limits)[0] for tenant in ("acme", "other")
    ]
    Quotas(redis, KEYS).consume(Caller("acme", keys[0].id, limits=Limits(1, 1, 1)), requests=1)
    KeyStore(redis, KEYS).revoke(keys[1].id)
    shown = on_terminal("list", "--redis-url", redis_url, columns=columns)
    assert max(map(len, shown.splitlines())) <= columns
    assert "…" not in shown
    if columns >= 80:
        assert all(word in shown for word in (keys[0].id, keys[1].id, "last use", "600/min", "1.0 GB/day", "revoked"))
        assert shown.count("–") == 1, "only the second key was never used"
    if columns > 80:
        assert "[red]x[/y]" in shown


def test_a_piped_list_has_exact_values_in_columns(redis: Redis, redis_url: str) -> None:
    limits = Limits(requests_per_minute=600, bytes_per_day=53687091201)
    key, _ = KeyStore(redis, KEYS).create(tenant="acme", name="a\tb\nc", limits=limits)
    Quotas(redis, KEYS).consume(Caller("acme", key.id, limits=Limits(1, 1, 1)), requests=1)
    head, line = apex_keys("list", "--redis-url", redis_url).stdout.splitlines()
    row = dict(zip(head.split("\t"), line.split("\t"), strict=True))
    assert (row["id"], row["name"]) == (key.id, r"a\tb\nc")
    assert [row[name] for name in LIMITS] == ["600", "", "53687091201"]
    assert row["last use"].endswith("Z")


def test_the_first_key_says_which_jobs_it_puts_out_of_reach(
    redis: Redis, redis_url: str, machine: JobStateMachine
) -> None:
    jobs = [queued(machine) for _ in range(3)]
    queued(machine, tenant="acme")
    redis.delete(KEYS.record(jobs[0].id))  # as when it has expired
    first, second = (apex_keys("create", "--tenant", tenant, "--redis-url", redis_url) for tenant in ("acme", "acme"))
    assert "warning: jobs made without a key: 2." in first.stderr
    assert "apex keys create --tenant open" in first.stderr
    assert len(first.stdout.splitlines()) == 1
    assert "warning" not in second.stderr


def test_a_first_key_that_reaches_the_jobs_made_without_one_needs_no_warning(
    redis: Redis, redis_url: str, machine: JobStateMachine
) -> None:
    queued(machine)
    assert "warning" not in apex_keys("create", "--tenant", "open", "--redis-url", redis_url).stderr


def test_a_key_can_be_revoked_by_its_id(redis: Redis, redis_url: str) -> None:
    presented = created("--tenant", "acme", APEX_REDIS_URL=redis_url)
    assert apex_keys("revoke", presented.split("_")[2], "--redis-url", redis_url).exit_code == 0
    assert KeyStore(redis, KEYS).find(presented) is None


@pytest.mark.parametrize(
    "arguments", [("revoke", "nobody"), ("create", "--tenant", "a b"), ("create", "--tenant", "a", "--scopes", "all")]
)
def test_what_cannot_be_done_is_said_in_one_line(redis: Redis, redis_url: str, arguments: tuple[str, ...]) -> None:
    assert refused(*arguments, "--redis-url", redis_url).count("\n") == 1


def test_the_private_redis_of_a_service_is_found_while_it_runs_and_started_when_it_does_not(tmp_path: Path) -> None:
    directory = tmp_path / "redis"
    with EmbeddedRedis(directory) as server:
        assert running_url(directory) == server.url
        first = created("--tenant", "acme", "--data-dir", str(tmp_path))
    assert running_url(directory) is None
    second = created("--tenant", "acme", "--data-dir", str(tmp_path))
    with EmbeddedRedis(directory) as server, Redis.from_url(server.url) as redis:
        assert all(KeyStore(redis, KEYS).find(key) for key in (first, second))


def test_a_service_whose_redis_cannot_be_reached_is_not_taken_for_another(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path / "redis") as server:
        assert server.process
        server.process.kill()
        server.process.wait()
        silent = refused("list", "--data-dir", str(tmp_path))
        (tmp_path / "redis" / "url").unlink()
        unknown = refused("list", "--data-dir", str(tmp_path))
    for text, said in ((silent, "its Redis does not answer"), (unknown, "does not say where its Redis answers")):
        assert text.count("\n") == 1
        assert said in text
        assert "another" not in text


def test_the_first_key_is_noted_in_the_data_folder_of_the_service(tmp_path: Path, redis: Redis, redis_url: str) -> None:
    with EmbeddedRedis(tmp_path / "redis"):
        created("--tenant", "acme", "--data-dir", str(tmp_path))
    assert (tmp_path / MARK).exists()
    (tmp_path / "elsewhere").mkdir()
    created("--tenant", "acme", "--redis-url", redis_url, "--data-dir", str(tmp_path / "elsewhere"))
    assert (tmp_path / "elsewhere" / MARK).exists()


@pytest.mark.parametrize("copy", [["cp", "-a"], ["cp", "-al"]], ids=["copied", "hard-linked"])
def test_a_copy_of_a_running_services_folder_does_not_reach_that_service(tmp_path: Path, copy: list[str]) -> None:
    with EmbeddedRedis(tmp_path / "data" / "redis") as server, Redis.from_url(server.url) as redis:
        created("--tenant", "acme", "--data-dir", str(tmp_path / "data"))
        subprocess.run([*copy, tmp_path / "data", tmp_path / "copy"], check=True)
        assert (tmp_path / "copy" / "redis" / "url").read_text() == server.url
        apex_keys("create", "--tenant", "other", "--data-dir", str(tmp_path / "copy"))
        assert [key.tenant for key in KeyStore(redis, KEYS).list_all()] == ["acme"]


def test_a_folder_without_a_service_gets_no_key(tmp_path: Path) -> None:
    assert "--redis-url" in refused("create", "--tenant", "acme", "--data-dir", str(tmp_path))
    assert list(tmp_path.iterdir()) == []
