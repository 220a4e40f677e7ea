"""How much audio of one tenant may wait: the early check and the script that creates a job agree."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.jobs.backlog import Backlog, BacklogLimits
from app.core.jobs.models import Job, QueueFull, QueueShareExceeded, new_job_id
from app.core.jobs.queue_status import QueueStatus
from app.core.jobs.state_machine import JobStateMachine
from tests.conftest import KEYS

MAX_S, TRACK_S = 6000.0, 10.0


def create(machine: JobStateMachine, tenant: str, limits: BacklogLimits) -> bool:
    """Send a track; False when it is refused. Whatever the script says, the early check has to say."""
    backlog = QueueStatus(machine.redis, KEYS).backlog()
    expected = limits.total_excess_s(backlog) < 0 and limits.tenant_excess_s(backlog, tenant) < 0
    try:
        machine.create(Job(new_job_id(), "x", tenant, estimated_s=TRACK_S), backlog=limits)
    except (QueueFull, QueueShareExceeded):
        assert not expected
        return False
    assert expected
    return True


def fill(machine: JobStateMachine, limits: BacklogLimits, *tenants: str) -> Backlog:
    """Have every tenant send, in turns, until each is refused."""
    accepted = [True]
    while any(accepted):
        accepted = [create(machine, tenant, limits) for tenant in tenants]
    return QueueStatus(machine.redis, KEYS).backlog()


@pytest.mark.parametrize("n_tenants", [1, 2, 5])
def test_however_many_tenants_fill_the_queue_there_is_as_much_room_for_one_more(
    machine: JobStateMachine, n_tenants: int
) -> None:
    limits, tenants = BacklogLimits(MAX_S, 0.5), [f"tenant-{n}" for n in range(n_tenants)]
    backlog = fill(machine, limits, *tenants)
    assert set(backlog.tenant_audio_s.values()) == {MAX_S / (n_tenants + 1)}
    assert create(machine, "another", limits)


@pytest.mark.parametrize(("share", "taken_s"), [(0.1, 600.0), (0.5, 3000.0), (0.9, 5400.0), (1.0, MAX_S)])
def test_a_tenant_that_is_alone_may_take_its_share(machine: JobStateMachine, share: float, taken_s: float) -> None:
    assert fill(machine, BacklogLimits(MAX_S, share), "one").audio_s == pytest.approx(taken_s, abs=TRACK_S)


def test_who_is_refused_is_told_whether_it_is_the_share_or_the_queue(machine: JobStateMachine) -> None:
    fill(machine, BacklogLimits(MAX_S, 0.5), "a")
    for limits, error in ((BacklogLimits(MAX_S, 0.5), QueueShareExceeded), (BacklogLimits(MAX_S / 2), QueueFull)):
        with pytest.raises(error):
            machine.create(Job(new_job_id(), "x", "a"), backlog=limits)


def test_a_share_is_free_again_after_as_much_as_is_said_has_run() -> None:
    limits = BacklogLimits(100.0, 0.5)
    full = Backlog(9, 90.0, {"a": 70.0, "b": 20.0})
    excess_s = limits.tenant_excess_s(full, "a")
    later = Backlog(6, 90.0 - excess_s, {"a": 70.0 - excess_s, "b": 20.0})
    assert excess_s == 30.0
    assert limits.tenant_excess_s(later, "a") == 0.0


@given(st.dictionaries(st.sampled_from("abcdefg"), st.integers(1, 100).map(float)), st.floats(0, 200))
def test_the_audio_before_a_job_is_what_each_other_tenant_has_up_to_as_much(
    tenant_audio_s: dict[str, float], own_s: float
) -> None:
    others = [audio_s for tenant, audio_s in tenant_audio_s.items() if tenant != "a"]
    expected = own_s + sum(min(audio_s, own_s) for audio_s in others)
    backlog = Backlog(len(tenant_audio_s), sum(tenant_audio_s.values()), tenant_audio_s)
    assert backlog.audio_s_before("a", own_s) == pytest.approx(expected)
