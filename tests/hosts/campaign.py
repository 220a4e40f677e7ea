"""A run over many hosts: two services, their clients, the faults, and the judgement at the end."""

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from app.core.json_types import Json
from app.core.redis.client import connect
from app.core.settings import DEFAULT_NAMESPACE
from tests.chaos.campaign import OnProgress, Pace, reporting, settled, threads
from tests.chaos.history import CheckResult, check
from tests.chaos.holdings import Holdings
from tests.chaos.scripted import Script
from tests.hosts.clients import Followers
from tests.hosts.faults import Injector
from tests.hosts.site import STAGING, Site, running

#: Of all tracks.
SHARES = {DEFAULT_NAMESPACE: 0.9, STAGING: 0.1}
N_CLIENTS = {DEFAULT_NAMESPACE: 4, STAGING: 1}
RUN_S = (0.05, 0.25)
#: A client reads a list so often, or a job four times; in a hurry so seldom, as faked clocks make each answer costly.
READ_EVERY_S, READ_SELDOM_S = 0.2, 1.2


@dataclass(frozen=True)
class Plan:
    """What a run does. The same seed makes the same tracks and draws the same faults; with no faults, one of each kind.

    `hurry`: faults are as short as they may be, and each front end is one process, which is seldom read from.
    """

    seed: int
    n_jobs: int
    n_faults: int
    hurry: bool = False

    def scripts(self, namespace: str) -> list[Script]:
        dice = random.Random(f"{self.seed}/{namespace}")
        return [
            Script(f"{namespace}-{self.seed}-{number}", run_s=round(dice.uniform(*RUN_S), 3))
            for number in range(max(round(self.n_jobs * SHARES[namespace]), 1))
        ]


@dataclass(frozen=True)
class ServiceReport:
    """What one service promised, and what it held in the end."""

    n_accepted: int
    n_runs_again: int
    n_refusals: int
    result: CheckResult
    changes: list[tuple[bytes, bytes]]


@dataclass(frozen=True)
class Report:
    plan: Plan
    services: Mapping[str, ServiceReport]
    faults: Mapping[str, int]
    findings: list[str]
    settled_s: float
    took_s: float

    @property
    def holds(self) -> bool:
        return not self.findings and all(
            service.result.holds and service.n_accepted == len(self.plan.scripts(namespace))
            for namespace, service in self.services.items()
        )

    def json(self) -> Json:
        verdicts = {
            namespace: {name: sorted(members) for name, members in service.result.sets.items()}
            | {"residue": dict(service.result.residue), "changes": service.changes}
            for namespace, service in self.services.items()
        }
        return {**asdict(self), "services": verdicts, "holds": self.holds}


def run(plan: Plan, directory: Path, on_progress: OnProgress) -> Report:
    """Run two services through all faults; logs are in `directory`."""
    began = time.monotonic()
    with running(directory, n_processes=1 if plan.hurry else 2) as site, following(site) as followers:
        injector = Injector(site, seed=plan.seed, n_faults=plan.n_faults, hurry=plan.hurry)
        histories = [each.history for each in followers.values()]
        with (
            threads(*injector.runs(), *following_threads(followers, plan)),
            reporting(histories, injector.struck, on_progress),
        ):
            pace = Pace(injector.n_planned, injector.struck)
            send_all(plan, followers, pace)
            pace.wait_for_the_last_fault()
        quiet_at = time.monotonic()
        site.redis.master()
        services = {namespace: service_report(site, namespace, each) for namespace, each in followers.items()}
        settled_s = time.monotonic() - quiet_at
    return Report(
        plan=plan,
        services=services,
        faults=dict(injector.struck),
        findings=injector.findings,
        settled_s=round(settled_s, 1),
        took_s=round(time.monotonic() - began, 1),
    )


@contextmanager
def following(site: Site) -> Iterator[dict[str, Followers]]:
    found = {namespace: Followers(url) for namespace, url in site.urls.items()}
    try:
        yield found
    finally:
        for followers in found.values():
            followers.close()


def following_threads(followers: Mapping[str, Followers], plan: Plan) -> Iterator[Callable[..., None]]:
    every_s = READ_SELDOM_S if plan.hurry else READ_EVERY_S
    for each in followers.values():
        yield partial(each.polling.read_until, seed=plan.seed, every_s=every_s / 4)
        yield partial(each.read_lists_until, seed=plan.seed, every_s=every_s)


def send_all(plan: Plan, followers: Mapping[str, Followers], pace: Pace) -> None:
    def send(namespace: str) -> None:
        scripts = pace.spread(plan.scripts(namespace))
        followers[namespace].clients.send_all(scripts, n_clients=N_CLIENTS[namespace])

    with ThreadPoolExecutor(len(followers)) as pool:
        list(pool.map(send, followers))


def service_report(site: Site, namespace: str, followers: Followers) -> ServiceReport:
    settings = site.settings(namespace)
    os.environ |= site.store_environment
    with connect(settings.redis_url, max_retries=10) as redis:
        jobs, residue = settled(Holdings(redis, settings), followers.clients)
    return ServiceReport(
        n_accepted=len(followers.history.acknowledged),
        n_runs_again=sum(max(job["attempt"] - 1, 0) for job in jobs.values()),
        n_refusals=followers.refusals,
        result=check(followers.history, jobs, residue),
        changes=followers.history.changes,
    )
