"""One chaos run: a service, its clients, its faults, and the judgement at the end."""

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError
from redis.retry import Retry

from app.core.callers import ANONYMOUS_TENANT
from app.core.json_types import Json
from app.core.settings import ServiceSettings
from tests.chaos.clients import Clients, http_client
from tests.chaos.faults import Family, Injector
from tests.chaos.history import CheckResult, History, check
from tests.chaos.holdings import Holdings
from tests.chaos.scripted import Script
from tests.chaos.service import Running, running

#: After the last fault jobs must go on ending. When nothing moved for so long, what is open is stuck.
SETTLE_S = 120.0
#: A private Redis that was killed is back within seconds.
REDIS_BACK_S = 30.0
READ_AT_A_TIME = 50
#: Kills are dealt blindly here: a job may be hit more often than a fault of its own would explain.
MAX_ATTEMPTS = 10


@dataclass(frozen=True)
class Plan:
    """What a run does. The same seed makes the same tracks and draws the same faults."""

    seed: int
    n_jobs: int
    n_faults: int
    n_clients: int = 4
    n_readers: int = 2
    n_workers: int = 2
    every_s: tuple[float, float] = (0.3, 1.2)
    redis_every_s: float = 12.0
    real: bool = False

    def scripts(self) -> list[Script]:
        dice = random.Random(self.seed)
        return [
            Script(f"chaos-{self.seed}-{number}", run_s=round(dice.uniform(0.05, 0.25), 3))
            for number in range(self.n_jobs)
        ]


@dataclass(frozen=True)
class Report:
    """What a run found."""

    plan: Plan
    result: CheckResult
    faults: dict[str, int]
    n_accepted: int
    n_runs_again: int
    n_refusals: int
    slowest_s: float
    settled_s: float
    took_s: float

    @property
    def n_faults(self) -> int:
        return sum(self.faults.values())

    @property
    def holds(self) -> bool:
        return self.result.holds and self.n_accepted == self.plan.n_jobs and self.n_runs_again <= self.n_faults

    def json(self) -> Json:
        found = {name: sorted(members) for name, members in self.result.sets.items()}
        return asdict(self) | {"result": found | {"residue": dict(self.result.residue)}, "holds": self.holds}


#: Told now and then how many tracks were accepted, how many jobs are over, and how many faults were dealt.
OnProgress = Callable[[int, int, int], None]


def run(plan: Plan, directory: Path, on_progress: OnProgress) -> Report:
    """Run a service in `directory` through all its faults."""
    began = time.monotonic()
    settings, log = environment(plan, directory), directory / "service.log"
    with (
        running(directory / "data", environment=settings, real=plan.real, log=log) as service,
        http_client(service.url) as http,
    ):
        history = History()
        clients = Clients(http, history)
        injector = Injector(Family(service.pid), seed=plan.seed, every_s=plan.every_s, redis_every_s=plan.redis_every_s)
        with (
            threads(injector.run, *readers(clients, plan.n_readers, seed=plan.seed)),
            reporting([history], injector.struck, on_progress),
        ):
            pace = Pace(plan.n_faults, injector.struck)
            clients.send_all(pace.spread(plan.scripts()), n_clients=plan.n_clients)
            pace.wait_for_the_last_fault()
        quiet_at = time.monotonic()
        jobs, residue = settle(service, clients)
        settled_s = time.monotonic() - quiet_at
        result = check(history, jobs, residue)
    return Report(
        plan=plan,
        result=result,
        faults=dict(injector.struck),
        n_accepted=len(history.acknowledged),
        n_runs_again=sum(max(job["attempt"] - 1, 0) for job in jobs.values()),
        n_refusals=clients.refusals,
        slowest_s=round(max((job["timings"]["total_s"] for job in jobs.values() if job["done"]), default=0.0), 1),
        settled_s=round(settled_s, 1),
        took_s=round(time.monotonic() - began, 1),
    )


#: The tracks come in this share of the faults, so that there are jobs to hit during the others.
BUSY_SHARE = 0.6


class Pace:
    """Spreads the tracks over the faults, so that none of either comes alone."""

    def __init__(self, n_faults: int, struck: Counter[str]) -> None:
        self.n_faults = n_faults
        self.struck = struck

    def spread(self, scripts: Sequence[Script]) -> Iterator[Script]:
        for number, script in enumerate(scripts):
            while self.struck.total() < BUSY_SHARE * self.n_faults * number // len(scripts):
                time.sleep(0.02)
            yield script

    def wait_for_the_last_fault(self) -> None:
        while self.struck.total() < self.n_faults:
            time.sleep(0.1)


def environment(plan: Plan, directory: Path) -> dict[str, str]:
    weights_dir = directory / "weights"
    if plan.real:
        from model.weights.directory import write_stand_in  # brings torch, which scripted workers can do without

        write_stand_in(weights_dir, size="tiny")
    else:
        (weights_dir / "mert").mkdir(parents=True)
    return {
        "APEX_WEIGHTS_DIR": str(weights_dir),
        "APEX_WORKERS": str(plan.n_workers),
        "APEX_API_PROCESSES": "2",
        "APEX_MAX_ATTEMPTS": str(MAX_ATTEMPTS),
        "APEX_DEVICE": "cpu",
        "OMP_NUM_THREADS": "1",
    }


def readers(clients: Clients, n_readers: int, *, seed: int) -> list[Callable[[threading.Event], None]]:
    return [partial(clients.read_until, seed=seed + at) for at in range(n_readers)]


@contextmanager
def threads(*targets: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run the targets beside the block, and stop them after it."""
    stop = threading.Event()
    started = [threading.Thread(target=target, args=(stop,), daemon=True) for target in targets]
    for thread in started:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in started:
            thread.join()


@contextmanager
def reporting(histories: Sequence[History], struck: Counter[str], on_progress: OnProgress) -> Iterator[None]:
    def report(stop: threading.Event) -> None:
        while not stop.wait(0.5):
            n_accepted = sum(len(history.acknowledged) for history in histories)
            on_progress(n_accepted, sum(len(history.endings) for history in histories), struck.total())

    with threads(report):
        yield


def settle(
    service: Running, clients: Clients, *, tenant: str = ANONYMOUS_TENANT
) -> tuple[dict[str, Json], dict[str, list[str]]]:
    """`settled` for a service with a private Redis."""
    settings = ServiceSettings(data_dir=service.data_dir, max_attempts=MAX_ATTEMPTS)
    with Redis.from_url(redis_url(service.pid), retry_on_error=[ConnectionError], retry=Retry(NoBackoff(), 3)) as redis:
        return settled(Holdings(redis, settings, tenant), clients)


def settled(holdings: Holdings, clients: Clients) -> tuple[dict[str, Json], dict[str, list[str]]]:
    """Wait until all is over and nothing is left, or nothing moves; the jobs of the tenant, and the residue."""
    left, moved_at = -1, time.monotonic()
    while left and time.monotonic() < moved_at + SETTLE_S:
        waiting = sorted(clients.history.waiting())
        for job_id in waiting[:READ_AT_A_TIME]:
            clients.read(job_id)
        holdings.sweep()
        before, left = left, len(waiting) + sum(map(len, holdings.residue().values()))
        moved_at = moved_at if left == before else time.monotonic()
        time.sleep(0.5)
    for job_id in clients.history.job_ids():  # everything once more: nothing may have changed since
        clients.read(job_id)
    return holdings.ledger(clients), holdings.residue()


def redis_url(supervisor_pid: int) -> str:
    """Of the private Redis, which answers; one that was killed a moment ago is waited for until it is back.

    It listens on a socket whose path only its command line tells.
    """
    deadline = time.monotonic() + REDIS_BACK_S
    while not (answering := [url for url in _socket_urls(supervisor_pid) if _answers(url)]):
        assert time.monotonic() < deadline, "there is no Redis"
        time.sleep(0.1)
    return answering[0]


def _socket_urls(supervisor_pid: int) -> Iterator[str]:
    for pid in Family(supervisor_pid).pids("redis"):
        with suppress(FileNotFoundError, ProcessLookupError):  # killed since
            words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().replace("\0", " ").split()
            paths = (word.removeprefix("unixsocket:") for word in words if word.endswith("redis.sock"))
            yield from (f"unix://{path}" for path in paths)


def _answers(url: str) -> bool:
    with suppress(ConnectionError), Redis.from_url(url) as redis:
        return bool(redis.ping())
    return False
