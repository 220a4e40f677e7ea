"""Hands buckets to Ray's actors. Ray places and restarts them; a bucket whose actor died goes to another one."""

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from typing import Any

from model.catalogue.actor import BUCKETS_AT_ONCE
from model.catalogue.sources import Unavailable
from model.catalogue.tracks import Summary
from model.domain import ApexError

#: How often it is told how far the buckets are that are under way.
TICK_S = 1.0
#: How often a bucket is given out again after its actor died, or met a fault of its machine.
MAX_ATTEMPTS = 5


class Pool:
    """Actors, and the calls of them that are under way."""

    def __init__(self, ray: Any, actors: Sequence[Any]) -> None:
        self._ray = ray
        self._calls: dict[Any, tuple[Any, int | None]] = {}
        self._idle: list[Any] = []
        self._waiting: deque[int] = deque()
        self._attempts: Counter[int] = Counter()
        for actor in actors:
            for _ in range(BUCKETS_AT_ONCE):
                self._await(actor)

    def run(self, buckets: Sequence[int]) -> Iterator[tuple[Summary, Summary]]:
        """Run all buckets. Tells every TICK_S and at the end what was done since, and what of others is done.

        Raises what an actor raised, and `ApexError` where a bucket ends every actor or all actors are lost.
        """
        self._waiting.extend(buckets)
        n_left, done, told_at = len(buckets), Summary(), time.monotonic()
        while n_left:
            if not self._calls and not self._idle:
                raise ApexError("all Ray actors are lost")
            ended = [summary for call in self._ended() if (summary := self._result(call)) is not None]
            while self._idle and self._waiting:
                self._give(self._idle.pop(), self._waiting.popleft())
            n_left, done = n_left - len(ended), sum(ended, done)
            if not n_left or time.monotonic() - told_at > TICK_S:
                yield done, self._under_way()
                done, told_at = Summary(), time.monotonic()

    def _ended(self) -> list[Any]:
        ended: list[Any] = self._ray.wait(list(self._calls), timeout=TICK_S)[0]
        return ended

    def _result(self, call: Any) -> Summary | None:
        """The summary of an ended bucket; None where the call has done none."""
        actor, bucket = self._calls.pop(call)
        errors = self._ray.exceptions
        try:
            summary: Summary | None = self._ray.get(call)
        except errors.ActorDiedError as error:
            if bucket is None:  # Ray starts it no more
                return None
            self._again(actor, bucket, error)
        except errors.RayActorError as error:
            self._again(actor, bucket, error)
        except errors.RayTaskError as error:
            if not isinstance(error.cause, Unavailable | OSError) or bucket is None:
                raise error.cause from error
            self._again(actor, bucket, error.cause)
        else:
            self._idle.append(actor)
            return summary if bucket is not None else None
        return None

    def _again(self, actor: Any, bucket: int | None, error: Exception) -> None:
        """Have another actor try a bucket, and this one once it is there again."""
        if bucket is not None:
            self._attempts[bucket] += 1
            if self._attempts[bucket] == MAX_ATTEMPTS:
                if isinstance(error, ApexError | OSError):
                    raise error
                raise ApexError(f"a bucket of tracks ended {MAX_ATTEMPTS} actors") from error
            self._waiting.appendleft(bucket)
        self._await(actor)

    def _await(self, actor: Any) -> None:
        self._calls[actor.ready.options(max_task_retries=-1).remote()] = actor, None

    def _give(self, actor: Any, bucket: int) -> None:
        self._calls[actor.run.remote(bucket)] = actor, bucket

    def _under_way(self) -> Summary:
        """What living actors tell; those that are busy otherwise or dead tell nothing."""
        busy = {id(actor): actor for actor, bucket in self._calls.values() if bucket is not None}
        told = [actor.under_way.remote() for actor in busy.values()]
        found = Summary()
        for call in self._ray.wait(told, num_returns=len(told), timeout=0.2)[0] if told else ():
            try:
                found += self._ray.get(call)
            except self._ray.exceptions.RayError:
                continue
        return found
