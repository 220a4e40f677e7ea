"""Receivers that fail: by answers that are no yes, and by being away."""

import random
import threading
from collections import Counter, defaultdict
from contextlib import ExitStack
from dataclasses import dataclass, field

from tests.app.egress.hooks import Received, Reply, hook
from tests.ports import free_port

REPLIES = (*[Reply(204)] * 7, Reply(500), Reply(404), Reply(429, {"Retry-After": "1"}))


@dataclass
class Deliveries:
    """What came with a yes, all verified: the types of each event's id, and how often each came at all."""

    secret: str
    types: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    came: Counter[str] = field(default_factory=Counter)
    unverified: list[str] = field(default_factory=list)

    def note(self, received: Received, reply: Reply) -> None:
        try:
            event = received.verified(self.secret)
        except Exception as error:
            self.unverified.append(f"{type(error).__name__}: {error}")
            return
        self.came[received.event_id] += 1
        if reply.status == 204:
            self.types[received.event_id].add(event["type"])


class FailingReceiver:
    """A receiver at a port of its own, which can be away for a while."""

    def __init__(self, deliveries: Deliveries, seed: int) -> None:
        self.deliveries, self.port = deliveries, free_port("127.0.0.1")
        self.url = f"http://127.0.0.1:{self.port}/"
        self._dice, self._lock, self._running = random.Random(seed), threading.Lock(), ExitStack()

    def start(self) -> None:
        self._running.enter_context(hook(port=self.port)).reply = self._reply

    def stop(self) -> None:
        """Go away; connections that are open break."""
        self._running.close()

    def _reply(self, received: Received) -> Reply:
        with self._lock:
            reply = self._dice.choice(REPLIES)
            self.deliveries.note(received, reply)
        return reply
