"""A bucket whose actor dies is given to another one, and what no other actor mends ends the run."""

import errno
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from model.catalogue.pool import MAX_ATTEMPTS, Pool
from model.catalogue.sources import Unavailable
from model.catalogue.tracks import Summary
from model.domain import ApexError, WeightsError


class FakeRay:
    """Ray, whose calls are done in turns when they are waited for. `behaviour` is what an actor does with a bucket."""

    class exceptions:
        class RayError(Exception):
            pass

        class RayActorError(RayError):
            pass

        class ActorDiedError(RayActorError):
            pass

        class RayTaskError(RayError):
            def __init__(self, cause: Exception) -> None:
                self.cause = cause

    def __init__(self, behaviour: Callable[[str, int], Summary]) -> None:
        self.behaviour = behaviour
        self.given: list[tuple[str, int]] = []

    def wait(self, calls: Sequence["Call"], **_: Any) -> tuple[list["Call"], list["Call"]]:
        return list(calls[:1]), list(calls[1:])

    def get(self, call: "Call") -> object:
        return call.work()


class Call:
    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work


class Method:
    def __init__(self, work: Callable[..., object]) -> None:
        self._work = work

    def options(self, **_: object) -> "Method":
        return self

    def remote(self, *arguments: Any) -> Call:
        return Call(lambda: self._work(*arguments))


class Actor:
    def __init__(self, ray: FakeRay, name: str, *, starts: bool = True) -> None:
        self._ray, self._name, self._starts = ray, name, starts
        self.ready, self.under_way, self.run = Method(self._ready), Method(Summary), Method(self._run)

    def _ready(self) -> None:
        if not self._starts:
            raise FakeRay.exceptions.ActorDiedError

    def _run(self, bucket: int) -> Summary:
        self._ray.given.append((self._name, bucket))
        return self._ray.behaviour(self._name, bucket)


def summary(ray: FakeRay, n_buckets: int = 6, *, names: str = "ab", starts: bool = True) -> Summary:
    pool = Pool(ray, [Actor(ray, name, starts=starts) for name in names])
    return sum((done for done, _ in pool.run(range(n_buckets))), Summary())


def test_every_bucket_is_run_once_by_actors_that_live() -> None:
    ray = FakeRay(lambda _, bucket: Summary(10, 1.5, {"audio_silent": bucket % 2}))
    assert summary(ray) == Summary(60, 9.0, {"audio_silent": 3})
    assert sorted(bucket for _, bucket in ray.given) == list(range(6))
    assert {name for name, _ in ray.given} == {"a", "b"}


def test_the_bucket_of_an_actor_that_dies_is_another_ones() -> None:
    def dying(name: str, bucket: int) -> Summary:
        if name == "a":
            raise FakeRay.exceptions.RayActorError
        return Summary(1)

    ray = FakeRay(dying)
    assert summary(ray, 2) == Summary(2)
    assert ("a", 1) in ray.given or ("a", 0) in ray.given


def test_a_fault_of_a_machine_is_tried_again_until_it_is_told() -> None:
    faults = [Unavailable("the store is away"), OSError(errno.ENOSPC, "No space left on device")]

    def failing(name: str, bucket: int) -> Summary:
        if faults:
            raise FakeRay.exceptions.RayTaskError(faults.pop())
        return Summary(1)

    assert summary(FakeRay(failing), 3) == Summary(3)

    def away(name: str, bucket: int) -> Summary:
        raise FakeRay.exceptions.RayTaskError(Unavailable("the store is away"))

    ray = FakeRay(away)
    with pytest.raises(Unavailable, match="the store is away"):
        summary(ray, 1)
    assert len(ray.given) == MAX_ATTEMPTS


def test_a_bucket_that_ends_every_actor_ends_the_run() -> None:
    def killing(name: str, bucket: int) -> Summary:
        raise FakeRay.exceptions.RayActorError

    with pytest.raises(ApexError, match=f"a bucket of tracks ended {MAX_ATTEMPTS} actors"):
        summary(FakeRay(killing), 1)


def test_what_no_other_actor_can_mend_ends_the_run_at_once() -> None:
    def refusing(name: str, bucket: int) -> Summary:
        raise FakeRay.exceptions.RayTaskError(WeightsError("a node has other weights"))

    ray = FakeRay(refusing)
    with pytest.raises(WeightsError):
        summary(ray)
    assert len(ray.given) == 1


def test_actors_that_never_start_are_not_waited_for() -> None:
    with pytest.raises(ApexError, match="all Ray actors are lost"):
        summary(FakeRay(lambda *_: Summary(1)), starts=False)
