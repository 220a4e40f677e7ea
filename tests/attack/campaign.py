"""An attack: a service, its bystanders, one phase after the other, and what must hold all along and at the end."""

import hashlib
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random

from app.core.json_types import Json
from tests import mounts
from tests.attack import log
from tests.attack.bystanders import Bystanders
from tests.attack.clocks import Clocks
from tests.attack.phase import Attack, Phase
from tests.attack.phases.disk_faults import DISK_BYTES
from tests.attack.service import CLOCKS_VAR, PROGRAM
from tests.attack.target import BYSTANDER, TENANTS, Target
from tests.attack.vitals import MAX_MEMORY_RATIO, Vitals, complaints, memory_ratios, vitals
from tests.chaos.campaign import redis_url, settle
from tests.chaos.clients import CannotReach, http_client
from tests.chaos.faults import Family
from tests.chaos.history import CheckResult, check
from tests.chaos.service import Running, running

#: All is served again so soon after a phase.
RECOVERY_S = 10.0
#: What a process may hold for a moment longer than its clients: memory, descriptors.
SETTLE_S = 10.0


@dataclass(frozen=True)
class Plan:
    """What an attack does. The same seed draws the same acts; how many fit into the time is the machine's."""

    seed: int
    minutes: float
    phases: Sequence[Phase]
    recovery_s: float = RECOVERY_S
    max_memory_ratio: float = MAX_MEMORY_RATIO

    @property
    def phase_s(self) -> float:
        return 60 * self.minutes / len(self.phases)


@dataclass(frozen=True)
class PhaseReport:
    """What a phase did, and what was wrong after it. `lacks`: why it was not run.

    `n_ended` counts the bystanders' jobs that ended meanwhile. Times are seconds after the end of the phase,
    infinite for what never happened.
    """

    name: str
    lacks: str = ""
    took_s: float = 0.0
    acts: Mapping[str, int] = field(default_factory=dict)
    n_ended: int = 0
    served_again_s: float = 0.0
    caught_up_s: float = 0.0
    memory_ratio: float = 0.0
    internal_errors: Mapping[str, int] = field(default_factory=dict)
    tracebacks: Mapping[str, int] = field(default_factory=dict)
    findings: Sequence[str] = ()


@dataclass(frozen=True)
class ServiceReport:
    """What a service held at the end of its phases, compared with what it had promised."""

    n_accepted: int
    result: CheckResult
    findings: Sequence[str]

    @property
    def holds(self) -> bool:
        return self.result.holds and not self.findings


@dataclass(frozen=True)
class Report:
    plan: Plan
    phases: Sequence[PhaseReport]
    services: Sequence[ServiceReport]

    @property
    def holds(self) -> bool:
        return all(service.holds for service in self.services) and not any(phase.findings for phase in self.phases)

    def json(self) -> Json:
        services = [
            {
                "accepted": service.n_accepted,
                "findings": list(service.findings),
                **{name: sorted(members) for name, members in service.result.sets.items()},
                "residue": dict(service.result.residue),
            }
            for service in self.services
        ]
        return {
            "seed": self.plan.seed,
            "minutes": self.plan.minutes,
            "holds": self.holds,
            "phases": [asdict(phase) for phase in self.phases],
            "services": services,
        }


class ServiceEnded(Exception):
    """The service ended in the middle of a phase, or after it."""


#: Told which phase begins.
OnPhase = Callable[[str], None]


def run(plan: Plan, directory: Path, on_phase: OnPhase) -> Report:
    """Run all phases: those that need clocks of their own against a second service."""
    phases: list[PhaseReport] = []
    services: list[ServiceReport] = []
    lacks = {phase.name: phase.lacks() for phase in plan.phases}
    phases += [PhaseReport(phase.name, lacks=lacks[phase.name]) for phase in plan.phases if lacks[phase.name]]
    for with_clocks in (False, True):
        group = [phase for phase in plan.phases if phase.with_clocks is with_clocks and not lacks[phase.name]]
        if group:
            folder = directory / ("clocks" if with_clocks else "plain")
            try:
                with ServiceUnderAttack.begun(plan, folder, with_clocks) as service:
                    with service.bystanders.busy():
                        for phase in group:
                            on_phase(phase.name)
                            phases.append(service.run(phase))
                    on_phase("end")
                    services.append(service.settled())
            except ServiceEnded as error:
                phases.append(PhaseReport(str(error), findings=["the service ended"]))
            except CannotReach as error:
                phases.append(PhaseReport("warm-up", findings=[f"the service cannot be reached: {error}"]))
    return Report(plan, phases, services)


class ServiceUnderAttack:
    """A service with bystanders, for some phases."""

    def __init__(self, plan: Plan, service: Running, target: Target, bystanders: Bystanders, log_file: Path) -> None:
        self.plan = plan
        self.service = service
        self.target = target
        self.bystanders = bystanders
        self.log_file = log_file
        self.baseline: dict[int, Vitals] = {}
        self._renew_baseline()

    @classmethod
    @contextmanager
    def begun(cls, plan: Plan, directory: Path, with_clocks: bool) -> "Iterator[ServiceUnderAttack]":
        """Start the service, and make its bystanders, who are not busy yet."""
        directory.mkdir(parents=True)
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for floods: twice what the service may have
        log_file, data_dir = directory / "service.log", directory / "data"
        keys = {tenant: f"{tenant}-{Random(f'{plan.seed}/{tenant}').randbytes(16).hex()}" for tenant in TENANTS}
        clocks = Clocks(directory / "clocks") if with_clocks else None
        with ExitStack() as stack:
            if mounts.may_mount():
                stack.enter_context(mounts.small_disk(data_dir, DISK_BYTES))
            settings = environment(directory, keys, clocks)
            service = stack.enter_context(
                running(data_dir, environment=settings, log=log_file, program=PROGRAM, key=keys[BYSTANDER])
            )
            target = Target(service.url, Family(service.pid), data_dir, redis_url(service.pid), keys, clocks)
            http = stack.enter_context(http_client(target.url, key=keys[BYSTANDER]))
            yield cls(plan, service, target, Bystanders(target, http, seed=plan.seed), log_file)

    def run(self, phase: Phase) -> PhaseReport:
        """Attack for the phase's share of the time; then wait until the service is what it was."""
        began, n_ended, log_start = time.monotonic(), len(self.bystanders.history.endings), log.size(self.log_file)
        attack = Attack(
            target=self.target,
            dice=Random(f"{self.plan.seed}/{phase.name}"),
            ends_at=began + self.plan.phase_s,
            victims=self.bystanders.history.job_ids,
        )
        try:
            phase.attack(attack)
        except Exception as error:
            attack.acts.found(f"the attack broke off: {error!r} {error}")
        if self.service.process.poll() is not None:
            raise ServiceEnded(phase.name)
        took_s, n_ended = time.monotonic() - began, len(self.bystanders.history.endings) - n_ended
        served_again_s, caught_up_s = self.bystanders.served_again_s(), self.bystanders.caught_up_s()
        wrong, ratio = self._complaints(phase)
        logged = log.incidents(self.log_file, start=log_start, damaged=phase.damages)
        findings = [
            *attack.acts.findings,
            *wrong,
            *self._not_in_time(served_again_s, caught_up_s),
            *(f"internal error: {where}" for where in logged.internal_errors),
        ]
        self._renew_baseline()
        return PhaseReport(
            name=phase.name,
            took_s=round(took_s, 1),
            acts=dict(attack.acts.counts),
            n_ended=n_ended,
            served_again_s=round(served_again_s, 1),
            caught_up_s=round(caught_up_s, 1),
            memory_ratio=round(ratio, 2),
            internal_errors=dict(logged.internal_errors),
            tracebacks=dict(logged.tracebacks),
            findings=findings,
        )

    def settled(self) -> ServiceReport:
        """Wait until nothing is left to do, and compare what the service holds with what it promised."""
        jobs, residue = settle(self.service, self.bystanders.clients, tenant=BYSTANDER)
        history = self.bystanders.history
        result = check(history, jobs, residue)
        return ServiceReport(len(history.acknowledged), result, list(Counter(self.bystanders.failures)))

    def _not_in_time(self, served_again_s: float, caught_up_s: float) -> list[str]:
        late = [f"served again only after {served_again_s:.1f} s"] if served_again_s > self.plan.recovery_s else []
        return late + (["some of what was promised is not over"] if caught_up_s == float("inf") else [])

    def _complaints(self, phase: Phase) -> tuple[list[str], float]:
        """What is wrong with the processes, after a while in which it may end; and the greatest growth of memory."""
        deadline = time.monotonic() + SETTLE_S
        while True:
            now = vitals(self.target.processes)
            wrong = complaints(self.baseline, now, may_end=phase.kills, max_memory_ratio=self.plan.max_memory_ratio)
            if not wrong or time.monotonic() > deadline:
                return wrong, max(memory_ratios(self.baseline, now).values(), default=1.0)
            time.sleep(0.5)

    def _renew_baseline(self) -> None:
        """What each process was after its warm-up, those included that were started since."""
        if self.baseline.keys() != vitals(self.target.processes).keys():
            self.bystanders.warm_up()
            self.bystanders.caught_up_s()
        now = vitals(self.target.processes)
        self.baseline = {pid: self.baseline.get(pid, it) for pid, it in now.items()}


def environment(directory: Path, keys: Mapping[str, str], clocks: Clocks | None) -> dict[str, str]:
    """The settings of a service whose tenants are known, and whose limits are in reach."""
    (directory / "weights" / "mert").mkdir(parents=True)
    keys_file = directory / "keys"
    keys_file.write_text("".join(f"{name} {hashlib.sha256(key.encode()).hexdigest()}\n" for name, key in keys.items()))
    return {
        "APEX_WEIGHTS_DIR": str(directory / "weights"),
        "APEX_API_KEYS_FILE": str(keys_file),
        "APEX_WORKERS": "2",
        "APEX_MAX_ATTEMPTS": "10",
        "APEX_MAX_UPLOAD_BYTES": str(4 << 20),
        "APEX_MAX_DURATION_S": "60",
        "APEX_KEY_REQUESTS_PER_MINUTE": "100000",
        "APEX_KEY_JOBS_IN_FLIGHT": "500",
        **({CLOCKS_VAR: str(clocks.directory)} if clocks else {}),
    }
