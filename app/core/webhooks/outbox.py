"""The outbox: events that wait to be sent. Scripts of the job state machine add to it in the step that ends a job."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

from redis import Redis

from app.core import stored
from app.core.lua.script import LuaScript
from app.core.redis.client import redis_now_s, text
from app.core.redis.keys import RedisKeys
from app.core.redis.replicas import Replicas
from app.core.webhooks.models import Attempt, DeliveryStatus, Event, attempts_of

OUTBOX_LUA = "core/webhooks/lua/outbox.lua"
STEPS = ("post", "claim", "settle", "redeliver", "read")

#: Longer than an attempt may take: an event whose dispatcher died is given to another one then.
LEASE_S = 30.0
#: Longer than all attempts of an event take.
MAX_AGE_S = 40 * 60 * 60
#: Attempts of an event that are kept.
MAX_ATTEMPTS_KEPT = 20
#: A dispatcher that did not ask for events for longer is not counted.
DISPATCHER_MAX_AGE_S = 20.0


@dataclass(frozen=True)
class Claimed:
    """Events that a dispatcher may send until its lease ends, and the time by Redis's clock."""

    now: float
    events: Sequence[Event]


class Outbox:
    """Events and what came of them. Every method is blocking.

    `result_ttl_s` is how long events are kept that are about no job. Where `replicas` ask for some, what is posted,
    claimed or sent again is had by enough of them, or the method raises `NotReplicated`.
    """

    def __init__(self, redis: Redis, keys: RedisKeys, *, result_ttl_s: int, replicas: Replicas | None = None) -> None:
        self.redis = redis
        self.keys = keys
        self.result_ttl_s = result_ttl_s
        self.replicas = replicas or Replicas(redis, keys)
        self._scripts = {step: LuaScript(redis, OUTBOX_LUA, f"core/webhooks/lua/{step}.lua") for step in STEPS}

    def post(self, *, id: str, type: str, tenant: str, url: str, request_id: str | None = None) -> None:
        """Add an event that is about no job or batch."""
        fields = {"id": id, "type": type, "subject": "", "tenant": tenant, "url": url}
        if request_id:
            fields["request_id"] = request_id
        self._run("post", fields=fields, ttl_s=self.result_ttl_s)

    def claim(self, dispatcher: str, *, limit: int, lease_s: float = LEASE_S) -> Claimed:
        """Take events that are due, a few of each receiver."""
        at, *found = self._run("claim", dispatcher=dispatcher, limit=limit, lease_s=lease_s, max_age_s=MAX_AGE_S)
        events = (_event(_fields(reply)) for reply in found)
        return Claimed(float(at), [event for event in events if event])

    def settle(
        self,
        event: Event,
        attempt: Attempt,
        status: DeliveryStatus,
        *,
        is_down: bool | None = None,
        delay_s: float | None = None,
    ) -> bool:
        """Note an attempt and what follows; False where the event is another dispatcher's by now, or gone.

        `is_down` says whether the receiver is, None where it was not called. It is tried again after `delay_s`.
        """
        return bool(
            self._scripts["settle"](
                [],
                webhooks=self.keys.webhooks,
                id=event.id,
                receiver=event.receiver,
                claim=event.claim,
                attempt=json.dumps(asdict(attempt), allow_nan=False),
                status=status,
                delay_s=delay_s,
                is_down=is_down,
                max_attempts=MAX_ATTEMPTS_KEPT,
            )
        )

    def redeliver(self, event_id: str) -> bool:
        """Send an event again from the beginning, whatever came of it; False where there is none."""
        return bool(self._run("redeliver", id=event_id))

    def get(self, event_id: str, *, tenant: str) -> tuple[Event, list[Attempt]] | None:
        """An event of this tenant with its attempts; None for another's, and for one that is unknown or has expired."""
        raw = _fields(self._scripts["read"]([], webhooks=self.keys.webhooks, id=event_id))
        event = _event(raw) if raw else None
        return (event, attempts_of(raw)) if event and event.tenant == tenant else None

    def n_dispatchers(self) -> int:
        """Processes that send events."""
        since = redis_now_s(self.redis) - DISPATCHER_MAX_AGE_S
        found = stored.read(self.redis.zrange, self.keys.webhook_dispatchers, since, "+inf", byscore=True)
        return len(cast(list[bytes], found or []))

    def _run(self, step: str, **arguments: Any) -> Any:
        with self.replicas.confirmed() as client:
            return self._scripts[step]([], client=client, webhooks=self.keys.webhooks, **arguments)


def _fields(reply: Sequence[bytes]) -> dict[bytes, bytes]:
    """A hash from names and values in turn; of two values of one name it has the later."""
    return dict(zip(reply[::2], reply[1::2], strict=True))


def _event(raw: dict[bytes, bytes]) -> Event | None:
    try:
        return Event.from_fields(raw)
    except stored.Unreadable as error:
        stored.set_aside(text(raw.get(b"id", b"an event")), str(error))
        return None
