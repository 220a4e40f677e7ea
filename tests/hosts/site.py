"""The hosts of a run: two front ends behind nginx, three workers, three Redis, an S3 server, and a second service.

The second service, staging, has a namespace of its own, a host of its own, and the same Redis and bucket.
"""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx

from app.cli.serving import embedded_s3
from app.core.settings import DEFAULT_NAMESPACE, ServiceSettings
from tests.attack.clocks import Clocks
from tests.chaos import campaign as chaos
from tests.hosts import nginx, object_store, redis_group, worker
from tests.hosts.network import Host, Program, address_of, switch
from tests.hosts.redis_group import RedisGroup

API_PORT = 8000
STAGING = "staging"
STORE_ADDRESS, STAGING_ADDRESS, STRAY_ADDRESS = address_of(41), address_of(51), address_of(61)
N_APIS, N_WORKERS, N_REDIS = 2, 3, 3
#: Hosts whose clocks may go wrong. Not all: under libfaketime the threads of a front end wait for one another, and a
#: POST takes six times as long.
CLOCKED = {"redis-1", "redis-2", "redis-3", "api-2", "worker-3", STAGING}
START_S = 90.0
#: A file system in memory: what is tried here is the death of processes, not the loss of power.
DATA = Path("/run/hosts")


@dataclass(frozen=True)
class Site:
    """All hosts. `stray` has programs that must not be of use, and starts none by itself.

    `environments` are the settings that the processes of a service have in common, by namespace; `store_environment`
    is in which the S3 server is used.
    """

    edge: Host
    apis: list[Host]
    workers: list[Host]
    staging: Host
    store: Host
    stray: Host
    redis: RedisGroup
    clocks: Clocks
    environments: Mapping[str, Mapping[str, str]]
    store_environment: Mapping[str, str]

    @property
    def urls(self) -> dict[str, str]:
        """Where clients find the services, by namespace."""
        return {
            DEFAULT_NAMESPACE: f"http://{self.edge.address}{nginx.ROOT_PATH}",
            STAGING: f"http://{self.staging.address}:{API_PORT}",
        }

    def clocked(self, hosts: Sequence[Host]) -> list[Host]:
        """Those whose clocks may go wrong."""
        return [host for host in hosts if host.name in CLOCKED]

    @property
    def hosts(self) -> list[Host]:
        return [*self.redis.hosts, self.store, self.edge, *self.apis, *self.workers, self.staging]

    def settings(self, namespace: str) -> ServiceSettings:
        """As a process on any host of the service has them."""
        found = self.environments[namespace].items()
        values = {name.removeprefix("APEX_").lower(): value for name, value in found if name.startswith("APEX_")}
        return ServiceSettings(**values)  # type: ignore[arg-type]


@contextmanager
def running(directory: Path, *, n_processes: int) -> Iterator[Site]:
    """All hosts, until the block ends; logs are in the folder. `n_processes` of each front end."""
    with switch():
        site = build(directory, n_processes=n_processes)
        try:
            boot(site)
            yield site
        finally:
            for host in [*site.hosts, site.stray]:
                host.remove()
            shutil.rmtree(DATA)


def build(directory: Path, *, n_processes: int) -> Site:
    clocks = Clocks(directory / "clocks")

    def host(name: str, address: str, programs: Mapping[str, Program]) -> Host:
        return Host(name, address, programs, logs=directory, clocks=clocks if name in CLOCKED else None)

    master, *_ = redis_addresses = [address_of(30 + number) for number in range(1, N_REDIS + 1)]
    api_addresses = [address_of(10 + number) for number in range(1, N_APIS + 1)]
    store_port = object_store.any_port()
    store = embedded_s3.environment(store_port, STORE_ADDRESS)
    environments = service_environments(directory, redis_addresses, store, n_processes=n_processes)
    ours, theirs = environments[DEFAULT_NAMESPACE], environments[STAGING]
    return Site(
        edge=host("edge", address_of(10), {"nginx": nginx.program(DATA / "edge", api_addresses)}),
        apis=[
            host(f"api-{number}", address, {"api": api(address, ours | {"APEX_ROOT_PATH": nginx.ROOT_PATH})})
            for number, address in enumerate(api_addresses, 1)
        ],
        workers=[
            host(f"worker-{number}", address_of(20 + number), {"worker": scoring(ours)})
            for number in range(1, N_WORKERS + 1)
        ],
        staging=host(STAGING, STAGING_ADDRESS, {"api": api(STAGING_ADDRESS, theirs), "worker": scoring(theirs)}),
        store=host("store", STORE_ADDRESS, {"s3": object_store.program(DATA / "store", STORE_ADDRESS, store_port)}),
        stray=host("stray", STRAY_ADDRESS, strays(ours)),
        redis=RedisGroup(
            [
                host(f"redis-{number}", address, redis_group.programs(DATA / address, address, master=master))
                for number, address in enumerate(redis_addresses, 1)
            ]
        ),
        clocks=clocks,
        environments=environments,
        store_environment=store,
    )


def service_environments(
    directory: Path, redis_addresses: Sequence[str], store: Mapping[str, str], *, n_processes: int
) -> dict[str, dict[str, str]]:
    """The settings of each service, by namespace."""
    shared = {
        **chaos.environment(chaos.Plan(seed=0, n_jobs=0, n_faults=0, n_workers=1), directory),
        **store,
        "APEX_REDIS_URL": redis_group.url(redis_addresses),
        "APEX_REDIS_MIN_REPLICAS": "1",
        "APEX_STORAGE_URL": object_store.URL,
        "APEX_STORAGE_TIMEOUT_S": "6",
        "APEX_DATA_DIR": str(DATA / "scratch"),
        "APEX_ALLOW_UNAUTHENTICATED": "true",
        "APEX_API_PROCESSES": str(n_processes),
    }
    return {DEFAULT_NAMESPACE: shared, STAGING: shared | {"APEX_NAMESPACE": STAGING}}


def api(address: str, environment: Mapping[str, str]) -> Program:
    own = {"APEX_HOST": address, "APEX_PORT": str(API_PORT)}
    return Program([sys.executable, "-m", "app.cli", "api"], {**environment, **own})


def scoring(environment: Mapping[str, str]) -> Program:
    return Program([sys.executable, *worker.PROGRAM], environment)


def strays(environment: Mapping[str, str]) -> dict[str, Program]:
    """Processes of a service that are misconfigured, but for `worker`."""
    elsewhere = {**environment, "APEX_STORAGE_URL": f"{object_store.URL}-of-nobody"}
    return {
        "worker": scoring(environment),
        "worker elsewhere": scoring(elsewhere),
        "front end elsewhere": api(STRAY_ADDRESS, elsewhere),
    }


def boot(site: Site) -> None:
    """Start all hosts, the services once there is a bucket, and wait until the services are ready."""
    deadline = time.monotonic() + START_S
    site.store.boot()
    wait_until(lambda: embedded_s3.takes_writes(site.store_environment["AWS_ENDPOINT_URL"]), "the store", deadline)
    for host in site.hosts:
        if host is not site.store:
            host.boot()
    site.redis.master()
    for url in site.urls.values():
        wait_until(partial(is_ready, url), url, deadline)


def wait_until(condition: Callable[[], bool], what: str, deadline: float) -> None:
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not become ready"
        time.sleep(0.1)


def is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz").is_success and bool(httpx.get(f"{url}/model").json()["loaded"])
    except (httpx.TransportError, ValueError, KeyError):
        return False
