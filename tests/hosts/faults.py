"""What goes wrong with hosts: lanes of faults, which overlap; within a lane one is over before the next begins.

A seed draws the order, the victims and the times. Each kind has come once before any comes again.
"""

import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from random import Random

from app.core.misconfiguration import EXIT_MISCONFIGURED
from tests.attack.clocks import CACHED_S
from tests.faketime import DAY_S
from tests.hosts.network import Host, send
from tests.hosts.redis_group import REDIS
from tests.hosts.site import Site

Act = Callable[[Host], AbstractContextManager[None]]
Victims = Callable[[Site], Sequence[Host]]


@contextmanager
def killed(host: Host) -> Iterator[None]:
    """As by a loss of power, and started again."""
    host.crash()
    yield
    host.boot()


@contextmanager
def stopped(host: Host) -> Iterator[None]:
    host.stop()
    yield
    host.boot()


@contextmanager
def cut(host: Host) -> Iterator[None]:
    host.cut()
    try:
        yield
    finally:
        host.heal()


@contextmanager
def frozen(host: Host) -> Iterator[None]:
    pids = host.pids()
    send(signal.SIGSTOP, pids)
    try:
        yield
    finally:
        send(signal.SIGCONT, pids)


@contextmanager
def redis_killed(host: Host) -> Iterator[None]:
    """The server alone; its Sentinel and its host live on."""
    host.running[REDIS].kill()
    host.running[REDIS].wait()
    yield
    host.start(REDIS)


Inflict = Callable[[Site, Random], AbstractContextManager[None]]


@dataclass(frozen=True)
class Kind:
    """One kind of fault, and for how long it is left as it is."""

    name: str
    inflict: Inflict
    for_s: tuple[float, float] = (0.5, 3.0)


def on(victims: Victims, act: Act) -> Inflict:
    """An act on one host of some."""
    return lambda site, dice: act(dice.choice(victims(site)))


def parted_from_redis(victims: Victims) -> Inflict:
    """A host that does not reach the master, while all others do."""
    return lambda site, dice: dice.choice(victims(site)).parted_from(site.redis.master())


def parted_from_store(victims: Victims) -> Inflict:
    return lambda site, dice: dice.choice(victims(site)).parted_from(site.store)


def master_alone(site: Site, _dice: Random) -> AbstractContextManager[None]:
    """The master and its replicas do not reach one another."""
    return site.redis.master().parted_from(*site.redis.replicas())


def clock_off(victims: Victims, offsets_s: Sequence[int]) -> Inflict:
    def inflict(site: Site, dice: Random) -> AbstractContextManager[None]:
        host = dice.choice(site.clocked(victims(site)))
        return site.clocks.wrong(host.name, dice.choice(offsets_s))

    return inflict


def stray(program: str) -> Inflict:
    """A process of the service that has the storage of nobody."""
    return lambda site, _dice: useless(site.stray, program)


@contextmanager
def worker_without_storage(site: Site, _dice: Random) -> Iterator[None]:
    with site.stray.parted_from(site.store), useless(site.stray, "worker"):
        yield


@contextmanager
def useless(host: Host, program: str) -> Iterator[None]:
    """A process that must end as misconfigured, or wait; whether it harms jobs is judged at the end."""
    process = host.start(program)
    try:
        yield
        if (status := process.poll()) not in (None, EXIT_MISCONFIGURED):
            raise AssertionError(f"{program} ended with {status}")
    finally:
        host.crash()


def edge(site: Site) -> Sequence[Host]:
    return [site.edge]


def apis(site: Site) -> Sequence[Host]:
    return site.apis


def workers(site: Site) -> Sequence[Host]:
    return site.workers


def staging(site: Site) -> Sequence[Host]:
    return [site.staging]


def store(site: Site) -> Sequence[Host]:
    return [site.store]


def master(site: Site) -> Sequence[Host]:
    return [site.redis.master()]


def replicas(site: Site) -> Sequence[Host]:
    return site.redis.replicas()


def redis_hosts(site: Site) -> Sequence[Host]:
    return site.redis.hosts


#: A Sentinel has been silent for 2 s before it is replaced, and a master before there is another.
FAILOVER_S = (4.0, 9.0)
#: So long that a process has started, and found out.
STRAY_S = (6.0, 15.0)
CLOCK_S = (2.0 * CACHED_S, 8.0)
OFFSETS_S = (-90, 90, -DAY_S, DAY_S)
#: Redis deletes what has expired by its own clock: it is off by less than any lifetime of what is looked for.
REDIS_OFFSETS_S = (-90, 90, -DAY_S // 2, DAY_S // 2)


@dataclass(frozen=True)
class Lane:
    """`share` of all faults; `rest_s` between two of them."""

    name: str
    kinds: Sequence[Kind]
    share: float
    rest_s: tuple[float, float] = (0.5, 2.0)


LANES = (
    Lane(
        "hosts",
        [
            Kind("API host killed", on(apis, killed)),
            Kind("API host stopped", on(apis, stopped)),
            Kind("API host cut off", on(apis, cut), (1.0, 12.0)),
            Kind("API host frozen", on(apis, frozen)),
            Kind("API host parted from Redis", parted_from_redis(apis), (1.0, 8.0)),
            Kind("worker host killed", on(workers, killed)),
            Kind("worker host stopped", on(workers, stopped)),
            Kind("worker host cut off", on(workers, cut), (1.0, 20.0)),
            Kind("worker host frozen", on(workers, frozen), (0.5, 15.0)),
            Kind("worker host parted from Redis", parted_from_redis(workers), (1.0, 15.0)),
            Kind("nginx host killed", on(edge, killed)),
            Kind("nginx host cut off", on(edge, cut)),
            Kind("staging host killed", on(staging, killed)),
            Kind("staging host cut off", on(staging, cut)),
        ],
        share=0.4,
    ),
    Lane(
        "Redis",
        [
            Kind("Redis master's host killed", on(master, killed), FAILOVER_S),
            Kind("Redis master killed", on(master, redis_killed), (0.5, 9.0)),
            Kind("Redis master cut off", on(master, cut), FAILOVER_S),
            Kind("Redis master frozen", on(master, frozen), (0.5, 9.0)),
            Kind("Redis master parted from replicas", master_alone, (1.0, 9.0)),
            Kind("Redis replica's host killed", on(replicas, killed)),
            Kind("Redis replica cut off", on(replicas, cut)),
        ],
        share=0.15,
    ),
    Lane(
        "clocks",
        [
            Kind("API host's clock off", clock_off(apis, OFFSETS_S), CLOCK_S),
            Kind("worker host's clock off", clock_off(workers, OFFSETS_S), CLOCK_S),
            Kind("staging host's clock off", clock_off(staging, OFFSETS_S), CLOCK_S),
            Kind("Redis host's clock off", clock_off(redis_hosts, REDIS_OFFSETS_S), CLOCK_S),
        ],
        share=0.25,
    ),
    Lane(
        "storage",
        [
            Kind("S3 killed", on(store, killed), (0.5, 8.0)),
            Kind("S3 frozen", on(store, frozen), (0.5, 15.0)),
            Kind("S3 cut off", on(store, cut), (0.5, 15.0)),
            Kind("worker host parted from S3", parted_from_store(workers), (0.5, 15.0)),
            Kind("API host parted from S3", parted_from_store(apis), (0.5, 15.0)),
        ],
        share=0.15,
        rest_s=(2.0, 6.0),
    ),
    Lane(
        "strays",
        [
            Kind("worker with another storage", stray("worker elsewhere"), STRAY_S),
            Kind("front end with another storage", stray("front end elsewhere"), STRAY_S),
            Kind("worker without storage", worker_without_storage, STRAY_S),
        ],
        share=0.05,
    ),
)


def counts(n_faults: int) -> dict[str, int]:
    """How many each lane deals, of so many in all; with 0, one of each kind."""
    return {lane.name: round(n_faults * lane.share) if n_faults else len(lane.kinds) for lane in LANES}


def deck(kinds: Sequence[Kind], n: int, dice: Random) -> Iterator[Kind]:
    """So many kinds, each once before any comes again."""
    while n > 0:
        dealt = dice.sample(kinds, min(n, len(kinds)))
        yield from dealt
        n -= len(dealt)


@dataclass
class Injector:
    """Deals the faults of all lanes. `findings` tell what must not have happened."""

    site: Site
    seed: int
    n_faults: int
    hurry: bool
    struck: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    @property
    def n_planned(self) -> int:
        return sum(counts(self.n_faults).values())

    def runs(self) -> list[Callable[[threading.Event], None]]:
        """One for each lane, for a thread of its own."""
        return [lambda stop, lane=lane: self._deal(lane, stop) for lane in LANES]  # type: ignore[misc]

    def _deal(self, lane: Lane, stop: threading.Event) -> None:
        dice, n = Random(f"{self.seed}/{lane.name}"), counts(self.n_faults)[lane.name]
        dealt = 0
        try:
            for kind in deck(lane.kinds, n, dice):
                if stop.wait(self._draw(dice, lane.rest_s)):
                    return
                self._strike(kind, dice, stop)
                dealt += 1
        except Exception as error:  # the run goes on without the lane, to its judgement
            self.findings.append(f"{lane.name}: {error!r}")
            self.struck["not dealt"] += n - dealt

    def _strike(self, kind: Kind, dice: Random, stop: threading.Event) -> None:
        with ExitStack() as stack:
            stack.enter_context(kind.inflict(self.site, dice))
            stop.wait(self._draw(dice, kind.for_s))
        self.struck[kind.name] += 1

    def _draw(self, dice: Random, between_s: tuple[float, float]) -> float:
        low, high = between_s
        return dice.uniform(low, min(2 * low, high) if self.hurry else high)
