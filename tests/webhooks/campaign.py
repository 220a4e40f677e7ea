"""One run: jobs that end in every way, dispatchers, Redis and receivers killed at random, and the judgement."""

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from redis import Redis

from app.api.batches.store import Batch, BatchStore, new_batch_id
from app.cli.serving.embedded_redis import EmbeddedRedis
from app.core.callers import ANONYMOUS_TENANT
from app.core.jobs.models import Job, JobExists, JobState, new_job_id
from app.core.jobs.state_machine import JobStateMachine
from app.core.problems import problem_object
from app.core.redis.client import connect
from app.core.webhooks.models import BATCH_EVENT, JOB_EVENTS, event_id
from app.core.webhooks.secrets import WebhookSecrets
from tests.conftest import KEYS, state_machine
from tests.webhooks import process
from tests.webhooks.receivers import Deliveries, FailingReceiver
from worker.supervisor import Child, Supervisor

#: After the last fault: leases end, circuits close, and everything that waits is sent.
SETTLE_S = 120.0
RESULT_TTL_S = 3600
BATCH_SIZE = 10
ENDS = (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELED)
Json = dict[str, object]


@dataclass(frozen=True)
class Plan:
    """What a run does."""

    seed: int
    n_jobs: int
    n_faults: int
    n_dispatchers: int = 2
    n_receivers: int = 3
    every_s: tuple[float, float] = (0.2, 0.8)


@dataclass(frozen=True)
class Report:
    """What a run found. `expected` are the events of all ends; `faults` how often each was dealt."""

    plan: Plan
    n_expected: int
    lost: list[str]
    invented: list[str]
    wrong: list[str]
    unverified: list[str]
    left: list[str]
    n_repeats: int
    settled_s: float
    took_s: float
    faults: dict[str, int]

    @property
    def holds(self) -> bool:
        return not (self.lost or self.invented or self.wrong or self.unverified or self.left)

    def json(self) -> Json:
        return asdict(self) | {"holds": self.holds}


@dataclass
class World:
    """Everything that runs, until the block around it ends."""

    redis: EmbeddedRedis
    supervisor: Supervisor
    receivers: list[FailingReceiver]
    deliveries: Deliveries
    machine: JobStateMachine
    batches: BatchStore
    expected: dict[str, str] = field(default_factory=dict)


@contextmanager
def world(plan: Plan, directory: Path) -> Iterator[World]:
    with ExitStack() as ending:
        embedded = ending.enter_context(EmbeddedRedis(directory / "redis"))
        redis = ending.enter_context(connect(embedded.url, max_retries=40))
        deliveries = Deliveries(WebhookSecrets(redis, KEYS).create(ANONYMOUS_TENANT).key)
        receivers = [FailingReceiver(deliveries, plan.seed + number) for number in range(plan.n_receivers)]
        for receiver in receivers:
            receiver.start()
            ending.callback(receiver.stop)
        env = {"APEX_REDIS_URL": embedded.url, "APEX_WEBHOOK_HOSTS": "127.0.0.1", "APEX_LOG_LEVEL": "ERROR"}
        env["APEX_EGRESS_NETWORKS"] = "127.0.0.0/8"
        children = [Child(f"dispatcher {n}", process.COMMAND, env) for n in range(plan.n_dispatchers)]
        supervisor = Supervisor(children, on_poll=embedded.revive, stop_timeout_s=20.0)
        thread = threading.Thread(target=supervisor.run)
        thread.start()
        ending.callback(thread.join)
        ending.callback(supervisor.stop)
        machine = state_machine(redis, result_ttl_s=RESULT_TTL_S)
        batches = BatchStore(redis, KEYS, result_ttl_s=RESULT_TTL_S)
        yield World(embedded, supervisor, receivers, deliveries, machine, batches)


def run(plan: Plan, directory: Path) -> Report:
    """Do what the plan says, and judge it."""
    begun = time.monotonic()
    with world(plan, directory) as each:
        stop, faults = threading.Event(), Counter[str]()
        striking = threading.Thread(target=strike, args=(each, plan, stop, faults))
        striking.start()
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda number: end_jobs(each, plan, number), range(plan.n_jobs // BATCH_SIZE)))
        striking.join()
        settling = time.monotonic()
        while time.monotonic() - settling < SETTLE_S and not (set(each.expected) <= set(each.deliveries.types)):
            time.sleep(0.1)
        settled_s = time.monotonic() - settling
        left = leftovers(each.machine.redis)
        return report(each, plan, left, settled_s=settled_s, took_s=time.monotonic() - begun, faults=faults)


def report(
    each: World, plan: Plan, left: list[str], *, settled_s: float, took_s: float, faults: Counter[str]
) -> Report:
    expected, types = each.expected, each.deliveries.types
    wrong = [one for one, found in types.items() if one in expected and found != {expected[one]}]
    return Report(
        plan,
        n_expected=len(expected),
        lost=sorted(set(expected) - set(types)),
        invented=sorted(set(types) - set(expected)),
        wrong=wrong,
        unverified=each.deliveries.unverified,
        left=left,
        n_repeats=sum(count - 1 for count in each.deliveries.came.values()),
        settled_s=round(settled_s, 1),
        took_s=round(took_s, 1),
        faults=dict(faults),
    )


def end_jobs(each: World, plan: Plan, number: int) -> None:
    """A batch of jobs from their creation to their ends, some of them before the batch is sealed."""
    dice = random.Random(f"{plan.seed} {number}")
    url = dice.choice(each.receivers).url
    batch = Batch(new_batch_id(), ANONYMOUS_TENANT, webhook_url=url, webhook_events=[BATCH_EVENT])
    each.expected[event_id(batch.id)] = BATCH_EVENT
    each.batches.create(batch)
    n_before = dice.randrange(BATCH_SIZE)
    for at in range(BATCH_SIZE):
        if at == n_before:
            each.batches.seal(batch)
        end_job(each, batch.id, dice.choice(each.receivers).url, dice.choice(ENDS), dice)
    if n_before == BATCH_SIZE:
        each.batches.seal(batch)
    time.sleep(dice.uniform(0.0, 0.5))


def end_job(each: World, batch_id: str, url: str, state: JobState, dice: random.Random) -> None:
    machine, wanted = each.machine, dice.random() < 0.9
    job = Job(
        id=new_job_id(),
        storage_key="x",
        batch_id=batch_id,
        webhook_url=url if wanted else None,
        webhook_events=list(JOB_EVENTS) if wanted else [],
    )
    if wanted:
        each.expected[event_id(job.id)] = f"job.{state}"
    with suppress(JobExists):  # the answer to the first try was lost
        machine.create(job)
    if state is JobState.CANCELED:
        machine.cancel(job)
        return
    while not (begun := machine.start(job.id, max_attempts=99, lease_s=60, worker=job.id)):
        time.sleep(0.05)
    if state is JobState.SUCCEEDED:
        machine.succeed(begun, result={"scores": {}, "ranges": {}})
    else:
        machine.fail(begun, error=problem_object("worker_lost", "A test."))


def strike(each: World, plan: Plan, stop: threading.Event, faults: Counter[str]) -> None:
    """Deal the faults, one after the other."""
    dice = random.Random(plan.seed)
    kinds = [kill_dispatcher] * 5 + [pause_dispatcher] * 2 + [take_receiver_away] * 2 + [kill_redis]
    for _ in range(plan.n_faults):
        stop.wait(dice.uniform(*plan.every_s))
        fault = dice.choice(kinds)
        with suppress(ProcessLookupError):
            fault(each, dice)
        faults[fault.__name__] += 1


def kill_dispatcher(each: World, dice: random.Random) -> None:
    if pid := dispatcher(each, dice):
        os.kill(pid, dice.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]))


def pause_dispatcher(each: World, dice: random.Random) -> None:
    """Sometimes for longer than its leases: what it sends then is another's by now."""
    if pid := dispatcher(each, dice):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(dice.uniform(0.2, 4.0))
        os.kill(pid, signal.SIGCONT)


def dispatcher(each: World, dice: random.Random) -> int | None:
    living = [child.process.pid for child in each.supervisor.children if child.process]
    return dice.choice(living) if living else None


def take_receiver_away(each: World, dice: random.Random) -> None:
    receiver = dice.choice(each.receivers)
    receiver.stop()
    time.sleep(dice.uniform(0.2, 3.0))
    receiver.start()


def kill_redis(each: World, dice: random.Random) -> None:
    if each.redis.process:
        os.kill(each.redis.process.pid, signal.SIGKILL)


def leftovers(redis: Redis) -> list[str]:
    """What the outbox still has in hand, once it has had the time of a lease."""
    deadline = time.monotonic() + SETTLE_S / 2
    while (left := sorted(map(str, redis.keys("apex:webhooks:[drs]*")))) and time.monotonic() < deadline:
        left = [key for key in left if ":dispatchers" not in key and ":receiver:" not in key]
        if not left:
            break
        time.sleep(0.1)
    return left
