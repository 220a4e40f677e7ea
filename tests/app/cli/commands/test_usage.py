"""`apex usage`: what operators can put into a spreadsheet."""

import csv
import subprocess
import sys

from redis import Redis

from app.core.jobs.state_machine import JobStateMachine
from tests.app.records import MODEL, RESULT, queued, running


def rows(*arguments: str) -> list[dict[str, str]]:
    command = [sys.executable, "-m", "app.cli", "usage", *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return list(csv.DictReader(done.stdout.splitlines()))


def test_usage_is_a_line_for_each_day_tenant_and_key(redis: Redis, redis_url: str, machine: JobStateMachine) -> None:
    run = running(machine, tenant="acme", key_id="abc")
    machine.succeed(run, result=RESULT, model=MODEL, audio={"bytes": 9, "duration_s": 1.25})
    machine.cancel(queued(machine, tenant="-evil"))
    machine.cancel(queued(machine, tenant="acme/test", key_id="t"))
    found = rows("--redis-url", redis_url)
    assert [(row["tenant"], row["mode"], row["key_id"]) for row in found] == [
        ("'-evil", "live", ""),
        ("acme", "live", "abc"),
        ("acme", "test", "t"),
    ]
    assert (found[1]["jobs"], found[1]["audio_seconds"], found[1]["bytes"]) == ("1", "1.25", "9")
    assert len(rows("--redis-url", redis_url, "--tenant", "acme", "--days", "1")) == 2
