"""Clients that do no harm while a service is attacked: their jobs must not be lost, changed, or left waiting."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from random import Random

import httpx

from tests.attack.phases.floods import crowd, starts
from tests.attack.target import BYSTANDER, NO_ANSWER, Target
from tests.attack.vitals import WITH_MEMORY_LIMIT, vitals
from tests.chaos.campaign import threads
from tests.chaos.clients import CannotReach, Clients
from tests.chaos.history import History
from tests.chaos.scripted import Script

#: Between two tracks of one sender.
PAUSE_S = (0.1, 0.6)
RUN_S = (0.02, 0.1)
N_SENDERS = 2
N_READERS = 2
WARM_UP_TRACKS = 30
#: So many that each of the front end's threads has something to do.
WARM_UP_CLIENTS = 60
WARM_UP_CONNECTIONS = 200
#: How often memory is looked at while it grows, and by how much more it must have grown since.
MEMORY_EVERY_S = 0.5
MEMORY_STEP_BYTES = 512 * 1024
#: What is made when it is first asked for.
PAGES = ("/docs", "/openapi.json", "/problems", "/problems/not-found", "/nowhere", "/jobs", "/capacity", "/readyz")
#: No fault of an attack lasts so long.
GIVE_UP_S = 60.0
#: Nothing that a service promised takes longer, unless it is stuck.
STUCK_S = 120.0


class Bystanders:
    """Senders and readers with one key. `failures` counts those that could not reach the service for minutes."""

    def __init__(self, target: Target, http: httpx.Client, *, seed: int) -> None:
        self.target = target
        self.seed = seed
        self.history = History()
        self.clients = Clients(http, self.history, give_up_s=GIVE_UP_S)
        self.failures: list[str] = []
        self._number = count()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """They send and read for as long as the block."""
        senders = [self._sender(Random(f"{self.seed}/{number}")) for number in range(N_SENDERS)]
        readers = [self._reader(self.seed + number) for number in range(N_READERS)]
        with threads(*senders, *readers):
            yield

    def warm_up(self) -> None:
        """Have every process do once what it will do all the time, and as much at a time as it can."""
        self.clients.send_all((self._script(Random(number)) for number in range(WARM_UP_TRACKS)), n_clients=8)
        if self.target.clocks:
            return  # where faked clocks hold up every thread that looks at them
        with ThreadPoolExecutor(WARM_UP_CLIENTS) as pool:
            list(pool.map(self._look_around, range(WARM_UP_CLIENTS)))
        for start in starts(self.target).values():
            with crowd(self.target, start, WARM_UP_CONNECTIONS):
                self._wait_for_memory()

    def _wait_for_memory(self) -> None:
        """Until no process takes more of it for what is held open: on a busy machine that takes seconds."""
        before, deadline = 0, time.monotonic() + GIVE_UP_S
        while (taken := self._memory_bytes()) > before and time.monotonic() < deadline:
            before = taken + MEMORY_STEP_BYTES
            time.sleep(MEMORY_EVERY_S)

    def _memory_bytes(self) -> int:
        return sum(it.memory_bytes for it in vitals(self.target.processes).values() if it.kind in WITH_MEMORY_LIMIT)

    def _look_around(self, _number: int) -> None:
        with self.target.client(BYSTANDER) as client, suppress(*NO_ANSWER):
            for page in PAGES:
                client.get(page)
                client.get(page, headers={"Accept": "text/html"})

    def served_again_s(self) -> float:
        """How long it takes until the service is ready and a new track has been scored; infinite if it never is."""
        began = time.monotonic()
        script = self._script(Random(self.seed))
        with suppress(CannotReach):
            self.clients.insist("GET", "/readyz")
            self.clients.send(script)
            if self._wait(lambda: all(map(self.clients.read, self.history.acknowledged[script.name]))):
                return time.monotonic() - began
        return float("inf")

    def caught_up_s(self) -> float:
        """How long it takes until all that was promised before is over; infinite if it never is."""
        began, promised = time.monotonic(), self.history.job_ids()
        over = self._wait(lambda: not any(not self.clients.read(one) for one in self.history.waiting() & promised))
        return time.monotonic() - began if over else float("inf")

    def _wait(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + STUCK_S
        while time.monotonic() < deadline:
            with suppress(CannotReach):
                if condition():
                    return True
            time.sleep(0.05)
        return False

    def _script(self, dice: Random) -> Script:
        return Script(f"{BYSTANDER}-{next(self._number)}", run_s=round(dice.uniform(*RUN_S), 3))

    def _sender(self, dice: Random) -> Callable[[threading.Event], None]:
        def send(stop: threading.Event) -> None:
            while not stop.wait(dice.uniform(*PAUSE_S)):
                with self._noting_failures():
                    self.clients.send(self._script(dice))

        return send

    def _reader(self, seed: int) -> Callable[[threading.Event], None]:
        def read(stop: threading.Event) -> None:
            while not stop.is_set():
                with self._noting_failures():
                    self.clients.read_until(stop, seed=seed)

        return read

    @contextmanager
    def _noting_failures(self) -> Iterator[None]:
        try:
            yield
        except CannotReach as error:
            self.failures.append(str(error))
